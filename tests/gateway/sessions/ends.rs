//! What ends a session, and that it ends on every replica.

use std::time::{Duration, Instant};

use foregate::denial::Reason;
use foregate::secrets::secret::Secret;
use foregate::sessions::record::{Carrier, InnerTokens};
use foregate::sessions::sign_in::{OwnSession, SessionSelection, SignedInUser, name_of_id};
use foregate::tokens::mint::Claims;

use super::{Place, eventually_over, is_over, is_over_for, is_replaced_for, is_served};
use crate::support::auth_server::{AuthServer, PUBLISHABLE};
use crate::support::desk::seen;
use crate::support::tokens::{ISSUER, now};
use crate::support::{Gateway, Http, SignedIn};

/// Signs the user of these claims in, in a session of its own.
async fn another(place: &Place, claims: &Claims) -> SignedIn {
    let claims = claims.clone().session(&uuid::Uuid::now_v7().to_string());
    let issuer = &place.gateway.issuer;
    place.desk.sign_in_with(issuer, &claims, None).await
}

fn own(desk: &crate::support::Desk, somebody: &SignedIn) -> OwnSession {
    OwnSession {
        cookie: Some(desk.read(&somebody.cookie).name()),
        session: Some(somebody.session.clone()),
    }
}

#[tokio::test]
async fn a_session_that_ends_on_one_replica_ends_on_all_within_a_second() {
    let place = Place::start().await;
    let other = place.replica().await;
    let (one, two) = (place.sign_in().await, place.sign_in().await);
    for gateway in [&place.gateway, &other] {
        for somebody in [&one, &two] {
            is_served(gateway, Http::Two, somebody).await;
        }
    }
    let which = SessionSelection::Own(own(&place.desk, &one));
    let started = Instant::now();
    let ended = place.desk.sessions.end(ISSUER, &one.subject, which).await;
    let ended = ended.unwrap();
    assert_eq!((ended.sessions, ended.propagated), (1, true));
    for gateway in [&place.gateway, &other] {
        eventually_over(gateway, &one).await;
        is_over_for(gateway, &one, Reason::SessionRevoked).await;
        is_served(gateway, Http::One, &two).await;
    }
    assert!(started.elapsed() < Duration::from_secs(30));
    // The tokens behind the cookie are refused, too, wherever they come from.
    let bearer = place.gateway.get(Http::Two, "/token").bearer(&one.access);
    bearer.send().await.is_denied(Reason::SessionRevoked);
    place.gateway.origin.saw_nothing();
    // A replica that never saw it finds nothing.
    is_over_for(&place.replica().await, &one, Reason::SessionUnknown).await;
}

#[tokio::test]
async fn an_operator_who_revokes_a_session_or_a_user_ends_their_cookies() {
    let place = Place::start().await;
    let (one, two) = (place.sign_in().await, place.sign_in().await);
    for somebody in [&one, &two] {
        is_served(&place.gateway, Http::Two, somebody).await;
    }
    place
        .gateway
        .revoke(&serde_json::json!({ "kind": "session", "session": one.session }));
    is_over_for(&place.gateway, &one, Reason::SessionRevoked).await;
    is_served(&place.gateway, Http::Two, &two).await;
    let who = serde_json::json!({ "kind": "subject", "subject": two.subject, "issuer": ISSUER });
    place.gateway.revoke(&who);
    is_over_for(&place.gateway, &two, Reason::SubjectRevoked).await;
}

#[tokio::test]
async fn a_rotated_id_is_refused_on_all_replicas_at_once() {
    let place = Place::start().await;
    let other = place.replica().await;
    let issuer = &place.gateway.issuer;
    let old = place.sign_in().await;
    for gateway in [&place.gateway, &other] {
        is_served(gateway, Http::Two, &old).await;
    }
    // The same session of the identity server, as after a second factor.
    let claims = issuer
        .claims()
        .with("sub", old.subject.as_str())
        .session(&old.session);
    let new = place.desk.sign_in_with(issuer, &claims, Some(&old)).await;
    assert_eq!(new.session, old.session);
    for gateway in [&place.gateway, &other] {
        eventually_over(gateway, &old).await;
        is_replaced_for(gateway, &old).await;
        is_served(gateway, Http::Two, &new).await;
    }
    let nobody = OwnSession::default();
    let list = place.desk.sessions.list(ISSUER, &new.subject, &nobody);
    assert_eq!(list.await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_to_a_replaced_cookie_never_clears_the_new_one() {
    let place = Place::start().await;
    let other = place.replica().await;
    let issuer = &place.gateway.issuer;
    let claims = issuer.claims();
    // A session that is signed out, and whose browser signs in again with its cookie: the answers
    // to its polls may come after the new cookie.
    let old = place.desk.sign_in_with(issuer, &claims, None).await;
    for gateway in [&place.gateway, &other] {
        is_served(gateway, Http::Two, &old).await;
    }
    let which = SessionSelection::Own(own(&place.desk, &old));
    let ended = place.desk.sessions.end(ISSUER, &old.subject, which).await;
    ended.unwrap();
    for gateway in [&place.gateway, &other] {
        eventually_over(gateway, &old).await;
        is_over_for(gateway, &old, Reason::SessionRevoked).await;
    }
    let anew = claims.session(&uuid::Uuid::now_v7().to_string());
    let new = place.desk.sign_in_with(issuer, &anew, Some(&old)).await;
    for gateway in [&place.gateway, &other] {
        eventually_leaves_cookie(gateway, &old).await;
        is_replaced_for(gateway, &old).await;
        is_served(gateway, Http::Two, &new).await;
        // Also where no user is required.
        for http in Http::BOTH {
            let optional = gateway.get(http, "/optional").cookie_of(&old).send().await;
            optional.is_denied(Reason::SessionUnknown);
            assert!(!optional.headers.contains_key("set-cookie"));
            gateway.origin.saw_nothing();
        }
    }
    // A replica that never saw either knows it from the list.
    is_replaced_for(&place.replica().await, &old).await;
}

#[tokio::test]
async fn an_answer_to_a_replaced_idle_cookie_does_not_clear_the_new_one() {
    let place = Place::with("{ idle: 3s }", |_| {}).await;
    let issuer = &place.gateway.issuer;
    let claims = issuer.claims();
    let old = place.desk.sign_in_with(issuer, &claims, None).await;
    is_served(&place.gateway, Http::Two, &old).await;
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let answer = place.gateway.get(Http::Two, "/page").cookie_of(&old).send();
    is_over(&place.gateway, &answer.await, Reason::SessionExpired);
    place.desk.sign_in_with(issuer, &claims, Some(&old)).await;
    eventually_leaves_cookie(&place.gateway, &old).await;
    is_replaced_for(&place.gateway, &old).await;
}

/// Waits until a replica knows that another cookie replaced this one.
async fn eventually_leaves_cookie(gateway: &Gateway, somebody: &SignedIn) {
    let started = Instant::now();
    let mut client = gateway.connect(Http::Two).await;
    loop {
        let answer = client.get("/page").cookie_of(somebody).send().await;
        assert_eq!(answer.status, 401);
        if !answer.headers.contains_key("set-cookie") {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "it is not told"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_oldest_session_of_a_user_ends_when_there_are_too_many() {
    let place = Place::with("{ max_per_user: 3 }", |_| {}).await;
    let issuer = &place.gateway.issuer;
    let claims = issuer.claims();
    let mut everybody = Vec::new();
    for _ in 0..4 {
        everybody.push(another(&place, &claims).await);
        is_served(&place.gateway, Http::Two, everybody.last().unwrap()).await;
    }
    let somebody_else = place.sign_in().await;
    eventually_over(&place.gateway, &everybody[0]).await;
    is_over_for(&place.gateway, &everybody[0], Reason::SessionRevoked).await;
    for goes_on in everybody[1..].iter().chain([&somebody_else]) {
        is_served(&place.gateway, Http::Two, goes_on).await;
    }
    // A bearer session counts, too, and is the next to go.
    let bearer = SignedInUser {
        issuer: ISSUER.to_owned(),
        subject: everybody[0].subject.clone(),
        session: Some("bearers-own".to_owned()),
        tokens: InnerTokens {
            access: Secret::new("x"),
            refresh: Secret::new("y"),
        },
        asked_at: foregate::clock::unix_millis(),
    };
    let begun = place
        .desk
        .sessions
        .begin(bearer, Carrier::Bearer, seen(), None);
    let begun = begun.await.unwrap();
    assert!(begun.set_cookie.is_none() && begun.csrf.is_none());
    eventually_over(&place.gateway, &everybody[1]).await;
    for _ in 0..3 {
        another(&place, &claims).await;
    }
    let token = issuer.sign(&claims.clone().session("bearers-own"));
    let ask = || place.gateway.get(Http::Two, "/token").bearer(&token).send();
    // The gateway learns of it from the store.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while ask().await.status == 200 {
        assert!(std::time::Instant::now() < deadline, "it goes on");
    }
    place.gateway.origin.take();
    ask().await.is_denied(Reason::SessionRevoked);
    place.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn idle_sessions_make_room_before_one_in_use() {
    let place = Place::with("{ max_per_user: 2, idle: 3s }", |_| {}).await;
    let issuer = &place.gateway.issuer;
    let claims = issuer.claims();
    let used = another(&place, &claims).await;
    another(&place, &claims).await;
    // The younger of the two goes idle, and its record is removed as the store would.
    let until = Instant::now() + Duration::from_millis(3100);
    while Instant::now() < until {
        is_served(&place.gateway, Http::Two, &used).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let nobody = OwnSession::default();
    let list = || place.desk.sessions.list(ISSUER, &used.subject, &nobody);
    assert_eq!(list().await.unwrap().len(), 2);
    for key in place.redis.say("KEYS foregate:session:*").list() {
        let left = place.redis.call(&[b"PTTL", key.bytes()]).text();
        // The one that was idle for longest has the least time left.
        if left.parse::<i64>().unwrap() < 60_000 {
            place.redis.call(&[b"DEL", key.bytes()]);
        }
    }
    assert_eq!(list().await.unwrap().len(), 1);
    let third = another(&place, &claims).await;
    for somebody in [&used, &third] {
        is_served(&place.gateway, Http::Two, somebody).await;
    }
}

#[tokio::test]
async fn an_idle_session_ends_and_one_used_on_any_replica_does_not() {
    let place = Place::with("{ idle: 4s }", |_| {}).await;
    let other = place.replica().await;
    let (busy, quiet) = (place.sign_in().await, place.sign_in().await);
    for somebody in [&busy, &quiet] {
        is_served(&place.gateway, Http::Two, somebody).await;
    }
    // Only one replica gets the requests.
    let until = Instant::now() + Duration::from_millis(4500);
    while Instant::now() < until {
        is_served(&other, Http::Two, &busy).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The other replica must not trust its cached copy, which looks idle.
    is_served(&place.gateway, Http::One, &busy).await;
    let there = other.get(Http::Two, "/page").cookie_of(&quiet);
    is_over(&other, &there.send().await, Reason::SessionExpired);
    let first = place.gateway.get(Http::One, "/page").cookie_of(&quiet);
    is_over(&place.gateway, &first.send().await, Reason::SessionExpired);
    let ended = |why| {
        let labels = [("carrier", "cookie"), ("why", why)];
        place
            .gateway
            .metrics()
            .sum("foregate_sessions_ended_total", &labels)
    };
    assert_eq!((ended("idle"), ended("lifetime")), (1.0, 0.0));
}

#[tokio::test]
async fn a_session_ends_at_its_maximum_lifetime_even_if_used() {
    let place = Place::with("{ idle: 3s, lifetime: 4s }", |_| {}).await;
    let started = Instant::now();
    let somebody = place.sign_in().await;
    assert!(somebody.set_cookie.contains("Max-Age=4;"));
    let mut client = place.gateway.connect(Http::Two).await;
    loop {
        let answer = client.get("/page").cookie_of(&somebody).send().await;
        place.gateway.origin.take();
        if answer.status == 401 {
            is_over(&place.gateway, &answer, Reason::SessionExpired);
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(4));
    is_over_for(&place.gateway, &somebody, Reason::SessionUnknown).await;
}

#[tokio::test]
async fn the_use_of_a_session_is_stored_once_a_minute_at_most() {
    let place = Place::start().await;
    let other = place.replica().await;
    let somebody = place.sign_in().await;
    let writes = |gateway: &Gateway| {
        let metrics = gateway.metrics();
        let swaps = [("command", "swap")];
        metrics.sum("foregate_store_command_seconds_count", &swaps)
    };
    for gateway in [&place.gateway, &other] {
        let mut client = gateway.connect(Http::Two).await;
        for _ in 0..200 {
            client
                .get("/page")
                .cookie_of(&somebody)
                .send()
                .await
                .is_ok();
        }
        gateway.origin.take();
        assert_eq!(writes(gateway), 0.0, "it began a moment ago");
    }
    // A shorter idle time is divided into four updates.
    let place = Place::with("{ idle: 4s }", |_| {}).await;
    let somebody = place.sign_in().await;
    let mut client = place.gateway.connect(Http::Two).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(2500) {
        client
            .get("/page")
            .cookie_of(&somebody)
            .send()
            .await
            .is_ok();
        place.gateway.origin.take();
    }
    let stored = || {
        let metrics = place.gateway.metrics();
        metrics.sum("foregate_session_touches_total", &[("result", "stored")])
    };
    let count = stored();
    assert!((1.0..=2.0).contains(&count), "{count}");
}

#[tokio::test]
async fn a_user_lists_their_sessions_and_ends_one_the_others_or_all() {
    let place = Place::start().await;
    let issuer = &place.gateway.issuer;
    let claims = issuer.claims();
    let mut everybody = Vec::new();
    for _ in 0..4 {
        everybody.push(another(&place, &claims).await);
    }
    let stranger = place.sign_in().await;
    let me = own(&place.desk, &everybody[3]);
    let subject = everybody[0].subject.clone();
    let list = || place.desk.sessions.list(ISSUER, &subject, &me);
    let shown = list().await.unwrap();
    assert_eq!(shown.len(), 4);
    assert!(shown[0].current && !shown[1].current);
    let json = serde_json::to_value(&shown[0]).unwrap();
    assert_eq!(json["agent"], "Firefox");
    assert_eq!(json["network"], "203.0.113.0/24");
    assert_eq!(json["carrier"], "cookie");
    let text = json.to_string();
    for secret in [&everybody[3].cookie, &everybody[3].csrf, &subject] {
        assert!(!text.contains(secret.as_str()));
    }
    // The oldest, by what the list says of it.
    let end = |which: SessionSelection| place.desk.sessions.end(ISSUER, &subject, which);
    let oldest = name_of_id(&shown[3].id).unwrap();
    assert_eq!(
        end(SessionSelection::One(oldest)).await.unwrap().sessions,
        1
    );
    assert_eq!(
        end(SessionSelection::One(oldest)).await.unwrap().sessions,
        0
    );
    eventually_over(&place.gateway, &everybody[0]).await;
    // Not another user's.
    let theirs = place.desk.read(&stranger.cookie).name();
    assert_eq!(
        end(SessionSelection::One(theirs)).await.unwrap().sessions,
        0
    );
    is_served(&place.gateway, Http::Two, &stranger).await;
    assert_eq!(
        end(SessionSelection::Others(me.clone()))
            .await
            .unwrap()
            .sessions,
        2
    );
    for gone in &everybody[1..3] {
        eventually_over(&place.gateway, gone).await;
    }
    is_served(&place.gateway, Http::Two, &everybody[3]).await;
    assert_eq!(list().await.unwrap().len(), 1);
    assert_eq!(
        end(SessionSelection::All(OwnSession::default()))
            .await
            .unwrap()
            .sessions,
        1
    );
    eventually_over(&place.gateway, &everybody[3]).await;
    // A sign-in right afterwards succeeds.
    let claims = Claims::new(ISSUER, &subject, now());
    let again = another(&place, &claims).await;
    is_served(&place.gateway, Http::Two, &again).await;
    is_served(&place.gateway, Http::Two, &stranger).await;
}

#[tokio::test]
async fn a_pass_through_logout_with_a_token_without_a_session_ends_the_cookie_that_leads_to_it() {
    let double = AuthServer::start();
    let identity = format!(
        "{{ supabase: {{ url: \"{}\", issuer: \"{ISSUER}\", publishable_keys: [{PUBLISHABLE}] }} }}",
        double.url()
    );
    let place = Place::with("{}", |config| {
        config.set("identity", &identity).more_routes(
            "  - { path: \"/auth/v1/{*rest}\", access: optional, credentials: [cookie, bearer], serve: identity_server, errors: gotrue }\n",
        );
    })
    .await;
    let desk = &place.desk;
    for http in Http::BOTH {
        let claims = place.gateway.issuer.claims().without("session_id");
        let access = place.gateway.issuer.sign(&claims);
        let subject = claims.as_object()["sub"].as_str().unwrap();
        let granted = SignedInUser {
            issuer: ISSUER.to_owned(),
            subject: subject.to_owned(),
            session: None,
            tokens: InnerTokens {
                access: Secret::new(access.as_str()),
                refresh: Secret::new("r"),
            },
            asked_at: foregate::clock::unix_millis(),
        };
        let begun = desk
            .sessions
            .begin(granted, Carrier::Cookie, seen(), None)
            .await
            .unwrap();
        let set_cookie = begun.set_cookie.unwrap();
        let cookie = set_cookie.to_str().unwrap().split(';').next().unwrap();
        let page = || {
            let call = place.gateway.get(http, "/page");
            call.header("cookie", cookie).send()
        };
        page().await.is_ok();
        place.gateway.origin.take();
        let out = place
            .gateway
            .post(http, "/auth/v1/logout?scope=local")
            .header("apikey", PUBLISHABLE)
            .header("cookie", cookie)
            .header("origin", format!("https://{}", crate::support::pki::NAME))
            .header("x-csrf-token", begun.csrf.unwrap());
        let out = out.send().await;
        assert!(out.status.as_u16() < 500, "{}", out.text());
        page().await.is_denied(Reason::SessionUnknown);
        let bearer = place.gateway.get(http, "/token").bearer(&access);
        bearer.send().await.is_denied(Reason::TokenRevoked);
        place.gateway.origin.saw_nothing();
        let list = desk
            .sessions
            .list(ISSUER, subject, &OwnSession::default())
            .await;
        assert!(list.unwrap().is_empty());
    }
}
