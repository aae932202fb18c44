//! The list of a process, with the store in it.

use serde_json::Map;

use super::super::What;
use super::*;
use crate::policy::outage::State;
use crate::store::Memory;

fn began() -> (Arc<Revocations>, Follower) {
    let registry = prometheus::Registry::new();
    let metrics = RevocationMetrics::new(&registry).expect("names are free");
    let store = Arc::new(Memory::new(100, clock::unix_now));
    Revocations::new(store, 100, Arc::new(metrics))
}

fn session(id: &str) -> Revocation {
    Revocation {
        what: What::Session {
            issuer: "i".to_owned(),
            session: id.to_owned(),
            subject: None,
        },
        told: clock::unix_millis(),
        expires: clock::unix_now() + 60,
    }
}

fn check(revocations: &Revocations, session: &str) -> Result<(), Reason> {
    let listed = Listed {
        token: &[0; 32],
        issuer: "i",
        subject: "u",
        session: Some(session),
        claims: &Map::new(),
    };
    revocations
        .check(&CleanAt::default(), listed, clock::unix_now())
        .map_err(|denial| denial.reason)
}

#[tokio::test]
async fn whoever_was_let_in_before_hears_that_the_list_has_grown() {
    let (revocations, mut follower) = began();
    assert!(!revocations.is_complete(), "nothing was read yet");
    follower.catch_up().await;
    assert!(revocations.is_complete());
    let following = tokio::spawn(follower.run());

    let mut grown = revocations.grown();
    grown.mark_unchanged();
    assert_eq!(check(&revocations, "s"), Ok(()));
    assert_eq!(revocations.revoke(session("s")).await, Revoked::Stored);
    assert!(grown.has_changed().expect("the list is there"));
    assert_eq!(check(&revocations, "s"), Err(Reason::SessionRevoked));
    assert_eq!(check(&revocations, "other"), Ok(()));
    assert_eq!(revocations.status().entries, [0, 1, 0, 0]);
    following.abort();
}

#[tokio::test]
async fn a_list_that_nobody_keeps_is_not_complete_and_takes_nothing() {
    let (revocations, mut follower) = began();
    follower.catch_up().await;
    assert!(revocations.is_complete());
    drop(follower);
    assert!(!revocations.is_complete());
    assert_eq!(revocations.revoke(session("s")).await, Revoked::Stopped);
    assert_eq!(check(&revocations, "s"), Ok(()));
}

#[tokio::test]
async fn a_list_that_was_not_confirmed_lately_counts_as_an_outage_whatever_the_store_says() {
    let (revocations, mut follower) = began();
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

#[test]
fn a_store_that_goes_away_does_not_make_an_outage_of_the_list_younger() {
    let agreed = clock::now();
    let after = |seconds| agreed + Duration::from_secs(seconds);
    let since_agreed = Outage::Away { since: agreed };
    // Its answers about the list could not be read for ten minutes, and then it went away.
    assert_eq!(of_list(Outage::Reachable, agreed, after(600)), since_agreed);
    let away = Outage::Away { since: after(599) };
    assert_eq!(of_list(away, agreed, after(600)), since_agreed);
    assert_eq!(
        State::of_store(of_list(away, agreed, after(600)), true, after(600)),
        Some(State::StoreGone)
    );
    // What was agreed when it was gone already is no older than its own word.
    let away = Outage::Away { since: agreed };
    assert_eq!(of_list(away, after(1), after(2)), away);
    assert_eq!(
        of_list(Outage::NeverSeen, agreed, after(1)),
        Outage::NeverSeen
    );
}
