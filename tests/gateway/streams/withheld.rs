//! Writes whose clients withhold the body: what changes meanwhile is not missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foregate::denial::Reason;

use super::calls::Calls;
use crate::support::client::{BodySender, Door};
use crate::support::{Answer, Config, Gateway, Http, Reply, World};

/// A little more than a fact may be old for a write, and than a request may last before it is
/// authorized again.
const LONG: Duration = Duration::from_secs(6);

const ROUTES: &str = r#"
  - { path: "/write/{project_id:uuid}", methods: [POST], access: user, resource: project }
  - { path: "/calls/{project_id:uuid}/late", methods: [POST], access: user, resource: project, upstream: calls }
"#;

/// A write whose body is to come.
struct Write {
    body: BodySender,
    answer: tokio::task::JoinHandle<Answer>,
}

impl Write {
    fn begin(gateway: &Gateway, http: Http, path: &str, token: &str) -> Self {
        let connector = gateway.connector(http, Door::Tls);
        let (call, body) = connector.call("POST", path).bearer(token).streaming();
        let answer = tokio::spawn(call.send());
        Self { body, answer }
    }

    async fn finish(self) -> Answer {
        self.body.chunk("written").await;
        drop(self.body);
        self.answer.await.unwrap()
    }
}

async fn place(world: &World, calls: &Calls, change: impl FnOnce(&mut Config)) -> Gateway {
    let url = calls.url();
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config
            .set("workers", "1")
            .set("connections", "{ body_idle: 1m, body_rate: 0 }")
            .upstream("calls", &url, ", protocol: http2")
            .more_routes(ROUTES);
        change(config);
    })
    .await;
    crate::performance::is_ready(&gateway).await;
    gateway
}

#[tokio::test]
async fn a_write_whose_body_comes_late_is_authorized_again_before_it_is_sent() {
    let (world, calls) = (World::new(), Calls::start());
    let (owner, member) = (world.user(), world.user());
    let project = world.team_project(&owner, &member, "write");
    let gateway = place(&world, &calls, |config| {
        let servers = config.get("upstreams").to_owned();
        let origin = servers.split('"').nth(1).unwrap().to_owned();
        // Of so few, no request is sent before its body.
        config.upstream("origin", &origin, ", max_connections: 3");
    })
    .await;
    let path = format!("/write/{project}");
    let [owner, member_token] = [&owner, &member].map(|user| gateway.issuer.token_of(user));
    let begin = |token: &str| Http::BOTH.map(|http| Write::begin(&gateway, http, &path, token));
    let (theirs, owners) = (begin(&member_token), begin(&owner));
    // They are authorized before the change, or they are refused by it.
    tokio::time::sleep(LONG).await;
    world.sql(&format!(
        "delete from team_members where user_id = '{member}'"
    ));
    tokio::time::sleep(LONG).await;
    for write in theirs {
        let answer = write.finish().await;
        answer.is_denied(Reason::NotYours);
        assert_eq!(answer.log_line()["decision"], "deny");
        gateway.origin.saw_nothing();
    }
    for write in owners {
        write.finish().await.is_ok();
        assert_eq!(gateway.origin.only().body, b"written");
    }
}

#[tokio::test]
async fn a_body_that_comes_long_after_its_request_was_sent_waits_until_that_is_authorized_again() {
    let (world, calls) = (World::new(), Calls::start());
    let (owner, member) = (world.user(), world.user());
    let project = world.team_project(&owner, &member, "write");
    let gateway = place(&world, &calls, |_| {}).await;
    let path = format!("/write/{project}");
    let paths = [path.clone(), format!("/calls/{project}/late")];
    let received = Arc::new(AtomicUsize::new(0));
    let counter = received.clone();
    gateway.origin.on(&path, move |exchange| {
        while let Some(more) = exchange.read_some() {
            counter.fetch_add(more, Ordering::SeqCst);
            if more == 0 {
                return exchange.reply_now(&Reply::ok());
            }
        }
    });
    let [owner, member_token] = [&owner, &member].map(|user| gateway.issuer.token_of(user));
    let begin = |token: &str| -> Vec<Write> {
        let each = paths.iter().zip([Http::One, Http::Two]);
        each.map(|(path, http)| Write::begin(&gateway, http, path, token))
            .collect()
    };
    let (theirs, owners) = (begin(&member_token), begin(&owner));
    tokio::time::sleep(LONG).await;
    world.sql(&format!(
        "delete from team_members where user_id = '{member}'"
    ));
    tokio::time::sleep(LONG).await;
    assert_eq!(calls.take().len(), 2, "they are sent before their bodies");
    for write in theirs {
        write.finish().await.is_denied(Reason::NotYours);
    }
    assert_eq!((received.load(Ordering::SeqCst), calls.received()), (0, 0));
    for write in owners {
        assert_eq!(write.finish().await.status, 200);
    }
    assert_eq!((received.load(Ordering::SeqCst), calls.received()), (7, 7));
}
