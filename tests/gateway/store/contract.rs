//! What every store promises. The same tests run against the memory of a process and against Redis.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use foregate::policy::rate::Rate;
use foregate::store::{Bucket, Draw, Entry, Kind, Logged, Memory, Store, Swap, Version};

use super::{in_redis, later};
use crate::support::tokens::now;
use crate::support::{RedisServer, in_time};

/// Runs a test against both.
macro_rules! both {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn in_memory() {
                let store: Arc<dyn Store> = Arc::new(Memory::new(1000, now));
                super::$name(store).await;
            }

            #[tokio::test]
            async fn in_redis() {
                let server = RedisServer::start();
                let opened = super::in_redis(&server).await;
                super::$name(opened.store.clone()).await;
                assert_eq!(opened.counted("foregate_store_tampered_total"), 0.0);
                assert_eq!(opened.counted("foregate_store_up"), 1.0);
            }
        }
    )*};
}

both! {
    a_record_is_there_until_it_is_replaced_removed_or_expired
    a_name_belongs_to_its_kind
    the_log_numbers_what_is_appended_and_gives_it_back_in_pages
    what_is_appended_again_changes_nothing_unless_it_lasts_longer
    the_count_is_of_what_lasts_longer
    who_waits_is_woken
    any_bytes_are_a_name_and_a_value
    writers_at_once_lose_nothing
    a_rate_lets_a_burst_in_and_no_more
    a_refusal_takes_no_place_anywhere
    what_may_owe_is_never_refused
    takers_at_once_get_exactly_the_burst
    a_place_comes_free_in_time
    only_who_saw_a_record_as_it_is_replaces_it
    of_writers_that_read_the_same_one_wins
    a_record_that_is_swapped_in_expires
}

pub fn entry<'a>(name: &'a str, record: &'a str, expires: i64) -> Entry<'a> {
    Entry {
        name: name.as_bytes(),
        record: record.as_bytes(),
        expires,
    }
}

/// The whole log.
pub async fn log(store: &dyn Store) -> Vec<Logged> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let (page, next) = store.log_after(after, 7).await.unwrap();
        all.extend(page);
        match next {
            None => return all,
            Some(next) => {
                assert!(next > after, "a page that does not get on");
                after = next;
            }
        }
    }
}

pub fn records(log: &[Logged]) -> Vec<String> {
    log.iter()
        .map(|logged| String::from_utf8(logged.record.clone()).unwrap())
        .collect()
}

async fn a_record_is_there_until_it_is_replaced_removed_or_expired(store: Arc<dyn Store>) {
    let kind = Kind::KeySet;
    assert_eq!(store.get(kind, b"a").await, Ok(None));
    store.put(kind, b"a", b"one", later()).await.unwrap();
    assert_eq!(store.get(kind, b"a").await, Ok(Some(b"one".to_vec())));
    store.put(kind, b"a", b"two", later()).await.unwrap();
    assert_eq!(store.get(kind, b"a").await, Ok(Some(b"two".to_vec())));
    store.remove(kind, b"a").await.unwrap();
    assert_eq!(store.get(kind, b"a").await, Ok(None));
    store.remove(kind, b"a").await.unwrap();
    store.put(kind, b"b", b"old", now() - 1).await.unwrap();
    assert_eq!(store.get(kind, b"b").await, Ok(None));
    store.put(kind, b"c", b"old", later()).await.unwrap();
    store.put(kind, b"c", b"older", now() - 1).await.unwrap();
    assert_eq!(store.get(kind, b"c").await, Ok(None));
}

async fn a_name_belongs_to_its_kind(store: Arc<dyn Store>) {
    store
        .put(Kind::KeySet, b"a", b"one", later())
        .await
        .unwrap();
    assert_eq!(store.get(Kind::Revocation, b"a").await, Ok(None));
    store.remove(Kind::Revocation, b"a").await.unwrap();
    assert_eq!(
        store.get(Kind::KeySet, b"a").await,
        Ok(Some(b"one".to_vec()))
    );
}

async fn the_log_numbers_what_is_appended_and_gives_it_back_in_pages(store: Arc<dyn Store>) {
    let (empty, count) = store.position(now()).await.unwrap();
    assert_eq!((empty.seq, count), (0, 0));
    assert_eq!(store.log_after(0, 10).await, Ok((Vec::new(), None)));
    let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
    let entries: Vec<Entry<'_>> = names
        .iter()
        .map(|name| entry(name, name, later()))
        .collect();
    let first = store.append(&entries[..1]).await.unwrap();
    assert_eq!((first.epoch, first.seq), (empty.epoch, 1));
    let last = store.append(&entries[1..]).await.unwrap();
    assert_eq!(last.seq, 20);
    assert_eq!(store.position(now()).await.unwrap(), (last, 20));
    let all = log(&*store).await;
    assert_eq!(records(&all), names);
    assert_eq!(
        all.iter().map(|logged| logged.seq).collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
    assert_eq!(
        records(&store.log_after(18, 10).await.unwrap().0),
        ["n18", "n19"]
    );
    assert_eq!(store.log_after(20, 10).await, Ok((Vec::new(), None)));
}

async fn what_is_appended_again_changes_nothing_unless_it_lasts_longer(store: Arc<dyn Store>) {
    let until = later();
    let entries = [entry("a", "a1", until), entry("b", "b1", until)];
    let position = store.append(&entries).await.unwrap();
    for same in [&entries[..], &entries[1..], &[entry("a", "a2", until - 5)]] {
        assert_eq!(store.append(same).await.unwrap(), position);
    }
    assert_eq!(records(&log(&*store).await), ["a1", "b1"]);
    let longer = store.append(&[entry("a", "a3", until + 5)]).await.unwrap();
    assert!(longer.seq > position.seq);
    assert_eq!(records(&log(&*store).await), ["b1", "a3"]);
    // What has expired is not worth a number.
    assert_eq!(
        store.append(&[entry("c", "c1", now() - 1)]).await.unwrap(),
        longer
    );
    assert_eq!(store.append(&[]).await.unwrap(), longer);
    assert_eq!(store.position(now()).await.unwrap(), (longer, 2));
    // A part of a list that is there already does not keep the rest out.
    let mixed = [entry("b", "b2", until), entry("d", "d1", until)];
    store.append(&mixed).await.unwrap();
    assert_eq!(records(&log(&*store).await), ["b1", "a3", "d1"]);
}

async fn the_count_is_of_what_lasts_longer(store: Arc<dyn Store>) {
    let at = later();
    let entries = [
        entry("a", "a", at - 10),
        entry("b", "b", at),
        entry("c", "c", at + 10),
    ];
    store.append(&entries).await.unwrap();
    for (time, count) in [
        (now(), 3),
        (at - 10, 2),
        (at - 1, 2),
        (at, 1),
        (at + 9, 1),
        (at + 10, 0),
    ] {
        assert_eq!(
            store.position(time).await.unwrap().1,
            count,
            "{}",
            time - at
        );
    }
}

async fn who_waits_is_woken(store: Arc<dyn Store>) {
    let mut pushes = store.pushes();
    pushes.mark_unchanged();
    let mut seen = 0;
    for number in 1..=5 {
        // In Redis the subscription may not be there yet, and a message sent before is lost: that
        // is why there is a position.
        let name = format!("n{number}");
        let position = store.append(&[entry(&name, "r", later())]).await.unwrap();
        let waiting = tokio::time::timeout(std::time::Duration::from_secs(2), async {
            while *pushes.borrow_and_update() < position.seq {
                pushes.changed().await.unwrap();
            }
        });
        seen += usize::from(waiting.await.is_ok());
    }
    assert!(seen >= 4, "{seen} of 5");
}

async fn any_bytes_are_a_name_and_a_value(store: Arc<dyn Store>) {
    let every: Vec<u8> = (0..=255).collect();
    for name in [&b""[..], b"\0", b"*", b"a\r\nDEL b\r\n", &every] {
        store
            .put(Kind::KeySet, name, &every, later())
            .await
            .unwrap();
        assert_eq!(store.get(Kind::KeySet, name).await, Ok(Some(every.clone())));
        let entry = Entry {
            name,
            record: &every,
            expires: later(),
        };
        store.append(&[entry]).await.unwrap();
    }
    store
        .put(Kind::KeySet, b"empty", b"", later())
        .await
        .unwrap();
    assert_eq!(
        store.get(Kind::KeySet, b"empty").await,
        Ok(Some(Vec::new()))
    );
    let all = log(&*store).await;
    assert_eq!(all.len(), 5);
    assert!(all.iter().all(|logged| logged.record == every));
}

async fn writers_at_once_lose_nothing(store: Arc<dyn Store>) {
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..10 {
                let name = format!("{writer}.{number}");
                store.append(&[entry(&name, &name, later())]).await.unwrap();
                // Everybody also writes the same one.
                store
                    .append(&[entry("same", "same", later())])
                    .await
                    .unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        in_time("a writer", writer).await.unwrap();
    }
    let all = log(&*store).await;
    assert_eq!(all.len(), 81);
    assert!(all.is_sorted_by_key(|logged| logged.seq));
    let mut names = records(&all);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 81);
    assert_eq!(store.position(now()).await.unwrap().1, 81);
}

fn rate(burst: u32, seconds: u64) -> Rate {
    Rate::new(
        NonZeroU32::new(burst).unwrap(),
        Duration::from_secs(seconds),
    )
}

/// A question about a bucket.
fn bucket(name: &str, rate: Rate, draw: Draw) -> Bucket<'_> {
    Bucket {
        name: name.as_bytes(),
        rate,
        draw,
    }
}

async fn a_rate_lets_a_burst_in_and_no_more(store: Arc<dyn Store>) {
    let take = |name| bucket(name, rate(3, 3600), Draw::Take);
    for left in (0..3).rev() {
        let levels = store.admit(&[take("a")]).await.unwrap();
        assert_eq!((levels[0].is_admitted, levels[0].left), (true, left));
    }
    let level = store.admit(&[take("a")]).await.unwrap()[0];
    assert!(!level.is_admitted);
    let wait = level.wait.as_secs();
    assert!((1190..=1200).contains(&wait), "{wait}");
    // Another name has its own, and any bytes are a name.
    for name in ["b", "", "a\r\nDEL a\r\n", "\0"] {
        assert!(store.admit(&[take(name)]).await.unwrap()[0].is_admitted);
    }
    let draw = |draw| [bucket("a", rate(3, 3600), draw)];
    let asked = store.admit(&draw(Draw::Ask)).await.unwrap()[0];
    assert!(!asked.is_admitted);
    assert_eq!(store.admit(&draw(Draw::Return)).await.unwrap()[0].left, 1);
    let asked = store.admit(&draw(Draw::Ask)).await.unwrap()[0];
    assert_eq!((asked.is_admitted, asked.left), (true, 1));
    assert_eq!(store.admit(&draw(Draw::Empty)).await.unwrap()[0].left, 3);
    assert_eq!(store.admit(&[]).await, Ok(Vec::new()));
}

async fn a_refusal_takes_no_place_anywhere(store: Arc<dyn Store>) {
    let narrow = bucket("narrow", rate(1, 3600), Draw::Take);
    let wide = bucket("wide", rate(9, 3600), Draw::Take);
    let owing = bucket("owing", rate(9, 3600), Draw::Owe);
    store.admit(&[narrow]).await.unwrap();
    for _ in 0..20 {
        let levels = store.admit(&[wide, narrow, owing]).await.unwrap();
        let admitted: Vec<bool> = levels.iter().map(|level| level.is_admitted).collect();
        assert_eq!(admitted, [true, false, true]);
    }
    let levels = store.admit(&[wide, owing]).await.unwrap();
    assert_eq!((levels[0].left, levels[1].left), (8, 8));
}

async fn what_may_owe_is_never_refused(store: Arc<dyn Store>) {
    let owing = bucket("a", rate(3, 3600), Draw::Owe);
    let mut owed = Vec::new();
    for _ in 0..8 {
        let level = store.admit(&[owing]).await.unwrap()[0];
        assert!(level.is_admitted);
        owed.push(level.owed);
    }
    assert_eq!(owed, [0, 0, 0, 1, 2, 3, 3, 3]);
}

async fn takers_at_once_get_exactly_the_burst(store: Arc<dyn Store>) {
    let takers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut taken = 0;
            for _ in 0..10 {
                let take = [bucket("same", rate(20, 24 * 3600), Draw::Take)];
                taken += u32::from(store.admit(&take).await.unwrap()[0].is_admitted);
            }
            taken
        })
    });
    let mut all = 0;
    for taker in takers.collect::<Vec<_>>() {
        all += in_time("a taker", taker).await.unwrap();
    }
    assert_eq!(all, 20);
}

async fn a_place_comes_free_in_time(store: Arc<dyn Store>) {
    let take = [bucket("a", rate(20, 1), Draw::Take)];
    while store.admit(&take).await.unwrap()[0].is_admitted {}
    let freed = async {
        while !store.admit(&take).await.unwrap()[0].is_admitted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("a place comes free", freed).await;
}

/// Swaps for a while.
async fn swap(store: &dyn Store, version: &Version, value: &[u8]) -> Swap {
    let until = later() * 1000;
    let swapped = store.swap(Kind::Session, b"a", version, value, until).await;
    swapped.unwrap()
}

fn done(swap: Swap) -> Version {
    match swap {
        Swap::Done(version) => version,
        Swap::Conflict => panic!("lost"),
    }
}

async fn only_who_saw_a_record_as_it_is_replaces_it(store: Arc<dyn Store>) {
    let store = &*store;
    let read = async || store.read(Kind::Session, b"a").await.unwrap();
    let (nothing, absent) = read().await;
    assert_eq!(nothing, None);
    let one = done(swap(store, &absent, b"1").await);
    assert_eq!(read().await, (Some(b"1".to_vec()), one.clone()));
    assert_eq!(
        store.get(Kind::Session, b"a").await,
        Ok(Some(b"1".to_vec()))
    );
    // Who saw that there was nothing does not replace what is there now.
    assert_eq!(swap(store, &absent, b"2").await, Swap::Conflict);
    let same = done(swap(store, &one, b"1").await);
    // Not even when what is there now says the same.
    assert_eq!(swap(store, &one, b"2").await, Swap::Conflict);
    assert_eq!(read().await, (Some(b"1".to_vec()), same.clone()));
    // What was removed does not come back.
    store.remove(Kind::Session, b"a").await.unwrap();
    assert_eq!(swap(store, &same, b"2").await, Swap::Conflict);
    assert_eq!(read().await, (None, absent.clone()));
    done(swap(store, &absent, b"3").await);
    // A plain write is a change, too.
    let (_, three) = read().await;
    let put = store.put(Kind::Session, b"a", b"4", later()).await;
    put.unwrap();
    assert_eq!(swap(store, &three, b"5").await, Swap::Conflict);
    // And names belong to their kinds.
    assert_eq!(store.get(Kind::Refresh, b"a").await, Ok(None));
}

async fn of_writers_that_read_the_same_one_wins(store: Arc<dyn Store>) {
    let writers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                loop {
                    let (value, version) = store.read(Kind::Session, b"a").await.unwrap();
                    let count = value.map_or(0, |value| value.len());
                    let more = vec![b'x'; count + 1];
                    if swap(&*store, &version, &more).await != Swap::Conflict {
                        break;
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        in_time("a writer", writer).await.unwrap();
    }
    let (value, _) = store.read(Kind::Session, b"a").await.unwrap();
    assert_eq!(value.map(|value| value.len()), Some(80));
}

async fn a_record_that_is_swapped_in_expires(store: Arc<dyn Store>) {
    let (_, absent) = store.read(Kind::Session, b"a").await.unwrap();
    let past = (now() - 2) * 1000;
    let swapped = store.swap(Kind::Session, b"a", &absent, b"old", past).await;
    assert_ne!(swapped, Ok(Swap::Conflict));
    assert_eq!(store.get(Kind::Session, b"a").await, Ok(None));
    let (nothing, version) = store.read(Kind::Session, b"a").await.unwrap();
    assert_eq!(nothing, None);
    // What has expired is replaced like what is absent.
    done(swap(&*store, &version, b"new").await);
    assert_eq!(
        store.get(Kind::Session, b"a").await,
        Ok(Some(b"new".to_vec()))
    );
}
