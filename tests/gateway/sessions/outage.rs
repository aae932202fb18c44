//! Redis stalls or goes away: no session ends, and none begins.

use foregate::denial::Reason;

use super::{Place, is_served};
use crate::support::{Http, eventually};

#[tokio::test]
async fn while_the_store_is_away_cached_sessions_continue_and_others_get_a_503() {
    let place = Place::start().await;
    let (known, unknown) = (place.sign_in().await, place.sign_in().await);
    is_served(&place.gateway, Http::Two, &known).await;
    place.redis.pause();
    for http in Http::BOTH {
        is_served(&place.gateway, http, &known).await;
        for method in ["GET", "POST"] {
            let call = place.gateway.call(http, method, "/page").page_of(&unknown);
            let answer = call.send().await;
            answer.is_denied(Reason::SessionUnavailable);
            assert!(!answer.headers.contains_key("set-cookie"), "it stays");
            place.gateway.origin.saw_nothing();
        }
        let change = place.gateway.post(http, "/page").page_of(&known);
        change.send().await.is_ok();
        place.gateway.origin.take();
    }
    place.redis.resume();
    let mut client = place.gateway.connect(Http::Two).await;
    let mut answer = client.get("/page").cookie_of(&unknown).send().await;
    while answer.status == 503 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        answer = client.get("/page").cookie_of(&unknown).send().await;
    }
    answer.is_ok();
    place.gateway.origin.take();
    eventually("it is ready again", || {
        place.gateway.admin_status("/readyz") == 200
    })
    .await;
    is_served(&place.gateway, Http::One, &known).await;
}

#[tokio::test]
async fn a_session_idle_during_a_store_outage_is_not_declared_over() {
    let place = Place::with("{ idle: 3s }", |_| {}).await;
    let somebody = place.sign_in().await;
    is_served(&place.gateway, Http::Two, &somebody).await;
    place.redis.pause();
    let mut client = place.gateway.connect(Http::Two).await;
    tokio::time::sleep(std::time::Duration::from_millis(3100)).await;
    let answer = client.get("/page").cookie_of(&somebody).send().await;
    answer.is_denied(Reason::SessionUnavailable);
    assert!(!answer.headers.contains_key("set-cookie"));
    place.redis.resume();
    let mut answer = client.get("/page").cookie_of(&somebody).send().await;
    while answer.status == 503 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        answer = client.get("/page").cookie_of(&somebody).send().await;
    }
    answer.is_denied(Reason::SessionExpired);
    place.gateway.origin.take();
}

#[tokio::test]
async fn sign_in_with_a_cookie_is_refused_if_it_cannot_be_stored() {
    let place = Place::start().await;
    place.redis.pause();
    let claims = place.gateway.issuer.claims();
    let granted = foregate::sessions::sign_in::SignedInUser {
        issuer: "i".to_owned(),
        subject: claims.as_object()["sub"].as_str().unwrap().to_owned(),
        session: None,
        tokens: foregate::sessions::record::InnerTokens {
            access: foregate::secrets::secret::Secret::new("a"),
            refresh: foregate::secrets::secret::Secret::new("b"),
        },
        asked_at: foregate::clock::unix_millis(),
    };
    let carrier = foregate::sessions::record::Carrier::Cookie;
    let begun = place
        .desk
        .sessions
        .begin(granted, carrier, crate::support::desk::seen(), None)
        .await;
    assert!(begun.is_err(), "{begun:?}");
    place.redis.resume();
}
