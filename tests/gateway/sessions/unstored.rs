//! New tokens that the store did not accept are not lost, and a session does not end for a refresh
//! token that is not its newest.

use std::time::Duration;

use foregate::clock::unix_millis;
use foregate::denial::Reason;
use foregate::secrets::secret::Secret;
use foregate::sessions::record::{InnerTokens, Session};
use foregate::store::{Kind, Swap};
use serde_json::json;

use super::tokens::{REFRESH, Renewing, forwarded};
use super::{is_over, is_served};
use crate::support::auth_server::{Behave, Hold, Options};
use crate::support::client::Call;
use crate::support::{Answer, Door, Gateway, Http, RedisServer, SignedIn, eventually};

/// An identity server at which reusing a refresh token ends the session.
const STRICT: Options = Options {
    autoconfirm: true,
    reuse_interval: Duration::ZERO,
    parent_is_good: false,
    lifetime: 3600,
    ..Options::DEFAULT
};

/// A request that waits for its answer while the test continues.
fn asks(gateway: &Gateway, http: Http, somebody: &SignedIn) -> tokio::task::JoinHandle<Answer> {
    let connector = gateway.connector(http, Door::Tls);
    let somebody = somebody.clone();
    tokio::spawn(async move {
        let call: Call<'_> = connector.call("GET", "/page").cookie_of(&somebody);
        call.send().await
    })
}

/// Makes the next request renew: only the access token is revoked, and its session continues with
/// another.
async fn needs_renewal(renewing: &Renewing, somebody: &SignedIn) {
    for gateway in renewing.both() {
        is_served(gateway, Http::Two, somebody).await;
    }
    // A token younger than that is not renewed.
    tokio::time::sleep(Duration::from_millis(1001)).await;
    let revocation = json!({ "kind": "token", "token": somebody.access });
    renewing.place.gateway.revoke(&revocation);
    eventually("both know", || {
        let knows = |gateway: &&Gateway| gateway.metrics().sum("foregate_revocations", &[]) >= 1.0;
        renewing.both().iter().all(knows)
    })
    .await;
}

fn unstored(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("foregate_sessions_unstored", &[])
}

/// Checks that both replicas continue with the token that the first got, and that the old refresh
/// token was not reused.
async fn both_continue_with_one_token(renewing: &Renewing, somebody: &SignedIn, newest: &str) {
    let [gateway, other] = renewing.both();
    eventually("it is stored", || unstored(gateway) == 0.0).await;
    for gateway in [gateway, other] {
        eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
        for http in Http::BOTH {
            let answer = gateway.get(http, "/page").cookie_of(somebody).send().await;
            answer.is_ok();
            assert_eq!(forwarded(gateway), newest);
        }
    }
    assert_eq!(renewing.auth.calls(REFRESH), 1);
    assert!(renewing.auth.session_lives(&somebody.session));
}

#[tokio::test]
async fn tokens_not_stored_during_a_store_stall_reach_the_other_replica() {
    let renewing = Renewing::with(STRICT, RedisServer::start()).await;
    let somebody = renewing.sign_in().await;
    needs_renewal(&renewing, &somebody).await;
    let hold = Hold::new();
    renewing.auth.behave(REFRESH, Behave::Wait(hold.clone()));
    let asked = asks(&renewing.place.gateway, Http::Two, &somebody);
    renewing.auth.has_seen(REFRESH, 1).await;
    renewing.place.redis.pause();
    hold.let_go();
    asked.await.unwrap().is_ok();
    let newest = forwarded(&renewing.place.gateway);
    assert_ne!(newest, somebody.access);
    eventually("it waits", || unstored(&renewing.place.gateway) == 1.0).await;
    renewing.place.redis.resume();
    both_continue_with_one_token(&renewing, &somebody, &newest).await;
}

#[tokio::test]
async fn tokens_are_kept_through_a_long_store_outage() {
    let redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut renewing = Renewing::with(STRICT, redis).await;
    let somebody = renewing.sign_in().await;
    needs_renewal(&renewing, &somebody).await;
    let hold = Hold::new();
    renewing.auth.behave(REFRESH, Behave::Wait(hold.clone()));
    let asked = asks(&renewing.place.gateway, Http::One, &somebody);
    renewing.auth.has_seen(REFRESH, 1).await;
    renewing.place.redis.kill();
    hold.let_go();
    asked.await.unwrap().is_ok();
    let newest = forwarded(&renewing.place.gateway);
    // Longer than any series of retries.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(unstored(&renewing.place.gateway), 1.0);
    renewing.place.redis.start_again();
    both_continue_with_one_token(&renewing, &somebody, &newest).await;
}

/// Plays another replica that renewed, and stores its tokens only now.
async fn store(renewing: &Renewing, somebody: &SignedIn, (access, refresh): (String, String)) {
    let desk = &renewing.place.desk;
    let name = desk.read(&somebody.cookie).name();
    loop {
        let (record, version) = desk.store.read(Kind::Session, &name).await.unwrap();
        let session = Session {
            tokens: Some(InnerTokens {
                access: Secret::new(access.as_str()),
                refresh: Secret::new(refresh.as_str()),
            }),
            proof: None,
            renewed: unix_millis(),
            ..Session::from_record(&record.unwrap()).unwrap()
        };
        let (bytes, expires) = (session.to_record(), session.ends);
        let swap = desk
            .store
            .swap(Kind::Session, &name, &version, &bytes, expires);
        if let Swap::Done(_) = swap.await.unwrap() {
            break;
        }
    }
}

#[tokio::test]
async fn a_session_with_a_newer_token_than_the_refused_one_survives() {
    for http in Http::BOTH {
        let renewing = Renewing::with(STRICT, RedisServer::start()).await;
        let somebody = renewing.sign_in().await;
        needs_renewal(&renewing, &somebody).await;
        let newer = renewing.auth.refresh(&somebody.refresh);
        let asked = asks(&renewing.other, http, &somebody);
        // It has read the record, and uses the old token.
        renewing.auth.has_seen(REFRESH, 1).await;
        store(&renewing, &somebody, newer.clone()).await;
        asked.await.unwrap().is_ok();
        assert_eq!(forwarded(&renewing.other), newer.0);
        let adopted = renewing
            .other
            .metrics()
            .sum("foregate_session_renewals_total", &[("result", "adopted")]);
        assert_eq!(adopted, 1.0);
    }
}

#[tokio::test]
async fn a_refusal_ends_no_session_while_its_record_is_unreadable() {
    let renewing = Renewing::with(STRICT, RedisServer::start()).await;
    let somebody = renewing.sign_in().await;
    needs_renewal(&renewing, &somebody).await;
    let newer = renewing.auth.refresh(&somebody.refresh);
    let hold = Hold::new();
    renewing.auth.behave(REFRESH, Behave::Wait(hold.clone()));
    let asked = asks(&renewing.other, Http::Two, &somebody);
    renewing.auth.has_seen(REFRESH, 1).await;
    renewing.place.redis.pause();
    hold.let_go();
    let answer = asked.await.unwrap();
    answer.is_denied(Reason::SessionUnavailable);
    assert!(!answer.headers.contains_key("set-cookie"), "it stays");
    renewing.other.origin.saw_nothing();
    renewing.place.redis.resume();
    eventually("the store is back", || {
        renewing.other.metrics().sum("foregate_store_up", &[]) == 1.0
    })
    .await;
    store(&renewing, &somebody, newer.clone()).await;
    let answer = renewing.other.get(Http::One, "/page").cookie_of(&somebody);
    answer.send().await.is_ok();
    assert_eq!(forwarded(&renewing.other), newer.0);
}

#[tokio::test]
async fn a_refresh_token_used_by_a_stranger_ends_the_session_if_there_is_no_newer_one() {
    let renewing = Renewing::with(STRICT, RedisServer::start()).await;
    let somebody = renewing.sign_in().await;
    needs_renewal(&renewing, &somebody).await;
    renewing.auth.refresh(&somebody.refresh);
    let answer = renewing.other.get(Http::Two, "/page").cookie_of(&somebody);
    is_over(
        &renewing.other,
        &answer.send().await,
        Reason::SessionUnknown,
    );
}
