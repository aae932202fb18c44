//! What the double answers, endpoint by endpoint.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response};
use serde_json::{Value, json};

use super::answers::{error, json, nothing, oauth_error, redirect, weak_password};
use super::state::{Refreshed, State, User, claims_of};
use super::{Called, OTHER_PUBLISHABLE, PUBLISHABLE, SECRET, Shared};
use crate::support::tokens::now;

pub(super) type Answer = Response<Full<Bytes>>;

/// The right answer to every captcha.
pub const CAPTCHA: &str = "a human";

/// Paths that the edge accepts without a key.
const OPEN: [&str; 11] = [
    "/verify",
    "/callback",
    "/authorize",
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    "/sso/saml/acs",
    "/sso/saml/metadata",
    "/oauth/authorize",
    "/oauth/clients/register",
    "/oauth/token",
];

pub async fn answer(shared: &Shared, call: &Called) -> Answer {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let Some(path) = path.strip_prefix("/auth/v1") else {
        return json(
            call,
            404,
            &json!({ "message": "no Route matched with those values" }),
        );
    };
    let key = call.header("apikey");
    if !OPEN.contains(&path) {
        if key.is_empty() {
            return json(
                call,
                401,
                &json!({ "message": "No API key found in request" }),
            );
        }
        if ![PUBLISHABLE, OTHER_PUBLISHABLE, SECRET].contains(&key) {
            return json(call, 401, &json!({ "message": "Unauthorized" }));
        }
    }
    // PostgreSQL stores no NUL.
    if String::from_utf8_lossy(&call.body).contains("\\u0000") || query.contains("%00") {
        return error(call, 500, "unexpected_failure", "Database error");
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let endpoint = Endpoint {
        shared,
        call,
        query,
        body: serde_json::from_slice(&call.body).unwrap_or(Value::Null),
    };
    match (&call.method, parts.as_slice()) {
        (&Method::GET, ["health"]) => json(
            call,
            200,
            &json!({ "version": "v2.196.0", "name": "GoTrue", "description": "GoTrue is a user registration and authentication API" }),
        ),
        (&Method::GET, ["settings"]) => json(
            call,
            200,
            &json!({ "external": { "email": true }, "disable_signup": shared.options.disable_signup, "mailer_autoconfirm": shared.options.autoconfirm, "phone_autoconfirm": false }),
        ),
        (&Method::GET, [".well-known", "jwks.json"]) => {
            let set = serde_json::from_str(&shared.signer.public_jwks().unwrap()).unwrap();
            let mut answer = json(call, 200, &set);
            let age = "public, max-age=600".parse().unwrap();
            answer.headers_mut().insert("cache-control", age);
            answer
        }
        (&Method::GET, ["authorize"]) => redirect("https://provider.test/authorize"),
        (&Method::POST, ["token"]) => endpoint.token().await,
        (&Method::POST, ["signup"]) => endpoint.sign_up().await,
        (&Method::POST, ["logout"]) => endpoint.log_out(),
        (&Method::GET, ["user"]) => {
            endpoint.with_user(|_, user, _| json(call, 200, &user.to_json()))
        }
        (&Method::PUT, ["user"]) => endpoint.change_user().await,
        (&Method::GET, ["reauthenticate"]) => {
            endpoint.with_user(|_, _, _| json(call, 200, &json!({})))
        }
        (&Method::POST, ["recover" | "otp" | "magiclink" | "resend"]) => {
            endpoint.send_code(parts[0])
        }
        (&Method::POST, ["verify"]) => endpoint.verify(),
        (&Method::GET, ["verify"]) => endpoint.verify_link(),
        (_, ["factors", "recovery-codes", rest @ ..]) => endpoint.recovery_codes(rest),
        (&Method::POST, ["factors", id, "challenge"]) => endpoint.challenge(id),
        (&Method::POST, ["factors", id, "verify"]) => endpoint.verify_factor(id),
        (&Method::POST, ["factors"]) => endpoint.enroll(),
        (&Method::DELETE, ["factors", id]) => endpoint.unenroll(id),
        (_, ["admin", ..]) => endpoint.admin(&parts).await,
        _ => {
            let answer = endpoint.elsewhere(&parts);
            answer.unwrap_or_else(|| error(call, 404, "not_found", "404: Path not found"))
        }
    }
}

pub(super) struct Endpoint<'a> {
    pub(super) shared: &'a Shared,
    pub(super) call: &'a Called,
    query: &'a str,
    pub(super) body: Value,
}

impl Endpoint<'_> {
    /// A member, as Go reads it: one of the exact name, or else one that folds onto it.
    pub(super) fn text(&self, name: &str) -> &str {
        let fold = |text: &str| {
            text.replace('\u{17f}', "s")
                .replace('\u{212a}', "k")
                .to_ascii_lowercase()
        };
        let folded = || {
            let mut members = self.body.as_object()?.iter();
            members
                .find(|(key, _)| fold(key) == name)
                .map(|(_, value)| value)
        };
        let value = self.body.get(name).or_else(folded);
        value.and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn parameter(&self, name: &str) -> &str {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
            .unwrap_or_default()
    }

    pub(super) fn error(&self, status: u16, code: &str, message: &str) -> Answer {
        error(self.call, status, code, message)
    }

    /// The refusal without the right answer to a captcha. Refreshes need none.
    fn captcha(&self) -> Option<Answer> {
        let is_right = self.body["gotrue_meta_security"]["captcha_token"] == CAPTCHA;
        (self.shared.options.captcha && !is_right).then(|| {
            let message = "captcha protection: request disallowed (no captcha_token found)";
            self.error(400, "captcha_failed", message)
        })
    }

    /// Two calls at once both found no user; the second insert fails.
    fn is_taken(&self) -> Answer {
        let message = "Database error saving new user";
        self.error(500, "unexpected_failure", message)
    }

    async fn token(&self) -> Answer {
        if self.body.is_null() {
            return self.error(400, "bad_json", "Could not parse request body as JSON");
        }
        match self.parameter("grant_type") {
            "password" => match self.captcha() {
                Some(refused) => refused,
                None => self.password_grant().await,
            },
            "refresh_token" => self.refresh(),
            "pkce" => self.error(
                404,
                "flow_state_not_found",
                "invalid flow state, no valid flow state found",
            ),
            "id_token" | "web3" => self.error(400, "validation_failed", "as told"),
            _ => self.error(400, "invalid_credentials", "unsupported_grant_type"),
        }
    }

    async fn password_grant(&self) -> Answer {
        if self.text("email").is_empty() || self.text("password").is_empty() {
            return self.error(400, "validation_failed", "missing email or phone");
        }
        let user = self.state().by_email(self.text("email"));
        let wrong = || self.error(400, "invalid_credentials", "Invalid login credentials");
        let Some(user) = user else { return wrong() };
        if user.banned {
            return self.error(400, "user_banned", "User is banned");
        }
        let (password, hash) = (self.text("password").to_owned(), user.hash.clone());
        let right = tokio::task::spawn_blocking(move || {
            hash.is_some_and(|hash| bcrypt::verify(password, &hash).unwrap())
        });
        if !right.await.unwrap() {
            return wrong();
        }
        if !user.confirmed {
            return self.error(400, "email_not_confirmed", "Email not confirmed");
        }
        let body = self
            .shared
            .grant(&mut self.state(), &user.id, "password", "aal1");
        json(self.call, 200, &body)
    }

    fn refresh(&self) -> Answer {
        let token = self.text("refresh_token");
        if token.is_empty() {
            return oauth_error(self.call, "invalid_request", "refresh_token required");
        }
        let mut state = self.state();
        let session = state
            .refresh_tokens
            .get(token)
            .map(|token| token.session.clone());
        let user = session.as_ref().and_then(|id| state.sessions.get(id));
        let user = user.map(|session| session.user.clone());
        let mut answer = match self.shared.refresh(&mut state, token) {
            Refreshed::Good(body) => json(self.call, 200, &body),
            Refreshed::Refused(code, message) => self.error(400, code, message),
        };
        // Only of a session that it has found.
        if let (Some(session), Some(user)) = (session, user) {
            let headers = answer.headers_mut();
            headers.insert("sb-auth-user-id", user.parse().unwrap());
            headers.insert("sb-auth-session-id", session.parse().unwrap());
        }
        answer
    }

    async fn sign_up(&self) -> Answer {
        if let Some(refused) = self.captcha() {
            return refused;
        }
        if self.shared.options.disable_signup {
            let message = "Signups not allowed for this instance";
            return self.error(422, "signup_disabled", message);
        }
        let (email, password) = (self.text("email"), self.text("password"));
        if email.is_empty() && password.is_empty() && self.shared.options.anonymous {
            let mut state = self.state();
            let id = state.add_anonymous();
            let body = self.shared.grant(&mut state, &id, "anonymous", "aal1");
            return json(self.call, 200, &body);
        }
        if email.is_empty() && password.is_empty() {
            return self.error(
                422,
                "anonymous_provider_disabled",
                "Anonymous sign-ins are disabled",
            );
        }
        if password.len() < 6 {
            return weak_password(self.call);
        }
        let autoconfirm = self.shared.options.autoconfirm;
        if let Some(user) = self.state().by_email(email) {
            if autoconfirm {
                return self.error(422, "user_already_exists", "User already registered");
            }
            // A user that looks as if it were new.
            let mut fake = user.to_json();
            fake["id"] = json!(uuid::Uuid::now_v7().to_string());
            fake["user_metadata"] = json!({});
            return json(self.call, 200, &fake);
        }
        let Ok(hash) = hashed(password).await else {
            return self.error(
                400,
                "validation_failed",
                "Password cannot be longer than 72 characters",
            );
        };
        if let Some((refused, sentence)) = self.shared.options.refused
            && refused == email
        {
            // A hook's refusal has no code of its own.
            return self.error(403, "unknown", sentence);
        }
        let mut state = self.state();
        if state.by_email(email).is_some() {
            return self.is_taken();
        }
        let id = state.add_user(email, Some(hash), autoconfirm);
        if let Some(data) = self.body["data"].as_object() {
            state.users.get_mut(&id).unwrap().user_metadata = json!(data);
        }
        if autoconfirm {
            let body = self.shared.grant(&mut state, &id, "password", "aal1");
            return json(self.call, 200, &body);
        }
        state.send_code(&id, "signup");
        json(self.call, 200, &state.users[&id].to_json())
    }

    fn log_out(&self) -> Answer {
        let scope = match self.parameter("scope") {
            "" => "global",
            scope @ ("global" | "local" | "others") => scope,
            _ => return self.error(400, "validation_failed", "Unsupported logout scope"),
        };
        self.with_user(|state, user, session| {
            match scope {
                "local" => state.end(session),
                "others" => state.end_all(&user.id, Some(session)),
                _ => state.end_all(&user.id, None),
            }
            nothing(self.call)
        })
    }

    async fn change_user(&self) -> Answer {
        let password = self.body["password"].as_str().map(str::to_owned);
        if password.as_ref().is_some_and(|password| password.len() < 6) {
            return weak_password(self.call);
        }
        let hash = match password {
            None => None,
            Some(password) => Some(hashed(&password).await),
        };
        self.with_user(|state, user, session| {
            if user.anonymous {
                let email = self.text("email");
                if email.is_empty() && hash.is_some() {
                    let message = "Updating password of an anonymous user without an email or phone is not allowed";
                    return self.error(422, "validation_failed", message);
                }
                if !email.is_empty() {
                    let entry = state.users.get_mut(&user.id).unwrap();
                    entry.new_email = Some(email.to_owned());
                    match self.shared.options.autoconfirm {
                        true => state.confirm(&user.id),
                        false => state.send_code(&user.id, "email_change"),
                    }
                }
            }
            let has_proven = user.factors.iter().any(|factor| factor.verified);
            if hash.is_some() && has_proven && state.sessions[session].aal != "aal2" {
                let message =
                    "AAL2 session is required to update email or password when MFA is enabled.";
                return self.error(401, "insufficient_aal", message);
            }
            let entry = state.users.get_mut(&user.id).unwrap();
            if let Some(data) = self.body["data"].as_object() {
                for (name, value) in data {
                    let members = entry.user_metadata.as_object_mut().unwrap();
                    match value.is_null() {
                        true => drop(members.remove(name)),
                        false => drop(members.insert(name.clone(), value.clone())),
                    }
                }
            }
            if let Some(Ok(hash)) = hash {
                entry.hash = Some(hash);
                state.end_all(&user.id, Some(session));
            }
            json(self.call, 200, &state.users[&user.id].to_json())
        })
    }

    fn send_code(&self, purpose: &str) -> Answer {
        if let Some(refused) = self.captcha() {
            return refused;
        }
        let mut state = self.state();
        if let Some(user) = state.by_email(self.text("email")) {
            state.send_code(&user.id, purpose);
        }
        json(self.call, 200, &json!({}))
    }

    fn verify(&self) -> Answer {
        let token = match self.text("token_hash") {
            "" => self.text("token"),
            token => token,
        };
        let mut state = self.state();
        match state.codes.remove(token) {
            None => self.error(403, "otp_expired", "Token has expired or is invalid"),
            Some((user, _)) => {
                state.confirm(&user);
                let body = self.shared.grant(&mut state, &user, "otp", "aal1");
                json(self.call, 200, &body)
            }
        }
    }

    fn verify_link(&self) -> Answer {
        let mut state = self.state();
        match state.codes.remove(self.parameter("token")) {
            None => redirect("https://app.test/#error=access_denied&error_code=otp_expired"),
            Some((user, _)) => {
                state.confirm(&user);
                let body = self.shared.grant(&mut state, &user, "otp", "aal1");
                let text = |name: &str| body[name].as_str().unwrap().to_owned();
                redirect(&format!(
                    "https://app.test/#access_token={}&refresh_token={}",
                    text("access_token"),
                    text("refresh_token")
                ))
            }
        }
    }

    async fn admin(&self, parts: &[&str]) -> Answer {
        let bearer = self.call.header("authorization");
        // The edge turns a secret key into a token.
        if self.call.header("apikey") != SECRET && bearer != format!("Bearer {SECRET}") {
            return self.error(403, "not_admin", "User not allowed");
        }
        match (&self.call.method, parts) {
            (&Method::POST, [_, "users"]) => self.create_user().await,
            (&Method::GET, [_, "users", id]) => match self.state().users.get(*id) {
                None => self.error(404, "user_not_found", "User not found"),
                Some(user) => json(self.call, 200, &user.to_json()),
            },
            (&Method::DELETE, [_, "users", id]) => {
                let mut state = self.state();
                match state.users.remove(*id) {
                    None => self.error(404, "user_not_found", "User not found"),
                    Some(user) => {
                        state.end_all(&user.id, None);
                        json(self.call, 200, &json!({}))
                    }
                }
            }
            _ => self.error(404, "not_found", "404: Path not found"),
        }
    }

    async fn create_user(&self) -> Answer {
        let email = self.text("email");
        if self.state().by_email(email).is_some() {
            return self.error(
                422,
                "email_exists",
                "A user with this email address has already been registered",
            );
        }
        let password = self.text("password");
        if !password.is_empty() && password.len() < 6 {
            return weak_password(self.call);
        }
        let hash = match password.is_empty() {
            true => None,
            false => match hashed(password).await {
                Ok(hash) => Some(hash),
                Err(()) => {
                    return self.error(
                        400,
                        "validation_failed",
                        "Password cannot be longer than 72 characters",
                    );
                }
            },
        };
        let mut state = self.state();
        if state.by_email(email).is_some() {
            return self.is_taken();
        }
        let confirmed = self.body["email_confirm"] == true;
        let id = state.add_user(email, hash, confirmed);
        let user = state.users.get_mut(&id).unwrap();
        if self.body["user_metadata"].is_object() {
            user.user_metadata = self.body["user_metadata"].clone();
        }
        json(self.call, 200, &user.to_json())
    }

    /// Answers a client that has a token of an open session.
    pub(super) fn with_user(
        &self,
        answer: impl FnOnce(&mut State, User, &str) -> Answer,
    ) -> Answer {
        let token = self.call.header("authorization").strip_prefix("Bearer ");
        let Some(token) = token else {
            return self.error(
                401,
                "no_authorization",
                "This endpoint requires a valid Bearer token",
            );
        };
        // Forged tokens are no concern of a double; expired ones are.
        let claims = claims_of(token).filter(|claims| claims["exp"].as_i64() > Some(now()));
        let Some(claims) = claims.filter(|claims| claims["iss"] == self.shared.issuer) else {
            return self.error(
                403,
                "bad_jwt",
                "invalid JWT: unable to parse or verify signature",
            );
        };
        let text = |name: &str| claims[name].as_str().unwrap_or_default();
        let mut state = self.state();
        let Some(user) = state.users.get(text("sub")).cloned() else {
            return self.error(
                403,
                "user_not_found",
                "User from sub claim in JWT does not exist",
            );
        };
        if !state.sessions.contains_key(text("session_id")) {
            return self.error(
                403,
                "session_not_found",
                "Session from session_id claim in JWT does not exist",
            );
        }
        if user.banned {
            return self.error(403, "user_banned", "User is banned");
        }
        answer(&mut state, user, text("session_id"))
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

/// At the cost of the real server, off the threads that answer.
async fn hashed(password: &str) -> Result<String, ()> {
    if password.len() > 72 {
        return Err(());
    }
    let password = password.to_owned();
    let hash = tokio::task::spawn_blocking(move || bcrypt::hash(password, 10).unwrap());
    Ok(hash.await.unwrap())
}
