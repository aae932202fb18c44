//! The pass-through of the identity server's API: what is forwarded, what is never forwarded,
//! throttling, and the order of a logout.

mod changes;
mod disclosure;
mod edge;
mod factors;
mod limits;
mod operations;
mod outages;
mod refresh;

use foregate::denial::Reason;
use serde_json::{Value, json};

use crate::sign_in::{Desk, EMAIL, PASSWORD};
use crate::support::auth_server::{
    AuthServer, Behave, OTHER_PUBLISHABLE, Options, PUBLISHABLE, SECRET,
};
use crate::support::client::Call;
use crate::support::{Answer, Http, eventually};

/// Limits that no test reaches.
const UNLIMITED: &str = "login: { address: 1000000/s, account: 1000000/s }, register: { address: 1000000/s }, refresh: { address: 1000000/s }, reset: { address: 1000000/s }, verify: { address: 1000000/s, account: 1000000/s }, everywhere: 1000000/s";

/// The route of the pass-through, and a lower one that needs a user.
pub const ROUTES: &str = r#"
    - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
    - { path: /me, access: user }
"#;

/// A gateway whose pass-through leads to a double.
pub async fn open(options: Options) -> Desk {
    limited(options, UNLIMITED).await
}

async fn limited(options: Options, throttle: &str) -> Desk {
    let desk = Desk::with(options, "", throttle, |config| {
        config.routes(ROUTES);
    })
    .await;
    desk.is_ready().await;
    desk
}

/// A call as an unmodified client makes it.
fn ask<'a>(desk: &'a Desk, http: Http, method: &str, path: &str) -> Call<'a> {
    desk.gateway
        .call(http, method, &format!("/auth/v1/{path}"))
        .header("apikey", PUBLISHABLE)
        .header("x-supabase-api-version", "2024-01-01")
}

fn post<'a>(desk: &'a Desk, http: Http, path: &str, body: &Value) -> Call<'a> {
    ask(desk, http, "POST", path)
        .header("content-type", "application/json;charset=UTF-8")
        .body(body.to_string())
}

fn password(password: &str) -> Value {
    json!({ "email": EMAIL, "password": password })
}

fn refresh<'a>(desk: &'a Desk, http: Http, token: &str) -> Call<'a> {
    let body = json!({ "refresh_token": token });
    post(desk, http, "token?grant_type=refresh_token", &body)
}

fn text(answer: &Answer, member: &str) -> String {
    answer.json()[member].as_str().unwrap().to_owned()
}

/// Signs a user in through the pass-through, so that the gateway knows the session; returns the
/// access token.
async fn signed_in(desk: &Desk, http: Http, email: &str) -> String {
    let credentials = json!({ "email": email, "password": PASSWORD });
    let call = post(desk, http, "token?grant_type=password", &credentials);
    text(call.send().await.is_ok(), "access_token")
}

/// Checks for a refusal in the identity server's form.
#[track_caller]
fn says(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.json()["code"], code);
    assert_eq!(answer.header("x-sb-error-code"), code);
}

/// Checks for a refusal by the gateway, which has the identity server's form, too.
#[track_caller]
fn denied(answer: &Answer, reason: Reason) {
    let line = answer.log_line();
    assert_eq!(line["reason"], reason.code(), "{}", answer.text());
    assert_eq!(answer.status, reason.status());
}

/// Produces [`Reason::MemberSpelling`], for the test that walks all reasons.
pub async fn misspelt(http: Http) {
    let desk = open(Options::default()).await;
    let body = json!({ "Email": EMAIL, "password": PASSWORD });
    let answer = post(&desk, http, "signup", &body).send().await;
    denied(&answer, Reason::MemberSpelling);
    desk.gateway.origin.saw_nothing();
    assert_eq!(desk.double.calls("signup"), 0);
}

/// Produces [`Reason::OperationUnknown`], for the test that walks all reasons.
pub async fn unlisted(http: Http) {
    let desk = open(Options::default()).await;
    let answer = ask(&desk, http, "GET", "admin/users").send().await;
    denied(&answer, Reason::OperationUnknown);
    desk.gateway.origin.saw_nothing();
    assert_eq!(desk.double.calls("admin-users"), 0);
}

#[tokio::test]
async fn a_client_signs_up_signs_in_refreshes_and_signs_out() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        let credentials = json!({ "email": email, "password": PASSWORD });
        let new = post(
            &desk,
            http,
            "signup?redirect_to=https%3A%2F%2Fa.test",
            &credentials,
        );
        let new = new.send().await;
        new.is_ok();
        let seen = desk.double.last("signup");
        assert_eq!(
            seen.target,
            "/auth/v1/signup?redirect_to=https%3A%2F%2Fa.test"
        );
        assert_eq!(
            seen.body,
            credentials.to_string().as_bytes(),
            "byte for byte"
        );

        let grant = post(&desk, http, "token?grant_type=password", &credentials);
        let grant = grant.header("x-client-info", "supabase-js").send().await;
        assert_eq!(
            grant.is_ok().json()["token_type"],
            "bearer",
            "as GoTrue has it"
        );
        assert!(grant.json()["expires_at"].is_i64());
        assert_eq!(grant.header("cache-control"), "no-store");
        assert_eq!(grant.header("x-supabase-api-version"), "2024-01-01");
        let seen = desk.double.last("password");
        assert_eq!(seen.header("apikey"), PUBLISHABLE);
        assert_eq!(seen.header("x-client-info"), "supabase-js");
        assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");

        let refreshed = refresh(&desk, http, &text(&grant, "refresh_token"))
            .send()
            .await;
        let token = text(refreshed.is_ok(), "access_token");
        desk.gateway
            .get(http, "/me")
            .bearer(&token)
            .send()
            .await
            .is_ok();
        let user = ask(&desk, http, "GET", "user").bearer(&token).send().await;
        assert_eq!(user.is_ok().json()["email"], email.to_lowercase());

        let out = ask(&desk, http, "POST", "logout?scope=local");
        let out = out.bearer(&token).send().await;
        assert_eq!((out.status.as_u16(), out.body.len()), (204, 0));
        let answer = desk.gateway.get(http, "/me").bearer(&token).send().await;
        answer.is_denied(Reason::SessionRevoked);
        let answer = refresh(&desk, http, &text(&refreshed, "refresh_token"))
            .send()
            .await;
        says(&answer, 400, "session_not_found");
    }
}

#[tokio::test]
async fn operations_need_a_key_or_a_user_unless_they_are_open() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        let bare =
            |method: &str, path: &str| desk.gateway.call(http, method, &format!("/auth/v1/{path}"));
        let keys = bare("GET", ".well-known/jwks.json").send().await;
        assert_eq!(keys.is_ok().header("cache-control"), "public, max-age=600");
        let away = bare("GET", "authorize?provider=github").send().await;
        assert_eq!(away.status, 303);
        assert_eq!(away.header("location"), "https://provider.test/authorize");
        let link = bare("GET", "verify?token=x&type=signup").send().await;
        assert!(link.header("location").contains("otp_expired"));

        denied(&bare("GET", "settings").send().await, Reason::ApikeyMissing);
        let by_query = bare("GET", &format!("settings?apikey={OTHER_PUBLISHABLE}"));
        by_query.send().await.is_ok();
        let seen = desk.double.last("settings");
        assert_eq!(
            seen.target, "/auth/v1/settings",
            "the key is ours, and not in the path"
        );
        assert_eq!(seen.header("apikey"), PUBLISHABLE);
        let unknown = bare("GET", "settings").header("apikey", "sb_publishable_else");
        denied(&unknown.send().await, Reason::ApikeyUnknown);
        let secret = bare("GET", "settings").header("apikey", SECRET);
        denied(&secret.send().await, Reason::ServiceKeyRefused);
        let both = bare("GET", &format!("settings?apikey={PUBLISHABLE}"));
        denied(
            &both.header("apikey", PUBLISHABLE).send().await,
            Reason::ApikeyRepeated,
        );

        for (method, path) in [
            ("GET", "user"),
            ("POST", "logout"),
            ("GET", "reauthenticate"),
            ("DELETE", "factors/018f5b5e-0000-7000-8000-000000000001"),
        ] {
            let stranger = ask(&desk, http, method, path).send().await;
            denied(&stranger, Reason::TokenMissing);
            // The client's key in place of a token authenticates no one.
            let stranger = ask(&desk, http, method, path).bearer(PUBLISHABLE);
            denied(&stranger.send().await, Reason::TokenMissing);
        }
        assert_eq!(
            desk.double.calls("read-user") + desk.double.calls("logout"),
            0
        );
        // A token in another place authenticates no one here, either.
        let grant = post(&desk, http, "token?grant_type=password", &password("wrong"));
        says(
            &grant.bearer(PUBLISHABLE).send().await,
            400,
            "invalid_credentials",
        );
    }
}

#[tokio::test]
async fn an_unrecognized_or_ambiguous_request_is_never_forwarded() {
    let desk = open(Options::default()).await;
    desk.double.add_user(EMAIL, PASSWORD);
    let json_type = "application/json";
    let good = password(PASSWORD).to_string();
    let twice =
        format!(r#"{{"email":"eve@example.test","email":"{EMAIL}","password":"{PASSWORD}"}}"#);
    let form = format!("email={EMAIL}&password={PASSWORD}&grant_type=refresh_token");
    let unknown = Reason::OperationUnknown;
    for http in Http::BOTH {
        for (method, path, kind, body, reason) in [
            ("POST", "admin/users", json_type, good.as_str(), unknown),
            ("GET", "admin/users", json_type, "", unknown),
            ("POST", "invite", json_type, &good, unknown),
            (
                "POST",
                "token/?grant_type=password",
                json_type,
                &good,
                unknown,
            ),
            (
                "PUT",
                "token?grant_type=password",
                json_type,
                &good,
                unknown,
            ),
            (
                "POST",
                "TOKEN?grant_type=password",
                json_type,
                &good,
                unknown,
            ),
            (
                "POST",
                "token?grant_type=password&grant_type=refresh_token",
                json_type,
                &good,
                Reason::QueryRepeated,
            ),
            (
                "POST",
                "token?grant%5Ftype=password",
                json_type,
                &good,
                Reason::QueryRepeated,
            ),
            (
                "POST",
                "logout?scope=local&scope=global",
                json_type,
                "",
                Reason::QueryRepeated,
            ),
            (
                "POST",
                "token?grant_type=password",
                json_type,
                &twice,
                Reason::BodyMalformed,
            ),
            // The server, which is written in Go, reads this as `email`, too.
            (
                "POST",
                "token?grant_type=password",
                json_type,
                &good.replace("email", "Email"),
                Reason::MemberSpelling,
            ),
            (
                "POST",
                "token?grant_type=password",
                json_type,
                "[]",
                Reason::BodyMalformed,
            ),
            (
                "POST",
                "token?grant_type=password",
                json_type,
                "",
                Reason::BodyMalformed,
            ),
            (
                "POST",
                "token?grant_type=password",
                "application/x-www-form-urlencoded",
                &form,
                Reason::BodyType,
            ),
            ("POST", "signup", "text/plain", &good, Reason::BodyType),
        ] {
            let call = ask(&desk, http, method, path).header("content-type", kind);
            let answer = call.body(body.to_owned()).send().await;
            assert_eq!(
                answer.log_line()["reason"],
                reason.code(),
                "{method} {path} {body}"
            );
            denied(&answer, reason);
        }
        // In the server's own form, which its clients understand.
        let grant = post(
            &desk,
            http,
            "token?grant_type=implicit",
            &password(PASSWORD),
        );
        let grant = grant.send().await;
        says(&grant, 400, "invalid_credentials");
        assert_eq!(grant.json()["message"], "unsupported_grant_type");
    }
    // One byte more than the identity server would read. Over HTTP/1.1 the client may find the
    // connection closed while it is still writing.
    let long = vec![b' '; (1 << 20) + 1];
    let call = ask(&desk, Http::Two, "POST", "signup").header("content-type", json_type);
    denied(&call.body(long).send().await, Reason::BodyTooLarge);
    for kind in [
        "token",
        "password",
        "signup",
        "admin-users",
        "create-user",
        "invite",
        "implicit",
        "logout",
    ] {
        assert_eq!(desk.double.calls(kind), 0, "{kind}");
    }
    desk.gateway.origin.saw_nothing();
}

#[tokio::test]
async fn errors_have_the_form_of_the_clients_api_version() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        let old = desk
            .gateway
            .post(http, "/auth/v1/token?grant_type=password")
            .header("apikey", PUBLISHABLE)
            .header("content-type", "application/json")
            .body(password("wrong").to_string())
            .send()
            .await;
        assert_eq!(old.status, 400);
        let body = json!({ "code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials" });
        assert_eq!(old.json(), body);
        assert_eq!(old.header("x-sb-error-code"), "invalid_credentials");
        assert_eq!(old.header("x-supabase-api-version"), "");
        let new = post(&desk, http, "token?grant_type=password", &password("wrong"));
        let new = new.send().await;
        let body = json!({ "code": "invalid_credentials", "message": "Invalid login credentials" });
        assert_eq!(new.json(), body);
        assert_eq!(new.header("x-supabase-api-version"), "2024-01-01");
        // The form of OAuth is the same in both.
        let empty = post(&desk, http, "token?grant_type=refresh_token", &json!({}));
        assert_eq!(empty.send().await.json()["error"], "invalid_request");
        let weak = post(&desk, http, "signup", &password("short")).send().await;
        assert_eq!(weak.json()["weak_password"]["reasons"], json!(["length"]));
    }
}

#[tokio::test]
async fn a_logout_ends_exactly_the_sessions_of_its_scope() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        for (scope, this, others) in [
            ("?scope=local", false, true),
            ("?scope=others", true, false),
            ("?scope=global", false, false),
            ("", false, false),
        ] {
            let email = format!("{}@{http:?}.test", scope.trim_start_matches("?scope="));
            desk.double.add_user(&email, PASSWORD);
            let token = signed_in(&desk, http, &email).await;
            let other = signed_in(&desk, http, &email).await;
            desk.double.add_user(&format!("x{email}"), PASSWORD);
            let stranger = signed_in(&desk, http, &format!("x{email}")).await;
            let out = ask(&desk, http, "POST", &format!("logout{scope}"));
            assert_eq!(out.bearer(&token).send().await.status, 204);
            for (token, lives) in [(&token, this), (&other, others), (&stranger, true)] {
                let answer = desk.gateway.get(http, "/me").bearer(token).send().await;
                assert_eq!(answer.status == 200, lives, "{scope} {}", answer.text());
                assert!(answer.status == 200 || answer.status == 401);
                assert_eq!(
                    desk.double.session_lives(&AuthServer::session_of(token)),
                    lives
                );
            }
        }
        let id = desk.double.add_user("odd@example.test", PASSWORD);
        let token = desk.double.sign_in(&id).0;
        let odd = ask(&desk, http, "POST", "logout?scope=some").bearer(&token);
        says(&odd.send().await, 400, "validation_failed");
    }
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_unless_it_was_refused() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        desk.double.add_user(&email, PASSWORD);
        let token = signed_in(&desk, http, &email).await;
        let other = signed_in(&desk, http, &email).await;
        let change = |body: Value| {
            ask(&desk, http, "PUT", "user")
                .header("content-type", "application/json")
                .body(body.to_string())
                .bearer(&token)
        };
        // A change without a password ends nothing.
        change(json!({ "data": { "name": "Ada" } }))
            .send()
            .await
            .is_ok();
        desk.gateway
            .get(http, "/me")
            .bearer(&other)
            .send()
            .await
            .is_ok();
        // A refused change ends nothing, either.
        desk.double
            .behave("change-user", Behave::Refuse(422, "same_password"));
        let refused = change(json!({ "password": "another horse" })).send().await;
        assert_eq!(refused.status, 422);
        desk.gateway
            .get(http, "/me")
            .bearer(&other)
            .send()
            .await
            .is_ok();
        // A change of unknown outcome does.
        desk.double.behave("change-user", Behave::Reset);
        let lost = change(json!({ "password": "another horse" })).send().await;
        denied(&lost, Reason::IdentityUnavailable);
        let answer = desk.gateway.get(http, "/me").bearer(&other).send().await;
        answer.is_denied(Reason::SessionRevoked);
        desk.double.behave("change-user", Behave::Well);
        change(json!({ "password": "another horse" }))
            .send()
            .await
            .is_ok();
        desk.gateway
            .get(http, "/me")
            .bearer(&token)
            .send()
            .await
            .is_ok();
    }
}

#[tokio::test]
async fn a_logout_applies_at_once_and_is_forwarded_later_if_the_identity_server_is_away() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        let id = desk
            .double
            .add_user(&format!("{http:?}@example.test"), PASSWORD);
        let (token, refresh_token) = desk.double.sign_in(&id);
        let session = AuthServer::session_of(&token);
        desk.double.behave("logout", Behave::Fail(500));
        let out = ask(&desk, http, "POST", "logout?scope=local").bearer(&token);
        assert_eq!(out.send().await.status, 204);
        let answer = desk.gateway.get(http, "/me").bearer(&token).send().await;
        answer.is_denied(Reason::SessionRevoked);
        // The server would still refresh it.
        assert!(desk.double.session_lives(&session));
        let answer = refresh(&desk, http, &refresh_token).send().await;
        says(&answer, 400, "session_not_found");
        desk.double.behave("logout", Behave::Well);
        eventually("it is told", || !desk.double.session_lives(&session)).await;
    }
}

#[tokio::test]
async fn guesses_at_the_pass_through_and_at_the_sign_in_routes_share_a_count() {
    let desk = limited(Options::default(), "login: { address: 4/d, account: 3/d }").await;
    desk.double.add_user(EMAIL, PASSWORD);
    let guess = |http| post(&desk, http, "token?grant_type=password", &password("guess"));
    says(&guess(Http::One).send().await, 400, "invalid_credentials");
    says(&guess(Http::Two).send().await, 400, "invalid_credentials");
    let login = crate::sign_in::login(EMAIL, "guess");
    let third = desk.post(Http::One, "login", &login).send().await;
    third.is_denied(Reason::InvalidCredentials);
    for http in Http::BOTH {
        let refused = guess(http).send().await;
        denied(&refused, Reason::TooManyAttempts);
        assert!(refused.headers.contains_key("retry-after"));
    }
    assert_eq!(desk.double.calls("password"), 3);
}

#[tokio::test]
async fn a_code_passes() {
    let desk = open(Options::default()).await;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test");
        desk.double.add_user(&email, PASSWORD);
        post(&desk, http, "recover", &json!({ "email": email }))
            .send()
            .await
            .is_ok();
        let code = desk.double.code_for(&email).unwrap();
        let body = json!({ "type": "recovery", "token_hash": code });
        post(&desk, http, "verify", &body).send().await.is_ok();
    }
}
