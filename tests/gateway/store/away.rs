//! Redis goes away, is slow, comes back, comes back empty. Nobody waits for longer than a deadline,
//! and nobody waits twice.

use std::path::Path;
use std::time::{Duration, Instant};

use foregate::breaker::Outage;
use foregate::denial::Reason;
use foregate::store::{Kind, Unreachable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::contract::{entry, log, records};
use super::{in_redis, later, one_key, open, timed};
use crate::support::config::KEY;
use crate::support::tokens::now;
use crate::support::{Gateway, Http, RedisServer, eventually};

#[tokio::test]
async fn a_store_that_is_not_there_yet_is_waited_for_and_found() {
    let absent = RedisServer::absent();
    let store = format!("{{ redis: \"redis://127.0.0.1:{}\" }}", absent.0);
    let opened = open(Path::new("."), &one_key(), &store);
    for _ in 0..100 {
        assert_eq!(
            opened.store.get(Kind::KeySet, b"a").await,
            Err(Unreachable::BreakerOpen)
        );
    }
    assert_eq!(opened.store.outage(), Outage::NeverSeen);
    assert_eq!(opened.counted("foregate_store_breaker_open"), 1.0);
    let mut pushes = opened.store.pushes();
    let _server = RedisServer::appear(absent, &[]);
    let ((), took) = timed(opened.answers()).await;
    println!("found after {took:?}");
    assert!(pushes.has_changed().unwrap(), "whoever waits is woken");
    pushes.mark_unchanged();
    opened
        .store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_stands_still_costs_one_deadline_and_then_nothing() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    opened
        .store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    server.pause();
    let stopped = Instant::now();
    let (first, took) = timed(opened.store.get(Kind::KeySet, b"a")).await;
    assert_eq!(first, Err(Unreachable::Timeout));
    assert!(
        took >= Duration::from_millis(100) && took < Duration::from_secs(5),
        "{took:?}"
    );
    println!("the first answer took {took:?}");
    opened.is_away().await;
    println!("away after {:?}", stopped.elapsed());
    let Outage::Away { since } = opened.store.outage() else {
        panic!("not away")
    };
    assert!(
        since <= stopped + Duration::from_millis(100),
        "since it last answered"
    );
    let (outcomes, took) = timed(async {
        let mut outcomes = Vec::new();
        for _ in 0..1000 {
            outcomes.push(opened.store.get(Kind::KeySet, b"a").await);
        }
        outcomes
    })
    .await;
    println!("1000 answers with the breaker open took {took:?}");
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Err(Unreachable::BreakerOpen))
    );
    // Long enough that the connection itself is given up, and another attempt, too.
    eventually("no connection is kept", || {
        opened.counted("foregate_store_unreachable_total{reason=\"disconnected\"}") >= 2.0
    })
    .await;
    assert!(matches!(opened.store.outage(), Outage::Away { .. }));
    let commands =
        opened.counted("foregate_store_command_seconds_count{command=\"get\",outcome=\"failed\"}");
    assert!(
        commands <= 4.0,
        "not asked while the breaker is open: {commands}"
    );
    server.resume();
    let ((), took) = timed(opened.answers()).await;
    println!("back after {took:?}");
    assert_eq!(
        opened.store.get(Kind::KeySet, b"a").await,
        Ok(Some(b"value".to_vec()))
    );
}

#[tokio::test]
async fn a_server_that_is_stopped_for_less_than_the_connection_lasts_is_found_again() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    for _ in 0..3 {
        server.pause();
        opened.is_away().await;
        server.resume();
        let ((), took) = timed(opened.answers()).await;
        println!("back after {took:?}");
        opened.store.position(now()).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_comes_back_empty_has_another_epoch_and_takes_what_is_written_back() {
    let mut server = RedisServer::start();
    let opened = in_redis(&server).await;
    let entries = [entry("a", "a", later()), entry("b", "b", later())];
    let before = opened.store.append(&entries).await.unwrap();
    let mut pushes = opened.store.pushes();
    pushes.mark_unchanged();
    server.kill();
    opened.is_away().await;
    assert_eq!(
        opened.store.append(&entries).await,
        Err(Unreachable::BreakerOpen)
    );
    server.start_again();
    let ((), took) = timed(opened.answers()).await;
    println!("back after {took:?}");
    assert!(pushes.has_changed().unwrap(), "whoever waits is woken");
    pushes.mark_unchanged();
    let (after, count) = opened.store.position(now()).await.unwrap();
    assert_ne!(before.epoch, after.epoch);
    assert_eq!((after.seq, count), (0, 0));
    opened.store.append(&entries).await.unwrap();
    assert_eq!(records(&log(&*opened.store).await), ["a", "b"]);
}

#[tokio::test]
async fn a_server_that_was_restarted_with_its_data_has_another_epoch_too() {
    let mut server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let opened = in_redis(&server).await;
    let before = opened
        .store
        .append(&[entry("a", "a", later())])
        .await
        .unwrap();
    server.kill();
    opened.is_away().await;
    server.start_again();
    opened.answers().await;
    let (after, count) = opened.store.position(now()).await.unwrap();
    assert_ne!(
        before.epoch, after.epoch,
        "it may have lost the end of its file"
    );
    assert_eq!((after.seq, count), (1, 1));
}

/// Passes bytes on, and those of the server only after this delay.
async fn slow(port: u16) -> (u16, watch::Sender<Duration>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().port();
    let (delay, delays) = watch::channel(Duration::ZERO);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                continue;
            };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            });
            let delays = delays.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                    let delay = *delays.borrow();
                    tokio::time::sleep(delay).await;
                    if to_client.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, delay)
}

#[tokio::test]
async fn a_slow_server_is_not_waited_for_and_its_late_answers_reach_nobody() {
    let server = RedisServer::start();
    let (port, delay) = slow(server.port()).await;
    let opened = open(
        Path::new("."),
        &one_key(),
        &format!("{{ redis: \"redis://127.0.0.1:{port}\" }}"),
    );
    opened.answers().await;
    for name in ["a", "b"] {
        opened
            .store
            .put(Kind::KeySet, name.as_bytes(), name.as_bytes(), later())
            .await
            .unwrap();
    }
    for _ in 0..3 {
        delay.send_replace(Duration::from_millis(400));
        let (outcome, took) = timed(opened.store.get(Kind::KeySet, b"a")).await;
        assert!(outcome.is_err(), "{outcome:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        opened.is_away().await;
        delay.send_replace(Duration::ZERO);
        opened.answers().await;
        for name in ["b", "a", "b"] {
            assert_eq!(
                opened.store.get(Kind::KeySet, name.as_bytes()).await,
                Ok(Some(name.as_bytes().to_vec()))
            );
        }
    }
}

#[tokio::test]
async fn writers_that_see_the_server_die_lose_nothing_that_was_acknowledged() {
    let mut server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let opened = in_redis(&server).await;
    let store = opened.store.clone();
    let writer = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for number in 0.. {
            let name = format!("n{number}");
            match store.append(&[entry(&name, &name, later())]).await {
                Ok(_) => acknowledged.push(name),
                Err(_) => return acknowledged,
            }
        }
        acknowledged
    });
    eventually("something is written", || {
        server.say("ZCARD foregate:{revocations}:log").text() != "0"
    })
    .await;
    server.kill();
    let acknowledged = writer.await.unwrap();
    assert!(!acknowledged.is_empty());
    server.start_again();
    opened.answers().await;
    let found = records(&log(&*opened.store).await);
    assert!(
        acknowledged.iter().all(|name| found.contains(name)),
        "{acknowledged:?} {found:?}"
    );
}

#[tokio::test]
async fn a_gateway_starts_without_its_store_refuses_all_but_public_routes_and_recovers() {
    let absent = RedisServer::absent();
    let url = format!("redis://127.0.0.1:{}", absent.0);
    let gateway = Gateway::with(|config| {
        config.store(&url);
    })
    .await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        for path in ["/me", "/optional", "/guests"] {
            let answer = gateway.get(http, path).bearer(&token).send().await;
            let answer = answer.is_denied(Reason::StoreUnavailable);
            assert_eq!(answer.headers["retry-after"], "1");
        }
        gateway.origin.saw_nothing();
        gateway.get(http, "/public/x").send().await.is_ok();
        gateway.get(http, "/optional").send().await.is_ok();
        gateway.get(http, "/health").send().await.is_ok();
        gateway.origin.take();
        let expired = gateway
            .get(http, "/me")
            .bearer(&gateway.issuer.expired())
            .send()
            .await;
        expired.is_denied(Reason::TokenExpired);
    }
    assert_eq!(gateway.admin_status("/readyz"), 503);
    assert_eq!(gateway.metrics().sum("foregate_store_up", &[]), 0.0);
    let _server = RedisServer::appear(absent, &[]);
    eventually("ready", || gateway.admin_status("/readyz") == 200).await;
    for http in Http::BOTH {
        gateway.get(http, "/me").bearer(&token).send().await.is_ok();
    }
    let text = gateway.log().text();
    assert!(!text.contains(KEY) && text.contains(&url), "{text}");
}

#[tokio::test]
async fn while_the_store_stands_still_no_good_token_is_called_bad() {
    let server = RedisServer::start();
    let gateway = Gateway::with(|config| {
        config.store(&server.url());
    })
    .await;
    eventually("ready", || gateway.admin_status("/readyz") == 200).await;
    let (token, admin) = (
        gateway.issuer.token(),
        gateway
            .issuer
            .sign(&gateway.issuer.claims().roles(["admin"])),
    );
    for http in Http::BOTH {
        gateway
            .get(http, "/admin")
            .bearer(&admin)
            .send()
            .await
            .is_ok();
    }
    server.pause();
    gateway.metric_becomes("foregate_store_up", &[], 0.0).await;
    gateway.origin.take();
    for http in Http::BOTH {
        gateway.get(http, "/me").bearer(&token).send().await.is_ok();
        gateway
            .post(http, "/me")
            .bearer(&gateway.issuer.token())
            .send()
            .await
            .is_ok();
        gateway.origin.take();
        let refused = gateway.get(http, "/admin").bearer(&admin).send().await;
        refused.is_denied(Reason::StoreUnavailable);
        let expired = gateway
            .get(http, "/me")
            .bearer(&gateway.issuer.expired())
            .send()
            .await;
        expired.is_denied(Reason::TokenExpired);
        gateway.origin.saw_nothing();
    }
    assert_eq!(
        gateway.admin_status("/readyz"),
        200,
        "or all replicas would leave together"
    );
    server.resume();
    gateway.metric_becomes("foregate_store_up", &[], 1.0).await;
    for http in Http::BOTH {
        gateway
            .get(http, "/admin")
            .bearer(&admin)
            .send()
            .await
            .is_ok();
    }
    assert_eq!(
        gateway
            .metrics()
            .sum("foregate_requests_total", &[("class", "4xx")]),
        2.0,
        "the expired ones"
    );
}
