//! The sign-in routes: their answers, their refusals, and their behaviour during outages.

mod accounts;
mod bodies;
mod cookies;
mod endpoints;
mod leaks;
mod me;
mod observed;
mod outages;
mod profile;
pub mod reasons;
mod table;
mod throttling;
mod tokens;

use serde_json::{Value, json};

use crate::support::auth_server::{AuthServer, Options};
use crate::support::client::Call;
use crate::support::{Answer, Config, Gateway, Http, eventually};

pub const EMAIL: &str = "ada@example.test";
pub const PASSWORD: &str = "correct horse battery";

/// Limits that no test reaches.
pub const UNLIMITED: &str = "login: { address: 1000000/s, account: 1000000/s }, register: { address: 1000000/s }, refresh: { address: 1000000/s }, reset: { address: 1000000/s }, everywhere: 1000000/s";

/// A gateway in front of a double of Supabase Auth.
pub struct Desk {
    pub double: AuthServer,
    pub gateway: Gateway,
}

impl Desk {
    /// Starts one without effective limits.
    pub async fn open() -> Self {
        Self::with(Options::default(), "", UNLIMITED, |_| {}).await
    }

    /// Starts one with these keys below `supabase`, and these below `throttle`.
    pub async fn with(
        options: Options,
        supabase: &str,
        throttle: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let double = AuthServer::with(options);
        let tokens = double.tokens();
        let identity = identity(&double, supabase, throttle);
        let gateway = Gateway::with(|config| {
            config.set("tokens", &tokens).set("identity", &identity);
            change(config);
        })
        .await;
        Self { double, gateway }
    }

    /// Waits until the gateway has its keys and the list of revocations.
    pub async fn is_ready(&self) {
        is_ready(&self.gateway).await;
    }

    /// A POST of JSON to a sign-in route.
    pub fn post(&self, http: Http, route: &str, body: &Value) -> Call<'_> {
        self.gateway
            .post(http, &format!("/api/v1/auth/{route}"))
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// A GET of a sign-in route, with a token.
    pub fn get(&self, http: Http, route: &str, token: &str) -> Call<'_> {
        self.gateway
            .get(http, &format!("/api/v1/auth/{route}"))
            .bearer(token)
    }

    /// Signs in, and returns the answer.
    pub async fn signed_in(&self, http: Http, email: &str) -> Value {
        let answer = self.post(http, "login", &login(email, PASSWORD)).send();
        answer.await.is_ok().json()
    }
}

/// Waits until a gateway has its keys and the list of revocations.
pub async fn is_ready(gateway: &Gateway) {
    eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
}

/// The mapping under `identity:`.
pub fn identity(double: &AuthServer, supabase: &str, throttle: &str) -> String {
    let whole = double.identity(supabase);
    let whole = whole.trim_end_matches('}').trim_end();
    format!("{whole}, throttle: {{ {throttle} }} }}")
}

pub fn login(email: &str, password: &str) -> Value {
    json!({ "email": email, "password": password })
}

pub fn text<'a>(document: &'a Value, member: &str) -> &'a str {
    document[member].as_str().unwrap()
}

/// Members of an object, sorted.
pub fn members(document: &Value) -> Vec<&str> {
    let mut members: Vec<&str> = document
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    members
}

/// Checks that an answer is the gateway's own and no refusal.
#[track_caller]
pub fn is_own(answer: &Answer) {
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(
        answer.header("content-length"),
        answer.body.len().to_string()
    );
}
