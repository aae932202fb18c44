//! A stream that was opened with a cookie lasts as long as its session: longer than any of its
//! tokens, and no longer than the session.

use foregate::sessions::sign_in::{OwnSession, SessionSelection};

use super::Place;
use crate::streams::socket::{End, Socket, Sockets};
use crate::support::auth_server::Options;
use crate::support::client::Door;
use crate::support::tokens::{ISSUER, now};
use crate::support::{AuthServer, Gate, Gateway, Http, SignedIn};

async fn open(gateway: &Gateway, somebody: &SignedIn) -> Socket {
    let fields = [
        ("cookie", format!("__Host-foregate={}", somebody.cookie)),
        ("origin", "https://api.test".to_owned()),
    ];
    Socket::open_with(gateway, Door::Tls, "/ws", &fields).await
}

const ROUTE: &str = "- { path: /ws, methods: [GET], access: user, credentials: [cookie], upstream: sockets, upgrade: [websocket] }";

#[tokio::test]
async fn a_stream_ends_with_its_session_and_others_continue() {
    let sockets = Sockets::start();
    let place = Place::with("{ idle: 4s, lifetime: 12s }", |config| {
        config
            .upstream("sockets", &sockets.url(), "")
            .more_routes(ROUTE);
    })
    .await;
    let other = place.replica().await;
    let (ended, idle, used) = (
        place.sign_in().await,
        place.sign_in().await,
        place.sign_in().await,
    );
    let mut of_ended = open(&place.gateway, &ended).await;
    let mut of_idle = open(&place.gateway, &idle).await;
    let mut of_used = open(&place.gateway, &used).await;
    let began = std::time::Instant::now();
    let own = OwnSession {
        cookie: Some(place.desk.read(&ended.cookie).name()),
        session: None,
    };
    let end = place
        .desk
        .sessions
        .end(ISSUER, &ended.subject, SessionSelection::Own(own));
    end.await.unwrap();
    let told = |word: &str| End::Told(4401, word.to_owned());
    assert_eq!(of_ended.end().await, told("session_not_found"));
    of_used.echo("still here").await;
    // A request now and then, on another replica, keeps a session alive.
    while began.elapsed().as_millis() < 4600 {
        other
            .get(Http::Two, "/page")
            .cookie_of(&used)
            .send()
            .await
            .is_ok();
        other.origin.take();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(of_idle.end().await, told("session_not_found"));
    of_used.echo("still here").await;
    assert_eq!(of_used.end().await, told("session_not_found"));
    assert!(began.elapsed().as_secs() < 60);
}

#[tokio::test]
async fn a_stream_outlives_the_tokens_of_its_session() {
    let sockets = Sockets::start();
    let auth = AuthServer::with(Options {
        lifetime: 2,
        ..Options::default()
    });
    let user = auth.add_user("ada@example.test", "correct horse");
    let tokens = auth
        .tokens()
        .replace("algorithms:", "leeway: 0s, algorithms:");
    let place = Place::with("{}", |config| {
        config
            .set("identity", &auth.identity(""))
            .set("tokens", &tokens)
            .upstream("sockets", &sockets.url(), "")
            .more_routes(ROUTE);
    })
    .await;
    let somebody = place.desk.sign_in_by(auth.sign_in(&user)).await;
    let mut socket = open(&place.gateway, &somebody).await;
    let began = now();
    while now() < began + 7 {
        socket.echo("still here").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(
        auth.calls("refresh_token") >= 2,
        "{}",
        auth.calls("refresh_token")
    );
    auth.ban(&user);
    let told = End::Told(4401, "session_not_found".to_owned());
    assert_eq!(socket.end().await, told);
}

#[tokio::test]
async fn a_session_that_ends_while_a_stream_is_opened_ends_the_stream() {
    let place = Place::with("{}", |config| {
        config.more_routes("- { path: /events, access: user, credentials: [cookie] }");
    })
    .await;
    for http in Http::BOTH {
        let (somebody, neighbour) = (place.sign_in().await, place.sign_in().await);
        let gate = Gate::new();
        let opened = gate.clone();
        place.gateway.origin.on("/events", move |exchange| {
            opened.pass();
            exchange.begin(200, &[("content-type", "text/event-stream")]);
            exchange.event("first");
            exchange.wait_for_close();
        });
        let open = |whose: &SignedIn| {
            let connector = place.gateway.connector(http, Door::Tls);
            let call = connector.call("GET", "/events").cookie_of(whose);
            tokio::spawn(async move { call.begin().await })
        };
        let (theirs, mut others) = (open(&somebody), open(&neighbour));
        place.gateway.origin.has_seen(2).await;
        let own = OwnSession {
            cookie: Some(place.desk.read(&somebody.cookie).name()),
            session: None,
        };
        let selection = SessionSelection::Own(own);
        let ending = place
            .desk
            .sessions
            .end(ISSUER, &somebody.subject, selection);
        ending.await.unwrap();
        // The gateway knows it before the upstream answers.
        loop {
            let page = place.gateway.get(http, "/page").cookie_of(&somebody);
            if page.send().await.status == 401 {
                break;
            }
        }
        gate.open();
        let text = theirs.await.unwrap().finish().await.text().to_owned();
        let last = "event: foregate\ndata: {\"code\":\"session_not_found\",\"status\":401}\n\n";
        assert!(text.ends_with(last), "{text:?}");
        let mut others = (&mut others).await.unwrap();
        assert_eq!(others.chunk().await.unwrap().unwrap(), "data: first\n\n");
        place.gateway.origin.take();
    }
}
