//! Sessions behind the sign-in routes: a cookie in place of tokens, the list of sessions, and their
//! ends.

use foregate::denial::Reason;

use super::*;
use crate::support::RedisServer;

const ROUTES: &str = r#"
  - { path: /mine, access: user, credentials: [bearer, cookie] }
"#;

const ORIGIN: &str = "https://app.test";

async fn desk() -> Desk {
    Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.more_routes(ROUTES).set(
            "cors",
            &format!("{{ origins: [\"{ORIGIN}\"], credentials: true }}"),
        );
    })
    .await
}

/// A browser with a session.
struct Browser {
    cookie: String,
    csrf: String,
}

impl Browser {
    async fn sign_in(desk: &Desk, http: Http, with: Option<&str>) -> Self {
        let mut call = desk.post(http, "login", &login(EMAIL, PASSWORD));
        call = call.header("x-use-cookie", "session");
        if let Some(cookie) = with {
            call = call.header("cookie", cookie);
        }
        let answer = call.send().await;
        is_own(answer.is_ok());
        let body = answer.json();
        assert_eq!(
            members(&body),
            ["csrf_token", "expires_in", "token_type", "user"]
        );
        assert_eq!(body["token_type"], "cookie");
        let set = answer.header("set-cookie");
        let (cookie, rest) = set.split_once(';').unwrap();
        assert!(cookie.starts_with("__Host-foregate="), "{cookie}");
        for part in ["Secure", "HttpOnly", "Path=/", "SameSite=Lax"] {
            assert!(rest.contains(part), "{rest}");
        }
        // A page can read no token of the identity server.
        assert!(!answer.text().contains("eyJ") && !set.contains("eyJ"));
        Self {
            cookie: cookie.to_owned(),
            csrf: text(&body, "csrf_token").to_owned(),
        }
    }

    async fn gets(&self, desk: &Desk, http: Http, path: &str) -> Answer {
        desk.gateway
            .get(http, path)
            .header("cookie", &self.cookie)
            .send()
            .await
    }

    /// A request as from a page of an allowed origin.
    async fn sends(&self, desk: &Desk, http: Http, method: &str, route: &str) -> Answer {
        desk.gateway
            .call(http, method, &format!("/api/v1/auth/{route}"))
            .header("cookie", &self.cookie)
            .header("origin", ORIGIN)
            .header("x-csrf-token", &self.csrf)
            .send()
            .await
    }
}

#[tokio::test]
async fn a_browser_signs_in_with_a_cookie_and_out_again() {
    let desk = desk().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let browser = Browser::sign_in(&desk, http, None).await;
        browser.gets(&desk, http, "/mine").await.is_ok();
        let me = browser.gets(&desk, http, "/api/v1/auth/me").await;
        assert_eq!(me.is_ok().json()["id"], id.as_str());
        // A form of another site cannot sign a user out.
        let forged = desk.gateway.post(http, "/api/v1/auth/logout");
        let forged = forged
            .header("cookie", &browser.cookie)
            .header("origin", "https://evil.test");
        forged.send().await.is_denied(Reason::CsrfOrigin);
        let forged = desk.gateway.post(http, "/api/v1/auth/logout");
        let forged = forged
            .header("cookie", &browser.cookie)
            .header("origin", ORIGIN);
        forged.send().await.is_denied(Reason::CsrfToken);
        browser.gets(&desk, http, "/mine").await.is_ok();

        let answer = browser.sends(&desk, http, "POST", "logout").await;
        answer.is_ok();
        assert!(answer.header("set-cookie").contains("Max-Age=0"));
        assert_eq!(browser.gets(&desk, http, "/mine").await.status, 401);
    }
    crate::support::eventually("sessions end there", || desk.double.sessions_of(&id) == 0).await;
}

#[tokio::test]
async fn signing_in_replaces_the_old_cookie_and_never_adopts_a_chosen_one() {
    let desk = desk().await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let chosen = format!("__Host-foregate={}", "A".repeat(64));
        let first = Browser::sign_in(&desk, http, Some(&chosen)).await;
        assert_ne!(first.cookie, chosen);
        let second = Browser::sign_in(&desk, http, Some(&first.cookie)).await;
        assert_ne!(first.cookie, second.cookie);
        assert_eq!(first.gets(&desk, http, "/mine").await.status, 401);
        second.gets(&desk, http, "/mine").await.is_ok();
    }
}

#[tokio::test]
async fn a_user_lists_their_sessions_and_ends_one() {
    let desk = desk().await;
    desk.double.add_user(EMAIL, PASSWORD);
    let eve = desk.double.add_user("eve@example.test", PASSWORD);
    let (eve, _) = desk.double.sign_in(&eve);
    for http in Http::BOTH {
        let browser = Browser::sign_in(&desk, http, None).await;
        let app = desk.signed_in(http, EMAIL).await;
        let token = text(&app, "access_token");
        let list = desk.get(http, "sessions", token).send().await;
        is_own(list.is_ok());
        let list = list.json();
        let sessions = list["sessions"].as_array().unwrap();
        let kinds: Vec<(&str, bool)> = sessions
            .iter()
            .take(2)
            .map(|one| (text(one, "carrier"), one["current"].as_bool().unwrap()))
            .collect();
        assert_eq!(kinds, [("bearer", true), ("cookie", false)], "{list}");
        let other = text(&sessions[1], "id");
        let path = format!("/api/v1/auth/sessions/{other}");
        let end = |token: &str| {
            desk.gateway
                .call(http, "DELETE", &path)
                .bearer(token)
                .send()
        };
        // Another user cannot end it, or learn that it exists.
        end(&eve).await.is_denied(Reason::SessionAbsent);
        browser.gets(&desk, http, "/mine").await.is_ok();
        end(token).await.is_ok();
        assert_eq!(browser.gets(&desk, http, "/mine").await.status, 401);
        end(token).await.is_denied(Reason::SessionAbsent);
        desk.gateway
            .get(http, "/mine")
            .bearer(token)
            .send()
            .await
            .is_ok();

        // The user's own session can be ended, too.
        let own = text(&sessions[0], "id");
        let call = desk
            .gateway
            .call(http, "DELETE", &format!("/api/v1/auth/sessions/{own}"));
        call.bearer(token).send().await.is_ok();
        assert_eq!(
            desk.gateway
                .get(http, "/mine")
                .bearer(token)
                .send()
                .await
                .status,
            401
        );
    }
}

#[tokio::test]
async fn without_the_store_no_cookie_is_issued_and_no_session_remains() {
    let redis = RedisServer::start();
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.more_routes(ROUTES).store(&redis.url());
    })
    .await;
    desk.is_ready().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    redis.pause();
    for http in Http::BOTH {
        let call = desk.post(http, "login", &login(EMAIL, PASSWORD));
        let answer = call.header("x-use-cookie", "session").send().await;
        answer.is_denied(Reason::SessionUnavailable);
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    crate::support::eventually("none is left", || desk.double.sessions_of(&id) == 0).await;
    redis.resume();
}
