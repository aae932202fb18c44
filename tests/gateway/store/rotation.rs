//! Keys change, one replica after the other, and nothing is lost or taken for a forgery.

use foregate::store::{Kind, Swap, Unreachable};

use super::contract::{entry, log, records};
use super::{later, one_key, with_keys};
use crate::support::RedisServer;
use crate::support::config::{KEY, OTHER_KEY};
use crate::support::tokens::now;

fn old_then_new() -> String {
    format!("[{{ id: k1, secret: \"{KEY}\" }}, {{ id: k2, secret: \"{OTHER_KEY}\" }}]")
}

fn new_then_old() -> String {
    format!("[{{ id: k2, secret: \"{OTHER_KEY}\" }}, {{ id: k1, secret: \"{KEY}\" }}]")
}

fn new_only() -> String {
    format!("[{{ id: k2, secret: \"{OTHER_KEY}\" }}]")
}

#[tokio::test]
async fn replicas_in_the_middle_of_a_rotation_read_each_others_records() {
    let server = RedisServer::start();
    let old = with_keys(&server, &old_then_new()).await;
    let new = with_keys(&server, &new_then_old()).await;
    let kind = Kind::KeySet;
    old.store
        .put(kind, b"a", b"by the old", later())
        .await
        .unwrap();
    assert_eq!(
        new.store.get(kind, b"a").await,
        Ok(Some(b"by the old".to_vec()))
    );
    new.store
        .put(kind, b"a", b"by the new", later())
        .await
        .unwrap();
    assert_eq!(
        old.store.get(kind, b"a").await,
        Ok(Some(b"by the new".to_vec()))
    );
    old.store
        .put(kind, b"a", b"by the old again", later())
        .await
        .unwrap();
    assert_eq!(
        new.store.get(kind, b"a").await,
        Ok(Some(b"by the old again".to_vec()))
    );
    new.store.remove(kind, b"a").await.unwrap();
    assert_eq!(old.store.get(kind, b"a").await, Ok(None));
}

#[tokio::test]
async fn a_revocation_that_both_keys_write_is_one() {
    let server = RedisServer::start();
    let old = with_keys(&server, &old_then_new()).await;
    let new = with_keys(&server, &new_then_old()).await;
    let position = old.store.append(&[entry("a", "a", later())]).await.unwrap();
    assert_eq!(
        new.store
            .append(&[entry("a", "a", later() - 1)])
            .await
            .unwrap(),
        position
    );
    new.store.append(&[entry("b", "b", later())]).await.unwrap();
    for opened in [&old, &new] {
        assert_eq!(records(&log(&*opened.store).await), ["a", "b"]);
        assert_eq!(opened.store.position(now()).await.unwrap().1, 2);
        assert_eq!(opened.counted("foregate_store_tampered_total"), 0.0);
    }
    new.store
        .append(&[entry("a", "longer", later() + 60)])
        .await
        .unwrap();
    assert_eq!(records(&log(&*old.store).await), ["b", "longer"]);
    assert_eq!(old.store.position(now()).await.unwrap().1, 2);
}

#[tokio::test]
async fn a_key_that_is_not_listed_makes_its_records_unreachable_and_not_absent() {
    let server = RedisServer::start();
    let old = with_keys(&server, &one_key()).await;
    old.store.append(&[entry("a", "a", later())]).await.unwrap();
    old.store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    let new = with_keys(&server, &new_only()).await;
    assert_eq!(
        new.store.log_after(0, 10).await,
        Err(Unreachable::UnknownKey)
    );
    assert_eq!(new.counted("foregate_store_tampered_total"), 0.0);
    assert_eq!(
        new.counted("foregate_store_unreachable_total{reason=\"unknown_key\"}"),
        1.0
    );
    assert_eq!(
        records(&log(&*old.store).await),
        ["a"],
        "nothing was removed"
    );
    // A record whose key is known by another secret only.
    let copied = with_keys(&server, &format!("[{{ id: k1, secret: \"{OTHER_KEY}\" }}]")).await;
    assert_eq!(
        copied.store.log_after(0, 10).await,
        Err(Unreachable::UnknownKey)
    );
    assert_eq!(copied.counted("foregate_store_tampered_total"), 0.0);
}

#[tokio::test]
async fn a_record_that_names_an_unlisted_key_is_unreachable() {
    let server = RedisServer::start();
    let opened = with_keys(&server, &one_key()).await;
    opened
        .store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    let keys = server.say("KEYS foregate:key_set:*");
    let key = keys.list()[0].bytes().to_vec();
    let mut record = server.call(&[b"GET", &key]).bytes().to_vec();
    assert_eq!(&record[2..4], b"k1");
    record[3] = b'9';
    server.call(&[b"SET", &key, &record]);
    assert_eq!(
        opened.store.get(Kind::KeySet, b"a").await,
        Err(Unreachable::UnknownKey)
    );
}

#[tokio::test]
async fn when_the_old_key_is_gone_the_new_one_reads_what_it_wrote() {
    let server = RedisServer::start();
    let rotating = with_keys(&server, &new_then_old()).await;
    rotating
        .store
        .append(&[entry("a", "a", later())])
        .await
        .unwrap();
    rotating
        .store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    let done = with_keys(&server, &new_only()).await;
    assert_eq!(records(&log(&*done.store).await), ["a"]);
    assert_eq!(
        done.store.get(Kind::KeySet, b"a").await,
        Ok(Some(b"value".to_vec()))
    );
}

#[tokio::test]
async fn replicas_in_the_middle_of_a_rotation_swap_one_record() {
    let server = RedisServer::start();
    let old = with_keys(&server, &old_then_new()).await;
    let new = with_keys(&server, &new_then_old()).await;
    let (kind, until) = (Kind::Session, later() * 1000);
    let read = async |opened: &super::Opened| opened.store.read(kind, b"a").await.unwrap();
    // Both saw nothing, and would write it to different places.
    let (seen_by_old, seen_by_new) = (read(&old).await.1, read(&new).await.1);
    let first = old
        .store
        .swap(kind, b"a", &seen_by_old, b"old", until)
        .await;
    assert!(matches!(first, Ok(Swap::Done(_))), "{first:?}");
    let second = new
        .store
        .swap(kind, b"a", &seen_by_new, b"new", until)
        .await;
    assert_eq!(second, Ok(Swap::Conflict));
    // Whoever saw it replaces it, wherever it is, and leaves one record.
    let (value, version) = read(&new).await;
    assert_eq!(value, Some(b"old".to_vec()));
    let third = new.store.swap(kind, b"a", &version, b"new", until).await;
    assert!(matches!(third, Ok(Swap::Done(_))), "{third:?}");
    assert_eq!(read(&old).await.0, Some(b"new".to_vec()));
    assert_eq!(server.say("KEYS foregate:session:*").list().len(), 1);
    for opened in [&old, &new] {
        assert_eq!(opened.counted("foregate_store_tampered_total"), 0.0);
    }
}
