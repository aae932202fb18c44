//! What the model checker does not explore: time, full lists and full stores, pages, and records of
//! another version.

#![expect(
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a failed expectation is how a test fails, and other commands are not what it is about"
)]

mod again;

use proptest::prelude::*;
use serde_json::json;

use super::super::list::{CleanAt, LEEWAY, List, Listed};
use super::*;
use crate::revocation::target::{Note, Target, token_digest};
use crate::store::Logged;

const NOW: i64 = 1_800_000_000;

/// A store that keeps what it is given, and returns pages of three.
#[derive(Default)]
struct FakeStore {
    epoch: u128,
    seq: u64,
    log: BTreeMap<u64, (Name, Logged)>,
    /// Accepts no append.
    full: bool,
    calls: Vec<&'static str>,
}

impl FakeStore {
    fn answer(&mut self, call: Command, now: i64) -> Event {
        let position = |store: &Self| Position {
            epoch: store.epoch,
            seq: store.seq,
        };
        match call {
            Command::ReadPosition { at } => {
                self.calls.push("position");
                let later = self.log.values().filter(|(_, one)| one.expires > at);
                Event::Position(position(self), later.count() as u64)
            }
            Command::ReadLog { after } => {
                self.calls.push("page");
                let behind = self.log.range(after + 1..).map(|(_, (_, one))| one);
                let mut page: Vec<Logged> = behind
                    .filter(|one| one.expires > now)
                    .take(4)
                    .cloned()
                    .collect();
                let more = page.len() > 3;
                page.truncate(3);
                let next = page.last().map(|one| one.seq).filter(|_| more);
                Event::Page(page, next)
            }
            Command::Append(_) if self.full => Event::Unreachable,
            Command::Append(revocations) => {
                self.calls.push("append");
                for (name, revocation) in revocations {
                    self.put(name, revocation.to_record(), revocation.expires);
                }
                Event::Appended(position(self))
            }
            Command::AppendShorter(_) if self.full => Event::Unreachable,
            Command::AppendShorter(revocations) => {
                self.calls.push("shorten");
                for (name, revocation) in revocations {
                    let longer = |(present, logged): &(Name, Logged)| {
                        *present == name && logged.expires > revocation.expires
                    };
                    self.log.retain(|_, entry| !longer(entry));
                    self.put(name, revocation.to_record(), revocation.expires);
                }
                Event::Appended(position(self))
            }
            other => panic!("not a call: {other:?}"),
        }
    }

    fn put(&mut self, name: Name, record: Vec<u8>, expires: i64) {
        let same = self.log.iter().find(|(_, (present, _))| *present == name);
        if let Some((&seq, (_, present))) = same {
            if present.expires >= expires {
                return;
            }
            self.log.remove(&seq);
        }
        self.seq += 1;
        let logged = Logged {
            seq: self.seq,
            record,
            expires,
        };
        self.log.insert(self.seq, (name, logged));
    }
}

/// Passes an event to the replica, answers its calls until it makes none, and returns all other
/// commands.
fn run(replica: &mut Replica, store: &mut FakeStore, event: Event, now: i64) -> Vec<Command> {
    let mut said = Vec::new();
    let mut next = Some(event);
    while let Some(event) = next.take() {
        for command in replica.handle(event, now) {
            match command {
                call @ (Command::ReadPosition { .. }
                | Command::ReadLog { .. }
                | Command::Append(_)
                | Command::AppendShorter(_)) => next = Some(store.answer(call, now)),
                other => said.push(other),
            }
        }
    }
    assert!(replica.is_idle());
    said
}

fn started(capacity: usize, store: &mut FakeStore) -> Replica {
    let mut replica = Replica::new(capacity);
    run(&mut replica, store, Event::Poll, NOW);
    assert!(replica.is_complete());
    replica
}

fn session(id: usize, expires: i64) -> Revocation {
    let target = Target::Session {
        issuer: "i".to_owned(),
        session: id.to_string(),
        subject: None,
    };
    Revocation::new(target, NOW * 1000, expires)
}

fn has_cause(said: &[Command], cause: Cause) -> bool {
    said.contains(&Command::Reload(cause))
}

#[test]
fn a_log_of_many_pages_is_read_to_its_end_before_the_list_is_complete() {
    let mut store = FakeStore::default();
    let mut first = started(100, &mut store);
    for id in 0..10 {
        run(
            &mut first,
            &mut store,
            Event::Revoke(session(id, NOW + 99)),
            NOW,
        );
    }
    let mut second = Replica::new(100);
    let mut next = Some(Event::Poll);
    let mut pages = 0;
    while let Some(event) = next.take() {
        for command in second.handle(event, NOW) {
            if matches!(
                command,
                Command::ReadPosition { .. } | Command::ReadLog { .. }
            ) {
                pages += usize::from(matches!(command, Command::ReadLog { .. }));
                assert!(!second.is_complete() || pages > 4, "{pages} pages");
                next = Some(store.answer(command, NOW));
            }
        }
    }
    assert!(second.is_complete());
    assert_eq!(second.len(), 10);
    assert!(second.holds(&session(9, 0).name()));
}

#[test]
fn an_expired_entry_is_removed_and_not_written_back() {
    let mut store = FakeStore::default();
    let mut replica = started(100, &mut store);
    for (id, lives) in [(0, 10), (1, 100)] {
        run(
            &mut replica,
            &mut store,
            Event::Revoke(session(id, NOW + lives)),
            NOW,
        );
    }
    // The store's clock is ahead, and the store has dropped the entry.
    store.log.remove(&1);
    let said = run(&mut replica, &mut store, Event::Poll, NOW + 10 - MARGIN);
    assert!(!has_cause(&said, Cause::Count), "{said:?}");
    assert_eq!(replica.len(), 2);
    let said = run(&mut replica, &mut store, Event::Poll, NOW + 10);
    assert_eq!(
        said,
        [Command::Remove(session(0, NOW + 10)), Command::Confirmed]
    );
    assert_eq!(store.log.len(), 1, "nothing was written back");
    // A revocation that has expired on arrival is no news.
    let said = run(
        &mut replica,
        &mut store,
        Event::Revoke(session(2, NOW)),
        NOW,
    );
    assert_eq!(said, [Command::Stored(vec![session(2, 0).name()])]);
}

#[test]
fn the_later_expiry_counts_whichever_replica_sets_it() {
    let mut store = FakeStore::default();
    let (mut one, mut other) = (started(100, &mut store), started(100, &mut store));
    run(
        &mut one,
        &mut store,
        Event::Revoke(session(0, NOW + 10)),
        NOW,
    );
    run(&mut other, &mut store, Event::Poll, NOW);
    run(
        &mut other,
        &mut store,
        Event::Revoke(session(0, NOW + 20)),
        NOW,
    );
    let said = run(&mut one, &mut store, Event::Poll, NOW);
    assert!(
        said.contains(&Command::Insert(session(0, NOW + 20), Source::News)),
        "{said:?}"
    );
    for replica in [&mut one, &mut other] {
        // The entry has another number in the log now, and does not count as missing at the old
        // one.
        let said = run(replica, &mut store, Event::Poll, NOW);
        assert_eq!(said, [Command::Confirmed]);
        run(replica, &mut store, Event::Poll, NOW + 15);
        assert_eq!(replica.len(), 1);
    }
    assert_eq!(store.log.len(), 1);
    // An earlier expiry changes nothing, and is stored already.
    let said = run(
        &mut one,
        &mut store,
        Event::Revoke(session(0, NOW + 5)),
        NOW,
    );
    assert_eq!(said, [Command::Stored(vec![session(0, 0).name()])]);
}

#[test]
fn an_entry_extended_during_its_append_is_reported_when_the_later_expiry_is_stored() {
    let mut store = FakeStore::default();
    let (mut one, mut other) = (started(100, &mut store), started(100, &mut store));
    let (name, stored) = (session(0, 0).name(), |said: &[Command]| {
        said.contains(&Command::Stored(vec![session(0, 0).name()]))
    });
    let mut under_way = one.handle(Event::Revoke(session(0, NOW + 10)), NOW);
    let append = under_way.pop().expect("a call");
    assert_eq!(append, Command::Append(vec![(name, session(0, NOW + 10))]));
    let said = one.handle(Event::Revoke(session(0, NOW + 20)), NOW);
    assert_eq!(
        said,
        [Command::Insert(session(0, NOW + 20), Source::Here)],
        "one call at a time"
    );
    let appended = store.answer(append, NOW);
    let mut said = one.handle(appended, NOW);
    let page = store.answer(said.pop().expect("what was appended is read back"), NOW);
    said.extend(one.handle(page, NOW));
    assert!(!stored(&said), "{said:?}");
    let append = said.pop().expect("a call");
    assert_eq!(append, Command::Append(vec![(name, session(0, NOW + 20))]));
    let appended = store.answer(append, NOW);
    let said = run(&mut one, &mut store, appended, NOW);
    assert!(stored(&said), "{said:?}");
    assert_eq!(one.queued(), 0);
    run(&mut other, &mut store, Event::Poll, NOW);
    run(&mut other, &mut store, Event::Poll, NOW + 15);
    assert!(other.holds(&name), "everywhere until its later end");
}

#[test]
fn a_store_that_accepts_no_appends_is_still_followed() {
    let mut store = FakeStore::default();
    let mut replica = started(100, &mut store);
    let mut other = started(100, &mut store);
    store.full = true;
    let name = session(0, 0).name();
    let said = run(
        &mut replica,
        &mut store,
        Event::Revoke(session(0, NOW + 99)),
        NOW,
    );
    assert!(said.contains(&Command::Queued(vec![name])), "{said:?}");
    assert!(replica.holds(&name));
    store.full = false;
    run(
        &mut other,
        &mut store,
        Event::Revoke(session(1, NOW + 99)),
        NOW,
    );
    store.full = true;
    let said = run(&mut replica, &mut store, Event::Poll, NOW);
    assert!(
        said.contains(&Command::Insert(session(1, NOW + 99), Source::News)),
        "{said:?}"
    );
    assert!(said.contains(&Command::Confirmed));
    assert_eq!(replica.queued(), 1);
    store.full = false;
    let said = run(&mut replica, &mut store, Event::Poll, NOW);
    assert!(said.contains(&Command::Stored(vec![name])), "{said:?}");
    assert_eq!(replica.queued(), 0);
}

#[test]
fn an_entry_of_another_version_keeps_the_list_from_being_complete() {
    let mut store = FakeStore::default();
    let mut replica = started(100, &mut store);
    store.put([7; 32], br#"{"tenant":"t"}"#.to_vec(), NOW + 50);
    let said = run(&mut replica, &mut store, Event::Poll, NOW);
    assert!(said.contains(&Command::Foreign), "{said:?}");
    assert!(!replica.is_complete());
    run(&mut replica, &mut store, Event::Poll, NOW + 49);
    assert!(!replica.is_complete());
    run(&mut replica, &mut store, Event::Poll, NOW + 50);
    assert!(replica.is_complete());
}

#[test]
fn a_store_that_loses_what_it_is_given_is_not_called_without_pause() {
    let mut store = FakeStore::default();
    let mut replica = started(100, &mut store);
    // Every appended entry is corrupted before it is read.
    let name = session(0, 0).name();
    let mut commands = replica.handle(Event::Revoke(session(0, NOW + 99)), NOW);
    for _ in 0..5 {
        let mut appended = 0;
        loop {
            let call = commands.into_iter().find(|command| {
                matches!(
                    command,
                    Command::ReadPosition { .. } | Command::ReadLog { .. } | Command::Append(_)
                )
            });
            let Some(call) = call else { break };
            appended += usize::from(matches!(call, Command::Append(_)));
            let event = store.answer(call, NOW);
            store.log.clear();
            commands = replica.handle(event, NOW);
        }
        assert!(appended <= 1, "{appended} times between two polls");
        assert!(replica.holds(&name));
        commands = replica.handle(Event::Poll, NOW);
    }
}

#[test]
fn a_quiet_poll_reads_the_position_and_one_page() {
    let mut store = FakeStore::default();
    let mut replica = started(100, &mut store);
    run(
        &mut replica,
        &mut store,
        Event::Revoke(session(0, NOW + 99)),
        NOW,
    );
    store.calls.clear();
    assert_eq!(
        run(&mut replica, &mut store, Event::Poll, NOW),
        [Command::Confirmed]
    );
    assert_eq!(store.calls, ["position", "page"]);
    store.calls.clear();
    run(&mut replica, &mut store, Event::Push, NOW);
    assert_eq!(store.calls, ["position"]);
}

#[test]
fn a_confirmed_logout_is_kept_for_a_shorter_time_on_every_replica() {
    let mut store = FakeStore::default();
    let (mut one, mut other) = (started(100, &mut store), started(100, &mut store));
    run(
        &mut one,
        &mut store,
        Event::Revoke(session(0, NOW + 900)),
        NOW,
    );
    run(&mut other, &mut store, Event::Poll, NOW);
    // It is not stored while the store accepts nothing, and not forgotten.
    store.full = true;
    let shorter = || Event::Shorten(vec![session(0, NOW + 90)]);
    run(&mut one, &mut store, shorter(), NOW);
    let name = session(0, 0).name();
    let expiry = |replica: &Replica| replica.entry(&name).map(|entry| entry.expires);
    assert_eq!(expiry(&one), Some(NOW + 900));
    store.full = false;
    let said = run(&mut one, &mut store, Event::Poll, NOW);
    assert!(said.contains(&Command::Shortened(1)), "{said:?}");
    for replica in [&mut one, &mut other] {
        let said = run(replica, &mut store, Event::Poll, NOW);
        assert_eq!(said, [Command::Confirmed], "nothing is missing");
        assert_eq!(expiry(replica), Some(NOW + 90));
    }
    // A replica that missed it keeps the later expiry, and may write it back.
    assert_eq!(store.log.len(), 1);
    run(&mut other, &mut store, Event::Poll, NOW + 90);
    assert!(!other.holds(&name));
    // What is shorter already, or has a later revocation waiting, stays.
    run(
        &mut one,
        &mut store,
        Event::Revoke(session(1, NOW + 50)),
        NOW,
    );
    run(
        &mut one,
        &mut store,
        Event::Shorten(vec![session(1, NOW + 90)]),
        NOW,
    );
    let second = session(1, 0).name();
    assert_eq!(
        one.entry(&second).map(|entry| entry.expires),
        Some(NOW + 50)
    );
}

fn note(by: &str) -> Note {
    Note {
        by: by.to_owned(),
        reason: String::new(),
    }
}

fn undo(replica: &mut Replica, store: &mut FakeStore, of: &Revocation) -> Vec<Command> {
    let undoing = replica.undoing(&of.name(), note("bob"), NOW * 1000);
    let undoing = undoing.expect("it can be undone");
    run(replica, store, Event::Revoke(undoing), NOW)
}

#[test]
fn what_was_undone_stays_undone_whoever_writes_back_what_he_holds() {
    let revocation = session(0, NOW + 900);
    for emptied_first in [false, true] {
        let mut store = FakeStore::default();
        let (mut one, mut late) = (started(100, &mut store), started(100, &mut store));
        run(&mut one, &mut store, Event::Revoke(revocation.clone()), NOW);
        run(&mut late, &mut store, Event::Poll, NOW);
        let said = undo(&mut one, &mut store, &revocation);
        assert!(
            said.contains(&Command::Remove(revocation.clone())),
            "{said:?}"
        );
        assert!(
            said.contains(&Command::Stored(vec![revocation.name()])),
            "{said:?}"
        );
        // The store loses everything before the other replica has heard of it.
        store.log.clear();
        store.epoch += 1;
        let (first, second) = match emptied_first {
            false => (&mut one, &mut late),
            true => (&mut late, &mut one),
        };
        run(first, &mut store, Event::Poll, NOW);
        run(second, &mut store, Event::Poll, NOW);
        let mut newcomer = started(100, &mut store);
        for replica in [&mut one, &mut late, &mut newcomer] {
            run(replica, &mut store, Event::Poll, NOW);
            let entry = replica.entry(&revocation.name());
            assert!(
                entry.is_some_and(|entry| entry.target.is_undone()),
                "{entry:?}"
            );
        }
        // Revoked again, it is revoked everywhere.
        let again = Revocation::new(revocation.target.clone(), NOW * 1000 + 1, NOW + 10);
        run(&mut late, &mut store, Event::Revoke(again), NOW);
        for replica in [&mut one, &mut newcomer] {
            let said = run(replica, &mut store, Event::Poll, NOW);
            let inserted = said.iter().any(|command| {
                matches!(command, Command::Insert(inserted, Source::News) if inserted.target == revocation.target)
            });
            assert!(inserted, "{said:?}");
        }
    }
}

#[test]
fn a_merged_entry_cannot_be_undone_and_neither_can_what_it_was_merged_into() {
    let mut store = FakeStore::default();
    let mut replica = started(4, &mut store);
    let of = |id: usize| {
        let target = Target::Session {
            issuer: "i".to_owned(),
            session: id.to_string(),
            subject: Some("u".to_owned()),
        };
        Revocation::new(target, NOW * 1000, NOW + 900)
    };
    for id in 0..5 {
        run(&mut replica, &mut store, Event::Revoke(of(id)), NOW);
    }
    let cannot = |name: &Name| {
        let undoing = replica.undoing(name, note("bob"), NOW * 1000);
        undoing.expect_err("it cannot be undone")
    };
    let expires = NOW + 900;
    assert_eq!(cannot(&of(0).name()), CannotUndo::Merged { expires });
    let wide = replica.entries().find(|(_, _, is_wide)| *is_wide);
    let (name, revocation, _) = wide.expect("a wider entry");
    assert_eq!(cannot(name), CannotUndo::Wide(Box::new(revocation.clone())));
    assert_eq!(cannot(&session(9, 0).name()), CannotUndo::Unknown);
    let id = crate::secrets::hex::encode(&of(0).name());
    let (start, _) = id.split_at(8);
    assert_eq!(replica.name_of(start), Ok(of(0).name()));
    assert_eq!(replica.name_of(""), Err(CannotUndo::Ambiguous));
}

#[test]
fn a_list_full_of_logouts_takes_every_further_one_and_says_so_in_time() {
    const CAPACITY: usize = 64;
    let mut store = FakeStore::default();
    let mut replica = started(CAPACITY, &mut store);
    let mut alarms = Vec::new();
    for id in 0..CAPACITY * 20 {
        let target = Target::Session {
            issuer: "i".to_owned(),
            session: id.to_string(),
            subject: Some(format!("u{id}")),
        };
        let logout = Revocation::new(target, NOW * 1000, NOW + 900);
        assert!(replica.has_room_for(&logout));
        for command in run(&mut replica, &mut store, Event::Revoke(logout), NOW) {
            if let Command::NearlyFull(_) | Command::Coarsened(_) | Command::Overfull(_) = command {
                alarms.push((id, command));
            }
        }
        assert!(
            replica.len() <= CAPACITY + CAPACITY / 8 + 1,
            "{}",
            replica.len()
        );
    }
    assert_eq!(
        alarms.first(),
        Some(&(CAPACITY * 3 / 4 - 1, Command::NearlyFull(true)))
    );
    assert!(
        matches!(alarms.get(1), Some((CAPACITY, Command::Coarsened(_)))),
        "{alarms:?}"
    );
    assert!(
        !alarms
            .iter()
            .any(|(_, command)| matches!(command, Command::Overfull(true)))
    );
    assert!(
        replica.has_room_for(&session(0, NOW + 9)),
        "it is not twice full"
    );
}

/// One of few, so that they overlap.
fn any_revocation() -> impl Strategy<Value = Revocation> {
    let owner = (
        0..2_usize,
        0..3_usize,
        0..3_usize,
        0..4_usize,
        any::<bool>(),
    );
    (owner, 0..5_u8, 0..200_i64, 0..4_i64).prop_map(
        |((issuer, subject, session, token, named), kind, ago, lives)| {
            let issuer = format!("i{issuer}");
            let (session, subject) = (format!("{subject}-{session}"), format!("u{subject}"));
            let target = match kind {
                0 | 1 => Target::Token {
                    sha256: token_digest(&text(&issuer, &session, token)),
                    issuer: Some(issuer).filter(|_| named),
                    session: Some(session),
                    subject: Some(subject),
                },
                2 => Target::Session {
                    issuer,
                    session,
                    subject: Some(subject).filter(|_| named),
                },
                _ => Target::Subject {
                    issuer,
                    subject,
                    not_before: NOW - ago,
                    except: Some(session).filter(|_| named).into_iter().collect(),
                    strict: false,
                },
            };
            Revocation::new(target, (NOW - ago) * 1000, NOW + 1000 + lives)
        },
    )
}

fn text(issuer: &str, session: &str, token: usize) -> String {
    format!("{issuer} {session} {token}")
}

proptest! {
    #[test]
    fn a_full_list_refuses_everything_that_was_revoked_and_no_other_issuer(
        revocations in prop::collection::vec(any_revocation(), 1..60),
        capacity in 1..12_usize,
    ) {
        let (exact, list) = (List::new(), List::new());
        let mut store = FakeStore::default();
        let mut replica = started(capacity, &mut store);
        for revocation in &revocations {
            exact.insert(revocation);
            let said = run(&mut replica, &mut store, Event::Revoke(revocation.clone()), NOW);
            for command in said {
                match command {
                    Command::Insert(revocation, _) => list.insert(&revocation),
                    Command::Remove(revocation) => list.remove(&revocation),
                    _ => {}
                }
            }
            prop_assert_eq!(replica.queued(), 0);
        }
        // A replica that starts now, from what is stored.
        let newcomer = List::new();
        let mut other = Replica::new(capacity);
        for command in run(&mut other, &mut store, Event::Poll, NOW) {
            match command {
                Command::Insert(revocation, _) => newcomer.insert(&revocation),
                Command::Remove(revocation) => newcomer.remove(&revocation),
                _ => {}
            }
        }
        prop_assert!(other.is_complete());
        for issuer in ["i0", "i1", "i2"] {
            for subject in 0..3 {
                for session in 0..3 {
                    for token in 0..4 {
                        // Some signed in long ago and were refreshed; some do not say when they
                        // signed in.
                        let session = format!("{subject}-{session}");
                        let subject = format!("u{subject}");
                        for claims in [json!({ "iat": NOW, "amr": [{ "timestamp": NOW - 300 }] }), json!({ "iat": NOW - 250 })] {
                            let text = text(issuer, &session, token);
                            let listed = Listed {
                                token: &token_digest(&text),
                                issuer,
                                subject: &subject,
                                session: Some(&session),
                                claims: claims.as_object().expect("an object"),
                                begun: None,
                                leeway: 0,
                            };
                            let found = |list: &List| list.find(&CleanAt::default(), listed, NOW).is_some();
                            if found(&exact) {
                                prop_assert!(found(&list), "missing: {text}");
                                prop_assert!(found(&newcomer), "unknown to a newcomer: {text}");
                            }
                            prop_assert!(issuer != "i2" || !found(&list));
                        }
                    }
                }
            }
        }
        // A later sign-in is never refused.
        let fresh = json!({ "iat": NOW, "amr": [{ "timestamp": NOW + LEEWAY + 2 }] });
        let listed = Listed {
            token: &token_digest("fresh"),
            issuer: "i0",
            subject: "u0",
            session: Some("fresh"),
            claims: fresh.as_object().expect("an object"),
            begun: None,
            leeway: 0,
        };
        prop_assert!(list.find(&CleanAt::default(), listed, NOW).is_none());
    }
}
