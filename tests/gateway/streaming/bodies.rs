//! Limits of request bodies, and `Expect: 100-continue`.

use foregate::denial::Reason;

use crate::support::client::Door;
use crate::support::raw::Raw;
use crate::support::{Exchange, Gateway, Http, Reply};

const LIMIT: usize = 1024;

const ROUTES: &str = r#"
- { path: /small, access: public, body: { limit: 1KiB } }
- { path: /mine, access: user, body: { limit: 1KiB } }
"#;

fn post(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n")
}

async fn next(raw: &mut Raw) -> String {
    String::from_utf8(raw.read().await).unwrap()
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_passes() {
    let gateway = Gateway::with_routes(ROUTES).await;
    for http in Http::BOTH {
        let call = gateway.post(http, "/small").body(vec![b'x'; LIMIT]);
        call.send().await.is_ok();
        let (call, body) = gateway.post(http, "/small").streaming();
        let sending = tokio::spawn(async move {
            body.chunk(vec![b'x'; LIMIT - 1]).await;
            body.chunk("x").await;
        });
        call.send().await.is_ok();
        sending.await.unwrap();
        let lengths: Vec<_> = gateway
            .origin
            .take()
            .iter()
            .map(|seen| seen.length)
            .collect();
        assert_eq!(lengths, [1024, 1024]);
    }
}

#[tokio::test]
async fn a_body_declared_over_the_limit_never_reaches_the_origin() {
    let gateway = Gateway::with_routes(ROUTES).await;
    for http in Http::BOTH {
        for length in [LIMIT + 1, 10 * LIMIT] {
            let call = gateway.post(http, "/small").body(vec![b'x'; length]);
            call.send().await.is_denied(Reason::BodyTooLarge);
            gateway.origin.saw_nothing();
        }
    }
    // The gateway waits for no byte of the body.
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(post("/small", "Content-Length: 99999999999\r\n"))
        .await;
    raw.answer().await.answer().is_denied(Reason::BodyTooLarge);
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn an_undeclared_body_over_the_limit_is_never_complete_at_the_origin() {
    let gateway = Gateway::with_routes(ROUTES).await;
    gateway.origin.on("/small", |exchange| {
        assert!(!exchange.read_body(), "a complete body");
    });
    for http in Http::BOTH {
        for pieces in [2, 5] {
            let (call, body) = gateway.post(http, "/small").streaming();
            let sending = tokio::spawn(async move {
                for _ in 0..pieces {
                    body.chunk(vec![b'x'; LIMIT - 1]).await;
                }
            });
            call.send().await.is_denied(Reason::BodyTooLarge);
            sending.await.unwrap();
            let seen = gateway.origin.take();
            assert!(
                seen.iter()
                    .all(|seen| seen.length <= 1024 && seen.sha256.is_none())
            );
        }
    }
}

#[tokio::test]
async fn an_answer_in_progress_is_aborted_when_its_upload_grows_too_large() {
    let gateway = Gateway::with_routes(ROUTES).await;
    gateway.origin.on("/small", |exchange| {
        exchange.begin(200, &[]);
        exchange.chunk("begun");
        assert!(!exchange.read_body(), "a complete body");
    });
    for http in Http::BOTH {
        let (call, body) = gateway.post(http, "/small").streaming();
        let mut answer = call.begin().await;
        let id = answer.id().to_owned();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "begun");
        body.chunk(vec![b'x'; LIMIT + 1]).await;
        assert!(answer.try_finish().await.is_err());
        assert_eq!(gateway.log_line(&id)["end"], "client_gone");
    }
    let failed = gateway.metrics().sum("foregate_upstream_failed_total", &[]);
    assert_eq!(failed, 0.0, "it was not the origin");
}

#[tokio::test]
async fn only_a_permitted_request_gets_100_continue() {
    let gateway = Gateway::with_routes(ROUTES).await;
    let expect = "Expect: 100-continue\r\nContent-Length: 4\r\n";
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(post("/mine", expect)).await;
    let answer = next(&mut raw).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    gateway.origin.saw_nothing();

    let token = gateway.issuer.token();
    let mut raw = gateway.raw(Door::Tls).await;
    let fields = format!("{expect}Authorization: Bearer {token}\r\n");
    raw.write(post("/mine", &fields)).await;
    assert_eq!(next(&mut raw).await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.write("body").await;
    raw.answer().await.answer().is_ok();
    let seen = gateway.origin.only();
    assert_eq!(
        (seen.body.as_slice(), seen.header("expect")),
        (&b"body"[..], None)
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_no_100_continue() {
    let gateway = Gateway::with_routes(ROUTES).await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(post(
        "/small",
        "Expect: 100-continue\r\nContent-Length: 1025\r\n",
    ))
    .await;
    let answer = next(&mut raw).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_request_refused_by_the_origin_gets_no_100_continue() {
    let gateway = Gateway::with_routes(ROUTES).await;
    gateway.origin.on("/small", |exchange: &mut Exchange| {
        exchange.reply_now(&Reply::new(403).body("no"));
        exchange.wait_for_close();
    });
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(post(
        "/small",
        "Expect: 100-continue\r\nContent-Length: 4\r\n",
    ))
    .await;
    // The gateway cannot know the origin's answer, so a 100 may come first; the refusal must.
    let answer = raw.answer().await.answer();
    assert_eq!((answer.status.as_u16(), answer.text()), (403, "no"));
}
