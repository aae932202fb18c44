//! Several replicas and a real Redis: a revocation on one applies on all, and no failure of Redis
//! undoes one.

use std::time::{Duration, Instant};

use foregate::denial::Reason;
use serde_json::{Value, json};

use super::{is_good, is_refused, uuid};
use crate::support::admin::Post;
use crate::support::client::Client;
use crate::support::log::says;
use crate::support::metrics::get;
use crate::support::{Config, Gateway, Http, RedisServer, eventually};

/// The guaranteed upper bound.
const SECOND: Duration = Duration::from_secs(1);

/// The keys of the log in Redis.
const LOG: &[u8] = b"foregate:{revocations}:log";

/// Two replicas and what they share.
pub struct Pair {
    pub redis: RedisServer,
    pub first: Gateway,
    pub second: Gateway,
}

fn sharing(redis: &RedisServer) -> impl Fn(&mut Config) + use<> {
    let url = redis.url();
    move |config| {
        config.store(&url);
    }
}

impl Pair {
    pub async fn start() -> Self {
        let redis = RedisServer::start();
        let first = Gateway::with(sharing(&redis)).await;
        let second = first.replica(sharing(&redis)).await;
        let pair = Self {
            redis,
            first,
            second,
        };
        for gateway in [&pair.first, &pair.second] {
            becomes_ready(gateway).await;
        }
        pair
    }

    /// Starts a third replica, which knows only what is in Redis.
    async fn newcomer(&self) -> Gateway {
        let gateway = self.first.replica(sharing(&self.redis)).await;
        becomes_ready(&gateway).await;
        gateway
    }

    /// A token of a session of its own.
    pub fn session(&self) -> (String, String) {
        let session = uuid();
        let token = self
            .first
            .issuer
            .sign(&self.first.issuer.claims().session(&session));
        (session, token)
    }

    /// The entries of the log: number and sealed entry.
    fn log(&self) -> Vec<(String, Vec<u8>)> {
        let answer = self
            .redis
            .call(&[b"ZRANGE", LOG, b"0", b"-1", b"WITHSCORES"]);
        answer
            .list()
            .chunks(2)
            .map(|pair| (pair[1].text(), pair[0].bytes().to_vec()))
            .collect()
    }
}

pub async fn becomes_ready(gateway: &Gateway) {
    eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
}

pub fn by_session(session: &str) -> Value {
    json!({ "kind": "session", "session": session })
}

/// Polls until a token is refused, and returns how long that took since `since`.
pub async fn refused_since(client: &mut Client, token: &str, since: Instant) -> Duration {
    loop {
        let answer = client.get("/me").bearer(token).send().await;
        let took = since.elapsed();
        if answer.status == 401 {
            answer.is_denied(Reason::SessionRevoked);
            return took;
        }
        assert_eq!(answer.status, 200, "neither good nor revoked");
        assert!(took < 10 * SECOND, "never refused");
    }
}

pub fn told(what: &str, mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 1000];
    println!(
        "{what}: {} times, p50 {:?}, p99 {:?}, longest {:?}",
        took.len(),
        at(500),
        at(990),
        at(1000)
    );
    at(1000)
}

#[tokio::test]
async fn a_revocation_on_one_replica_applies_on_the_other_within_a_second() {
    let pair = Pair::start().await;
    let mut client = pair.second.connect(Http::Two).await;
    let times = match std::env::var_os("FOREGATE_FULL") {
        Some(_) => 1000,
        None => 50,
    };
    let (mut since_call, mut since_told) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let (session, token) = pair.session();
        // The token is cached as valid there.
        client.get("/me").bearer(&token).send().await.is_ok();
        let call = Instant::now();
        pair.first.revoke(&by_session(&session));
        let told = Instant::now();
        since_told.push(refused_since(&mut client, &token, told).await);
        since_call.push(call.elapsed());
    }
    told("from the answer to the refusal elsewhere", since_told);
    let longest = told("from the call to the refusal elsewhere", since_call);
    assert!(longest < SECOND, "{longest:?}");
    let metrics = pair.second.metrics();
    let counted = metrics.sum("foregate_revocation_lag_seconds_count", &[]);
    let within = metrics.sum("foregate_revocation_lag_seconds_bucket", &[("le", "1")]);
    assert_eq!(counted, f64::from(times));
    assert_eq!(within, counted);
    let mean = metrics.sum("foregate_revocation_lag_seconds_sum", &[]) / counted;
    println!("by foregate_revocation_lag_seconds: mean {mean:.4} s");
}

#[tokio::test]
async fn revocations_survive_an_empty_restart_of_redis() {
    let mut pair = Pair::start().await;
    let revoked: Vec<(String, String)> = (0..20).map(|_| pair.session()).collect();
    for (session, _) in &revoked {
        pair.first.revoke(&by_session(session));
    }
    pair.redis.kill();
    // While Redis is away, the list in memory suffices.
    for gateway in [&pair.first, &pair.second] {
        is_refused(gateway, &revoked[0].1, Reason::SessionRevoked).await;
    }
    pair.redis.start_again();
    let returned = Instant::now();
    while pair.log().len() < revoked.len() {
        assert!(returned.elapsed() < 10 * SECOND, "never whole again");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let whole = returned.elapsed();
    println!("whole again {whole:?} after Redis answered again");
    assert!(whole < SECOND, "{whole:?}");
    for gateway in [&pair.first, &pair.second] {
        let by_epoch = [("cause", "epoch")];
        gateway
            .metric_becomes("foregate_revocation_reloads_total", &by_epoch, 1.0)
            .await;
        becomes_ready(gateway).await;
    }
    let newcomer = pair.newcomer().await;
    for gateway in [&pair.first, &pair.second, &newcomer] {
        for (_, token) in [&revoked[0], &revoked[19]] {
            is_refused(gateway, token, Reason::SessionRevoked).await;
        }
        is_good(gateway, &pair.first.issuer.token()).await;
    }
}

#[tokio::test]
async fn a_replica_that_was_paused_catches_up_at_once() {
    let pair = Pair::start().await;
    let (session, token) = pair.session();
    let mut client = pair.second.connect(Http::Two).await;
    client.get("/me").bearer(&token).send().await.is_ok();
    pair.second.signal("STOP");
    pair.first.revoke(&by_session(&session));
    tokio::time::sleep(3 * SECOND).await;
    pair.second.signal("CONT");
    let took = refused_since(&mut client, &token, Instant::now()).await;
    println!("caught up {took:?} after it went on");
    assert!(took < SECOND, "{took:?}");
}

#[tokio::test]
async fn a_redis_stall_signs_no_one_out_and_revocations_made_meanwhile_arrive() {
    let pair = Pair::start().await;
    let (session, token) = pair.session();
    let good = pair.first.issuer.token();
    let mut clients = Vec::new();
    for gateway in [&pair.first, &pair.second] {
        for http in Http::BOTH {
            clients.push(gateway.connect(http).await);
        }
    }
    pair.redis.pause();
    let paused = Instant::now();
    let mut told = None;
    while paused.elapsed() < 3 * SECOND {
        for client in &mut clients {
            let answer = client.get("/me").bearer(&good).send().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        if told.is_none() && paused.elapsed() > SECOND {
            told = Some(Post::revoke(pair.first.admin(), &by_session(&session)).send());
        }
    }
    let (status, answer) = told.unwrap();
    assert_eq!(
        (status, &answer["propagated"]),
        (503, &json!(false)),
        "{answer}"
    );
    for gateway in [&pair.first, &pair.second] {
        gateway.origin.take();
    }
    // The revocation applies on the replica that got it, and waits to be stored.
    is_refused(&pair.first, &token, Reason::SessionRevoked).await;
    assert_eq!(
        pair.first.metrics().sum("foregate_revocations_queued", &[]),
        1.0
    );
    is_good(&pair.second, &token).await;
    pair.redis.resume();
    let took = refused_since(&mut clients[3], &token, Instant::now()).await;
    println!("arrived {took:?} after Redis went on");
    assert!(took < 2 * SECOND, "{took:?}");
    pair.first
        .metric_becomes("foregate_revocations_queued", &[], 0.0)
        .await;
}

#[tokio::test]
async fn deleted_forged_or_swapped_entries_in_redis_are_repaired_within_a_second() {
    let pair = Pair::start().await;
    let revoked: Vec<(String, String)> = (0..3).map(|_| pair.session()).collect();
    for (session, _) in &revoked {
        pair.first.revoke(&by_session(session));
    }
    let whole = pair.log();
    assert_eq!(whole.len(), 3);
    let attacks: [(&str, &dyn Fn()); 4] = [
        ("one is deleted", &|| {
            pair.redis.call(&[b"ZREM", LOG, &whole[0].1]);
        }),
        ("all are deleted, with their names", &|| {
            for key in ["log", "names", "expiries"] {
                pair.redis
                    .say(&format!("DEL foregate:{{revocations}}:{key}"));
            }
        }),
        ("one is replaced by nonsense", &|| {
            let (number, entry) = pair.log().pop().unwrap();
            pair.redis.call(&[b"ZREM", LOG, &entry]);
            pair.redis
                .call(&[b"ZADD", LOG, number.as_bytes(), b"nonsense"]);
        }),
        ("two are swapped", &|| {
            let log = pair.log();
            let mine: Vec<_> = log.iter().filter(|(_, entry)| entry.len() > 20).collect();
            let (one, other) = (mine[0], mine[1]);
            pair.redis.call(&[
                b"ZADD",
                LOG,
                one.0.as_bytes(),
                &other.1,
                other.0.as_bytes(),
                &one.1,
            ]);
        }),
    ];
    for (what, attack) in attacks {
        attack();
        let attacked = Instant::now();
        // A replica that starts now must learn all of them from Redis alone.
        loop {
            let newcomer = pair.first.replica(sharing(&pair.redis)).await;
            becomes_ready(&newcomer).await;
            let (_, text) = get(newcomer.admin(), "/revocations");
            let told: Value = serde_json::from_str(&text).unwrap();
            if told["entries"]["session"] == 3 {
                for (_, token) in &revoked {
                    is_refused(&newcomer, token, Reason::SessionRevoked).await;
                }
                break;
            }
            assert!(
                attacked.elapsed() < 10 * SECOND,
                "{what}: never put right: {told}"
            );
        }
        let count = pair
            .first
            .metrics()
            .sum("foregate_revocations_written_back_total", &[])
            + pair
                .second
                .metrics()
                .sum("foregate_revocations_written_back_total", &[]);
        println!(
            "{what}: whole for a newcomer after {:?}; {count} written back so far",
            attacked.elapsed()
        );
        assert!(count > 0.0);
        for gateway in [&pair.first, &pair.second] {
            for (_, token) in &revoked {
                is_refused(gateway, token, Reason::SessionRevoked).await;
            }
            is_good(gateway, &pair.first.issuer.token()).await;
        }
    }
}

#[tokio::test]
async fn a_deleted_entry_is_restored_in_redis_within_a_second() {
    let pair = Pair::start().await;
    let (session, _) = pair.session();
    pair.first.revoke(&by_session(&session));
    let mut took = Vec::new();
    for _ in 0..5 {
        let (_, entry) = pair.log().pop().unwrap();
        pair.redis.call(&[b"ZREM", LOG, &entry]);
        let deleted = Instant::now();
        while pair.log().is_empty() {
            assert!(deleted.elapsed() < 10 * SECOND, "never written back");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.push(deleted.elapsed());
    }
    let longest = told("a deleted entry is written back", took);
    assert!(longest < SECOND, "{longest:?}");
}

#[tokio::test]
async fn a_replica_that_never_read_the_list_is_not_ready_and_serves_only_public_routes() {
    let absent = RedisServer::absent();
    let url = format!("redis://127.0.0.1:{}", absent.0);
    let gateway = Gateway::with(|config| {
        config.store(&url);
    })
    .await;
    assert_eq!(gateway.admin_status("/readyz"), 503);
    let session = uuid();
    let token = gateway
        .issuer
        .sign(&gateway.issuer.claims().session(&session));
    for http in Http::BOTH {
        for path in ["/me", "/optional"] {
            let answer = gateway.get(http, path).bearer(&token).send().await;
            answer.is_denied(Reason::StoreUnavailable);
        }
        gateway.origin.saw_nothing();
        gateway.get(http, "/public/x").send().await.is_ok();
        gateway.get(http, "/optional").send().await.is_ok();
        assert_eq!(gateway.origin.take().len(), 2);
    }
    // Revocations made meanwhile are queued, and stored once that is possible.
    let (status, answer) = Post::revoke(gateway.admin(), &by_session(&session)).send();
    assert_eq!(
        (status, &answer["propagated"]),
        (503, &json!(false)),
        "{answer}"
    );
    let redis = RedisServer::appear(absent, &[]);
    becomes_ready(&gateway).await;
    is_refused(&gateway, &token, Reason::SessionRevoked).await;
    is_good(&gateway, &gateway.issuer.token()).await;
    let another = gateway.replica(sharing(&redis)).await;
    becomes_ready(&another).await;
    is_refused(&another, &token, Reason::SessionRevoked).await;
}

#[tokio::test]
async fn redis_does_not_disclose_who_was_revoked() {
    let pair = Pair::start().await;
    let (session, token) = pair.session();
    let subject = uuid();
    pair.first.revoke(&by_session(&session));
    pair.first
        .revoke(&json!({ "kind": "token", "token": token }));
    pair.first
        .revoke(&json!({ "kind": "subject", "subject": subject }));
    assert_eq!(pair.log().len(), 3);
    let (signed, _) = token.rsplit_once('.').unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signed.as_bytes());
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let secrets: [&[u8]; 6] = [
        session.as_bytes(),
        subject.as_bytes(),
        signed.as_bytes(),
        digest.as_ref(),
        hex.as_bytes(),
        b"issuer.test",
    ];
    for seen in pair.redis.everything() {
        for secret in secrets {
            let found = seen.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{}", String::from_utf8_lossy(&seen));
        }
    }
}

#[tokio::test]
async fn a_revocation_is_logged_even_if_the_operator_disconnects_while_the_store_is_slow() {
    let pair = Pair::start().await;
    let (session, token) = pair.session();
    pair.redis.pause();
    let call = Post::revoke(pair.first.admin(), &by_session(&session)).begin();
    // It is in the list here, and on its way to the store.
    let mut client = pair.first.connect(Http::Two).await;
    refused_since(&mut client, &token, Instant::now()).await;
    drop(call);
    let line = pair.first.log().wait_for(|line| says(line, "revoked"));
    let line = line.expect("a line");
    assert_eq!(line["operator"], "alice");
    assert!(line["revocation"].as_str().unwrap().contains(&session));
    pair.redis.resume();
    let mut client = pair.second.connect(Http::Two).await;
    refused_since(&mut client, &token, Instant::now()).await;
}
