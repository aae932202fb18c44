//! Sessions that begin elsewhere, by a link or a redirect: they are listed, counted and ended like
//! all others, from the first request that proves them.

use foregate::denial::Reason;

use super::*;
use crate::support::tokens::now;
use crate::support::{RedisServer, in_time};

const ROUTES: &str = r#"
  - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
  - { path: /mine, access: user, credentials: [bearer, cookie] }
"#;

async fn desk(sessions: &str) -> Desk {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.more_routes(ROUTES).set("sessions", sessions);
    })
    .await;
    desk.is_ready().await;
    desk
}

impl Desk {
    /// The user's sessions, as soon as there are so many.
    async fn sessions(&self, token: &str, expected: usize) -> Vec<Value> {
        let listed = async {
            loop {
                let list = self.get(Http::Two, "sessions", token).send().await;
                let list = list.is_ok().json()["sessions"].as_array().unwrap().clone();
                if list.len() == expected {
                    return list;
                }
                tokio::task::yield_now().await;
            }
        };
        in_time("the list", listed).await
    }

    async fn mine(&self, http: Http, token: &str) -> Answer {
        self.gateway.get(http, "/mine").bearer(token).send().await
    }

    async fn ends(&self, id: &str, token: &str) {
        let path = format!("/api/v1/auth/sessions/{id}");
        let call = self.gateway.call(Http::Two, "DELETE", &path);
        call.bearer(token).send().await.is_ok();
    }
}

#[tokio::test]
async fn a_session_from_a_redirect_is_listed_from_its_first_request_and_can_be_ended() {
    let desk = desk("{}").await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let before = now() * 1000;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        // As the page has them from the fragment of a redirect.
        let (linked, renewal) = desk.double.sign_in(&id);
        desk.mine(http, &linked).await.is_ok();
        let own = text(&desk.signed_in(http, EMAIL).await, "access_token").to_owned();
        // The sessions of the round before, and these two.
        let list = desk.sessions(&own, number + 2).await;
        let other = list
            .iter()
            .find(|one| one["current"] == false && one["carrier"] == "bearer");
        let newest = list
            .iter()
            .filter(|one| one["current"] == false)
            .max_by_key(|one| one["created"].as_i64())
            .unwrap();
        assert!(other.is_some());
        assert!(newest["created"].as_i64().unwrap() >= before - 1000);
        // Its new tokens are of the same session, and nothing is added for them.
        let next = desk.post(http, "refresh", &json!({ "refresh_token": renewal }));
        let next = text(&next.send().await.is_ok().json(), "access_token").to_owned();
        desk.mine(http, &next).await.is_ok();
        desk.sessions(&own, number + 2).await;
        let linked_id = desk
            .sessions(&linked, number + 2)
            .await
            .iter()
            .find(|one| one["current"] == true)
            .map(|one| text(one, "id").to_owned())
            .unwrap();
        desk.ends(&linked_id, &own).await;
        for token in [&linked, &next] {
            desk.mine(http, token)
                .await
                .is_denied(Reason::SessionRevoked);
        }
        desk.mine(http, &own).await.is_ok();
        desk.sessions(&own, number + 1).await;
    }
}

#[tokio::test]
async fn sessions_from_elsewhere_count_and_the_oldest_ends() {
    let desk = desk("{ max_per_user: 2 }").await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let mut tokens = Vec::new();
    for number in 0..3 {
        let (token, _) = desk.double.sign_in(&id);
        desk.mine(Http::Two, &token).await.is_ok();
        tokens.push(token);
        let newest = tokens.last().unwrap();
        desk.sessions(newest, (number + 1).min(2)).await;
    }
    let mut live = 0;
    for token in &tokens {
        let answer = desk.mine(Http::One, token).await;
        match answer.status.as_u16() {
            200 => live += 1,
            _ => drop(answer.is_denied(Reason::SessionRevoked)),
        }
    }
    assert_eq!(live, 2);
}

#[tokio::test]
async fn the_session_behind_a_cookie_is_listed_once_and_its_end_reaches_the_identity_server() {
    let desk = desk("{}").await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let call = desk.post(http, "login", &login(EMAIL, PASSWORD));
        let answer = call.header("x-use-cookie", "session").send().await;
        let cookie = answer
            .is_ok()
            .header("set-cookie")
            .split(';')
            .next()
            .unwrap();
        let page = desk.gateway.get(http, "/mine").header("cookie", cookie);
        page.send().await.is_ok();
        let token = text(&desk.signed_in(http, EMAIL).await, "access_token").to_owned();
        let list = desk.sessions(&token, 2).await;
        let cookies: Vec<&Value> = list
            .iter()
            .filter(|one| one["carrier"] == "cookie")
            .collect();
        assert_eq!(cookies.len(), 1, "{list:?}");
        assert_eq!(desk.double.sessions_of(&id), 2);
        desk.ends(text(cookies[0], "id"), &token).await;
        eventually("it ends there, too", || desk.double.sessions_of(&id) == 1).await;
        let page = desk.gateway.get(http, "/mine").header("cookie", cookie);
        assert_eq!(page.send().await.status, 401);
        let out = desk
            .post(http, "logout", &json!({}))
            .bearer(&token)
            .send()
            .await;
        out.is_ok();
        eventually("no session is left", || desk.double.sessions_of(&id) == 0).await;
    }
}

#[tokio::test]
async fn signing_out_everywhere_right_after_a_redirect_ends_that_session_on_every_replica() {
    let redis = RedisServer::start();
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.more_routes(ROUTES).store(&redis.url());
    })
    .await;
    desk.is_ready().await;
    let (tokens, identity) = (desk.double.tokens(), identity(&desk.double, "", UNLIMITED));
    let other = desk
        .gateway
        .replica(|config| {
            config
                .store(&redis.url())
                .set("tokens", &tokens)
                .set("identity", &identity)
                .more_routes(ROUTES);
        })
        .await;
    is_ready(&other).await;
    for (number, door) in [
        "/auth/v1/logout?scope=global",
        "/api/v1/auth/logout?scope=global",
    ]
    .into_iter()
    .enumerate()
    {
        for http in Http::BOTH {
            // Whoever signs in right after signing out everywhere cannot be told from before.
            let id = desk
                .double
                .add_user(&format!("{number}{http:?}@example.test"), PASSWORD);
            let (token, renewal) = desk.double.sign_in(&id);
            let (elsewhere, _) = desk.double.sign_in(&id);
            for token in [&token, &elsewhere] {
                other.get(http, "/mine").bearer(token).send().await.is_ok();
            }
            let out = desk
                .gateway
                .post(http, door)
                .header("apikey", crate::support::auth_server::PUBLISHABLE)
                .bearer(&token)
                .send()
                .await;
            assert!(out.status.is_success(), "{}", out.text());
            let is_over = async |token: &str| {
                assert_eq!(desk.mine(http, token).await.status, 401);
                let there = async {
                    while other.get(http, "/mine").bearer(token).send().await.status != 401 {
                        tokio::task::yield_now().await;
                    }
                };
                in_time("the other replica", there).await;
            };
            is_over(&token).await;
            is_over(&elsewhere).await;
            let again = desk.post(http, "refresh", &json!({ "refresh_token": renewal }));
            again.send().await.is_denied(Reason::RefreshTokenInvalid);
        }
    }
}

#[tokio::test]
async fn signing_out_twice_is_signing_out() {
    let desk = desk("{}").await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let token = text(&desk.signed_in(http, EMAIL).await, "access_token").to_owned();
        let out = |query: &str| {
            let route = format!("logout{query}");
            desk.post(http, &route, &json!({})).bearer(&token).send()
        };
        let first = out("").await;
        for query in ["", "?scope=local"] {
            let again = out(query).await;
            is_own(again.is_ok());
            assert_eq!(again.body, first.body);
        }
        // Nobody may believe that other sessions ended.
        for query in ["?scope=global", "?scope=others"] {
            out(query).await.is_denied(Reason::SessionRevoked);
        }
        out("?scope=everything")
            .await
            .is_denied(Reason::InputInvalid);
        // Nothing else passes.
        desk.get(http, "me", &token)
            .send()
            .await
            .is_denied(Reason::SessionRevoked);
        let nobody = desk.post(http, "logout", &json!({})).send().await;
        nobody.is_denied(Reason::TokenMissing);
        let forged = format!("{}x", &token[..token.len() - 1]);
        let forged = desk
            .post(http, "logout", &json!({}))
            .bearer(&forged)
            .send()
            .await;
        assert_eq!(forged.status, 401);

        let call = desk.post(http, "login", &login(EMAIL, PASSWORD));
        let answer = call.header("x-use-cookie", "session").send().await;
        let cookie = answer
            .is_ok()
            .header("set-cookie")
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        let csrf = answer.json()["csrf_token"].as_str().unwrap().to_owned();
        for _ in 0..2 {
            let out = desk
                .gateway
                .post(http, "/api/v1/auth/logout")
                .header("cookie", &cookie)
                .header("origin", format!("https://{}", crate::support::pki::NAME))
                .header("x-csrf-token", &csrf)
                .send()
                .await;
            out.is_ok();
            assert!(out.header("set-cookie").contains("Max-Age=0"));
        }
        let forged = desk.gateway.post(http, "/api/v1/auth/logout");
        let forged = forged
            .header("cookie", &cookie)
            .header("origin", "https://evil.test");
        forged.send().await.is_denied(Reason::CsrfOrigin);
    }
}
