//! How a gateway comes to its Redis: TLS, users, full and evicting servers, connections that are
//! cut.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use foregate::breaker::Outage;
use foregate::policy::rate::Rate;
use foregate::store::{Bucket, Draw, Kind, Unreachable};

use super::contract::{entry, log, records};
use super::{Opened, in_redis, later, one_key, open};
use crate::support::pki::Pki;
use crate::support::port::ReservedPort;
use crate::support::tokens::now;
use crate::support::{DEADLINE, RedisServer, eventually, in_time};

/// Uses everything once.
async fn works(opened: &Opened) {
    let store = &opened.store;
    store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    assert_eq!(
        store.get(Kind::KeySet, b"a").await,
        Ok(Some(b"value".to_vec()))
    );
    store.remove(Kind::KeySet, b"a").await.unwrap();
    let rate = Rate::new(NonZeroU32::new(1).unwrap(), Duration::from_secs(3600));
    let place = Bucket {
        name: b"a",
        rate,
        draw: Draw::Take,
    };
    for is_admitted in [true, false] {
        assert_eq!(
            store.admit(&[place]).await.unwrap()[0].is_admitted,
            is_admitted
        );
    }
    let empty = Bucket {
        draw: Draw::Empty,
        ..place
    };
    store.admit(&[empty]).await.unwrap();
    let mut pushes = store.pushes();
    let mut number = 0;
    in_time("a push", async {
        // The subscription may be a moment later than the rest.
        loop {
            number += 1;
            let name = format!("n{number}");
            let position = store.append(&[entry(&name, "r", later())]).await.unwrap();
            let waiting = Duration::from_millis(500);
            let _ =
                tokio::time::timeout(waiting, pushes.wait_for(|seq| *seq >= position.seq)).await;
            if *pushes.borrow() >= position.seq {
                return;
            }
        }
    })
    .await;
    assert_eq!(store.position(now()).await.unwrap().1, number);
    assert_eq!(log(&**store).await.len() as u64, number);
}

#[tokio::test]
async fn tls_to_a_server_whose_certificate_is_good_and_to_no_other() {
    let (good, other) = (Pki::new(), Pki::new());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    good.sign(&["127.0.0.1", "localhost"])
        .write(folder.path(), "redis");
    std::fs::write(path("ca.pem"), good.root_pem()).unwrap();
    std::fs::write(path("other.pem"), other.root_pem()).unwrap();
    let tls_port = ReservedPort::new();
    let _server = RedisServer::with(&[
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
    for host in ["127.0.0.1", "localhost"] {
        let store = format!(
            "{{ redis: \"rediss://{host}:{tls_port}\", ca: ca.pem, prefix: {} }}",
            host.replace('.', "-")
        );
        let opened = open(folder.path(), &one_key(), &store);
        opened.answers().await;
        works(&opened).await;
    }
    for ca in ["ca: other.pem", "timeout: 100ms"] {
        // Signed by somebody else, and by nobody the system knows.
        let store = format!("{{ redis: \"rediss://127.0.0.1:{tls_port}\", {ca} }}");
        let opened = open(folder.path(), &one_key(), &store);
        eventually("it is tried", || {
            opened.counted("foregate_store_unreachable_total{reason=\"disconnected\"}") >= 2.0
        })
        .await;
        assert_eq!(opened.store.outage(), Outage::NeverSeen, "{ca}");
    }
}

/// The command that README.md gives to an operator.
fn acl_command() -> Vec<String> {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once("    ACL SETUSER").unwrap();
    let (command, _) = rest.split_once("\n\n").unwrap();
    format!("ACL SETUSER{command}")
        .split_whitespace()
        .map(|word| word.replace(">PASSWORD", ">p@ss/word"))
        .collect()
}

#[tokio::test]
async fn the_user_of_the_readme_may_do_all_that_is_needed_and_no_more() {
    let server = RedisServer::start();
    let command = acl_command();
    let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
    assert_eq!(server.call(&words).text(), "OK");
    let url = |password: &str| {
        format!(
            "{{ redis: \"redis://foregate:{password}@127.0.0.1:{}/0\" }}",
            server.port()
        )
    };
    let opened = open(Path::new("."), &one_key(), &url("p%40ss%2Fword"));
    opened.answers().await;
    works(&opened).await;
    assert_eq!(
        opened.counted("foregate_store_unreachable_total{reason=\"answer\"}"),
        0.0
    );
    // An error in a script says which command was missing; ACL LOG has it.
    assert_eq!(server.say("ACL LOG").list(), []);

    let wrong = open(Path::new("."), &one_key(), &url("wrong"));
    eventually("it is tried", || {
        wrong.counted("foregate_store_unreachable_total{reason=\"disconnected\"}") >= 2.0
    })
    .await;
    assert_eq!(wrong.store.outage(), Outage::NeverSeen);
    assert_eq!(
        wrong.store.get(Kind::KeySet, b"a").await,
        Err(Unreachable::BreakerOpen)
    );
    server.say("ACL SETUSER foregate >wrong");
    wrong.answers().await;
}

#[tokio::test]
async fn a_server_that_may_throw_records_away_is_not_used() {
    let server = RedisServer::with(&["--maxmemory-policy", "allkeys-lru"]);
    let opened = open(
        Path::new("."),
        &one_key(),
        &format!("{{ redis: \"{}\" }}", server.url()),
    );
    eventually("it is noticed", || {
        opened.counted("foregate_store_evicting") == 1.0
    })
    .await;
    assert_eq!(opened.store.outage(), Outage::NeverSeen);
    assert_eq!(opened.counted("foregate_store_up"), 0.0);
    assert_eq!(
        opened.store.get(Kind::KeySet, b"a").await,
        Err(Unreachable::Evicting)
    );
    assert_eq!(opened.store.position(0).await, Err(Unreachable::Evicting));

    server.say("CONFIG SET maxmemory-policy noeviction");
    opened.answers().await;
    assert_eq!(opened.counted("foregate_store_evicting"), 0.0);
    works(&opened).await;

    // It is asked again on every connection.
    server.say("CONFIG SET maxmemory-policy volatile-ttl");
    server.say("CLIENT KILL TYPE normal SKIPME yes");
    opened.is_away().await;
    assert_eq!(
        opened.store.get(Kind::KeySet, b"a").await,
        Err(Unreachable::Evicting)
    );
    assert_eq!(opened.counted("foregate_store_up"), 0.0);
}

#[tokio::test]
async fn a_full_server_is_full_and_still_answers() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    opened
        .store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    opened
        .store
        .append(&[entry("a", "a", later())])
        .await
        .unwrap();
    server.say("CONFIG SET maxmemory 1");
    assert_eq!(
        opened
            .store
            .put(Kind::KeySet, b"b", b"value", later())
            .await,
        Err(Unreachable::Full)
    );
    // What is revoked matters more than a limit.
    opened
        .store
        .append(&[entry("b", "b", later())])
        .await
        .unwrap();
    for _ in 0..5 {
        assert_eq!(
            opened.store.get(Kind::KeySet, b"a").await,
            Ok(Some(b"value".to_vec()))
        );
        assert_eq!(opened.store.position(now()).await.unwrap().1, 2);
    }
    assert_eq!(opened.store.outage(), Outage::Reachable);
    server.say("CONFIG SET maxmemory 0");
    opened
        .store
        .append(&[entry("b", "b", later())])
        .await
        .unwrap();
    assert_eq!(records(&log(&*opened.store).await), ["a", "b"]);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_with_its_subscription() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    works(&opened).await;
    for round in 1..=3 {
        let mut pushes = opened.store.pushes();
        pushes.mark_unchanged();
        for kind in ["normal", "pubsub"] {
            server.say(&format!("CLIENT KILL TYPE {kind} SKIPME yes"));
        }
        // Whoever waits is woken, to look for what was missed.
        in_time("woken", pushes.changed()).await.unwrap();
        eventually("counted", || {
            opened.counted("foregate_store_reconnects_total") >= f64::from(round)
        })
        .await;
        opened.answers().await;
        eventually("subscribed again", || {
            server
                .say("PUBSUB NUMSUB foregate:{revocations}:pushes")
                .list()[1]
                .text()
                == "1"
        })
        .await;
    }
    let position = opened.store.position(now()).await.unwrap().0;
    let mut pushes = opened.store.pushes();
    opened
        .store
        .append(&[entry("last", "r", later())])
        .await
        .unwrap();
    in_time("a push", pushes.wait_for(|seq| *seq > position.seq))
        .await
        .unwrap();
}

#[tokio::test]
async fn commands_that_wait_while_a_connection_is_made_again_are_answered() {
    let server = RedisServer::start();
    let store = format!("{{ redis: \"{}\", timeout: 5s }}", server.url());
    let opened = open(Path::new("."), &one_key(), &store);
    opened.answers().await;
    let store = &opened.store;
    for _ in 0..5 {
        // This thread also runs the store, which notices nothing before the connection is closed.
        server.say("CLIENT KILL TYPE normal SKIPME yes");
        let deadline = Instant::now() + DEADLINE;
        while server.say("CLIENT LIST TYPE normal").text().lines().count() > 1 {
            assert!(Instant::now() < deadline, "the connection is not closed");
        }
        // It notices when it next waits, and then pauses for at least 75 ms.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let names = [entry("n", "r", later())];
        let (read, written, appended, position) = tokio::join!(
            store.get(Kind::KeySet, b"a"),
            store.put(Kind::KeySet, b"b", b"value", later()),
            store.append(&names),
            store.position(now()),
        );
        assert_eq!(read, Ok(None));
        assert_eq!(written, Ok(()));
        appended.unwrap();
        position.unwrap();
        assert_eq!(store.outage(), Outage::Reachable);
    }
    assert!(opened.counted("foregate_store_reconnects_total") >= 5.0);
}

#[tokio::test]
async fn gateways_with_different_prefixes_or_databases_share_a_server_and_nothing_else() {
    let server = RedisServer::start();
    let with = |more: &str| {
        open(
            Path::new("."),
            &one_key(),
            &format!("{{ redis: \"{}{more} }}", server.url()),
        )
    };
    let opened = [with("\""), with("\", prefix: other"), with("/1\"")];
    for opened in &opened {
        opened.answers().await;
    }
    opened[0]
        .store
        .append(&[entry("a", "a", later())])
        .await
        .unwrap();
    opened[0]
        .store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    for other in &opened[1..] {
        assert_eq!(other.store.get(Kind::KeySet, b"a").await, Ok(None));
        assert_eq!(other.store.position(now()).await.unwrap().1, 0);
    }
}
