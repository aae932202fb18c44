//! The tokens behind a cookie: renewed before they expire, once for all requests; and an
//! unreachable identity server ends no session.

use std::time::Duration;

use foregate::denial::Reason;
use serde_json::json;

use super::{Place, eventually_over, is_over, is_over_for, is_served};
use crate::support::auth_server::{Behave, Options};
use crate::support::tokens::now;
use crate::support::{AuthServer, Config, Desk, Gateway, Http, RedisServer, SignedIn, eventually};

pub const REFRESH: &str = "refresh_token";

/// Gateways in front of an identity server.
pub struct Renewing {
    pub auth: AuthServer,
    pub place: Place,
    pub other: Gateway,
    /// The user's id.
    pub user: String,
}

impl Renewing {
    /// Starts gateways with access tokens of this lifetime in seconds, which are renewed at half of
    /// it.
    async fn start(lifetime: i64) -> Self {
        let options = Options {
            lifetime,
            ..Options::default()
        };
        Self::with(options, RedisServer::start()).await
    }

    /// Starts gateways with an identity server of this kind.
    pub async fn with(options: Options, redis: RedisServer) -> Self {
        let auth = AuthServer::with(options);
        let user = auth.add_user("ada@example.test", "correct horse");
        let (identity, tokens) = (auth.identity(""), auth.tokens());
        let tokens = tokens.replace("algorithms:", "leeway: 0s, algorithms:");
        let set = move |config: &mut Config| {
            config.set("identity", &identity).set("tokens", &tokens);
        };
        let settle = |config: &mut Config| {
            super::settle(config, &redis, "{}");
            set(config);
        };
        let gateway = Gateway::with(&settle).await;
        let other = gateway.replica(&settle).await;
        for gateway in [&gateway, &other] {
            super::is_ready(gateway).await;
        }
        let desk = Desk::at(&redis).await;
        let place = Place {
            redis,
            gateway,
            desk,
        };
        Self {
            auth,
            place,
            other,
            user,
        }
    }

    pub async fn sign_in(&self) -> SignedIn {
        let tokens = self.auth.sign_in(&self.user);
        self.place.desk.sign_in_by(tokens).await
    }

    pub fn both(&self) -> [&Gateway; 2] {
        [&self.place.gateway, &self.other]
    }

    /// Waits until the access token has expired.
    async fn expired(&self, somebody: &SignedIn) {
        let expires = AuthServer::claims(&somebody.access)["exp"]
            .as_i64()
            .unwrap();
        while now() < expires {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The access token that the origin saw.
pub fn forwarded(gateway: &Gateway) -> String {
    let seen = gateway.origin.only();
    let field = seen.header("authorization").unwrap().to_owned();
    field.strip_prefix("Bearer ").unwrap().to_owned()
}

#[tokio::test]
async fn tokens_are_renewed_once_in_the_background_before_they_expire() {
    // Renewed after half of its lifetime, which leaves time until the next renewal.
    let renewing = Renewing::start(14).await;
    let somebody = renewing.sign_in().await;
    let mut newest = [somebody.access.clone(), somebody.access.clone()];
    // Two replicas, and no request fails.
    while newest.contains(&somebody.access) {
        for (gateway, newest) in renewing.both().into_iter().zip(&mut newest) {
            let answer = gateway.get(Http::Two, "/page").cookie_of(&somebody);
            answer.send().await.is_ok();
            *newest = forwarded(gateway);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let [newest, of_other] = newest;
    assert_eq!(newest, of_other);
    assert_eq!(AuthServer::session_of(&newest), somebody.session);
    assert_eq!(renewing.auth.calls(REFRESH), 1);
    let counted = |result| -> f64 {
        let of = |gateway: &Gateway| {
            let labels = [("result", result)];
            gateway
                .metrics()
                .sum("foregate_session_renewals_total", &labels)
        };
        renewing.both().into_iter().map(of).sum()
    };
    assert!(counted("granted") >= 1.0);
    assert_eq!((counted("unavailable"), counted("refused")), (0.0, 0.0));
    // Neither token is readable anywhere.
    let text = renewing.place.gateway.log().text() + &renewing.other.log().text();
    for secret in [&newest, &somebody.access, &somebody.refresh] {
        assert!(!text.contains(secret.as_str()));
    }
}

#[tokio::test]
async fn requests_with_an_expired_token_wait_for_one_renewal() {
    let renewing = Renewing::start(3).await;
    let somebody = renewing.sign_in().await;
    renewing.expired(&somebody).await;
    renewing
        .auth
        .behave(REFRESH, Behave::Slow(Duration::from_millis(200)));
    let mut asked = Vec::new();
    for number in 0..50 {
        let gateway = renewing.both()[number % 2];
        let http = Http::BOTH[number / 2 % 2];
        let connector = gateway.connector(http, crate::support::Door::Tls);
        let somebody = somebody.clone();
        asked.push(tokio::spawn(async move {
            let call = connector.call("GET", "/page").cookie_of(&somebody);
            call.send().await.status
        }));
    }
    for asked in asked {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(renewing.auth.calls(REFRESH), 1);
    for gateway in renewing.both() {
        gateway.origin.take();
    }
}

#[tokio::test]
async fn an_unreachable_identity_server_signs_no_one_out() {
    let renewing = Renewing::start(6).await;
    let somebody = renewing.sign_in().await;
    // Before its tokens are half as old as they may be, and are renewed in the background.
    renewing.auth.behave(REFRESH, Behave::Fail(503));
    is_served(&renewing.place.gateway, Http::Two, &somebody).await;
    renewing.expired(&somebody).await;
    for http in Http::BOTH {
        for gateway in renewing.both() {
            let answer = gateway.get(http, "/page").cookie_of(&somebody).send().await;
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(!answer.header("retry-after").is_empty());
            assert!(!answer.headers.contains_key("set-cookie"), "it stays");
            gateway.origin.saw_nothing();
        }
    }
    renewing.auth.behave(REFRESH, Behave::Well);
    for gateway in renewing.both() {
        let mut client = gateway.connect(Http::Two).await;
        let mut answer = client.get("/page").cookie_of(&somebody).send().await;
        while answer.status == 503 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = client.get("/page").cookie_of(&somebody).send().await;
        }
        answer.is_ok();
        assert_ne!(forwarded(gateway), somebody.access);
    }
}

#[tokio::test]
async fn a_session_refused_by_the_identity_server_ends_everywhere() {
    let renewing = Renewing::start(6).await;
    let (somebody, brother) = (renewing.sign_in().await, renewing.sign_in().await);
    for gateway in renewing.both() {
        is_served(gateway, Http::Two, &somebody).await;
    }
    renewing.auth.ban(&renewing.user);
    renewing.expired(&brother).await;
    eventually_over(&renewing.other, &somebody).await;
    let answer = renewing.other.get(Http::One, "/page").cookie_of(&somebody);
    is_over(
        &renewing.other,
        &answer.send().await,
        Reason::SessionUnknown,
    );
    // The other replica learns of it, and makes no call.
    let calls = renewing.auth.calls(REFRESH);
    eventually("it is listed", || {
        renewing
            .place
            .gateway
            .metrics()
            .sum("foregate_revocations", &[])
            >= 1.0
    })
    .await;
    is_over_for(&renewing.place.gateway, &somebody, Reason::SessionRevoked).await;
    assert_eq!(renewing.auth.calls(REFRESH), calls);
    let list = renewing
        .place
        .desk
        .sessions
        .list(
            renewing.auth.issuer(),
            &renewing.user,
            &foregate::sessions::sign_in::OwnSession::default(),
        )
        .await
        .unwrap();
    assert_eq!(list.len(), 1, "the brother's is left");
}

#[tokio::test]
async fn a_revoked_session_gets_no_new_tokens_and_a_revoked_token_is_replaced() {
    let renewing = Renewing::start(6).await;
    let (ended, replaced) = (renewing.sign_in().await, renewing.sign_in().await);
    let gateway = &renewing.place.gateway;
    for somebody in [&ended, &replaced] {
        is_served(gateway, Http::Two, somebody).await;
    }
    // A token alone: its session continues with another.
    tokio::time::sleep(Duration::from_millis(1001)).await;
    gateway.revoke(&json!({ "kind": "token", "token": replaced.access }));
    let answer = gateway.get(Http::Two, "/page").cookie_of(&replaced);
    answer.send().await.is_ok();
    assert_ne!(forwarded(gateway), replaced.access);
    let calls = renewing.auth.calls(REFRESH);
    // A session whose token has expired, too.
    let issuer = renewing.auth.issuer();
    gateway.revoke(&json!({ "kind": "session", "session": ended.session, "issuer": issuer }));
    renewing.expired(&ended).await;
    is_over_for(gateway, &ended, Reason::SessionRevoked).await;
    assert_eq!(renewing.auth.calls(REFRESH), calls);
    assert!(renewing.auth.session_lives(&ended.session));
}

#[tokio::test]
async fn a_cookie_works_within_seconds_of_the_return_of_the_server_behind_its_edge() {
    const NO_ANSWER: &str =
        r#"{"message":"An invalid response was received from the upstream server"}"#;
    let renewing = Renewing::start(2).await;
    let somebody = renewing.sign_in().await;
    renewing.auth.behave_always(Behave::Edge(502, NO_ANSWER));
    renewing.expired(&somebody).await;
    for (number, http) in [Http::One, Http::Two, Http::One, Http::Two]
        .into_iter()
        .enumerate()
    {
        let gateway = renewing.both()[number / 2];
        let answer = gateway.get(http, "/page").cookie_of(&somebody).send().await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(!answer.headers.contains_key("set-cookie"), "it stays");
    }
    renewing.auth.behave_always(Behave::Well);
    let back = std::time::Instant::now();
    for gateway in renewing.both() {
        let served = async {
            loop {
                let page = gateway.get(Http::Two, "/page").cookie_of(&somebody);
                match page.send().await.status.as_u16() {
                    200 => return,
                    503 => tokio::time::sleep(Duration::from_millis(50)).await,
                    status => panic!("{status}"),
                }
            }
        };
        crate::support::in_time("the page", served).await;
    }
    // Before it was half a minute.
    let took = back.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}
