//! The list of a process with an in-memory store.

use serde_json::Map;

use super::super::Target;
use super::*;
use crate::policy::outage::State;
use crate::store::Memory;

fn started() -> (Arc<Revocations>, Follower) {
    let registry = prometheus::Registry::new();
    let metrics = RevocationMetrics::new(&registry).expect("names are free");
    let store = Arc::new(Memory::new(100, clock::unix_now));
    Revocations::new(store, 100, Arc::new(metrics))
}

fn session(id: &str) -> Revocation {
    let target = Target::Session {
        issuer: "i".to_owned(),
        session: id.to_owned(),
        subject: None,
    };
    Revocation::new(target, clock::unix_millis(), clock::unix_now() + 60)
}

fn check(revocations: &Revocations, session: &str) -> Result<(), Reason> {
    let listed = Listed {
        token: &[0; 32],
        issuer: "i",
        subject: "u",
        session: Some(session),
        claims: &Map::new(),
        begun: None,
        leeway: 0,
    };
    revocations
        .check(&CleanAt::default(), listed, clock::unix_now())
        .map_err(|denial| denial.reason)
}

#[tokio::test]
async fn a_receiver_is_notified_when_the_list_grows() {
    let (revocations, mut follower) = started();
    assert!(!revocations.is_complete(), "nothing was read yet");
    follower.catch_up().await;
    assert!(revocations.is_complete());
    let following = tokio::spawn(follower.run());

    let mut grown = revocations.grown();
    grown.mark_unchanged();
    assert_eq!(check(&revocations, "s"), Ok(()));
    assert_eq!(
        revocations.revoke(session("s")).await,
        RevokeOutcome::Stored
    );
    assert!(grown.has_changed().expect("the list exists"));
    assert_eq!(check(&revocations, "s"), Err(Reason::SessionRevoked));
    assert_eq!(check(&revocations, "other"), Ok(()));
    assert_eq!(revocations.status().entries, [0, 1, 0, 0, 0]);
    following.abort();
}

#[tokio::test]
async fn a_list_without_its_follower_is_not_complete_and_accepts_no_revocation() {
    let (revocations, mut follower) = started();
    follower.catch_up().await;
    assert!(revocations.is_complete());
    drop(follower);
    assert!(!revocations.is_complete());
    assert_eq!(
        revocations.revoke(session("s")).await,
        RevokeOutcome::Stopped
    );
    assert_eq!(check(&revocations, "s"), Ok(()));
}

#[tokio::test]
async fn a_list_without_recent_confirmation_is_an_outage_though_the_store_is_reachable() {
    let (revocations, mut follower) = started();
    follower.catch_up().await;
    let now = clock::now();
    assert_eq!(revocations.outage(now), Outage::Reachable);
    let confirmed = now + UNCONFIRMED - Duration::from_secs(1);
    assert_eq!(revocations.outage(confirmed), Outage::Reachable);
    let later = now + UNCONFIRMED + Duration::from_secs(2);
    let Outage::Away { since } = revocations.outage(later) else {
        unreachable!("it was not confirmed for 32 seconds");
    };
    assert!(later - since > UNCONFIRMED);
}

#[tokio::test]
async fn a_list_is_unconfirmed_after_a_suspension_until_the_store_is_asked_again() {
    let (revocations, mut follower) = started();
    let state = || {
        let now = clock::now();
        State::of_store(revocations.outage(now), revocations.is_complete(), now)
    };
    follower.catch_up().await;
    assert_eq!(state(), None);
    revocations.doubt();
    assert_eq!(state(), Some(State::StoreGone));
    // An answer to a request from before the suspension confirms nothing.
    revocations.confirm(clock::now(), 0);
    assert_eq!(state(), Some(State::StoreGone));
    follower.catch_up().await;
    assert_eq!(state(), None);
    // The follower is woken at once, whenever its next poll is due.
    let following = tokio::spawn(follower.run());
    revocations.doubt();
    let confirmed = async {
        while state().is_some() {
            tokio::task::yield_now().await;
        }
    };
    let confirmed = tokio::time::timeout(std::time::Duration::from_secs(10), confirmed);
    assert!(confirmed.await.is_ok(), "the list is never confirmed");
    following.abort();
}

#[test]
fn a_store_that_becomes_unreachable_does_not_shorten_the_outage_of_the_list() {
    let confirmed = clock::now();
    let after = |seconds| confirmed + Duration::from_secs(seconds);
    let since_confirmation = Outage::Away { since: confirmed };
    // The store did not answer for the list for ten minutes, and then became unreachable.
    assert_eq!(
        list_outage(Outage::Reachable, confirmed, after(600)),
        since_confirmation
    );
    let away = Outage::Away { since: after(599) };
    assert_eq!(list_outage(away, confirmed, after(600)), since_confirmation);
    assert_eq!(
        State::of_store(list_outage(away, confirmed, after(600)), true, after(600)),
        Some(State::StoreGone)
    );
    // A confirmation that is younger than the store's outage does not make the outage younger.
    let away = Outage::Away { since: confirmed };
    assert_eq!(list_outage(away, after(1), after(2)), away);
    assert_eq!(
        list_outage(Outage::NeverSeen, confirmed, after(1)),
        Outage::NeverSeen
    );
}

#[tokio::test]
async fn what_was_revoked_is_listed_with_its_author_and_undone_once() {
    let (revocations, mut follower) = started();
    follower.catch_up().await;
    let following = tokio::spawn(follower.run());
    let note = |by: &str| Note {
        by: by.to_owned(),
        reason: "a reason".to_owned(),
    };
    let of_operator = session("s").noted(note("alice"));
    for revocation in [of_operator.clone(), session("logout")] {
        let outcome = revocations.revoke(revocation).await;
        assert_eq!(outcome, RevokeOutcome::Stored);
    }
    let query = |all| Query {
        all,
        most: 10,
        ..Query::default()
    };
    let (found, count) = revocations.entries(query(false)).await.expect("a list");
    assert_eq!((found.len(), count), (1, 1));
    assert_eq!(
        found.first().map(|found| &found.revocation),
        Some(&of_operator)
    );
    assert_eq!(revocations.entries(query(true)).await.expect("a list").1, 2);

    let id = crate::secrets::hex::encode(&of_operator.name());
    let (start, _) = id.split_at(8);
    let undone = revocations.undo(start, note("bob")).await;
    let expected = UndoOutcome::Undone(of_operator.clone(), RevokeOutcome::Stored);
    assert_eq!(undone, Some(expected));
    assert_eq!(check(&revocations, "s"), Ok(()));
    assert_eq!(check(&revocations, "logout"), Err(Reason::SessionRevoked));
    let again = revocations.undo(&id, note("carol")).await;
    let Some(UndoOutcome::Refused(CannotUndo::Undone(marker))) = again else {
        unreachable!("undone twice: {again:?}");
    };
    assert_eq!(marker.note, Some(note("bob")));
    let unknown = revocations.undo("0123456789abcdef", note("bob")).await;
    assert_eq!(unknown, Some(UndoOutcome::Refused(CannotUndo::Unknown)));

    // Revoked again, it is refused again, for as long as it takes to outlive the undoing.
    let outcome = revocations.revoke(session("s")).await;
    assert_eq!(outcome, RevokeOutcome::Stored);
    assert_eq!(check(&revocations, "s"), Err(Reason::SessionRevoked));
    let expires = revocations.expiry(of_operator.name()).await;
    assert!(expires > Some(marker.expires), "{expires:?}");
    following.abort();
}
