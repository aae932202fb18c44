//! Response splitting: bytes after an answer must never become the answer to another request.

use super::{echo_target, with_one_pool};
use crate::support::client::Door;
use crate::support::{Exchange, Gateway, Http};

const STOLEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-stolen: 1\r\n\r\nstolen";

/// Answers that are complete before `STOLEN` begins, with the method of their request.
const COMPLETE: [(&str, &str); 9] = [
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    ("POST", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
    ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n"),
    (
        "GET",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    ),
    ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
    (
        "GET",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "HEAD",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ),
];

/// The origin answers `/poison/N` with the Nth complete answer and a second one after it.
fn poison(exchange: &mut Exchange, tail: &str) {
    let place = exchange.request().target.rsplit('/').next().unwrap();
    let complete = COMPLETE[place.parse::<usize>().unwrap()].1;
    exchange.read_body();
    exchange.raw(format!("{complete}{tail}").as_bytes());
    exchange.wait_for_close();
}

async fn poisoned(tail: &'static str) -> Gateway {
    let gateway = with_one_pool().await;
    gateway.origin.otherwise(move |exchange| {
        match exchange.request().target.starts_with("/poison") {
            true => poison(exchange, tail),
            false => echo_target(exchange),
        }
    });
    gateway
}

#[tokio::test]
async fn bytes_after_an_answer_are_not_the_answer_to_another_request() {
    for tail in [STOLEN, "H", "\r\n", "\0"] {
        let gateway = poisoned(tail).await;
        for (place, (method, _)) in COMPLETE.iter().enumerate() {
            for http in Http::BOTH {
                let mut victim = gateway.connect(http).await;
                for round in 0..5 {
                    let path = format!("/poison/{place}");
                    let answer = gateway.call(http, method, &path).send().await;
                    assert!(answer.header("x-stolen").is_empty());
                    assert_ne!(answer.text(), "stolen");
                    let path = format!("/victim/{place}/{round}");
                    let answer = victim.get(&path).send().await;
                    assert_eq!(answer.is_ok().text(), path, "{place} {http:?} {tail:?}");
                    let answer = victim.post(&path).body("body").send().await;
                    assert_eq!(answer.is_ok().text(), path, "{place} {http:?} {tail:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn bytes_after_an_answer_do_not_reach_another_client_of_the_worker() {
    let gateway = poisoned(STOLEN).await;
    let mut tasks = Vec::new();
    for http in [Http::One, Http::Two, Http::One, Http::Two] {
        let connector = gateway.connector(http, Door::Tls);
        let attack = connector.clone();
        tasks.push(tokio::spawn(async move {
            let mut attacker = attack.connect().await;
            for round in 0..60 {
                let (method, _) = COMPLETE[round % COMPLETE.len()];
                let path = format!("/poison/{}", round % COMPLETE.len());
                attacker.call(method, &path).send().await;
            }
        }));
        tasks.push(tokio::spawn(async move {
            let mut victim = connector.connect().await;
            for round in 0..150 {
                let path = format!("/victim/{round}");
                assert_eq!(victim.get(&path).send().await.is_ok().text(), path);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn bytes_after_an_answer_do_not_answer_the_next_pipelined_request() {
    let gateway = poisoned(STOLEN).await;
    for (place, (method, _)) in COMPLETE.iter().enumerate() {
        let mut raw = gateway.raw(Door::Tls).await;
        let request = |method: &str, path: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 0\r\n\r\n")
        };
        let poison = request(method, &format!("/poison/{place}"));
        let victims = request("GET", "/victim/1") + &request("GET", "/victim/2");
        raw.write(poison + &victims).await;
        raw.answer_to(method).await.answer();
        for path in ["/victim/1", "/victim/2"] {
            let answer = raw.answer().await.answer();
            assert_eq!(answer.is_ok().text(), path, "{place}");
        }
    }
}
