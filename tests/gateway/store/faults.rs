//! Answers and connections that say that Redis cannot be used: each opens the breaker, ends the
//! connection, has its own words, and is left as soon as another server is there.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use foregate::breaker::Outage;

use super::{Opened, one_key, open, timed};
use crate::support::forwarder::Forwarder;
use crate::support::pki::Pki;
use crate::support::{RedisServer, eventually};

fn behind(url: &str) -> Opened {
    open(
        Path::new("."),
        &one_key(),
        &format!("{{ redis: \"{url}\" }}"),
    )
}

/// Waits until a store names a fault, and returns its words.
async fn words(opened: &Opened) -> String {
    eventually("a fault is named", || opened.store.fault().is_some()).await;
    opened.store.fault().map(|it| it.to_string()).unwrap()
}

#[tokio::test]
async fn an_answer_that_says_wrong_server_ends_the_connection_and_counts_as_down() {
    let server = RedisServer::start();
    let forwarder = Forwarder::to(server.port());
    let opened = behind(&format!("redis://127.0.0.1:{}", forwarder.port()));
    opened.answers().await;
    let mut all = BTreeSet::new();
    let answers = [
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "LOADING Redis is loading the dataset in memory",
        "NOAUTH Authentication required.",
        "MOVED 3999 127.0.0.1:6381",
        "CLUSTERDOWN Hash slot not served",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "NOPERM this user has no permissions to run the 'eval' command",
        "DENIED Redis is running in protected mode.",
        "SOMETHINGNEW that a later version says",
    ];
    for answer in answers {
        let before = forwarder.accepted();
        forwarder.answer(Some(answer));
        opened.is_away().await;
        assert_eq!(opened.counted("foregate_store_up"), 0.0, "{answer}");
        eventually("a new connection", || forwarder.accepted() > before).await;
        assert!(all.insert(words(&opened).await), "{answer}: {all:#?}");
        forwarder.answer(None);
        opened.answers().await;
        assert_eq!(opened.counted("foregate_store_up"), 1.0, "{answer}");
        assert_eq!(opened.store.fault(), None);
    }
    println!("{all:#?}");
}

#[tokio::test]
async fn every_cause_of_no_connection_has_its_own_words_and_none_shows_a_secret() {
    const SECRET: &str = "s3cr3t-p4ssw0rd";
    let folder = tempfile::tempdir().unwrap();
    let (good, other) = (Pki::new(), Pki::new());
    good.sign(&["127.0.0.1"]).write(folder.path(), "redis");
    std::fs::write(folder.path().join("ca.pem"), good.root_pem()).unwrap();
    std::fs::write(folder.path().join("other.pem"), other.root_pem()).unwrap();
    let tls_port = RedisServer::absent().0;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let server = RedisServer::with(&[
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        &path("redis.crt"),
        "--tls-key-file",
        &path("redis.key"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let locked = RedisServer::with(&["--requirepass", "r1ght"]);
    server.say("ACL SETUSER poor on >r1ght ~foregate:* &foregate:* +@all -set");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let web = another_protocol();
    let (plain, locked, silent) = (server.port(), locked.port(), silent.local_addr().unwrap());
    let absent = RedisServer::absent().0;
    let stores = [
        format!("redis: \"redis://127.0.0.1:{absent}\""),
        format!("redis: \"redis://nowhere.invalid:{plain}\""),
        format!("redis: \"redis://{silent}\""),
        format!("redis: \"redis://127.0.0.1:{tls_port}\""),
        format!("redis: \"rediss://127.0.0.1:{plain}\", ca: ca.pem"),
        format!("redis: \"rediss://127.0.0.1:{tls_port}\", ca: other.pem"),
        format!("redis: \"rediss://localhost:{tls_port}\", ca: ca.pem"),
        format!("redis: \"redis://:{SECRET}@127.0.0.1:{locked}\""),
        format!("redis: \"redis://127.0.0.1:{locked}\""),
        format!("redis: \"redis://127.0.0.1:{plain}/99\""),
        format!("redis: \"redis://poor:r1ght@127.0.0.1:{plain}\""),
        format!("redis: \"redis://127.0.0.1:{web}\""),
    ];
    let mut all = BTreeSet::new();
    for store in stores {
        let opened = open(folder.path(), &one_key(), &format!("{{ {store} }}"));
        let words = words(&opened).await;
        assert_eq!(opened.store.outage(), Outage::NeverSeen, "{store}");
        assert!(
            !words.contains(SECRET) && !words.contains("r1ght"),
            "{words}"
        );
        println!("{store}: {words}");
        assert!(all.insert(words.clone()), "{store}: {words}");
    }
}

/// The port of a server that speaks HTTP.
fn another_protocol() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

#[tokio::test]
async fn a_wrong_password_is_tried_less_and_less_often() {
    let server = RedisServer::with(&["--requirepass", "right"]);
    let forwarder = Forwarder::to(server.port());
    let _opened = behind(&format!("redis://:wrong@127.0.0.1:{}", forwarder.port()));
    let mut attempts: Vec<Instant> = Vec::new();
    while attempts.len() < 6 {
        let seen = attempts.len();
        eventually("another attempt", || forwarder.accepted() > seen).await;
        attempts.push(Instant::now());
    }
    let took = attempts[5] - attempts[0];
    println!("six attempts in {took:?}");
    // 100, 200, 400, 800, 1600 ms, each up to a quarter shorter; this task may see them late.
    assert!(took >= Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_user_who_loses_a_permission_is_an_outage_and_one_who_gets_it_back_is_not() {
    let server = RedisServer::start();
    server.say("ACL SETUSER gate on >right ~foregate:* &foregate:* +@all");
    let opened = behind(&format!("redis://gate:right@127.0.0.1:{}", server.port()));
    opened.answers().await;
    server.say("ACL SETUSER gate -del");
    opened.is_away().await;
    let words = words(&opened).await;
    assert!(words.contains("DEL") || words.contains("script"), "{words}");
    server.say("ACL SETUSER gate +del");
    let ((), took) = timed(opened.answers()).await;
    println!("used again after {took:?}");
}

#[tokio::test]
async fn a_script_answer_that_looks_like_a_message_is_an_answer_all_the_same() {
    let server = RedisServer::start();
    let opened = super::in_redis(&server).await;
    // What an attacker who may write would write, to shift the answers of others.
    for word in ["subscribe", "psubscribe", "message", "pmessage", "smessage"] {
        server.say(&format!(
            "HSET foregate:{{revocations}}:position epoch {word}"
        ));
        for _ in 0..3 {
            opened.store.position(0).await.unwrap();
        }
        server.say(&format!("ZADD foregate:{{revocations}}:log 1 {word} 2 b"));
        opened.store.log_after(0, 10).await.unwrap();
        server.say(&format!("ZADD foregate:{{revocations}}:log 1 {word}"));
        opened.store.log_after(0, 10).await.unwrap();
    }
    assert_eq!(opened.store.outage(), Outage::Reachable);
    assert_eq!(opened.counted("foregate_store_unreachable_total"), 0.0);
}
