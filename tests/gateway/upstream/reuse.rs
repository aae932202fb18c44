//! When a connection serves another request, and when it must not.

use super::{echo_target, with_one_pool};
use crate::support::client::Door;
use crate::support::{Exchange, Gate, Gateway, Http, Reply, eventually};

#[tokio::test]
async fn the_connection_of_every_complete_answer_is_reused() {
    let gateway = with_one_pool().await;
    let length = |exchange: &mut Exchange| exchange.reply(&Reply::ok());
    let empty = |exchange: &mut Exchange| exchange.reply(&Reply::new(200));
    let chunked = |exchange: &mut Exchange| {
        if exchange.read_body() {
            exchange.begin(200, &[]);
            exchange.chunk("one");
            exchange.chunk("two");
            exchange.end(&[("x-sum", "1")]);
        }
    };
    let no_chunks = |exchange: &mut Exchange| {
        if exchange.read_body() {
            exchange.begin(200, &[]);
            exchange.end(&[]);
        }
    };
    let long = |exchange: &mut Exchange| exchange.reply(&Reply::new(200).body(vec![b'x'; 300_000]));
    let not_modified = |exchange: &mut Exchange| {
        exchange.read_body();
        exchange.raw(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\netag: \"1\"\r\n\r\n");
    };
    gateway
        .origin
        .on("/length", length)
        .on("/empty", empty)
        .on("/chunked", chunked)
        .on("/no-chunks", no_chunks)
        .on("/long", long)
        .on("/204", |exchange| exchange.reply(&Reply::new(204)))
        .on("/304", not_modified)
        .on("/404", |exchange| {
            exchange.reply(&Reply::new(404).body("no"))
        })
        .on("/500", |exchange| exchange.reply(&Reply::new(500)));
    let paths = [
        "/length",
        "/empty",
        "/chunked",
        "/no-chunks",
        "/long",
        "/204",
        "/304",
        "/404",
        "/500",
    ];
    for http in Http::BOTH {
        let mut client = gateway.connect(http).await;
        for path in paths {
            client.get(path).send().await;
            client.post(path).body("body").send().await;
            client.call("DELETE", path).send().await;
            assert_eq!(gateway.origin.connections(), 1, "{http:?} {path}");
        }
        for path in ["/length", "/empty", "/204", "/304"] {
            client.call("HEAD", path).send().await;
            assert_eq!(gateway.origin.connections(), 1, "{http:?} HEAD {path}");
        }
    }
    let idle = [("state", "idle")];
    gateway
        .metric_becomes("foregate_upstream_connections", &idle, 1.0)
        .await;
}

/// After a request to `/spoilt`, other requests get correct answers, and on other connections.
pub async fn is_not_reused(gateway: &Gateway, http: Http, method: &str) {
    gateway.call(http, method, "/spoilt").send().await;
    for path in ["/one", "/two"] {
        assert_eq!(gateway.get(http, path).send().await.is_ok().text(), path);
    }
    let seen = gateway.origin.take();
    assert_eq!(seen.len(), 3, "{seen:#?}");
    assert_ne!(
        seen[0].connection, seen[1].connection,
        "{method} on {http:?}"
    );
    assert_eq!(seen[1].connection, seen[2].connection);
}

#[tokio::test]
async fn a_connection_that_the_origin_wants_to_close_is_not_reused() {
    let heads = [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    ];
    for head in heads {
        let gateway = with_one_pool().await;
        gateway.origin.otherwise(echo_target);
        gateway.origin.on("/spoilt", |exchange| {
            exchange.read_body();
            exchange.raw(head.as_bytes());
            exchange.wait_for_close();
        });
        for http in Http::BOTH {
            is_not_reused(&gateway, http, "GET").await;
            is_not_reused(&gateway, http, "HEAD").await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_complete_at_its_end() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(echo_target);
    gateway.origin.on("/spoilt", |exchange| {
        exchange.raw(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
        exchange.close();
    });
    for http in Http::BOTH {
        let answer = gateway.get(http, "/spoilt").send().await;
        assert_eq!(answer.is_ok().text(), "until the end");
        gateway.origin.take();
        is_not_reused(&gateway, http, "GET").await;
    }
}

#[tokio::test]
async fn a_connection_with_an_unfinished_upload_is_not_reused() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(echo_target);
    for http in Http::BOTH {
        let closed = Gate::new();
        let gate = closed.clone();
        gateway.origin.on("/early", move |exchange| {
            exchange.reply_now(&Reply::new(403).body("early"));
            exchange.wait_for_close();
            gate.open();
        });
        let (call, body) = gateway.post(http, "/early").streaming();
        body.chunk("begun").await;
        let answer = call.send().await;
        assert_eq!((answer.status.as_u16(), answer.text()), (403, "early"));
        closed.opened().await;
        assert_eq!(
            gateway.get(http, "/next").send().await.is_ok().text(),
            "/next"
        );
        let seen = gateway.origin.take();
        assert_ne!(seen[0].connection, seen[1].connection);
    }
}

#[tokio::test]
async fn a_connection_with_an_unread_answer_is_not_reused() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(echo_target);
    for http in Http::BOTH {
        let closed = Gate::new();
        let gate = closed.clone();
        gateway.origin.on("/long", move |exchange| {
            exchange.begin(200, &[]);
            exchange.chunk("begun");
            exchange.wait_for_close();
            gate.open();
        });
        let mut answer = gateway.get(http, "/long").begin().await;
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "begun");
        drop(answer);
        closed.opened().await;
        assert_eq!(
            gateway.get(http, "/next").send().await.is_ok().text(),
            "/next"
        );
    }
    let busy = [("state", "busy")];
    gateway
        .metric_becomes("foregate_upstream_connections", &busy, 0.0)
        .await;
}

#[tokio::test]
async fn a_connection_with_unsolicited_bytes_is_not_reused() {
    let unasked: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen",
        b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n",
        b"\r\n",
        b"x",
    ];
    for bytes in unasked {
        let gateway = with_one_pool().await;
        gateway.origin.otherwise(echo_target);
        for http in Http::BOTH {
            let (answered, said) = (Gate::new(), Gate::new());
            let gates = (answered.clone(), said.clone());
            gateway.origin.on("/spoilt", move |exchange| {
                exchange.reply(&Reply::ok());
                gates.0.pass();
                exchange.raw(bytes);
                gates.1.open();
                exchange.wait_for_close();
            });
            gateway.get(http, "/spoilt").send().await.is_ok();
            answered.open();
            said.opened().await;
            for path in ["/one", "/two"] {
                assert_eq!(gateway.get(http, path).send().await.is_ok().text(), path);
                let path = format!("{path}?post");
                let answer = gateway.post(http, &path).send().await;
                assert_eq!(answer.is_ok().text(), path);
            }
            let seen = gateway.origin.take();
            assert_ne!(seen[0].connection, seen[1].connection);
        }
    }
}

#[tokio::test]
async fn a_pipelining_client_gets_its_answers_in_order() {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(echo_target);
    let mut raw = gateway.raw(Door::Tls).await;
    let requests: String = (0..20)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: api.test\r\n\r\n"))
        .collect();
    raw.write(requests).await;
    for number in 0..20 {
        let answer = raw.answer().await.answer();
        assert_eq!(answer.is_ok().text(), format!("/{number}"));
    }
    eventually("one connection", || gateway.origin.connections() == 1).await;
}
