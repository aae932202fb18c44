//! Everything that a stranger has been seen to do, at once, beside people who only want answers.
//!
//! Twenty seconds and 300 connections; ten minutes and 2,000 with `FOREGATE_FULL=1`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::attacks::{Attack, attacks};
use crate::support::client::{Connector, Door};
use crate::support::{Gateway, Http, Reply, eventually};

/// How long, and with how many connections.
fn extent() -> (Duration, usize) {
    match std::env::var_os("FOREGATE_FULL") {
        Some(_) => (Duration::from_secs(600), 2000),
        None => (Duration::from_secs(20), 300),
    }
}

/// How much more memory may be in use at the end than after the first quarter.
const GROWTH: u64 = 128 << 20;

/// Does the same over one connection after the other, until it is over.
async fn attack(connector: Connector, attack: Arc<Attack>, is_over: Arc<AtomicBool>) {
    let requests = AtomicU64::new(0);
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(stream) = connector.open().await {
            let _ = attack.once(stream, &is_over, &requests).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_requests_and_probes_succeed_beside_every_attack_at_once() {
    let gateway = Gateway::with(|config| {
        config.set("workers", "2");
    })
    .await;
    gateway.origin.on("/public/long", |exchange| {
        exchange.reply(&Reply::ok().body("x".repeat(60_000)));
    });
    let (extent, connections) = extent();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut strangers = JoinSet::new();
    // Together they ask for as much with few connections as with many.
    let streams = u32::try_from(9000 / connections).unwrap();
    let kinds: Vec<_> = attacks(streams).into_iter().map(Arc::new).collect();
    for (number, kind) in (0..connections).zip(kinds.iter().cycle()) {
        // Every tenth comes from the address of the honest.
        let source = match number % 10 {
            0 => "127.0.0.1".to_owned(),
            of_ten => format!("127.0.0.{}", of_ten + 1),
        };
        let (http, door) = match (kind.is_h2, kind.reads) {
            (false, _) => (Http::One, Door::Plain),
            (true, false) => (Http::Two, Door::Plain),
            (true, true) => (Http::Two, Door::Tls),
        };
        let connector = gateway.connector(http, door).coming_from(&source);
        strangers.spawn(attack(connector, kind.clone(), is_over.clone()));
    }
    // Silent connections to the admin listener.
    for _ in 0..connections / 4 {
        let (address, is_over) = (gateway.admin().replace("http://", ""), is_over.clone());
        strangers.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                if let Ok(mut silent) = TcpStream::connect(&address).await {
                    let _ = silent.read(&mut [0]).await;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    let token = gateway.issuer.token();
    let started = Instant::now();
    let mut after_a_quarter = None;
    let (mut honest, mut probes) = (0, 0);
    let mut kept = gateway.connect(Http::Two).await;
    while started.elapsed() < extent {
        for http in Http::BOTH {
            gateway.get(http, "/public/x").send().await.is_ok();
            let answer = gateway.get(http, "/me").bearer(&token).send().await;
            answer.is_ok();
            honest += 2;
        }
        kept.get("/public/x").send().await.is_ok();
        assert_eq!(gateway.admin_status("/livez"), 200);
        assert_eq!(gateway.admin_status("/readyz"), 200);
        probes += 2;
        if started.elapsed() > extent / 4 && after_a_quarter.is_none() {
            after_a_quarter = Some(gateway.rss());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (before, after) = (after_a_quarter.unwrap(), gateway.rss());
    let unsent = gateway.metrics().sum("foregate_unsent_bytes", &[]);
    eprintln!(
        "{honest} honest requests and {probes} probes in {} s; {} MiB, then {} MiB; {unsent} bytes unsent",
        extent.as_secs(),
        before >> 20,
        after >> 20,
    );
    assert!(after < before + GROWTH, "{before} grew to {after}");
    assert!(unsent < f64::from(256 << 20));
    is_over.store(true, Ordering::Relaxed);
    strangers.shutdown().await;
    drop(kept);
    eventually("nothing is left", || {
        gateway.metrics().sum("foregate_connections", &[]) == 0.0
    })
    .await;
    for http in Http::BOTH {
        gateway.get(http, "/public/x").send().await.is_ok();
    }
}
