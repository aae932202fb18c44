//! Supabase Realtime: the token is sent in messages, and authorized there like any other.

use foregate::denial::Reason;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::socket::{End, Socket, Sockets};
use super::{OPEN, ended};
use crate::support::tokens::{ISSUER, now, subject};
use crate::support::{Config, Door, Gateway, Http, Origin, Reply, eventually};

const KEY: &str = "sb_publishable_0123456789";
const USERS: &str = "/realtime/users?vsn=2.0.0&apikey=sb_publishable_0123456789";
const ANYBODY: &str = "/realtime/anybody?vsn=2.0.0&apikey=sb_publishable_0123456789";

async fn gateway(sockets: &Sockets, change: impl FnOnce(&mut Config)) -> Gateway {
    let url = sockets.url();
    Gateway::before(Origin::start(), |config| {
        let tokens = config
            .get("tokens")
            .replace("algorithms:", "leeway: 0s, algorithms:");
        config
            .set("tokens", &tokens)
            .set("identity", &format!("{{ supabase: {{ url: \"https://issuer.test\", publishable_keys: [{KEY}] }} }}"))
            .upstream("sockets", &url, "")
            .more_routes(
                r#"
                - { path: /realtime/users, methods: [GET], access: user, apikey: required, upstream: sockets, upgrade: [websocket], realtime: true, body: { limit: 8KiB } }
                - { path: /realtime/anybody, methods: [GET], access: optional, apikey: required, upstream: sockets, upgrade: [websocket], realtime: true }
                "#,
            );
        change(config);
    })
    .await
}

fn message(event: &str, payload: &Value) -> String {
    json!(["1", "1", "realtime:a", event, payload]).to_string()
}

fn join(token: &str) -> String {
    message(
        "phx_join",
        &json!({ "config": { "private": true }, "access_token": token }),
    )
}

fn renewed(token: &str) -> String {
    message("access_token", &json!({ "access_token": token }))
}

fn told(code: u16, reason: Reason) -> End {
    End::Told(code, reason.public_code().to_owned())
}

const BEAT: &str = r#"[null,"2","phoenix","heartbeat",{}]"#;

#[tokio::test]
async fn a_token_in_a_message_authenticates_the_socket() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let token = gateway.issuer.token();
    let mut socket = Socket::open_silently(&gateway, USERS).await;
    socket.echo(BEAT).await;
    socket.echo(&join(&token)).await;
    socket.echo(&message("broadcast", &json!({ "x": 1 }))).await;
    // Larger than what is held: its beginning is enough.
    let large = message("broadcast", &json!({ "x": "y".repeat(1 << 20) }));
    socket.echo_message(Message::text(large)).await;
    socket
        .echo_bytes([&[0, 1, 1, 1, 5][..], b"12aimage", &[7; 50_000]].concat())
        .await;
    socket.echo(&json!({ "topic": "realtime:a", "event": "access_token", "ref": null, "payload": { "access_token": token } }).to_string()).await;
    let id = socket.id.clone();
    assert_eq!(socket.close(1000).await, End::Told(1000, String::new()));
    assert_eq!(gateway.log_line(&id)["end"], "complete");
    assert!(gateway.log_line(&id)["subject"].is_string(), "who joined");
    ended(&gateway, "websocket", "finished", 1.0).await;
}

#[tokio::test]
async fn a_message_with_a_bad_token_never_reaches_the_server() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let issuer = &gateway.issuer;
    gateway.revoke(&json!({ "kind": "session", "session": "lost", "issuer": ISSUER }));
    let good = issuer.token();
    let cases = [
        (issuer.expired(), 4401, Reason::TokenExpired),
        ("not.a.token".to_owned(), 4401, Reason::TokenMalformed),
        (
            issuer.sign(&issuer.claims().session("lost")),
            4401,
            Reason::SessionRevoked,
        ),
        (
            issuer.sign(&issuer.claims().with("iss", "https://stranger.test")),
            4401,
            Reason::TokenIssuer,
        ),
        (
            issuer.sign(&issuer.claims().roles(["banned"])),
            4403,
            Reason::CallerBanned,
        ),
        (
            issuer.sign(&issuer.claims().anonymous()),
            4403,
            Reason::AnonymousRefused,
        ),
        (
            "sb_secret_0123456789".to_owned(),
            4403,
            Reason::ServiceKeyRefused,
        ),
        (KEY.to_owned(), 4401, Reason::TokenMissing),
    ];
    let mut count = 0;
    for (bad, code, reason) in &cases {
        for before in [None, Some(join(&good))] {
            for text in [join(bad), renewed(bad)] {
                let mut socket = Socket::open_silently(&gateway, USERS).await;
                if let Some(join) = &before {
                    socket.echo(join).await;
                }
                socket.say(&text).await;
                // Valid, but of another user than the socket's.
                let is_good = matches!(reason, Reason::CallerBanned | Reason::AnonymousRefused);
                let end = match before.is_some() && is_good {
                    true => told(4401, Reason::SessionDiffers),
                    false => told(*code, *reason),
                };
                assert_eq!(socket.end().await, end, "{text}");
                count += 1;
            }
        }
    }
    // The server received the close frames and nothing that it would have echoed.
    eventually("the server has heard every goodbye", || {
        sockets.partings().len() == count
    })
    .await;
    let texts = sockets.heard();
    assert!(texts.iter().all(|text| *text == join(&good)), "{texts:?}");
}

#[tokio::test]
async fn only_heartbeats_pass_before_a_token_on_a_route_for_users() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    for text in [
        message("broadcast", &json!({})),
        message("phx_join", &json!({ "config": {} })),
        message("phx_join", &json!({ "access_token": null })),
    ] {
        let mut socket = Socket::open_silently(&gateway, USERS).await;
        socket.say(&text).await;
        assert_eq!(
            socket.end().await,
            told(4401, Reason::TokenMissing),
            "{text}"
        );
        let mut socket = Socket::open_silently(&gateway, ANYBODY).await;
        socket.echo(&text).await;
        socket.echo(&join(KEY)).await;
        socket.say(&join("sb_publishable_other")).await;
        assert_eq!(socket.end().await, told(4401, Reason::ApikeyUnknown));
    }
    for text in [
        "",
        "hello",
        "{}",
        r#"["1","1","a","phx_join",{"access_token":1}]"#,
    ] {
        let mut socket = Socket::open_silently(&gateway, ANYBODY).await;
        socket.say(text).await;
        assert_eq!(
            socket.end().await,
            told(1002, Reason::MessageInvalid),
            "{text}"
        );
    }
    // A handshake is permitted only with the key, and an ordinary request only with a user.
    for http in Http::BOTH {
        let plain = gateway.get(http, USERS).send().await;
        plain.is_denied(Reason::TokenMissing);
    }
    assert!(
        sockets
            .heard()
            .iter()
            .all(|text| text.contains("phx_join") || text.contains("broadcast"))
    );
}

#[tokio::test]
async fn frames_that_hide_a_token_are_refused_as_a_whole() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    for raw in [
        // Not masked, compressed, and a binary join.
        &b"\x81\x02hi"[..],
        b"\xc1\x82\0\0\0\0hi",
        b"\x82\x8e\0\0\0\0\0\0\0\x01\x08aphx_join",
        b"\x80\x82\0\0\0\0hi",
    ] {
        let mut socket = Socket::open_silently(&gateway, ANYBODY).await;
        socket.say_raw(raw).await;
        assert_eq!(socket.end().await, told(1002, Reason::MessageInvalid));
    }
    // A join in three frames, with a ping between them, is one message.
    let bad = join(&gateway.issuer.expired());
    let mut wire = Vec::new();
    let pieces: Vec<&[u8]> = bad.as_bytes().chunks(bad.len() / 3 + 1).collect();
    for (place, piece) in pieces.iter().enumerate() {
        let first =
            if place == 0 { 1 } else { 0 } | if place + 1 == pieces.len() { 0x80 } else { 0 };
        wire.extend([first, 0x80 | 126]);
        wire.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
        wire.extend([0; 4]);
        wire.extend(*piece);
        wire.extend(b"\x89\x80\0\0\0\0");
    }
    let mut socket = Socket::open_silently(&gateway, ANYBODY).await;
    socket.say_raw(&wire).await;
    assert_eq!(socket.end().await, told(4401, Reason::TokenExpired));
    // Too long to be held, and its beginning is not enough.
    let long = json!({ "payload": "x".repeat(9000), "event": "broadcast", "topic": "a" });
    let mut socket = Socket::open_silently(&gateway, USERS).await;
    socket.say(&long.to_string()).await;
    assert_eq!(socket.end().await, told(1009, Reason::BodyTooLarge));
    assert_eq!(sockets.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn newer_tokens_prolong_a_socket_until_its_session_ends() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |_| {}).await;
    let claims = |session: &str| {
        gateway
            .issuer
            .claims()
            .with("sub", subject("somebody"))
            .session(session)
    };
    let short = gateway.issuer.sign(&claims("one").expiring(now() + 3));
    let mut prolonged = Socket::open_silently(&gateway, USERS).await;
    let mut expiring = Socket::open_silently(&gateway, ANYBODY).await;
    let mut other = Socket::open_silently(&gateway, USERS).await;
    prolonged.echo(&join(&short)).await;
    expiring
        .echo(&join(
            &gateway.issuer.sign(&claims("two").expiring(now() + 3)),
        ))
        .await;
    other
        .echo(&join(&gateway.issuer.sign(&claims("three"))))
        .await;
    prolonged
        .echo(&renewed(&gateway.issuer.sign(&claims("one"))))
        .await;
    assert_eq!(expiring.end().await, told(4401, Reason::TokenExpired));
    prolonged.echo(BEAT).await;
    // A token of another session belongs to another socket.
    let mut changed = Socket::open_silently(&gateway, ANYBODY).await;
    changed
        .echo(&join(&gateway.issuer.sign(&claims("four"))))
        .await;
    changed.say(&renewed(&gateway.issuer.token())).await;
    assert_eq!(changed.end().await, told(4401, Reason::SessionDiffers));

    gateway.revoke(&json!({ "kind": "session", "session": "one", "issuer": ISSUER }));
    assert_eq!(prolonged.end().await, told(4401, Reason::SessionRevoked));
    other.echo(BEAT).await;
    assert_eq!(gateway.metrics().sum(OPEN, &[]), 1.0);
}

#[tokio::test]
async fn removing_a_key_ends_the_sockets_that_used_it() {
    let sockets = Sockets::start();
    let mut gateway = gateway(&sockets, |_| {}).await;
    let mut socket = Socket::open_silently(&gateway, USERS).await;
    socket.echo(&join(&gateway.issuer.token())).await;
    gateway
        .reload(|config| {
            let identity = config
                .get("identity")
                .replace(KEY, "sb_publishable_another");
            config.set("identity", &identity);
        })
        .await;
    assert_eq!(socket.end().await, told(4401, Reason::ApikeyUnknown));
}

#[tokio::test]
async fn a_token_is_not_refused_as_invalid_while_keys_are_unavailable() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |config| {
        let tokens = config.get("tokens").to_owned();
        config.set("tokens", &format!("{tokens}\n  - {{ issuer: unreachable, audience: authenticated, algorithms: ES256, jwks_url: \"http://127.0.0.1:1/keys\" }}"));
    })
    .await;
    let claims = gateway.issuer.claims().with("iss", "unreachable");
    let mut socket = Socket::open_silently(&gateway, ANYBODY).await;
    socket.say(&join(&gateway.issuer.sign(&claims))).await;
    assert_eq!(socket.end().await, told(1013, Reason::KeysUnavailable));
    assert_eq!(sockets.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn an_unauthenticated_client_gets_no_answer_but_a_socket() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |config| {
        config.more_routes(
            "- { path: \"/realtime/plain/{*rest}\", methods: [GET], access: user, apikey: required, upgrade: [websocket], realtime: true }",
        );
    })
    .await;
    for (number, status) in [200, 206, 404, 500].into_iter().enumerate() {
        let path = format!("/realtime/plain/{number}");
        gateway.origin.on(&path, move |exchange| {
            let answer = Reply::new(status).header("etag", "\"secret\"");
            exchange.reply(&answer.body("secret"));
        });
        let asks = |more: String| {
            let head = format!(
                "GET {path}?apikey={KEY} HTTP/1.1\r\nHost: api.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
            );
            let gateway = &gateway;
            async move {
                let mut raw = gateway.raw(Door::Tls).await;
                raw.write(head).await;
                raw.answer().await.answer()
            }
        };
        let answer = asks(String::new()).await;
        answer.is_denied(Reason::TokenMissing);
        assert!(!answer.headers.contains_key("etag"));
        assert!(!answer.text().contains("secret"), "{}", answer.text());
        // A client that authenticates in the request gets the answer.
        let token = gateway.issuer.token();
        let answer = asks(format!("Authorization: Bearer {token}\r\n")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (status, "secret"));
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_client_that_never_authenticates_is_disconnected() {
    let sockets = Sockets::start();
    let gateway = gateway(&sockets, |config| {
        config.set("connections", "{ first_token: 4s }");
    })
    .await;
    let mut stays = Socket::open_silently(&gateway, USERS).await;
    stays.echo(&join(&gateway.issuer.token())).await;
    let mut anybody = Socket::open_silently(&gateway, ANYBODY).await;
    let mut silent = Socket::open_silently(&gateway, USERS).await;
    let mut beats = Socket::open_silently(&gateway, USERS).await;
    beats.echo(BEAT).await;
    for socket in [&mut silent, &mut beats] {
        assert_eq!(socket.end().await, told(4401, Reason::TokenMissing));
        assert_eq!(gateway.log_line(&socket.id)["cause"], "denied");
    }
    for socket in [&mut stays, &mut anybody] {
        socket.echo(BEAT).await;
    }
}
