//! A name that is revoked again, merged into or undone.

use super::*;

/// A token of session `s` of user `u`.
fn token(id: u8) -> Revocation {
    let target = Target::Token {
        sha256: [id; 32],
        issuer: Some("i".to_owned()),
        session: Some("s".to_owned()),
        subject: Some("u".to_owned()),
    };
    Revocation::new(target, NOW * 1000, NOW + 900)
}

fn everything(not_before: i64, except: &[&str]) -> Revocation {
    let target = Target::Subject {
        issuer: "i".to_owned(),
        subject: "u".to_owned(),
        not_before,
        except: except.iter().map(|&id| id.to_owned()).collect(),
        strict: false,
    };
    Revocation::new(target, not_before * 1000, NOW + 900)
}

/// Revocations of which a list of two merges the first ones into the last one, whose name stays.
fn merged_into_the_last() -> [Vec<Revocation>; 2] {
    let target = Target::Session {
        issuer: "i".to_owned(),
        session: "s".to_owned(),
        subject: Some("u".to_owned()),
    };
    let whole = Revocation::new(target, NOW * 1000, NOW + 900);
    let earlier = everything(NOW - 9, &["kept"]);
    let between = everything(NOW - 5, &["also kept"]);
    [
        vec![token(1), token(2), whole],
        vec![earlier, between, everything(NOW, &[])],
    ]
}

#[test]
fn an_entry_into_which_others_were_merged_cannot_be_undone_though_its_name_is_its_own() {
    for revocations in merged_into_the_last() {
        let last = revocations.last().expect("three").clone();
        let name = last.name();
        for order in [[0, 1, 2], [2, 0, 1], [0, 2, 1]] {
            let mut store = FakeStore::default();
            let mut replica = started(2, &mut store);
            for revocation in order.iter().filter_map(|at| revocations.get(*at)) {
                let event = Event::Revoke(revocation.clone());
                run(&mut replica, &mut store, event, NOW);
            }
            run(&mut replica, &mut store, Event::Poll, NOW);
            assert_eq!(replica.len(), 1, "{order:?}");
            let held = replica.entry(&name).expect("the wide entry").clone();
            let refused = replica.undoing(&name, note("bob"), NOW * 1000);
            assert_eq!(refused, Err(CannotUndo::Wide(Box::new(held))));
            // Nor is it dropped earlier.
            let shorter = Revocation {
                expires: NOW + 90,
                ..last.clone()
            };
            run(&mut replica, &mut store, Event::Shorten(vec![shorter]), NOW);
            run(&mut replica, &mut store, Event::Poll, NOW + 90);
            assert!(replica.holds(&name));
        }
    }
}

#[test]
fn an_undone_entry_of_the_log_leaves_what_others_were_merged_into() {
    for revocations in merged_into_the_last() {
        let last = revocations.last().expect("three").clone();
        let name = last.name();
        let mut store = FakeStore::default();
        let (mut full, mut other) = (started(2, &mut store), started(100, &mut store));
        for revocation in &revocations {
            let event = Event::Revoke(revocation.clone());
            run(&mut full, &mut store, event, NOW);
        }
        run(&mut other, &mut store, Event::Poll, NOW);
        undo(&mut other, &mut store, &last);
        let said = run(&mut full, &mut store, Event::Poll, NOW);
        assert!(said.contains(&Command::StillCovered(name)), "{said:?}");
        let removed =
            |command: &Command| matches!(command, Command::Remove(one) if one.name() == name);
        assert!(!said.iter().any(removed), "{said:?}");
        let still = |replica: &Replica| replica.entry(&name).map(|entry| entry.target.clone());
        assert_eq!(still(&full), Some(last.target.clone()));
        // It is not written back either: where nothing was merged, it stays undone.
        run(&mut full, &mut store, Event::Poll, NOW);
        run(&mut other, &mut store, Event::Poll, NOW);
        let entry = other.entry(&name).expect("the entry");
        assert!(entry.target.is_undone());
        // Revoked again on the full replica, it is revoked on the other one.
        let again = Revocation::new(last.target.clone(), NOW * 1000 + 1, NOW + 10);
        run(&mut full, &mut store, Event::Revoke(again), NOW);
        run(&mut other, &mut store, Event::Poll, NOW);
        assert_eq!(still(&other), Some(last.target.clone()));
    }
}

#[test]
fn nothing_is_merged_into_an_entry_that_was_undone() {
    for revocations in merged_into_the_last() {
        let last = revocations.last().expect("three").clone();
        let mut store = FakeStore::default();
        let mut replica = started(2, &mut store);
        let event = Event::Revoke(last.clone());
        run(&mut replica, &mut store, event, NOW);
        undo(&mut replica, &mut store, &last);
        let list = List::new();
        for revocation in revocations.iter().take(2) {
            let event = Event::Revoke(revocation.clone());
            for command in run(&mut replica, &mut store, event, NOW) {
                match command {
                    Command::Insert(revocation, _) => list.insert(&revocation),
                    Command::Remove(revocation) => list.remove(&revocation),
                    _ => {}
                }
            }
        }
        let claims = json!({ "iat": NOW - 100 });
        let listed = Listed {
            token: &[1; 32],
            issuer: "i",
            subject: "u",
            session: Some("s"),
            claims: claims.as_object().expect("an object"),
            begun: None,
            leeway: 0,
        };
        assert!(list.find(&CleanAt::default(), listed, NOW).is_some());
    }
}

#[test]
fn a_second_revocation_of_a_user_in_one_second_ends_what_began_in_between_on_every_replica() {
    let first = everything(NOW, &[]);
    let second = Revocation {
        received_at: NOW * 1000 + 700,
        ..first.clone()
    };
    assert_eq!(first.name(), second.name());
    let received = |replica: &Replica| replica.entry(&first.name()).map(|one| one.received_at);
    // On the same replica, on one that has read the first, and on one that has not.
    for (by_other, has_read) in [(false, true), (true, true), (true, false)] {
        let mut store = FakeStore::default();
        let (mut one, mut other) = (started(100, &mut store), started(100, &mut store));
        run(&mut one, &mut store, Event::Revoke(first.clone()), NOW);
        if has_read {
            run(&mut other, &mut store, Event::Poll, NOW);
        }
        let revoking = if by_other { &mut other } else { &mut one };
        let said = run(revoking, &mut store, Event::Revoke(second.clone()), NOW);
        assert!(said.contains(&Command::Stored(vec![first.name()])));
        let mut newcomer = Replica::new(100);
        for replica in [&mut one, &mut other, &mut newcomer] {
            run(replica, &mut store, Event::Poll, NOW);
            run(replica, &mut store, Event::Poll, NOW);
            assert_eq!(
                received(replica),
                Some(second.received_at),
                "{by_other} {has_read}"
            );
            assert_eq!(replica.queued(), 0);
        }
        // A confirmation of the first says nothing about the second.
        let shorter = Revocation {
            expires: NOW + 90,
            ..first.clone()
        };
        run(&mut one, &mut store, Event::Shorten(vec![shorter]), NOW);
        let expires = one.entry(&first.name()).map(|entry| entry.expires);
        assert!(expires > Some(NOW + 90), "{expires:?}");
        // The first, once more, changes nothing.
        let numbers = store.seq;
        run(&mut one, &mut store, Event::Revoke(first.clone()), NOW);
        assert_eq!(
            (store.seq, received(&one)),
            (numbers, Some(second.received_at))
        );
    }
}

#[test]
fn a_revocation_is_not_lost_to_an_undone_earlier_one_that_was_not_read_yet() {
    let of = |received_at: i64, expires: i64| {
        let Revocation { target, .. } = session(0, 0);
        Revocation::new(target, NOW * 1000 + received_at, NOW + expires)
    };
    let (first, later) = (of(0, 900), of(300, 901));
    let name = first.name();
    let is_revoked = |replica: &Replica| {
        let entry = replica.entry(&name);
        entry.is_some_and(|entry| !entry.target.is_undone())
    };
    // The replica that revokes again has read the first one, or nothing.
    for has_read in [false, true] {
        let mut store = FakeStore::default();
        let (mut one, mut other) = (started(100, &mut store), started(100, &mut store));
        run(&mut one, &mut store, Event::Revoke(first.clone()), NOW);
        if has_read {
            run(&mut other, &mut store, Event::Poll, NOW);
        }
        undo(&mut one, &mut store, &first);
        let mut next = Some(Event::Revoke(later.clone().noted(note("alice"))));
        let mut is_reported = false;
        while let Some(event) = next.take() {
            for command in other.handle(event, NOW) {
                match command {
                    call @ (Command::ReadPosition { .. }
                    | Command::ReadLog { .. }
                    | Command::Append(_)) => next = Some(store.answer(call, NOW)),
                    Command::Stored(names) if names.contains(&name) => {
                        is_reported = true;
                        let mut newcomer = started(100, &mut store);
                        run(&mut newcomer, &mut store, Event::Poll, NOW);
                        assert!(is_revoked(&newcomer), "reported, and not in the log");
                    }
                    Command::Remove(removed) => panic!("{removed:?}"),
                    _ => {}
                }
            }
        }
        assert!(is_reported);
        for replica in [&mut one, &mut other] {
            run(replica, &mut store, Event::Poll, NOW);
            run(replica, &mut store, Event::Poll, NOW);
            assert!(is_revoked(replica), "{has_read}");
        }
        // It can be undone like any other.
        let held = one.entry(&name).expect("the entry").clone();
        undo(&mut one, &mut store, &held);
        run(&mut other, &mut store, Event::Poll, NOW);
        assert!(!is_revoked(&other));
    }
}

#[test]
fn a_revocation_that_was_stored_and_undone_before_its_append_is_repeated_stays_undone() {
    let revocation = session(0, NOW + 900);
    let name = revocation.name();
    let mut store = FakeStore::default();
    let (mut one, mut other) = (started(100, &mut store), started(100, &mut store));
    let mut commands = one.handle(Event::Revoke(revocation.clone()), NOW);
    // It is stored, and the answer is lost.
    let _ = store.answer(commands.pop().expect("a call"), NOW);
    let said = run(&mut one, &mut store, Event::Unreachable, NOW);
    assert!(said.contains(&Command::Queued(vec![name])), "{said:?}");
    run(&mut other, &mut store, Event::Poll, NOW);
    undo(&mut other, &mut store, &revocation);
    for _ in 0..2 {
        run(&mut one, &mut store, Event::Poll, NOW);
    }
    let entry = one.entry(&name).expect("the entry");
    assert!(entry.target.is_undone());
    assert_eq!(one.queued(), 0);
}

#[test]
fn a_shorter_revocation_of_the_same_session_does_not_shorten_a_longer_one() {
    let mut store = FakeStore::default();
    let (mut one, mut other) = (started(100, &mut store), started(100, &mut store));
    run(
        &mut one,
        &mut store,
        Event::Revoke(session(0, NOW + 900)),
        NOW,
    );
    // The other replica has not read it yet.
    run(
        &mut other,
        &mut store,
        Event::Revoke(session(0, NOW + 9)),
        NOW,
    );
    for replica in [&mut one, &mut other] {
        run(replica, &mut store, Event::Poll, NOW);
        run(replica, &mut store, Event::Poll, NOW + 9);
        assert!(replica.holds(&session(0, 0).name()));
    }
}
