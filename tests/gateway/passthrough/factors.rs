//! What the identity server does to sessions, the gateway does, too, on every replica: a second
//! factor, its removal, a new password, an app that loses its access, and the end of a session that
//! only a refresh finds out.

use std::time::Duration;

use super::*;
use crate::support::{Gateway, RedisServer};

/// With a page for users, and one for users with a second factor.
const ROUTES: &str = r#"
    - path: "/auth/v1/{*rest}"
      access: optional
      credentials: [bearer, cookie]
      serve: identity_server
      errors: gotrue
      clients: [018f5b5e-0000-7000-8000-00000000000a, 018f5b5e-0000-7000-8000-00000000000b]
    - path: /me
      access: user
      credentials: [bearer, cookie]
      clients: [018f5b5e-0000-7000-8000-00000000000a, 018f5b5e-0000-7000-8000-00000000000b]
    - { path: /second, access: user, credentials: [bearer, cookie], aal: aal2 }
"#;

const APP: &str = "https://app.test";

/// Two replicas.
struct Place {
    desk: Desk,
    other: Gateway,
    _redis: RedisServer,
}

impl Place {
    async fn open(options: Options) -> Self {
        let redis = RedisServer::start();
        let url = redis.url();
        let cors = format!("{{ origins: [\"{APP}\"], credentials: true }}");
        let desk = Desk::with(options, "", UNLIMITED, |config| {
            config.routes(ROUTES).store(&url).set("cors", &cors);
        })
        .await;
        let (tokens, identity) = (
            desk.gateway.config_value("tokens"),
            desk.gateway.config_value("identity"),
        );
        let other = desk
            .gateway
            .replica(|config| {
                config.set("tokens", &tokens).set("identity", &identity);
                config.routes(ROUTES).store(&url).set("cors", &cors);
            })
            .await;
        desk.is_ready().await;
        crate::sign_in::is_ready(&other).await;
        Self {
            desk,
            other,
            _redis: redis,
        }
    }

    async fn status(&self, http: Http, path: &str, token: &str) -> u16 {
        let answer = self.desk.gateway.get(http, path).bearer(token).send().await;
        answer.status.as_u16()
    }

    /// Waits until the other replica refuses a token at this path.
    async fn is_refused_elsewhere(&self, path: &str, token: &str) {
        let refused = async {
            while self
                .other
                .get(Http::Two, path)
                .bearer(token)
                .send()
                .await
                .status
                != 401
            {}
        };
        crate::support::in_time("the other replica refuses it", refused).await;
    }

    fn user_post<'a>(&'a self, http: Http, path: &str, token: &str, body: &Value) -> Call<'a> {
        post(&self.desk, http, path, body).bearer(token)
    }

    /// Asks for a challenge, as supabase-js does: with the id of the factor in the body, too.
    async fn challenge(&self, http: Http, factor: &str, token: &str) -> String {
        let body = json!({ "factorId": factor });
        let path = format!("factors/{factor}/challenge");
        let answer = self.user_post(http, &path, token, &body).send().await;
        text(answer.is_ok(), "id")
    }

    async fn prove(&self, http: Http, factor: &str, token: &str, code: &str) -> Answer {
        let challenge = self.challenge(http, factor, token).await;
        let body = json!({ "challenge_id": challenge, "code": code });
        let path = format!("factors/{factor}/verify");
        self.user_post(http, &path, token, &body).send().await
    }
}

#[tokio::test]
async fn proving_a_factor_ends_the_users_other_sessions_below_its_level() {
    let place = Place::open(Options::default()).await;
    let (desk, double) = (&place.desk, &place.desk.double);
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        let id = double.add_user(&email, PASSWORD);
        let factor = double.add_factor(&id);
        let own = signed_in(desk, http, &email).await;
        let (lower, lower_refresh) = double.sign_in(&id);
        let (equal, _) = double.sign_in_with(&id, &factor);
        let stranger = double.add_user(&format!("x{email}"), PASSWORD);
        let (stranger, _) = double.sign_in(&stranger);

        // A wrong code ends nothing.
        let wrong = place.prove(http, &factor, &own, "000000").await;
        says(&wrong, 422, "mfa_verification_failed");
        assert_eq!(place.status(http, "/me", &lower).await, 200);
        assert_eq!(place.status(http, "/second", &own).await, 403);

        let proven = place.prove(http, &factor, &own, "123456").await;
        let raised = text(proven.is_ok(), "access_token");
        assert_eq!(
            AuthServer::session_of(&raised),
            AuthServer::session_of(&own)
        );
        for (token, path, status) in [
            (&raised, "/second", 200),
            // The token before is of the same session.
            (&own, "/me", 200),
            (&own, "/second", 403),
            (&lower, "/me", 401),
            (&equal, "/second", 200),
            (&stranger, "/me", 200),
        ] {
            assert_eq!(place.status(http, path, token).await, status, "{path}");
        }
        place.is_refused_elsewhere("/me", &lower).await;
        let other = place
            .other
            .get(http, "/second")
            .bearer(&raised)
            .send()
            .await;
        other.is_ok();
        let again = refresh(desk, http, &lower_refresh).send().await;
        says(&again, 400, "session_not_found");
        // A sign-in after that is a session like any other.
        let later = signed_in(desk, http, &email).await;
        assert_eq!(place.status(http, "/me", &later).await, 200);
    }
}

#[tokio::test]
async fn a_proof_of_unknown_outcome_ends_what_it_may_have_ended_and_a_rejected_one_ends_all() {
    let place = Place::open(Options::default()).await;
    let double = &place.desk.double;
    let mut number = 0;
    for http in Http::BOTH {
        for (behaviour, own_goes_on) in [
            (Behave::LoseAnswer, true),
            (Behave::Fail(504), true),
            (Behave::Refuse(403, "mfa_verification_rejected"), false),
        ] {
            number += 1;
            let email = format!("{number}@example.test");
            let id = double.add_user(&email, PASSWORD);
            let factor = double.add_factor(&id);
            let ((own, _), (lower, _)) = (double.sign_in(&id), double.sign_in(&id));
            let challenge = place.challenge(http, &factor, &own).await;
            double.behave("factors-verify", behaviour);
            let body = json!({ "challenge_id": challenge, "code": "123456" });
            let path = format!("factors/{factor}/verify");
            let answer = place.user_post(http, &path, &own, &body).send().await;
            assert!(!answer.status.is_success());
            double.behave("factors-verify", Behave::Well);
            assert_eq!(place.status(http, "/me", &lower).await, 401);
            let own = place.status(http, "/me", &own).await;
            assert_eq!(own == 200, own_goes_on, "{own}");
        }
    }
}

#[tokio::test]
async fn removing_a_factor_takes_the_level_from_tokens_and_leaves_their_sessions() {
    let place = Place::open(Options::default()).await;
    let (desk, double) = (&place.desk, &place.desk.double);
    for http in Http::BOTH {
        let id = double.add_user(&format!("{http:?}@example.test"), PASSWORD);
        let (factor, unproven) = (double.add_factor(&id), double.add_unproven_factor(&id));
        let (own, own_refresh) = double.sign_in_with(&id, &factor);
        let (raised, raised_refresh) = double.sign_in_with(&id, &factor);
        let (plain, _) = double.sign_in(&id);
        let remove = |factor: &str, token: &str| {
            let call = ask(desk, http, "DELETE", &format!("factors/{factor}"));
            call.bearer(token).send()
        };
        // Without the level nobody removes it, and nothing ends.
        says(&remove(&factor, &plain).await, 422, "insufficient_aal");
        // A factor that was never proven has proven no session.
        remove(&unproven, &own).await.is_ok();
        assert_eq!(place.status(http, "/second", &raised).await, 200);

        remove(&factor, &own).await.is_ok();
        assert_eq!(place.status(http, "/second", &raised).await, 401);
        place.is_refused_elsewhere("/second", &raised).await;
        assert_eq!(place.status(http, "/me", &plain).await, 200);
        // The client that removed it goes on until it refreshes.
        assert_eq!(place.status(http, "/me", &own).await, 200);
        for token in [own_refresh, raised_refresh] {
            let refreshed = refresh(desk, http, &token).send().await;
            let token = text(refreshed.is_ok(), "access_token");
            assert_eq!(place.status(http, "/me", &token).await, 200);
            assert_eq!(place.status(http, "/second", &token).await, 403);
        }
    }
}

#[tokio::test]
async fn a_password_of_any_kind_ends_the_other_sessions() {
    let place = Place::open(Options::default()).await;
    let (desk, double) = (&place.desk, &place.desk.double);
    for (http, password, ends) in [
        (Http::One, json!("another horse"), true),
        (Http::Two, json!("another horse"), true),
        // In Go, `null` is no password, and an empty one is.
        (Http::One, json!(null), false),
        (Http::Two, json!(""), true),
    ] {
        let id = double.add_user(&format!("{http:?}{password}@x.test"), PASSWORD);
        let ((own, _), (other, _)) = (double.sign_in(&id), double.sign_in(&id));
        // The double has no setting that allows an empty one.
        if password == "" {
            let body = Behave::Fill(2);
            double.behave("change-user", body);
        }
        let body = json!({ "password": password, "data": {} });
        let call = ask(desk, http, "PUT", "user").bearer(&own);
        let call = call.header("content-type", "application/json");
        call.body(body.to_string()).send().await.is_ok();
        double.behave("change-user", Behave::Well);
        assert_eq!(place.status(http, "/me", &own).await, 200);
        let other = place.status(http, "/me", &other).await;
        assert_eq!(other == 401, ends, "{password}");
    }
}

#[tokio::test]
async fn an_app_that_loses_its_access_loses_it_here() {
    let place = Place::open(Options::default()).await;
    let (desk, double) = (&place.desk, &place.desk.double);
    let (app, another) = (
        "018f5b5e-0000-7000-8000-00000000000a",
        "018f5b5e-0000-7000-8000-00000000000b",
    );
    for http in Http::BOTH {
        let id = double.add_user(&format!("{http:?}@example.test"), PASSWORD);
        let (own, _) = double.sign_in(&id);
        let token = double.sign_in_app(&id, app);
        let other = double.sign_in_app(&id, another);
        let before = place.status(http, "/me", &other).await;
        let path = format!("user/oauth/grants?client_id={app}");
        let revoke = |path: &str| ask(desk, http, "DELETE", path).bearer(&own).send();
        let twice = revoke(&format!("{path}&client_id={another}")).await;
        denied(&twice, Reason::QueryRepeated);
        // The app itself reads who its user is, and does nothing else.
        let by_app = |path: &str| ask(desk, http, "GET", path).bearer(&token).send();
        denied(&by_app("user").await, Reason::ClientRefused);
        revoke(&path).await.is_ok();
        let answer = desk.gateway.get(http, "/me").bearer(&token).send().await;
        answer.is_denied(Reason::SubjectRevoked);
        assert_eq!(place.status(http, "/me", &other).await, before);
        assert_eq!(place.status(http, "/me", &own).await, 200);
    }
}

#[tokio::test]
async fn a_session_that_a_refresh_finds_ended_ends_here() {
    let options = Options {
        reuse_interval: Duration::ZERO,
        parent_is_good: false,
        ..Options::default()
    };
    let place = Place::open(options).await;
    let (desk, double) = (&place.desk, &place.desk.double);
    for http in Http::BOTH {
        let id = double.add_user(&format!("{http:?}@example.test"), PASSWORD);
        let ((token, used), (other, _)) = (double.sign_in(&id), double.sign_in(&id));
        double.refresh(&used);
        assert_eq!(place.status(http, "/me", &token).await, 200);
        let reused = refresh(desk, http, &used).send().await;
        says(&reused, 400, "refresh_token_already_used");
        assert_eq!(place.status(http, "/me", &token).await, 401);
        place.is_refused_elsewhere("/me", &token).await;
        assert_eq!(place.status(http, "/me", &other).await, 200);
    }
}

#[tokio::test]
async fn a_session_that_has_ended_is_no_longer_listed() {
    let place = Place::open(Options::default()).await;
    let (desk, double) = (&place.desk, &place.desk.double);
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        let id = double.add_user(&email, PASSWORD);
        let factor = double.add_factor(&id);
        let own = signed_in(desk, http, &email).await;
        let page = Page::sign_in(&place, http, &email).await;
        let carriers = async |token: &str| {
            let list = desk.get(http, "sessions", token).send().await;
            let list = list.is_ok().json();
            let all = list["sessions"].as_array().unwrap();
            let carriers = all
                .iter()
                .map(|one| one["carrier"].as_str().unwrap().to_owned());
            carriers.collect::<Vec<_>>()
        };
        assert_eq!(carriers(&own).await, ["cookie", "bearer"]);
        place.prove(http, &factor, &own, "123456").await.is_ok();
        assert_eq!(page.status("/me").await, 401);
        assert_eq!(carriers(&own).await, ["bearer"]);
    }
}

#[tokio::test]
async fn a_session_that_is_one_too_many_ends_at_its_refresh() {
    let options = Options {
        single_session: true,
        ..Options::default()
    };
    let place = Place::open(options).await;
    let (desk, double) = (&place.desk, &place.desk.double);
    for http in Http::BOTH {
        let id = double.add_user(&format!("{http:?}@example.test"), PASSWORD);
        let ((older, refresh_token), (newer, _)) = (double.sign_in(&id), double.sign_in(&id));
        let refused = refresh(desk, http, &refresh_token).send().await;
        says(&refused, 400, "session_expired");
        assert_eq!(place.status(http, "/me", &older).await, 401);
        place.is_refused_elsewhere("/me", &older).await;
        assert_eq!(place.status(http, "/me", &newer).await, 200);
    }
}

/// A page whose user is signed in with a cookie.
struct Page<'a> {
    place: &'a Place,
    http: Http,
    cookie: String,
    csrf: String,
}

impl<'a> Page<'a> {
    async fn sign_in(place: &'a Place, http: Http, email: &str) -> Self {
        let login = crate::sign_in::login(email, PASSWORD);
        let call = place.desk.post(http, "login", &login);
        let answer = call.header("x-use-cookie", "session").send().await;
        let (cookie, _) = answer.is_ok().header("set-cookie").split_once(';').unwrap();
        Self {
            place,
            http,
            cookie: cookie.to_owned(),
            csrf: text(&answer, "csrf_token"),
        }
    }

    /// Sends a request, and checks that the page sees no token in the answer.
    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let call = self.place.desk.gateway.call(self.http, method, path);
        let mut call = call
            .header("cookie", &self.cookie)
            .header("origin", APP)
            .header("x-csrf-token", &self.csrf)
            .header("apikey", PUBLISHABLE);
        if let Some(body) = body {
            let call_with_type = call.header("content-type", "application/json");
            call = call_with_type.body(body.to_string());
        }
        Self::without_tokens(call.send().await)
    }

    /// Follows a link in a message, as a browser does from the page of another site.
    async fn follow(&self, link: &str) -> Answer {
        let asks = |mode: &'static str| {
            let call = self.place.desk.gateway.get(self.http, link);
            let call = call.header("cookie", &self.cookie);
            let call = call.header("sec-fetch-site", "cross-site");
            call.header("sec-fetch-mode", mode).send()
        };
        // The page of another site cannot ask for it by itself.
        denied(&asks("no-cors").await, Reason::CsrfOrigin);
        Self::without_tokens(asks("navigate").await)
    }

    fn without_tokens(answer: Answer) -> Answer {
        let location = answer.header("location");
        for text in [answer.text(), location] {
            assert!(!text.contains("eyJ"), "{text}");
            assert!(!text.contains("refresh_token="), "{text}");
            assert!(!text.contains("\"refresh_token\""), "{text}");
        }
        answer
    }

    async fn status(&self, path: &str) -> u16 {
        self.send("GET", path, None).await.status.as_u16()
    }

    /// Waits until the other replica answers with this status.
    async fn has_elsewhere(&self, path: &str, status: u16) {
        let agrees = async {
            loop {
                let call = self.place.other.get(self.http, path);
                let answer = call.header("cookie", &self.cookie).send().await;
                if answer.status == status {
                    return;
                }
            }
        };
        crate::support::in_time("the other replica agrees", agrees).await;
    }
}

#[tokio::test]
async fn tokens_for_a_cookie_go_behind_it_and_its_level_holds_at_once() {
    let place = Place::open(Options::default()).await;
    let double = &place.desk.double;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        let id = double.add_user(&email, PASSWORD);
        let factor = double.add_factor(&id);
        let page = Page::sign_in(&place, http, &email).await;
        // Both replicas hold the session.
        page.has_elsewhere("/me", 200).await;
        let (lower, _) = double.sign_in(&id);
        assert_eq!(page.status("/second").await, 403);
        let renewals = double.calls("refresh_token");
        let path = format!("/auth/v1/factors/{factor}/challenge");
        let challenge = page.send("POST", &path, Some(json!({ "factorId": factor })));
        let challenge = text(challenge.await.is_ok(), "id");
        let path = format!("/auth/v1/factors/{factor}/verify");
        let body = json!({ "challenge_id": challenge, "code": "123456" });
        let answer = page.send("POST", &path, Some(body)).await;
        assert_eq!(answer.is_ok().json()["token_type"], "cookie");
        assert_eq!(answer.json()["user"]["id"], id.as_str());
        assert!(
            !answer.headers.contains_key("set-cookie"),
            "the same session"
        );
        assert_eq!(page.status("/second").await, 200);
        page.has_elsewhere("/second", 200).await;
        assert_eq!(place.status(http, "/me", &lower).await, 401);
        // The tokens that were replaced are not used again.
        assert_eq!(double.calls("refresh_token"), renewals);

        let path = format!("/auth/v1/factors/{factor}");
        page.send("DELETE", &path, None).await.is_ok();
        assert_eq!(page.status("/second").await, 403);
        assert_eq!(page.status("/me").await, 200);
        page.has_elsewhere("/second", 403).await;
    }
}

#[tokio::test]
async fn a_cookie_that_signs_in_again_gets_another_cookie_and_no_token() {
    let place = Place::open(Options::default()).await;
    let double = &place.desk.double;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        let id = double.add_user(&email, PASSWORD);
        let eve = format!("eve-{email}");
        let eve_id = double.add_user(&eve, PASSWORD);
        let page = Page::sign_in(&place, http, &email).await;
        let body = json!({ "email": eve, "password": PASSWORD });
        let path = "/auth/v1/token?grant_type=password";
        let answer = page.send("POST", path, Some(body)).await;
        let set = answer.is_ok().header("set-cookie").to_owned();
        assert_eq!(page.status("/me").await, 401, "it is replaced");
        let page = Page {
            cookie: set.split_once(';').unwrap().0.to_owned(),
            csrf: text(&answer, "csrf_token"),
            ..page
        };
        let user = page.send("GET", "/auth/v1/user", None).await;
        assert_eq!(user.is_ok().json()["id"], eve_id.as_str());

        // A link to the same account: the tokens of the redirect go behind the cookie.
        let sends = post(&place.desk, http, "recover", &json!({ "email": eve }));
        sends.send().await.is_ok();
        let code = double.code_for(&eve).unwrap();
        let link = format!("/auth/v1/verify?type=recovery&token={code}");
        let answer = page.follow(&link).await;
        assert!(answer.header("location").starts_with("https://app.test/#"));
        let set = answer.header("set-cookie").to_owned();
        let page = Page {
            cookie: set.split_once(';').unwrap().0.to_owned(),
            ..page
        };
        assert_eq!(page.status("/me").await, 200);

        // A link to another account signs nobody in.
        let sends = post(&place.desk, http, "recover", &json!({ "email": email }));
        sends.send().await.is_ok();
        let code = double.code_for(&email).unwrap();
        let sessions = double.sessions_of(&id);
        let link = format!("/auth/v1/verify?type=recovery&token={code}");
        let answer = page.follow(&link).await;
        assert!(answer.header("location").contains("error=access_denied"));
        assert!(!answer.headers.contains_key("set-cookie"));
        assert_eq!(page.status("/me").await, 200);
        let ended = || double.sessions_of(&id) == sessions;
        eventually("the link's session ends", ended).await;
    }
}

#[tokio::test]
async fn a_session_that_has_ended_keeps_no_page_from_what_needs_no_user() {
    let place = Place::open(Options::default()).await;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        place.desk.double.add_user(&email, PASSWORD);
        let page = Page::sign_in(&place, http, &email).await;
        page.send("POST", "/api/v1/auth/logout", None).await.is_ok();
        // Another window of the browser has not heard of it.
        let is_cleared = |answer: &Answer| {
            let cookie = answer.header("set-cookie");
            assert!(cookie.contains("Max-Age=0"), "{cookie}");
        };
        let user = page.send("GET", "/auth/v1/user", None).await;
        denied(&user, Reason::SessionUnknown);
        is_cleared(&user);
        let settings = page.send("GET", "/auth/v1/settings", None).await;
        is_cleared(settings.is_ok());
        let grant = "/auth/v1/token?grant_type=password";
        let call = place.desk.gateway.post(http, grant);
        let call = call
            .header("cookie", &page.cookie)
            .header("origin", APP)
            .header("x-csrf-token", &page.csrf)
            .header("apikey", PUBLISHABLE)
            .header("content-type", "application/json");
        let body = crate::sign_in::login(&email, PASSWORD).to_string();
        let answer = call.body(body).send().await;
        is_cleared(answer.is_ok());
        let token = text(&answer, "access_token");
        assert_eq!(place.status(http, "/me", &token).await, 200);
        // A session is still asked for where a user is needed.
        assert_eq!(page.status("/me").await, 401);
    }
}

#[tokio::test]
async fn a_page_changes_password_and_factors_at_the_gateways_own_routes() {
    let place = Place::open(Options::default()).await;
    let double = &place.desk.double;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        let id = double.add_user(&email, PASSWORD);
        let page = Page::sign_in(&place, http, &email).await;
        let own = |path: &str| format!("/api/v1/auth/{path}");
        let enroll = json!({ "factor_type": "totp", "friendly_name": "a phone" });
        let enrolled = page
            .send("POST", &own("factors/enroll"), Some(enroll))
            .await;
        let factor = text(enrolled.is_ok(), "id");
        assert!(enrolled.json()["totp"]["secret"].is_string());
        let path = own(&format!("factors/{factor}/challenge"));
        let challenge = text(page.send("POST", &path, None).await.is_ok(), "id");
        let path = own(&format!("factors/{factor}/verify"));
        let prove = |code: &str| {
            let body = json!({ "challenge_id": challenge, "code": code });
            page.send("POST", &path, Some(body))
        };
        let wrong = prove("000000").await;
        wrong.is_denied(Reason::InputInvalid);
        assert_eq!(wrong.json()["errors"][0]["field"], "code");
        assert_eq!(page.status("/second").await, 403);
        prove("123456").await.is_ok();
        assert_eq!(page.status("/second").await, 200);
        let list = page.send("GET", &own("factors"), None).await;
        let list = list.is_ok().json();
        assert_eq!(list["factors"][0]["id"], factor.as_str());
        assert_eq!(list["factors"][0]["status"], "verified");

        let (other, _) = double.sign_in_with(&id, &factor);
        let empty = page.send("PUT", &own("password"), Some(json!({}))).await;
        empty.is_denied(Reason::InputInvalid);
        let weak = json!({ "password": "short" });
        let weak = page.send("PUT", &own("password"), Some(weak)).await;
        weak.is_denied(Reason::WeakPassword);
        assert_eq!(place.status(http, "/me", &other).await, 200);
        let new = json!({ "password": "another horse battery", "email": "eve@example.test" });
        page.send("PUT", &own("password"), Some(new)).await.is_ok();
        assert_eq!(place.status(http, "/me", &other).await, 401);
        assert_eq!(page.status("/second").await, 200);
        let sent: Value = serde_json::from_slice(&double.last("change-user").body).unwrap();
        assert_eq!(sent, json!({ "password": "another horse battery" }));
        let code = page.send("POST", &own("reauthenticate"), None).await;
        code.is_ok();

        let path = own(&format!("factors/{factor}"));
        page.send("DELETE", &path, None).await.is_ok();
        assert_eq!(page.status("/second").await, 403);
        assert_eq!(page.status("/me").await, 200);
        let gone = page.send("DELETE", &path, None).await;
        gone.is_denied(Reason::FactorAbsent);
        // Another site's page changes nothing.
        let forged = place.desk.gateway.call(http, "PUT", &own("password"));
        let forged = forged
            .header("cookie", &page.cookie)
            .header("origin", "https://evil.test");
        forged.send().await.is_denied(Reason::CsrfOrigin);
    }
}
