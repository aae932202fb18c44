//! While little is left of what all clients share, new requests of the clients that hold most of it
//! are refused before anything is done for them, and everybody else is served.

use std::time::Duration;

use foregate::denial::Reason;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::task::JoinSet;

use crate::support::client::{Client, Connector, Door};
use crate::support::raw_h2::{RawTwo, SETTINGS};
use crate::support::{Config, Gateway, Http, Reply, eventually, in_time};

/// Where those come from who hold most. The honest come from 127.0.0.1.
const GREEDY: &str = "127.0.0.2";

/// A gateway with these limits, before an origin that answers some requests late, and some at
/// length.
async fn with(limits: &str, change: impl FnOnce(&mut Config)) -> Gateway {
    let gateway = Gateway::with(|config| {
        config.set("workers", "1").set("connections", limits);
        change(config);
    })
    .await;
    gateway.origin.on("/public/held", |exchange| {
        exchange.begin(200, &[]);
        exchange.wait_for_close();
    });
    gateway.origin.on("/public/long", |exchange| {
        exchange.reply(&Reply::ok().body("x".repeat(60_000)));
    });
    gateway
}

/// So many connections, each with a request that does not end.
async fn hold(gateway: &Gateway, from: &Connector, count: usize) -> JoinSet<()> {
    let before = gateway.origin.requests().len();
    let mut held = JoinSet::new();
    for _ in 0..count {
        let from = from.clone();
        held.spawn(async move {
            let answer = from.call("GET", "/public/held").begin().await;
            let _ = answer.try_finish().await;
        });
    }
    gateway.origin.has_seen(before + count).await;
    held
}

/// Asks until a request is refused, which the next poll decides. Nothing is forwarded from then on.
async fn becomes_refused(gateway: &Gateway, client: &mut Client) {
    in_time("a refusal", async {
        while client.get("/public/a").send().await.status != 503 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    gateway.origin.take();
    let calls = [
        client.get("/public/a").send().await,
        client.get("/me").bearer("not.a.token").send().await,
        client.get("/things/not-an-id").send().await,
    ];
    for answer in calls {
        let answer = answer.is_denied(Reason::Overloaded);
        assert_eq!(answer.header("retry-after"), "1");
    }
    gateway.origin.saw_nothing();
    // Not even of those who hold most.
    client.get("/health").send().await.is_ok();
}

async fn honest_is_served(gateway: &Gateway) {
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        for _ in 0..5 {
            gateway.get(http, "/public/a").send().await.is_ok();
            let own = gateway.get(http, "/me").bearer(&token);
            own.send().await.is_ok();
        }
    }
    for probe in ["/livez", "/readyz"] {
        assert_eq!(gateway.admin_status(probe), 200);
    }
    gateway.origin.take();
}

fn ended(gateway: &Gateway, cause: &str) -> f64 {
    let labels = [("cause", cause)];
    gateway
        .metrics()
        .sum("foregate_clients_ended_total", &labels)
}

#[tokio::test]
async fn who_has_most_connections_gets_no_more_requests_answered_while_few_are_left() {
    for http in Http::BOTH {
        let gateway = with("{ max: 40 }", |_| {}).await;
        let greedy = gateway.connector(http, Door::Tls).coming_from(GREEDY);
        let mut kept = greedy.connect().await;
        kept.get("/public/a").send().await.is_ok();
        let mut held = hold(&gateway, &greedy, 31).await;
        becomes_refused(&gateway, &mut kept).await;
        // A body is not waited for.
        let (upload, body) = greedy.call("POST", "/public/a").streaming();
        upload.send().await.is_denied(Reason::Overloaded);
        drop(body);
        gateway.origin.saw_nothing();
        honest_is_served(&gateway).await;
        assert_eq!(ended(&gateway, "share_shed"), 0.0);
        assert_eq!(held.len(), 31);
        held.shutdown().await;
        in_time("an answer", async {
            while kept.get("/public/a").send().await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn idle_connections_are_not_short() {
    for http in Http::BOTH {
        let gateway = with("{ max: 40 }", |_| {}).await;
        let connector = gateway.connector(http, Door::Tls).coming_from(GREEDY);
        let mut idle = Vec::new();
        for _ in 0..36 {
            let mut client = connector.connect().await;
            client.get("/public/a").send().await.is_ok();
            idle.push(client);
        }
        // Longer than a poll.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            idle[35].get("/public/a").send().await.is_ok();
        }
    }
}

#[tokio::test]
async fn an_address_that_may_have_all_connections_is_not_one_client() {
    for http in Http::BOTH {
        let gateway = with("{ max: 40, max_per_address: 40 }", |_| {}).await;
        let balancer = gateway.connector(http, Door::Tls).coming_from(GREEDY);
        let mut kept = balancer.connect().await;
        let _held = hold(&gateway, &balancer, 34).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            kept.get("/public/a").send().await.is_ok();
        }
    }
}

#[tokio::test]
async fn who_takes_no_answers_gets_no_more_of_them_while_little_memory_is_left() {
    let limits = "{ unsent: 256KiB, unsent_total: 1MiB, body_idle: 1h }";
    let gateway = with(limits, |_| {}).await;
    let greedy = |http| gateway.connector(http, Door::Tls).coming_from(GREEDY);
    let mut kept = [
        greedy(Http::One).connect().await,
        greedy(Http::Two).connect().await,
    ];
    let mut all = Vec::new();
    for requests in [8, 8, 8, 1] {
        let mut two = greedy(Http::Two).raw_h2().await;
        // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
        two.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]).await;
        for _ in 0..requests {
            two.request(&RawTwo::get("/public/long")).await;
        }
        all.push(two);
    }
    eventually("much is held", || {
        gateway.metrics().sum("foregate_unsent_bytes", &[]) > 800_000.0
    })
    .await;
    for client in &mut kept {
        becomes_refused(&gateway, client).await;
        honest_is_served(&gateway).await;
    }
    assert_eq!(ended(&gateway, "unsent"), 0.0);
}

/// A request that does not end, so that its connection is not idle.
fn occupy(client: &Client) -> tokio::task::JoinHandle<()> {
    let mut client = client.another();
    tokio::spawn(async move {
        let answer = client.get("/public/held").begin().await;
        let _ = answer.try_finish().await;
    })
}

#[tokio::test]
async fn when_descriptors_run_out_idle_connections_end_and_who_has_most_is_refused() {
    let gateway = with("{ max: 1000 }", |_| {}).await;
    let greedy = gateway.connector(Http::Two, Door::Tls).coming_from(GREEDY);
    let (mut kept, mut honest) = (greedy.connect().await, gateway.connect(Http::Two).await);
    let occupied = [occupy(&kept), occupy(&honest)];
    gateway.origin.has_seen(2).await;
    let _held = hold(&gateway, &greedy, 20).await;
    // Its connection to the origin remains for those that follow.
    let mut idle = gateway.connect(Http::One).await;
    idle.get("/public/a").send().await.is_ok();
    let set_limit = |current: u64| {
        let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(4096),
        };
        prlimit(pid, Resource::Nofile, limit).unwrap();
    };
    set_limit(8);
    let strangers = gateway.connector(Http::One, Door::Plain);
    let strangers = strangers.coming_from("127.0.0.3");
    let trying = tokio::spawn(async move {
        let mut waiting = Vec::new();
        for _ in 0..1000 {
            waiting.push(strangers.open().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    becomes_refused(&gateway, &mut kept).await;
    honest.get("/public/a").send().await.is_ok();
    set_limit(4096);
    trying.abort();
    eventually("the idle one ended", || idle.is_closed()).await;
    honest_is_served(&gateway).await;
    occupied.iter().for_each(tokio::task::JoinHandle::abort);
}

/// For the test of all reasons.
pub async fn refused(http: Http) {
    let gateway = with("{ max: 40 }", |_| {}).await;
    let greedy = gateway.connector(http, Door::Tls).coming_from(GREEDY);
    let mut kept = greedy.connect().await;
    let _held = hold(&gateway, &greedy, 31).await;
    becomes_refused(&gateway, &mut kept).await;
}
