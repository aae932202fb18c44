//! The system clock of one replica is set by an hour, forward and back, while it runs: a library
//! that stands between the process and the system tells it another time.

use std::path::Path;
use std::time::{Duration, Instant};

use foregate::denial::Reason;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::tokens::{ISSUER, now};
use crate::support::{
    Config, DEADLINE, Gateway, Http, Origin, RedisServer, eventually, metrics, not_proven,
};

const HOUR: i64 = 3600;

/// The default leeway of a token's times.
const LEEWAY: Duration = Duration::from_secs(5);

/// A system clock that can be set.
struct SystemClock {
    folder: TempDir,
    library: &'static str,
}

impl SystemClock {
    /// `None` if the library is not installed.
    fn new() -> Option<Self> {
        let library = [
            "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
            "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
            "/usr/lib64/faketime/libfaketimeMT.so.1",
        ]
        .into_iter()
        .find(|library| Path::new(library).exists());
        let Some(library) = library else {
            not_proven("faketime");
            return None;
        };
        let clock = Self {
            folder: tempfile::tempdir().unwrap(),
            library,
        };
        clock.set(0);
        Some(clock)
    }

    /// Sets it to so many seconds after the true time.
    fn set(&self, seconds: i64) {
        let beside = self.folder.path().join("new");
        std::fs::write(&beside, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(beside, self.folder.path().join("time")).unwrap();
    }

    /// Starts a gateway by this clock. Only its time of day is set, as with a real clock.
    async fn gateway(&self, change: impl FnOnce(&mut Config)) -> Gateway {
        let gateway = self.starting(change).await;
        eventually("ready", || gateway.admin_status("/readyz") == 200).await;
        gateway
    }

    /// The same, before it is ready.
    async fn starting(&self, change: impl FnOnce(&mut Config)) -> Gateway {
        let file = self.folder.path().join("time").display().to_string();
        let environment = [
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Gateway::within(&environment, Origin::start(), change).await
    }
}

/// A token that was issued a minute ago and expires so many seconds after the true time.
fn token(gateway: &Gateway, expires: i64) -> String {
    let claims = gateway.issuer.claims();
    let claims = claims.with("iat", now() + expires.min(0) - 60);
    gateway.issuer.sign(&claims.with("exp", now() + expires))
}

/// The status of a request with this token.
async fn status(gateway: &Gateway, http: Http, token: &str) -> u16 {
    let answer = gateway.get(http, "/me").bearer(token).send().await;
    answer.status.as_u16()
}

/// Waits until a token is accepted, and returns how long that took.
async fn accepted(gateway: &Gateway, http: Http, token: &str) -> Duration {
    let asked = Instant::now();
    while status(gateway, http, token).await != 200 {
        assert!(asked.elapsed() < LEEWAY, "a good token is refused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    asked.elapsed()
}

/// Clock ticks of processor time that a process has used, a hundred a second.
fn processor_ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = text.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_step_that_redis_contradicts_accepts_nothing_expired_and_refuses_nothing_good() {
    let Some(clock) = SystemClock::new() else {
        return;
    };
    let redis = RedisServer::start();
    let gateway = clock
        .gateway(|config| {
            config.store(&redis.url());
        })
        .await;
    let other = gateway
        .replica(|config| {
            config.store(&redis.url());
        })
        .await;
    // The clock of Redis has been read.
    let probes = || {
        gateway.metrics().sum(
            "foregate_store_command_seconds_count",
            &[("command", "probe")],
        )
    };
    let before = probes();
    eventually("some probes", || probes() > before + 3.0).await;
    let known = token(&gateway, HOUR / 2);
    accepted(&gateway, Http::One, &known).await;
    for step in [-HOUR, HOUR, -HOUR, 0] {
        clock.set(step);
        for http in Http::BOTH {
            // At once, and after the step was noticed.
            for _ in 0..2 {
                let expired = gateway.get(http, "/me").bearer(&token(&gateway, -600));
                expired.send().await.is_denied(Reason::TokenExpired);
                let fresh = gateway.issuer.token();
                for good in [&known, &fresh] {
                    let took = accepted(&gateway, http, good).await;
                    println!("{step:+} s: accepted after {took:?}");
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
    clock.set(HOUR);
    // Whoever signs in after a revocation is let in, here and on the other replica.
    let subject = Uuid::now_v7().to_string();
    let revoked = gateway.issuer.token_of(&subject);
    gateway.revoke(&json!({ "kind": "subject", "issuer": ISSUER, "subject": subject }));
    for gateway in [&gateway, &other] {
        is_revoked(gateway, &revoked).await;
        signs_in(gateway, &subject).await;
    }
    clock.set(0);
    let told = gateway.log().all(|line| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.contains("the clock of Redis contradicts it"))
    });
    assert!(!told.is_empty(), "{}", gateway.log().text());
    gateway.metric_becomes("foregate_store_up", &[], 1.0).await;
}

/// Waits until a token is refused as revoked.
async fn is_revoked(gateway: &Gateway, token: &str) {
    let asked = Instant::now();
    while status(gateway, Http::One, token).await == 200 {
        assert!(asked.elapsed() < LEEWAY, "a revoked token is accepted");
    }
    let answer = gateway.get(Http::One, "/me").bearer(token).send().await;
    answer.is_denied(Reason::SubjectRevoked);
}

/// Asks with new tokens of a subject until one is accepted: within the leeway and a moment.
async fn signs_in(gateway: &Gateway, subject: &str) {
    let asked = Instant::now();
    while status(gateway, Http::One, &gateway.issuer.token_of(subject)).await != 200 {
        assert!(asked.elapsed() < 2 * LEEWAY, "a new token is refused");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_step_that_nothing_contradicts_is_followed_and_undone_with_the_clock() {
    let Some(clock) = SystemClock::new() else {
        return;
    };
    let gateway = clock.gateway(|_| {}).await;
    let (long, short) = (token(&gateway, 2 * HOUR), token(&gateway, HOUR / 2));
    for http in Http::BOTH {
        for token in [&long, &short] {
            accepted(&gateway, http, token).await;
        }
        clock.set(HOUR);
        // By the clock it has expired; a token that was accepted before is no exception.
        let refused = async {
            while status(&gateway, http, &short).await != 401 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LEEWAY, refused).await.unwrap();
        accepted(&gateway, http, &long).await;
        clock.set(0);
        for token in [&long, &short] {
            let took = accepted(&gateway, http, token).await;
            println!("accepted again after {took:?}");
        }
    }
    is_idle(gateway.pid()).await;
}

/// Waits until a process uses less than half of a core: nothing is left that runs all the time.
/// Work that is still to be done may take its time.
async fn is_idle(pid: u32) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (begun, before) = (Instant::now(), processor_ticks(pid));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = processor_ticks(pid) - before;
        if Duration::from_millis(10 * used) < begun.elapsed() / 2 {
            return;
        }
        assert!(Instant::now() < deadline, "{used} ticks without a request");
    }
}

#[tokio::test]
async fn a_process_that_starts_by_a_wrong_clock_is_not_ready_and_accepts_no_credential() {
    let Some(clock) = SystemClock::new() else {
        return;
    };
    let redis = RedisServer::start();
    for wrong in [-HOUR, HOUR] {
        clock.set(wrong);
        let gateway = clock
            .starting(|config| {
                config.store(&redis.url());
            })
            .await;
        let readiness = || metrics::get(gateway.admin(), "/readyz");
        eventually("the cause is named", || {
            let (status, text) = readiness();
            assert_eq!(status, 503, "{text}");
            text.contains("its clock says") && text.contains("the clock of this machine says")
        })
        .await;
        // By the wrong clock it is good: it expired, or is issued, by the true time.
        let claims = gateway.issuer.claims().with("iat", now() + wrong - 60);
        let token = gateway
            .issuer
            .sign(&claims.with("exp", now() + wrong + 600));
        for http in Http::BOTH {
            let answer = gateway.get(http, "/me").bearer(&token).send().await;
            answer.is_denied(Reason::StoreUnavailable);
            gateway.origin.saw_nothing();
            gateway.get(http, "/public/x").send().await.is_ok();
            gateway.origin.take();
        }
        let told = gateway.log().all(|line| {
            line["cause"]
                .as_str()
                .is_some_and(|cause| cause.contains("set the one that is wrong"))
        });
        assert!(!told.is_empty(), "{}", gateway.log().text());
        // The clock is set right, and nobody need restart the process.
        clock.set(0);
        eventually("ready", || readiness().0 == 200).await;
        accepted(&gateway, Http::One, &gateway.issuer.token()).await;
        let expired = gateway
            .get(Http::One, "/me")
            .bearer(&self::token(&gateway, -600));
        expired.send().await.is_denied(Reason::TokenExpired);
    }
}
