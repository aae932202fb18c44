//! Load: many requests, large bodies, and metrics that do not grow with unauthenticated requests.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::task::JoinSet;

use super::{LARGE, Memory};
use crate::support::client::Door;
use crate::support::curl::curl;
use crate::support::{Gateway, Http, Origin, Reply};

const REQUESTS: usize = 10_000;

/// How many requests are open at once over one HTTP/2 connection.
const SIDE_BY_SIDE: usize = 50;

async fn many(requests: usize, gateway: &Gateway, http: Http) {
    let client = gateway.connect(http).await;
    let mut handles = match http {
        Http::One => vec![client],
        Http::Two => (0..SIDE_BY_SIDE).map(|_| client.another()).collect(),
    };
    let share = requests / handles.len();
    let tasks: Vec<_> = handles
        .drain(..)
        .map(|mut client| {
            tokio::spawn(async move {
                for number in 0..share {
                    let answer = match number % 2 {
                        0 => client.get("/a").send().await,
                        _ => client.post("/a").body("body").send().await,
                    };
                    answer.is_ok();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_requests_over_one_connection_leave_nothing_behind() {
    // One worker: each has memory and upstream connections of its own, and the second connection
    // may go to another than the first.
    let gateway = Gateway::with(|config| {
        config.set("workers", "1").routes(LARGE);
    })
    .await;
    for http in Http::BOTH {
        // Enough for everything that is kept: connections, buffers, and the allocator's pages.
        many(REQUESTS / 5, &gateway, http).await;
        gateway.origin.take();
        let memory = Memory::of(&gateway);
        many(REQUESTS, &gateway, http).await;
        gateway.origin.take();
        memory.is_flat(&gateway);
    }
    let connections = gateway.origin.connections();
    assert!(connections <= 51, "{connections}");
}

/// 1 GiB with `FOREGATE_FULL=1`, else less.
fn large() -> u64 {
    match std::env::var_os("FOREGATE_FULL") {
        Some(_) => 1 << 30,
        None => 64 << 20,
    }
}

/// An origin that sends and receives so many bytes.
fn generous(length: u64) -> Origin {
    let origin = Origin::start();
    origin.on("/down", move |exchange| {
        exchange.raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes());
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..length / (64 << 10) {
            exchange.raw(&piece);
        }
    });
    origin.on("/up", |exchange| {
        exchange.read_body();
        let length = exchange.request().length;
        exchange.reply_now(&Reply::ok().body(length.to_string()));
    });
    origin
}

#[tokio::test]
async fn large_bodies_pass_in_little_memory() {
    let length = large();
    let gateway = Gateway::before(generous(length), |config| {
        config.routes(LARGE);
    })
    .await;
    let file = gateway.path("large");
    std::fs::File::create(&file)
        .unwrap()
        .set_len(length)
        .unwrap();
    let upload = format!("@{}", file.display());
    for version in ["--http1.1", "--http2"] {
        let memory = Memory::of(&gateway);
        let down = ["--max-time", "300", "--output", "/dev/null", version];
        let began = std::time::Instant::now();
        let (status, size) = curl(
            &gateway,
            "/down",
            &[
                &down[..],
                &["--write-out", "%{size_download}\n%{http_code}"],
            ]
            .concat(),
        )
        .await;
        assert_eq!((status, size), (200, length.to_string()));
        let down = (began.elapsed(), memory.is_flat(&gateway));
        let up = [
            "--max-time",
            "300",
            "--request",
            "POST",
            "--upload-file",
            &upload[1..],
            version,
        ];
        let began = std::time::Instant::now();
        let answer = curl(&gateway, "/up", &up).await;
        assert_eq!(answer, (200, length.to_string()));
        let up = (began.elapsed(), memory.is_flat(&gateway));
        println!("{version} {} MiB: down {down:?}, up {up:?}", length >> 20);
    }
}

#[tokio::test]
async fn unauthenticated_requests_add_no_metric_series() {
    let gateway = Gateway::with(|config| {
        config.set("hosts", "[api.test]");
    })
    .await;
    let requests = (
        "/[a-z0-9]{1,8}(/[a-z0-9%._~-]{0,8}){0,3}",
        prop_oneof!["[a-z]{1,10}\\.test", Just("api.test".to_owned())],
        prop_oneof![
            "[A-Z]{1,10}",
            Just("GET".to_owned()),
            Just("POST".to_owned())
        ],
    );
    let mut runner = TestRunner::deterministic();
    let mut draw = || requests.new_tree(&mut runner).unwrap().current();
    let count = |gateway: &Gateway| gateway.metrics().text().lines().count();
    let mut before = 0;
    for round in 0..2 {
        let drawn: Vec<_> = (0..REQUESTS / 2).map(|_| draw()).collect();
        let client = gateway.connector(Http::Two, Door::Tls).connect().await;
        let mut clients = JoinSet::new();
        for drawn in drawn.chunks(REQUESTS / 2 / SIDE_BY_SIDE) {
            let (mut client, drawn) = (client.another(), drawn.to_vec());
            clients.spawn(async move {
                for (path, host, method) in &drawn {
                    if method != "CONNECT" {
                        client.call(method, path).host(host).send().await;
                    }
                }
            });
        }
        clients.join_all().await;
        if round == 0 {
            before = count(&gateway);
        }
    }
    assert_eq!(count(&gateway), before);
}
