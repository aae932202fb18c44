//! What the model checker does not explore: time, full lists and full stores, pages, and records of another version.

#![expect(
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a failed expectation is how a test fails, and whatever else was said is not what it is about"
)]

use proptest::prelude::*;
use serde_json::json;

use super::super::list::{CleanAt, LEEWAY, List, Listed};
use super::super::{What, of_token};
use super::*;

const NOW: i64 = 1_800_000_000;

/// A store that keeps what it is given, in pages of three.
#[derive(Default)]
struct Shelf {
    epoch: u128,
    seq: u64,
    log: BTreeMap<u64, (Name, Logged)>,
    /// Takes nothing more.
    full: bool,
    asked: Vec<&'static str>,
}

impl Shelf {
    fn answer(&mut self, question: Command, now: i64) -> Event {
        let position = |shelf: &Self| Position {
            epoch: shelf.epoch,
            seq: shelf.seq,
        };
        match question {
            Command::AskPosition { at } => {
                self.asked.push("position");
                let later = self.log.values().filter(|(_, one)| one.expires > at);
                Event::Position(position(self), later.count() as u64)
            }
            Command::ReadLog { after } => {
                self.asked.push("page");
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
                self.asked.push("append");
                for (name, revocation) in revocations {
                    self.put(name, revocation.to_record(), revocation.expires);
                }
                Event::Appended(position(self))
            }
            other => panic!("not a question: {other:?}"),
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

/// Gives the replica an event, answers its questions until it has none, and returns everything else it said.
fn run(replica: &mut Replica, shelf: &mut Shelf, event: Event, now: i64) -> Vec<Command> {
    let mut said = Vec::new();
    let mut next = Some(event);
    while let Some(event) = next.take() {
        for command in replica.handle(event, now) {
            match command {
                question @ (Command::AskPosition { .. }
                | Command::ReadLog { .. }
                | Command::Append(_)) => next = Some(shelf.answer(question, now)),
                other => said.push(other),
            }
        }
    }
    assert!(replica.is_idle());
    said
}

fn started(capacity: usize, shelf: &mut Shelf) -> Replica {
    let mut replica = Replica::new(capacity);
    run(&mut replica, shelf, Event::Poll, NOW);
    assert!(replica.is_complete());
    replica
}

fn session(id: usize, expires: i64) -> Revocation {
    Revocation {
        what: What::Session {
            issuer: "i".to_owned(),
            session: id.to_string(),
            subject: None,
        },
        told: NOW * 1000,
        expires,
    }
}

fn said_cause(said: &[Command], cause: Cause) -> bool {
    said.contains(&Command::Reload(cause))
}

#[test]
fn a_log_of_many_pages_is_read_to_its_end_before_the_list_is_complete() {
    let mut shelf = Shelf::default();
    let mut first = started(100, &mut shelf);
    for id in 0..10 {
        run(
            &mut first,
            &mut shelf,
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
                Command::AskPosition { .. } | Command::ReadLog { .. }
            ) {
                pages += usize::from(matches!(command, Command::ReadLog { .. }));
                assert!(!second.is_complete() || pages > 4, "{pages} pages");
                next = Some(shelf.answer(command, NOW));
            }
        }
    }
    assert!(second.is_complete());
    assert_eq!(second.len(), 10);
    assert!(second.holds(&session(9, 0).name()));
}

#[test]
fn what_has_ended_is_taken_out_and_not_missed() {
    let mut shelf = Shelf::default();
    let mut replica = started(100, &mut shelf);
    for (id, lives) in [(0, 10), (1, 100)] {
        run(
            &mut replica,
            &mut shelf,
            Event::Revoke(session(id, NOW + lives)),
            NOW,
        );
    }
    // The store's clock is ahead, and has dropped it already.
    shelf.log.remove(&1);
    let said = run(&mut replica, &mut shelf, Event::Poll, NOW + 10 - MARGIN);
    assert!(!said_cause(&said, Cause::Count), "{said:?}");
    assert_eq!(replica.len(), 2);
    let said = run(&mut replica, &mut shelf, Event::Poll, NOW + 10);
    assert_eq!(
        said,
        [Command::Remove(session(0, NOW + 10)), Command::Agreed]
    );
    assert_eq!(shelf.log.len(), 1, "nothing was written back");
    // What is over when it is told is no news.
    let said = run(
        &mut replica,
        &mut shelf,
        Event::Revoke(session(2, NOW)),
        NOW,
    );
    assert_eq!(said, [Command::Stored(vec![session(2, 0).name()])]);
}

#[test]
fn the_later_end_counts_whoever_says_it() {
    let mut shelf = Shelf::default();
    let (mut one, mut other) = (started(100, &mut shelf), started(100, &mut shelf));
    run(
        &mut one,
        &mut shelf,
        Event::Revoke(session(0, NOW + 10)),
        NOW,
    );
    run(&mut other, &mut shelf, Event::Poll, NOW);
    run(
        &mut other,
        &mut shelf,
        Event::Revoke(session(0, NOW + 20)),
        NOW,
    );
    let said = run(&mut one, &mut shelf, Event::Poll, NOW);
    assert!(
        said.contains(&Command::Insert(session(0, NOW + 20), Source::News)),
        "{said:?}"
    );
    for replica in [&mut one, &mut other] {
        // It has another number in the log now, and is not missed at the old one.
        let said = run(replica, &mut shelf, Event::Poll, NOW);
        assert_eq!(said, [Command::Agreed]);
        run(replica, &mut shelf, Event::Poll, NOW + 15);
        assert_eq!(replica.len(), 1);
    }
    assert_eq!(shelf.log.len(), 1);
    // An earlier end changes nothing, and is stored already.
    let said = run(
        &mut one,
        &mut shelf,
        Event::Revoke(session(0, NOW + 5)),
        NOW,
    );
    assert_eq!(said, [Command::Stored(vec![session(0, 0).name()])]);
}

#[test]
fn what_is_to_live_longer_while_it_is_being_stored_is_told_when_its_later_end_is_stored() {
    let mut shelf = Shelf::default();
    let (mut one, mut other) = (started(100, &mut shelf), started(100, &mut shelf));
    let (name, stored) = (session(0, 0).name(), |said: &[Command]| {
        said.contains(&Command::Stored(vec![session(0, 0).name()]))
    });
    let mut under_way = one.handle(Event::Revoke(session(0, NOW + 10)), NOW);
    let append = under_way.pop().expect("a question");
    assert_eq!(append, Command::Append(vec![(name, session(0, NOW + 10))]));
    let said = one.handle(Event::Revoke(session(0, NOW + 20)), NOW);
    assert_eq!(
        said,
        [Command::Insert(session(0, NOW + 20), Source::Here)],
        "one question at a time"
    );
    let appended = shelf.answer(append, NOW);
    let mut said = one.handle(appended, NOW);
    assert!(!stored(&said), "{said:?}");
    let append = said.pop().expect("a question");
    assert_eq!(append, Command::Append(vec![(name, session(0, NOW + 20))]));
    let appended = shelf.answer(append, NOW);
    let said = run(&mut one, &mut shelf, appended, NOW);
    assert!(stored(&said), "{said:?}");
    assert_eq!(one.queued(), 0);
    run(&mut other, &mut shelf, Event::Poll, NOW);
    run(&mut other, &mut shelf, Event::Poll, NOW + 15);
    assert!(other.holds(&name), "everywhere until its later end");
}

#[test]
fn a_store_that_takes_nothing_is_still_followed() {
    let mut shelf = Shelf::default();
    let mut replica = started(100, &mut shelf);
    let mut other = started(100, &mut shelf);
    shelf.full = true;
    let name = session(0, 0).name();
    let said = run(
        &mut replica,
        &mut shelf,
        Event::Revoke(session(0, NOW + 99)),
        NOW,
    );
    assert!(said.contains(&Command::Queued(vec![name])), "{said:?}");
    assert!(replica.holds(&name));
    shelf.full = false;
    run(
        &mut other,
        &mut shelf,
        Event::Revoke(session(1, NOW + 99)),
        NOW,
    );
    shelf.full = true;
    let said = run(&mut replica, &mut shelf, Event::Poll, NOW);
    assert!(
        said.contains(&Command::Insert(session(1, NOW + 99), Source::News)),
        "{said:?}"
    );
    assert!(said.contains(&Command::Agreed));
    assert_eq!(replica.queued(), 1);
    shelf.full = false;
    let said = run(&mut replica, &mut shelf, Event::Poll, NOW);
    assert!(said.contains(&Command::Stored(vec![name])), "{said:?}");
    assert_eq!(replica.queued(), 0);
}

#[test]
fn what_only_another_version_understands_keeps_the_list_from_being_complete() {
    let mut shelf = Shelf::default();
    let mut replica = started(100, &mut shelf);
    shelf.put([7; 32], br#"{"tenant":"t"}"#.to_vec(), NOW + 50);
    let said = run(&mut replica, &mut shelf, Event::Poll, NOW);
    assert!(said.contains(&Command::Foreign), "{said:?}");
    assert!(!replica.is_complete());
    run(&mut replica, &mut shelf, Event::Poll, NOW + 49);
    assert!(!replica.is_complete());
    run(&mut replica, &mut shelf, Event::Poll, NOW + 50);
    assert!(replica.is_complete());
}

#[test]
fn a_store_that_cannot_show_what_it_was_given_is_not_asked_without_pause() {
    let mut shelf = Shelf::default();
    let mut replica = started(100, &mut shelf);
    // Whatever is appended is spoilt before it is read.
    let name = session(0, 0).name();
    let mut commands = replica.handle(Event::Revoke(session(0, NOW + 99)), NOW);
    for _ in 0..5 {
        let mut appended = 0;
        loop {
            let question = commands.into_iter().find(|command| {
                matches!(
                    command,
                    Command::AskPosition { .. } | Command::ReadLog { .. } | Command::Append(_)
                )
            });
            let Some(question) = question else { break };
            appended += usize::from(matches!(question, Command::Append(_)));
            let event = shelf.answer(question, NOW);
            shelf.log.clear();
            commands = replica.handle(event, NOW);
        }
        assert!(appended <= 1, "{appended} times between two polls");
        assert!(replica.holds(&name));
        commands = replica.handle(Event::Poll, NOW);
    }
}

#[test]
fn a_quiet_poll_is_a_question_for_the_place_and_a_page() {
    let mut shelf = Shelf::default();
    let mut replica = started(100, &mut shelf);
    run(
        &mut replica,
        &mut shelf,
        Event::Revoke(session(0, NOW + 99)),
        NOW,
    );
    shelf.asked.clear();
    assert_eq!(
        run(&mut replica, &mut shelf, Event::Poll, NOW),
        [Command::Agreed]
    );
    assert_eq!(shelf.asked, ["position", "page"]);
    shelf.asked.clear();
    run(&mut replica, &mut shelf, Event::Push, NOW);
    assert_eq!(shelf.asked, ["position"]);
}

/// One of few, so that they meet.
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
            let what = match kind {
                0 | 1 => What::Token {
                    sha256: of_token(&text(&issuer, &session, token)),
                    issuer: Some(issuer).filter(|_| named),
                    session: Some(session),
                    subject: Some(subject),
                },
                2 => What::Session {
                    issuer,
                    session,
                    subject: Some(subject).filter(|_| named),
                },
                _ => What::Subject {
                    issuer,
                    subject,
                    not_before: NOW - ago,
                    except: Some(session).filter(|_| named).into_iter().collect(),
                    strict: false,
                },
            };
            Revocation {
                what,
                told: (NOW - ago) * 1000,
                expires: NOW + 1000 + lives,
            }
        },
    )
}

fn text(issuer: &str, session: &str, token: usize) -> String {
    format!("{issuer} {session} {token}")
}

proptest! {
    #[test]
    fn a_full_list_refuses_everything_it_was_told_and_no_issuer_it_was_not(
        revocations in prop::collection::vec(any_revocation(), 1..60),
        capacity in 1..12_usize,
    ) {
        let (exact, list) = (List::new(), List::new());
        let mut shelf = Shelf::default();
        let mut replica = started(capacity, &mut shelf);
        for revocation in &revocations {
            exact.insert(revocation);
            let said = run(&mut replica, &mut shelf, Event::Revoke(revocation.clone()), NOW);
            for command in said {
                match command {
                    Command::Insert(revocation, _) => list.insert(&revocation),
                    Command::Remove(revocation) => list.remove(&revocation),
                    _ => {}
                }
            }
            prop_assert_eq!(replica.queued(), 0);
        }
        // A replica that begins now, from what is stored.
        let newcomer = List::new();
        let mut other = Replica::new(capacity);
        for command in run(&mut other, &mut shelf, Event::Poll, NOW) {
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
                        // Some signed in long ago and were refreshed; some do not say when they signed in.
                        let session = format!("{subject}-{session}");
                        let subject = format!("u{subject}");
                        for claims in [json!({ "iat": NOW, "amr": [{ "timestamp": NOW - 300 }] }), json!({ "iat": NOW - 250 })] {
                            let text = text(issuer, &session, token);
                            let listed = Listed {
                                token: &of_token(&text),
                                issuer,
                                subject: &subject,
                                session: Some(&session),
                                claims: claims.as_object().expect("an object"),
                            };
                            let found = |list: &List| list.find(&CleanAt::default(), listed, NOW).is_some();
                            if found(&exact) {
                                prop_assert!(found(&list), "forgotten: {text}");
                                prop_assert!(found(&newcomer), "unknown to a newcomer: {text}");
                            }
                            prop_assert!(issuer != "i2" || !found(&list));
                        }
                    }
                }
            }
        }
        // Who signs in after everything is never refused for it.
        let fresh = json!({ "iat": NOW, "amr": [{ "timestamp": NOW + LEEWAY + 2 }] });
        let listed = Listed {
            token: &of_token("fresh"),
            issuer: "i0",
            subject: "u0",
            session: Some("fresh"),
            claims: fresh.as_object().expect("an object"),
        };
        prop_assert!(list.find(&CleanAt::default(), listed, NOW).is_none());
    }
}
