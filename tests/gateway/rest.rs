//! Tables behind PostgREST: granted requests are forwarded unchanged, all others never reach the
//! origin.

use std::time::Duration;

use foregate::denial::Reason;
use tokio::task::JoinSet;

use crate::support::answer::Answer;
use crate::support::client::Door;
use crate::support::tokens::subject;
use crate::support::{Gateway, Http, in_time};

const ROUTES: &str = r#"
  - path: "/rest/v1/{*rest}"
    access: user
    errors: postgrest
    body: { limit: 4KiB }
    rest:
      tables:
        projects: { read: [id, name], write: [name, description], delete: true }
        notes: { read: true, write: true }
        users: { read: [id] }
      embeds: tables
      rpc: [search]
  - path: [/narrow, "/narrow/{table}", "/narrow/rpc/{function}"]
    access: public
    resource: none
    rest: { tables: { rpc: { read: true } }, rpc: [search], openapi: true }
"#;

async fn gateway() -> Gateway {
    Gateway::with(|config| {
        config
            .set("roles", "{ grants: { user: [read, write, delete] } }")
            .more_routes(ROUTES);
    })
    .await
}

#[track_caller]
fn is_denied(answer: &Answer, gateway: &Gateway) {
    answer.is_denied_in_postgrest(Reason::RestDenied, "42501");
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn a_granted_request_is_forwarded_unchanged() {
    let gateway = gateway().await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        for (method, target) in [
            (
                "GET",
                "/rest/v1/projects?select=id%2Cname&name=ilike.%2Aa%2A&order=id.desc&limit=3",
            ),
            ("HEAD", "/rest/v1/projects?select=id"),
            (
                "GET",
                "/rest/v1/projects/?select=id,users(id)&users.id=eq.1",
            ),
            ("DELETE", "/rest/v1/projects?id=eq.1"),
            ("GET", "/rest/v1/notes"),
            ("GET", "/rest/v1/rpc/search?term=cat"),
            ("POST", "/rest/v1/rpc/search"),
        ] {
            let call = gateway.call(http, method, target).bearer(&token);
            let answer = call
                .header("prefer", "count=exact")
                .header("accept-profile", "public")
                .header("range", "0-9")
                .send()
                .await;
            answer.is_ok();
            let seen = gateway.origin.only();
            assert_eq!(seen.target, target);
            assert_eq!(seen.header("prefer"), Some("count=exact"));
            assert_eq!(seen.header("accept-profile"), Some("public"));
            assert_eq!(seen.header("range"), Some("0-9"));
        }
        for target in [
            "/narrow",
            "/narrow/",
            "/narrow/rpc?select=a",
            "/narrow/rpc/search",
        ] {
            gateway.get(http, target).send().await.is_ok();
        }
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_request_that_is_not_granted_never_reaches_postgrest() {
    let gateway = gateway().await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        for (method, target) in [
            ("GET", "/rest/v1/projects"),
            ("GET", "/rest/v1/projects?select=*"),
            ("HEAD", "/rest/v1/projects?select=secret"),
            ("GET", "/rest/v1/projects?select=id&secret=eq.1"),
            ("GET", "/rest/v1/projects?select=id&order=secret"),
            (
                "GET",
                "/rest/v1/projects?select=id&or=(id.eq.1,secret.eq.1)",
            ),
            ("GET", "/rest/v1/projects?select=id,tokens(id)"),
            ("GET", "/rest/v1/Projects?select=id"),
            ("GET", "/rest/v1/tokens?select=id"),
            ("GET", "/rest/v1/projects/1?select=id"),
            ("DELETE", "/rest/v1/notes?id=eq.1"),
            ("POST", "/rest/v1/users"),
            ("OPTIONS", "/rest/v1/projects"),
            ("POST", "/rest/v1/rpc/add_user_credits"),
            ("DELETE", "/rest/v1/rpc/search"),
            ("GET", "/rest/v1/rpc?select=id"),
        ] {
            let answer = gateway
                .call(http, method, target)
                .bearer(&token)
                .send()
                .await;
            is_denied(&answer, &gateway);
        }
        for (name, value) in [
            ("accept-profile", "auth"),
            ("content-profile", "auth"),
            ("accept", "application/vnd.pgrst.plan"),
            ("prefer", "plan=1"),
        ] {
            let call = gateway
                .get(http, "/rest/v1/projects?select=id")
                .bearer(&token);
            is_denied(&call.header(name, value).send().await, &gateway);
        }
        let nobody = gateway.get(http, "/rest/v1/tokens").send().await;
        nobody.is_denied_in_postgrest(Reason::TokenMissing, "PGRST302");
        for target in ["/narrow?select=a", "/narrow/other", "/narrow/rpc/other"] {
            gateway
                .get(http, target)
                .send()
                .await
                .is_denied(Reason::RestDenied);
        }
        gateway.origin.saw_nothing();
    }
    let line = gateway
        .get(Http::Two, "/rest/v1/projects?select=secret")
        .bearer(&token);
    assert_eq!(line.send().await.log_line()["detail"], "to read `secret`");
}

#[tokio::test]
async fn the_columns_of_a_body_are_checked_and_the_body_is_forwarded_byte_for_byte() {
    let gateway = gateway().await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        let write = |method: &str, target: &str, body: &str| {
            let call = gateway.call(http, method, target).bearer(&token);
            let call = call.header("content-type", "application/json");
            call.body(body.to_owned())
        };
        let good = "[ {\"name\" : \"a\\u0041\",\n\"description\":1e2}, {\"name\":null} ]";
        for (method, target) in [
            ("POST", "/rest/v1/projects"),
            ("PATCH", "/rest/v1/projects?id=eq.1"),
            ("PUT", "/rest/v1/projects?id=eq.1"),
            (
                "POST",
                "/rest/v1/projects?columns=%22name%22,%22description%22&on_conflict=name&select=id",
            ),
        ] {
            let call = write(method, target, good);
            let call = call.header("prefer", "resolution=merge-duplicates");
            call.send().await.is_ok();
            let seen = gateway.origin.only();
            assert_eq!(seen.body, good.as_bytes());
            assert_eq!(
                seen.header("content-length"),
                Some(&*good.len().to_string())
            );
            assert_eq!(seen.header("transfer-encoding"), None);
        }
        // The same in chunks, without a length.
        let (call, body) = gateway.post(http, "/rest/v1/projects").streaming();
        let call = call
            .bearer(&token)
            .header("content-type", "application/json");
        let pieces = async {
            for piece in ["{\"na", "me\":", "\"a\"}"] {
                body.chunk(piece).await;
            }
            drop(body);
        };
        tokio::join!(call.send(), pieces).0.is_ok();
        assert_eq!(gateway.origin.only().body, b"{\"name\":\"a\"}");

        for body in [
            r#"{"owner":1}"#,
            r#"[{"name":"a"},{"owner":1}]"#,
            r#"{"na\u006de ":1}"#,
            r#"["name"]"#,
            "1",
        ] {
            is_denied(
                &write("POST", "/rest/v1/projects", body).send().await,
                &gateway,
            );
        }
        let written = write("PATCH", "/rest/v1/projects?secret=eq.1", "{}");
        is_denied(&written.send().await, &gateway);
        let back = write("POST", "/rest/v1/projects", "{}");
        let back = back.header("prefer", "return=representation");
        is_denied(&back.send().await, &gateway);
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        for body in [
            "",
            "{",
            r#"{"name":1}{"owner":1}"#,
            r#"{"name":1,"name":2}"#,
            r#"{"name":1,"n\u0061me":2}"#,
            "{\"name\":\"\u{feff}\"} x",
            &deep,
        ] {
            let answer = write("POST", "/rest/v1/projects", body).send().await;
            answer.is_denied_in_postgrest(Reason::BodyMalformed, "PGRST102");
        }
        let long = format!("{{\"name\":\"{}\"}}", "a".repeat(8000));
        let answer = write("POST", "/rest/v1/projects", &long).send().await;
        answer.is_denied_in_postgrest(Reason::BodyTooLarge, "body_too_large");
        for kind in [
            "text/csv",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
        ] {
            let call = gateway.post(http, "/rest/v1/projects").bearer(&token);
            let answer = call
                .header("content-type", kind)
                .body("name\nx")
                .send()
                .await;
            answer.is_denied_in_postgrest(Reason::BodyType, "PGRST107");
        }
        gateway.origin.saw_nothing();
        // If every column may be written, the body is not read.
        let call = gateway.post(http, "/rest/v1/notes").bearer(&token);
        call.header("content-type", "text/csv")
            .body("a,b\n1,2")
            .send()
            .await
            .is_ok();
        assert_eq!(gateway.origin.only().body, b"a,b\n1,2");
    }
}

#[tokio::test]
async fn a_body_is_not_buffered_before_the_caller_is_authenticated() {
    let gateway = gateway().await;
    for http in Http::BOTH {
        // Refused although its body never arrives.
        let (call, body) = gateway.post(http, "/rest/v1/projects").streaming();
        let answer = call.header("content-type", "application/json").send().await;
        answer.is_denied_in_postgrest(Reason::TokenMissing, "PGRST302");
        drop(body);
        gateway.origin.saw_nothing();
    }
    // A client that stops in the middle of its body gets a 408, and PostgREST gets nothing.
    let stalling = Gateway::with(|config| {
        config
            .set("connections", "{ body_idle: 300ms }")
            .more_routes(ROUTES);
    })
    .await;
    for http in Http::BOTH {
        let (call, body) = stalling.post(http, "/rest/v1/projects").streaming();
        let call = call.bearer(&stalling.issuer.token());
        let call = call.header("content-type", "application/json");
        body.chunk("{\"name\":").await;
        let answer = call.send().await;
        answer.is_denied_in_postgrest(Reason::BodyTimeout, "body_timeout");
        drop(body);
        stalling.origin.saw_nothing();
    }
    // Nothing is left of a client that disconnects in the middle of its body.
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(format!(
        "POST /rest/v1/projects HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{\"name\":",
        gateway.issuer.token()
    ))
    .await;
    drop(raw);
    gateway.is_quiet().await;
    gateway.origin.saw_nothing();
}

#[tokio::test]
async fn an_inspected_body_has_a_time_limit_as_a_whole() {
    let gateway = Gateway::with(|config| {
        config
            .set("connections", "{ inspected_timeout: 1s, body_rate: 0 }")
            .more_routes(ROUTES);
    })
    .await;
    for http in Http::BOTH {
        let (call, body) = gateway.post(http, "/rest/v1/projects").streaming();
        let call = call.bearer(&gateway.issuer.token());
        let call = call.header("content-type", "application/json");
        let trickling = tokio::spawn(async move {
            while body.chunk(" ").await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let answer = call.send().await;
        answer.is_denied_in_postgrest(Reason::BodyTimeout, "body_timeout");
        trickling.await.unwrap();
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn bodies_of_one_client_take_no_memory_from_others() {
    let gateway = Gateway::with(|config| {
        config
            .set("connections", "{ inspected_share: 1MiB }")
            .set("trusted_proxies", "{ from: [127.0.0.1] }")
            .more_routes(&ROUTES.replace("4KiB", "1MiB"));
    })
    .await;
    let document = format!("{{\"name\":{}\"a\"}}", " ".repeat(700 << 10));
    for http in Http::BOTH {
        let post = |user: &str, address: &str| {
            let connector = gateway.connector(http, Door::Tls);
            let call = connector.call("POST", "/rest/v1/projects");
            let call = call.bearer(&gateway.issuer.token_of(&subject(user)));
            call.header("content-type", "application/json")
                .header("x-forwarded-for", address)
        };
        // Of eight bodies that do not end, only one can be held.
        let (mut answers, mut bodies) = (JoinSet::new(), Vec::new());
        for _ in 0..8 {
            let (call, body) = post("attacker", "192.0.2.1").streaming();
            answers.spawn(call.send());
            assert!(body.chunk(document[..700 << 10].to_owned()).await);
            bodies.push(body);
        }
        for _ in 0..7 {
            let refused = in_time("a refusal", answers.join_next()).await;
            let refused = refused.unwrap().unwrap();
            refused.is_denied_in_postgrest(Reason::ClientBusy, "client_busy");
            assert_eq!(refused.header("retry-after"), "1");
        }
        gateway.origin.saw_nothing();
        // The same user from another address, and another user from the same one, share it.
        for (user, address) in [("attacker", "192.0.2.2"), ("another", "192.0.2.1")] {
            let refused = post(user, address).body(document.clone()).send().await;
            refused.is_denied_in_postgrest(Reason::ClientBusy, "client_busy");
        }
        gateway.origin.saw_nothing();
        for _ in 0..4 {
            let call = post("another", "192.0.2.2").body(document.clone());
            call.send().await.is_ok();
            assert_eq!(gateway.origin.only().length, document.len() as u64);
        }
        // The memory is free once the body is gone.
        drop(bodies);
        let last = answers.join_next().await.unwrap().unwrap();
        last.is_denied_in_postgrest(Reason::BodyMalformed, "PGRST102");
        let call = post("attacker", "192.0.2.1").body(document.clone());
        call.send().await.is_ok();
        gateway.origin.take();
    }
}
