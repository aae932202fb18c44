//! Requests under load while Redis stands still: what they are answered, how long that takes, and
//! how soon Redis is used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foregate::denial::Reason;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use crate::support::{Client, Gateway, Http, Issuer, RedisServer, eventually, in_time};

/// Kept connections of each version to each gateway.
const CONNECTIONS: usize = 3;

/// Between two requests of a connection: twelve connections make four hundred requests a second.
const PACE: Duration = Duration::from_millis(30);

/// Before Redis stops, after it went on, and how long the first answers while it stands are counted
/// apart.
const SECOND: Duration = Duration::from_secs(1);

/// How long Redis stands still: 10 s with `FOREGATE_FULL=1`, else 3 s.
fn standing() -> Duration {
    match std::env::var_os("FOREGATE_FULL") {
        Some(_) => 10 * SECOND,
        None => 3 * SECOND,
    }
}

/// A request, all of which were answered with 200.
struct Asked {
    at: Instant,
    took: Duration,
}

/// Reads and writes, with tokens that are known and tokens that are new, until it is over.
async fn ask(mut client: Client, issuer: Issuer, over: Arc<AtomicBool>) -> Vec<Asked> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut asked, mut token) = (Vec::new(), issuer.token());
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        if asked.len() % 10 == 9 {
            token = issuer.token();
        }
        let at = Instant::now();
        let call = match asked.len() % 4 {
            3 => client.post("/me"),
            _ => client.get("/me"),
        };
        let answer = call.bearer(&token).send().await;
        let took = at.elapsed();
        assert_eq!(answer.status, 200, "{}", answer.text());
        asked.push(Asked { at, took });
    }
    asked
}

/// Tells how long the requests of a time took, and returns the 99th percentile.
fn told(what: &str, asked: &[Asked], from: Instant, to: Instant) -> Duration {
    let within = asked.iter().filter(|one| (from..to).contains(&one.at));
    let mut took: Vec<_> = within.map(|one| one.took).collect();
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    println!(
        "{what}: {} requests, p50 {:?}, p99 {:?}, longest {:?}",
        took.len(),
        at(50),
        at(99),
        at(100)
    );
    at(99)
}

/// Asks for what needs the store until it is given, and says when that was.
async fn used_again(gateway: &Gateway) -> Instant {
    let token = gateway
        .issuer
        .sign(&gateway.issuer.claims().roles(["admin"]));
    let mut client = gateway.connect(Http::Two).await;
    in_time("being used again", async {
        loop {
            let answer = client.get("/admin").bearer(&token).send().await;
            if answer.status == 200 {
                return Instant::now();
            }
            answer.is_denied(Reason::StoreUnavailable);
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

// The load has threads of its own, so that what the test looks at does not delay it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_standing_still_under_load_costs_no_answer_and_is_used_again_when_it_goes_on() {
    let redis = RedisServer::start();
    let url = redis.url();
    let first = Gateway::with(|config| {
        config.store(&url);
    })
    .await;
    let second = first
        .replica(|config| {
            config.store(&url);
        })
        .await;
    let gateways = [&first, &second];
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for gateway in gateways {
        eventually("ready", || gateway.admin_status("/readyz") == 200).await;
        for http in Http::BOTH {
            for _ in 0..CONNECTIONS {
                let (client, issuer) = (gateway.connect(http).await, gateway.issuer.clone());
                clients.push(tokio::spawn(ask(client, issuer, over.clone())));
            }
        }
    }
    // Connections, caches and the origin's threads are there before anything is measured.
    sleep(SECOND / 2).await;

    let began = Instant::now();
    sleep(2 * SECOND).await;
    redis.pause();
    let paused = Instant::now();
    for gateway in gateways {
        gateway.metric_becomes("foregate_store_up", &[], 0.0).await;
    }
    let opened = Instant::now();
    sleep_until((paused + standing()).into()).await;
    redis.resume();
    let resumed = Instant::now();
    let (one, other) = tokio::join!(used_again(&first), used_again(&second));
    let recovered = one.max(other);
    sleep(2 * SECOND).await;
    let ended = Instant::now();
    over.store(true, Ordering::Relaxed);
    let mut asked = Vec::new();
    for client in clients {
        asked.extend(in_time("the end of the load", client).await.unwrap());
    }

    let usual = told("before", &asked, began, paused);
    told("in the first second", &asked, paused, paused + SECOND);
    let open = told("with the breaker open", &asked, opened, resumed);
    told("after", &asked, resumed, ended);
    println!(
        "p99 grew by {:?} while the breaker was open, which it was {:?} after Redis stopped",
        open.saturating_sub(usual),
        opened - paused
    );
    let recovery = recovered - resumed;
    println!("used again {recovery:?} after Redis went on");
    // The promise is for the program as it is shipped, not for this build of it beside other tests.
    let is_full = standing() > 3 * SECOND;
    assert!(!is_full || recovery < SECOND, "{recovery:?}");
    for gateway in gateways {
        let metrics = gateway.metrics();
        let refused = metrics.sum("foregate_requests_total", &[("class", "4xx")]);
        assert_eq!(refused, 0.0, "nobody's token was called bad");
        assert_eq!(metrics.sum("foregate_store_up", &[]), 1.0);
    }
}
