//! The state of the double: users, sessions, refresh tokens, codes; and the tokens that it issues.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foregate::tokens::mint::Claims;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Shared;
use crate::support::tokens::now;

/// The settings of the double.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether an address need not be confirmed.
    pub autoconfirm: bool,
    /// How long a used refresh token may be used again.
    pub reuse_interval: Duration,
    /// Whether the token before the active one may be reused forever, as tokens of the first
    /// version may.
    pub parent_is_good: bool,
    /// How long access tokens live, in seconds.
    pub lifetime: i64,
    /// Whether nobody may sign up.
    pub disable_signup: bool,
    /// Whether signing up and in, and messages, need the answer `CAPTCHA` to a captcha.
    pub captcha: bool,
    /// Whether anybody may sign in as an anonymous user.
    pub anonymous: bool,
    /// The address that the hook before a user is created refuses, with its sentence.
    pub refused: Option<(&'static str, &'static str)>,
    /// Whether only the newest session of a user can be refreshed.
    pub single_session: bool,
}

impl Options {
    /// Signs up without confirmation, like a developer's project.
    pub const DEFAULT: Self = Self {
        autoconfirm: true,
        reuse_interval: Duration::from_secs(10),
        parent_is_good: true,
        lifetime: 3600,
        disable_signup: false,
        captcha: false,
        anonymous: false,
        refused: None,
        single_session: false,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[derive(Default)]
pub struct State {
    pub users: HashMap<String, User>,
    pub sessions: HashMap<String, Session>,
    pub refresh_tokens: HashMap<String, RefreshToken>,
    /// By code: whose it is, and its purpose.
    pub codes: HashMap<String, (String, String)>,
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    pub email: String,
    /// bcrypt.
    pub hash: Option<String>,
    pub confirmed: bool,
    pub banned: bool,
    pub anonymous: bool,
    /// The address that an anonymous user must confirm to become a permanent one.
    pub new_email: Option<String>,
    pub user_metadata: Value,
    pub app_metadata: Value,
    pub factors: Vec<Factor>,
    pub created_at: String,
}

#[derive(Clone, Debug)]
pub struct Factor {
    pub id: String,
    /// `totp`, `phone` or `webauthn`.
    pub kind: String,
    pub verified: bool,
    /// The ids of its challenges.
    pub challenges: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub user: String,
    pub aal: String,
    /// Method and Unix seconds; stamped at grants.
    pub amr: Vec<(String, i64)>,
    /// The refresh token that is valid now.
    pub active: String,
    /// The factor that proved it last.
    pub factor: Option<String>,
    /// The app that has it.
    pub client: Option<String>,
}

#[derive(Clone, Debug)]
pub struct RefreshToken {
    pub session: String,
    pub parent: Option<String>,
    /// Since when it is used up.
    pub used: Option<Instant>,
}

/// The outcome of using a refresh token.
pub enum Refreshed {
    /// A grant.
    Good(Value),
    /// 400 with this code.
    Refused(&'static str, &'static str),
}

impl State {
    pub fn add_user(&mut self, email: &str, hash: Option<String>, confirmed: bool) -> String {
        let id = Uuid::now_v7().to_string();
        let user = User {
            id: id.clone(),
            email: email.to_lowercase(),
            hash,
            confirmed,
            banned: false,
            anonymous: false,
            new_email: None,
            user_metadata: json!({}),
            app_metadata: json!({ "provider": "email", "providers": ["email"] }),
            factors: Vec::new(),
            created_at: "2026-01-01T00:00:00.000000Z".to_owned(),
        };
        self.users.insert(id.clone(), user);
        id
    }

    pub fn by_email(&self, email: &str) -> Option<User> {
        let email = email.to_lowercase();
        let is = |user: &&User| user.email == email && !email.is_empty();
        self.users.values().find(is).cloned()
    }

    /// Adds an anonymous user and returns the id.
    pub fn add_anonymous(&mut self) -> String {
        let id = self.add_user("", None, false);
        let user = self.users.get_mut(&id).unwrap();
        user.anonymous = true;
        user.app_metadata = json!({});
        id
    }

    /// An address was confirmed: of a new user, or of an anonymous one, who is permanent then.
    pub fn confirm(&mut self, user: &str) {
        let user = self.users.get_mut(user).unwrap();
        if let Some(email) = user.new_email.take() {
            user.email = email;
        }
        user.anonymous = false;
        user.confirmed = true;
    }

    pub fn add_factor(&mut self, user: &str) -> String {
        let factor = Factor::new("totp", true);
        let id = factor.id.clone();
        self.user(user).factors.push(factor);
        id
    }

    pub fn user(&mut self, id: &str) -> &mut User {
        self.users.get_mut(id).unwrap()
    }

    pub fn factor(&mut self, user: &str, id: &str) -> &mut Factor {
        let factors = &mut self.user(user).factors;
        factors.iter_mut().find(|factor| factor.id == id).unwrap()
    }

    pub fn send_code(&mut self, user: &str, purpose: &str) {
        let code = Uuid::now_v7().simple().to_string();
        self.codes.retain(|_, (whose, _)| whose != user);
        self.codes
            .insert(code, (user.to_owned(), purpose.to_owned()));
    }

    pub fn code_for(&self, email: &str) -> Option<String> {
        self.code_for_user(&self.by_email(email)?.id)
    }

    pub fn code_for_user(&self, user: &str) -> Option<String> {
        let is = |entry: &(&String, &(String, String))| entry.1.0 == user;
        self.codes.iter().find(is).map(|(code, _)| code.clone())
    }

    /// Ends a session and forgets its refresh tokens.
    pub fn end(&mut self, session: &str) {
        self.sessions.remove(session);
    }

    pub fn end_all(&mut self, user: &str, but: Option<&str>) {
        self.sessions
            .retain(|id, session| session.user != user || but == Some(id.as_str()));
    }
}

impl Shared {
    /// Begins a session.
    pub fn grant(&self, state: &mut State, user: &str, method: &str, aal: &str) -> Value {
        let session = Uuid::now_v7().to_string();
        let refresh = new_token();
        let entry = Session {
            user: user.to_owned(),
            aal: aal.to_owned(),
            amr: vec![(method.to_owned(), now())],
            active: refresh.clone(),
            factor: None,
            client: None,
        };
        state.sessions.insert(session.clone(), entry);
        let token = RefreshToken {
            session: session.clone(),
            parent: None,
            used: None,
        };
        state.refresh_tokens.insert(refresh, token);
        self.token_body(state, &session)
    }

    /// A second factor was verified: the same session, one level higher.
    pub fn step_up(&self, state: &mut State, session: &str) -> Value {
        let entry = state.sessions.get_mut(session).unwrap();
        entry.aal = "aal2".to_owned();
        entry.amr.push(("totp".to_owned(), now()));
        self.rotate(state, session);
        self.token_body(state, session)
    }

    /// Uses a refresh token.
    pub fn refresh(&self, state: &mut State, token: &str) -> Refreshed {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if token.len() != 12 || !token.bytes().all(is_plain) {
            return Refreshed::Refused("validation_failed", "Refresh token is not valid");
        }
        let Some(found) = state.refresh_tokens.get(token).cloned() else {
            return Refreshed::Refused(
                "refresh_token_not_found",
                "Invalid Refresh Token: Refresh Token Not Found",
            );
        };
        let Some(session) = state.sessions.get(&found.session).cloned() else {
            return Refreshed::Refused(
                "session_not_found",
                "Invalid Refresh Token: Session Not Found",
            );
        };
        if state.users[&session.user].banned {
            return Refreshed::Refused("user_banned", "Invalid Refresh Token: User Banned");
        }
        // Ids of sessions are in the order of their sign-ins.
        let is_newer = |id: &String, one: &Session| one.user == session.user && *id > found.session;
        if self.options.single_session && state.sessions.iter().any(|(id, one)| is_newer(id, one)) {
            let message = "Invalid Refresh Token: Session Expired (Revoked by Newer Login)";
            return Refreshed::Refused("session_expired", message);
        }
        match found.used {
            None => self.rotate(state, &found.session),
            Some(used) => {
                let active = &state.refresh_tokens[&session.active];
                let is_parent = active.parent.as_deref() == Some(token);
                let may_repeat = (is_parent && self.options.parent_is_good)
                    || used.elapsed() <= self.options.reuse_interval;
                if !may_repeat {
                    state.end(&found.session);
                    return Refreshed::Refused(
                        "refresh_token_already_used",
                        "Invalid Refresh Token: Already Used",
                    );
                }
            }
        }
        Refreshed::Good(self.token_body(state, &found.session))
    }

    fn rotate(&self, state: &mut State, session: &str) {
        let old = state.sessions[session].active.clone();
        let new = new_token();
        state.refresh_tokens.get_mut(&old).unwrap().used = Some(Instant::now());
        let token = RefreshToken {
            session: session.to_owned(),
            parent: Some(old),
            used: None,
        };
        state.refresh_tokens.insert(new.clone(), token);
        state.sessions.get_mut(session).unwrap().active = new;
    }

    pub(super) fn token_body(&self, state: &State, id: &str) -> Value {
        let session = &state.sessions[id];
        let user = &state.users[&session.user];
        let issued = now();
        let expires = issued + self.options.lifetime;
        let amr: Vec<Value> = session
            .amr
            .iter()
            .map(|(method, at)| json!({ "method": method, "timestamp": at }))
            .collect();
        let claims = Claims::new(&self.issuer, &user.id, issued)
            .expiring(expires)
            .session(id)
            .email(&user.email)
            .with("phone", "")
            .with("aal", session.aal.as_str())
            .with("amr", amr)
            .with("is_anonymous", user.anonymous)
            .with("app_metadata", user.app_metadata.clone())
            .with("user_metadata", user.user_metadata.clone());
        let claims = match &session.client {
            Some(client) => claims.with("client_id", client.as_str()),
            None => claims,
        };
        json!({
            "access_token": self.signer.sign(&claims).unwrap(),
            "token_type": "bearer",
            "expires_in": self.options.lifetime,
            "expires_at": expires,
            "refresh_token": session.active,
            "user": user.to_json(),
        })
    }
}

impl Factor {
    pub fn new(kind: &str, verified: bool) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            kind: kind.to_owned(),
            verified,
            challenges: Vec::new(),
        }
    }
}

impl User {
    pub fn to_json(&self) -> Value {
        let mut user = json!({
            "id": self.id,
            "aud": "authenticated",
            "role": "authenticated",
            "email": self.email,
            "phone": "",
            "app_metadata": self.app_metadata,
            "user_metadata": self.user_metadata,
            "identities": [],
            "created_at": self.created_at,
            "updated_at": self.created_at,
            "is_anonymous": self.anonymous,
        });
        if self.confirmed {
            user["email_confirmed_at"] = json!(self.created_at);
            user["confirmed_at"] = json!(self.created_at);
        }
        if self.banned {
            user["banned_until"] = json!("2099-01-01T00:00:00Z");
        }
        if !self.factors.is_empty() {
            let factor = |factor: &Factor| {
                let status = if factor.verified {
                    "verified"
                } else {
                    "unverified"
                };
                json!({ "id": factor.id, "factor_type": factor.kind, "status": status })
            };
            user["factors"] = self.factors.iter().map(factor).collect();
        }
        user
    }
}

/// Twelve letters, like refresh tokens of the first version.
fn new_token() -> String {
    let id = Uuid::now_v7().simple().to_string();
    id[id.len() - 12..].to_owned()
}

/// The claims of a token, without verification.
pub fn claims_of(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
