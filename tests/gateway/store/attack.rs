//! Somebody reads and writes Redis. They learn nothing, and what they write opens nothing.

use foregate::store::{Entry, Kind, Swap};

use super::contract::{entry, log, records};
use super::{in_redis, later};
use crate::support::tokens::now;
use crate::support::{RedisServer, eventually};

const SECRETS: [&str; 4] = [
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "someone@example.com",
    "018f5b5e-0000-7000-8000-000000000001",
    "https://project.supabase.co/auth/v1",
];

const LOG: &[u8] = b"foregate:{revocations}:log";

#[tokio::test]
async fn who_reads_everything_sees_no_token_subject_or_address() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    for secret in SECRETS {
        let bytes = secret.as_bytes();
        opened
            .store
            .put(Kind::KeySet, bytes, bytes, later())
            .await
            .unwrap();
        opened
            .store
            .append(&[entry(secret, secret, later())])
            .await
            .unwrap();
    }
    let everything = server.everything();
    assert!(everything.len() > 20, "{}", everything.len());
    for secret in SECRETS {
        assert!(
            opened
                .store
                .get(Kind::KeySet, secret.as_bytes())
                .await
                .unwrap()
                .is_some()
        );
        for seen in &everything {
            // Not even a part of it.
            let found = secret
                .as_bytes()
                .windows(8)
                .any(|part| seen.windows(8).any(|window| window == part));
            assert!(!found, "{secret} in {seen:?}");
        }
    }
}

#[tokio::test]
async fn two_records_that_are_swapped_open_neither() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    for name in [b"a", b"b"] {
        opened
            .store
            .put(Kind::KeySet, name, name, later())
            .await
            .unwrap();
    }
    let keys = server.say("KEYS foregate:key_set:*");
    let [one, two] = keys.list() else {
        panic!("{keys:?}")
    };
    let (first, second) = (
        server.call(&[b"GET", one.bytes()]),
        server.call(&[b"GET", two.bytes()]),
    );
    server.call(&[b"SET", one.bytes(), second.bytes()]);
    server.call(&[b"SET", two.bytes(), first.bytes()]);
    for name in [b"a", b"b"] {
        assert_eq!(opened.store.get(Kind::KeySet, name).await, Ok(None));
    }
    assert_eq!(
        opened.counted("foregate_store_tampered_total{kind=\"key_set\"}"),
        2.0
    );
    opened
        .store
        .put(Kind::KeySet, b"a", b"again", later())
        .await
        .unwrap();
    assert_eq!(
        opened.store.get(Kind::KeySet, b"a").await,
        Ok(Some(b"again".to_vec()))
    );
}

#[tokio::test]
async fn a_forged_or_broken_record_is_absent_and_counted() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    opened
        .store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    let keys = server.say("KEYS foregate:key_set:*");
    let key = keys.list()[0].bytes().to_vec();
    let real = server.call(&[b"GET", &key]).bytes().to_vec();
    let huge = vec![real[0]; 2 << 20];
    let mut flipped = real.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let another_version = [&[2], &real[1..]].concat();
    let forged: [&[u8]; 8] = [
        b"x",
        b"\x01",
        b"\x01\xff\xff\xff",
        &[0; 64],
        &real[..real.len() - 1],
        &flipped,
        &another_version,
        &huge,
    ];
    for (number, bytes) in forged.iter().enumerate() {
        server.call(&[b"SET", &key, bytes]);
        assert_eq!(
            opened.store.get(Kind::KeySet, b"a").await,
            Ok(None),
            "{number}"
        );
        let counted = opened.counted("foregate_store_tampered_total{kind=\"key_set\"}");
        assert_eq!(counted, number as f64 + 1.0);
    }
    server.call(&[b"DEL", &key]);
    server.call(&[b"RPUSH", &key, &real]);
    assert_eq!(
        opened.store.get(Kind::KeySet, b"a").await,
        Ok(None),
        "of another type"
    );
    opened
        .store
        .put(Kind::KeySet, b"a", b"again", later())
        .await
        .unwrap();
    assert_eq!(
        opened.store.get(Kind::KeySet, b"a").await,
        Ok(Some(b"again".to_vec()))
    );
}

#[tokio::test]
async fn a_record_cannot_be_prolonged() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    let until = now() + 2;
    opened
        .store
        .put(Kind::KeySet, b"a", b"value", until)
        .await
        .unwrap();
    let keys = server.say("KEYS foregate:key_set:*");
    let key = keys.list()[0].bytes().to_vec();
    let record = server.call(&[b"GET", &key]);
    eventually("it expires", || now() > until).await;
    server.call(&[b"SET", &key, record.bytes()]);
    assert_eq!(opened.store.get(Kind::KeySet, b"a").await, Ok(None));
}

#[tokio::test]
async fn entries_that_change_places_are_left_out_removed_and_can_be_written_back() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    let entries = [
        entry("a", "a", later()),
        entry("b", "b", later()),
        entry("c", "c", later()),
    ];
    opened.store.append(&entries).await.unwrap();
    let members = server.call(&[b"ZRANGE", LOG, b"0", b"-1"]);
    let [a, b, _] = members.list() else {
        panic!("{members:?}")
    };
    server.call(&[b"ZADD", LOG, b"2", a.bytes(), b"1", b.bytes()]);
    assert_eq!(records(&log(&*opened.store).await), ["c"]);
    assert_eq!(
        opened.counted("foregate_store_tampered_total{kind=\"revocation\"}"),
        2.0
    );
    // They are gone, so whoever knows them sees that they are missing.
    assert_eq!(opened.store.position(now()).await.unwrap().1, 1);
    opened.store.append(&entries).await.unwrap();
    assert_eq!(records(&log(&*opened.store).await), ["c", "a", "b"]);
    assert_eq!(opened.store.position(now()).await.unwrap().1, 3);
}

#[tokio::test]
async fn a_deleted_entry_is_missed_by_its_count_and_written_back() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    let entries = [entry("a", "a", later()), entry("b", "b", later())];
    opened.store.append(&entries).await.unwrap();
    let nothing_left = |names: &str| {
        let server = &server;
        let deletion = format!("DEL {names}");
        move || server.say(&deletion)
    };
    let whole = "foregate:{revocations}";
    type Attack<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let attacks: [Attack<'_>; 6] = [
        (
            "one entry",
            Box::new(|| drop(server.call(&[b"ZREMRANGEBYRANK", LOG, b"0", b"0"]))),
        ),
        (
            "the log",
            Box::new(move || drop(nothing_left(&format!("{whole}:log"))())),
        ),
        (
            "its names",
            Box::new(|| {
                drop(server.say("DEL foregate:{revocations}:names foregate:{revocations}:expiries"))
            }),
        ),
        (
            "expiries",
            Box::new(|| drop(server.say("DEL foregate:{revocations}:expiries"))),
        ),
        (
            "one expiry",
            Box::new(|| drop(server.say("ZREMRANGEBYRANK foregate:{revocations}:expiries 0 0"))),
        ),
        ("all", Box::new(|| drop(server.say("FLUSHALL")))),
    ];
    for (what, attack) in &attacks {
        let (before, count) = opened.store.position(now()).await.unwrap();
        assert_eq!(count, 2, "{what}");
        attack();
        let (after, count) = opened.store.position(now()).await.unwrap();
        assert!(count < 2, "{what}: nobody would notice");
        assert_eq!(before.epoch == after.epoch, *what != "all", "{what}");
        opened.store.append(&entries).await.unwrap();
        assert_eq!(opened.store.position(now()).await.unwrap().1, 2, "{what}");
        let mut all = records(&log(&*opened.store).await);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, ["a", "b"], "{what}");
    }
    // Without its position the log is another one, with the same entries.
    let (before, _) = opened.store.position(now()).await.unwrap();
    server.say("DEL foregate:{revocations}:position");
    let (after, count) = opened.store.position(now()).await.unwrap();
    assert_ne!(before.epoch, after.epoch);
    assert_eq!((after.seq, count), (before.seq, 2));
}

#[tokio::test]
async fn what_has_expired_goes_with_its_name_and_the_count_stays_right() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    let until = now() + 1;
    let entries = [
        entry("short", "short", until),
        entry("long", "long", later()),
    ];
    opened.store.append(&entries).await.unwrap();
    eventually("one expires", || now() > until).await;
    for _ in 0..2 {
        assert_eq!(records(&log(&*opened.store).await), ["long"]);
        assert_eq!(opened.store.position(now()).await.unwrap().1, 1);
    }
    // As if that had been long ago.
    let expiries: &[u8] = b"foregate:{revocations}:expiries";
    let first = server.call(&[b"ZRANGE", expiries, b"0", b"0"]).list()[0].clone();
    server.call(&[b"ZADD", expiries, b"1000", first.bytes()]);
    assert_eq!(opened.store.position(now()).await.unwrap().1, 1);
    for name in [
        "ZCARD foregate:{revocations}:log",
        "HLEN foregate:{revocations}:names",
        "ZCARD foregate:{revocations}:expiries",
    ] {
        assert_eq!(server.say(name).text(), "1", "{name}");
    }
    assert_eq!(records(&log(&*opened.store).await), ["long"]);
    assert_eq!(opened.store.append(&entries[1..]).await.unwrap().seq, 2);
}

#[tokio::test]
async fn rubbish_in_the_log_stops_nothing() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    opened
        .store
        .append(&[entry("a", "a", later())])
        .await
        .unwrap();
    let huge = vec![b'x'; 3 << 20];
    for (score, member) in [
        (&b"2"[..], &b"rubbish"[..]),
        (b"2.5", b"between"),
        (b"-1", b"before"),
        (b"inf", b"never"),
        (b"1e300", b"far"),
        (b"3", b""),
        (b"4", &huge),
    ] {
        server.call(&[b"ZADD", LOG, score, member]);
    }
    server.say("HSET foregate:{revocations}:names x rubbish");
    server.say("ZADD foregate:{revocations}:expiries -inf y");
    for rubbish in ["x", "-5", "1e300", "9999999999999999999999", "nan"] {
        server.say(&format!(
            "HSET foregate:{{revocations}}:position seq {rubbish}"
        ));
        let name = format!("after {rubbish}");
        opened
            .store
            .append(&[entry(&name, &name, later())])
            .await
            .unwrap();
    }
    let all = records(&log(&*opened.store).await);
    assert_eq!(all.len(), 6, "{all:?}");
    assert!(all.contains(&"a".to_owned()));
    assert!(opened.counted("foregate_store_tampered_total{kind=\"revocation\"}") >= 3.0);
    assert_eq!(
        records(&log(&*opened.store).await),
        all,
        "read again, without the rubbish"
    );
}

#[tokio::test]
async fn a_log_of_another_type_is_unreachable_and_no_panic() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    opened
        .store
        .append(&[entry("a", "a", later())])
        .await
        .unwrap();
    for name in ["position", "log", "names", "expiries"] {
        server.say(&format!("DEL foregate:{{revocations}}:{name}"));
        server.say(&format!("SET foregate:{{revocations}}:{name} rubbish"));
        let entries = [entry("b", "b", later())];
        let outcomes = [
            opened.store.append(&entries).await.is_err(),
            opened.store.position(now()).await.is_err(),
            opened.store.log_after(0, 10).await.is_err(),
        ];
        assert!(outcomes.contains(&true), "{name}: {outcomes:?}");
        server.say(&format!("DEL foregate:{{revocations}}:{name}"));
    }
    let entries = [
        entry("a", "a", later()),
        Entry {
            name: b"b",
            record: b"b",
            expires: later(),
        },
    ];
    opened.store.append(&entries).await.unwrap();
    assert_eq!(opened.store.position(now()).await.unwrap().1, 2);
}

#[tokio::test]
async fn what_somebody_else_put_under_a_name_is_absent_and_replaced_like_that() {
    let server = RedisServer::start();
    let opened = in_redis(&server).await;
    let (kind, until) = (Kind::Session, later() * 1000);
    opened
        .store
        .put(kind, b"a", b"value", later())
        .await
        .unwrap();
    let keys = server.say("KEYS foregate:session:*");
    let key = keys.list()[0].bytes().to_vec();
    let real = server.call(&[b"GET", &key]).bytes().to_vec();
    let mut flipped = real.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let huge = vec![real[0]; 2 << 20];
    for forged in [&b"x"[..], &flipped, &huge, b""] {
        server.call(&[b"DEL", &key]);
        match forged.is_empty() {
            false => server.call(&[b"SET", &key, forged]),
            true => server.call(&[b"RPUSH", &key, &real]),
        };
        let (nothing, version) = opened.store.read(kind, b"a").await.unwrap();
        assert_eq!(nothing, None);
        let swapped = opened
            .store
            .swap(kind, b"a", &version, b"ours", until)
            .await;
        assert!(matches!(swapped, Ok(Swap::Done(_))), "{swapped:?}");
        assert_eq!(
            opened.store.get(kind, b"a").await,
            Ok(Some(b"ours".to_vec()))
        );
        // And who saw the forgery before does not replace ours.
        let late = opened
            .store
            .swap(kind, b"a", &version, b"late", until)
            .await;
        assert_eq!(late, Ok(Swap::Conflict));
    }
    let counted = opened.counted("foregate_store_tampered_total{kind=\"session\"}");
    assert_eq!(counted, 4.0);
}
