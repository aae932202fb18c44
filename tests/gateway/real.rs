//! The same questions to a real Supabase Auth as to its double: `FOREGATE_SUPABASE_URL`, with the
//! project's publishable key in `FOREGATE_SUPABASE_KEY`, and `FOREGATE_SUPABASE_JWT_SECRET` if it
//! signs with a secret. It makes one account, and prints what it could not try.
//!
//! The double always answers them, so that the questions are right.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::sign_in::{PASSWORD, UNLIMITED, is_ready, login, text};
use crate::support::auth_server::{AuthServer, PUBLISHABLE};
use crate::support::{Answer, Gateway, Http};

const ROUTES: &str = r#"
    - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
    - { path: /mine, access: user }
"#;

/// A project of Supabase.
struct Project {
    url: String,
    key: String,
    secret: Option<String>,
}

impl Project {
    fn from_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        Some(Self {
            url: variable("FOREGATE_SUPABASE_URL")?,
            key: variable("FOREGATE_SUPABASE_KEY").expect("FOREGATE_SUPABASE_KEY is set"),
            secret: variable("FOREGATE_SUPABASE_JWT_SECRET"),
        })
    }

    fn of(double: &AuthServer) -> Self {
        Self {
            url: double.url(),
            key: PUBLISHABLE.to_owned(),
            secret: None,
        }
    }

    async fn gateway(&self) -> Gateway {
        let issuer = format!("{}/auth/v1", self.url.trim_end_matches('/'));
        let keys = match &self.secret {
            Some(secret) => format!("algorithms: HS256, secret: \"{secret}\""),
            None => {
                format!("algorithms: [ES256], jwks_url: \"{issuer}/.well-known/jwks.json\"")
            }
        };
        let gateway = Gateway::with(|config| {
            config
                .set(
                    "tokens",
                    &format!("\n  - {{ issuer: \"{issuer}\", audience: authenticated, {keys} }}"),
                )
                .set(
                    "identity",
                    &format!(
                        "{{ supabase: {{ url: \"{}\", publishable_keys: [\"{}\"] }}, throttle: {{ {UNLIMITED} }} }}",
                        self.url, self.key
                    ),
                )
                .routes(ROUTES);
        })
        .await;
        is_ready(&gateway).await;
        gateway
    }
}

/// A client of the project behind a gateway.
struct Client<'a> {
    gateway: &'a Gateway,
    key: &'a str,
}

impl Client<'_> {
    async fn asks(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        let mut call = self
            .gateway
            .call(Http::Two, method, &format!("/auth/v1/{path}"))
            .header("apikey", self.key)
            .header("x-supabase-api-version", "2024-01-01");
        if !token.is_empty() {
            call = call.bearer(token);
        }
        if let Some(body) = body {
            call = call
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        call.send().await
    }

    async fn refreshes(&self, token: &str) -> Answer {
        let body = json!({ "refresh_token": token });
        self.asks("POST", "token?grant_type=refresh_token", "", Some(body))
            .await
    }

    async fn own(&self, method: &str, route: &str, token: &str) -> Answer {
        let path = format!("/api/v1/auth/{route}");
        let call = self.gateway.call(Http::One, method, &path);
        call.bearer(token).send().await
    }

    #[track_caller]
    fn says(answer: &Answer, status: u16, code: &str) {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["code"], code, "{}", answer.text());
    }
}

/// Asks a project; returns what could not be tried.
async fn ask(project: &Project) -> Vec<&'static str> {
    let gateway = project.gateway().await;
    let client = Client {
        gateway: &gateway,
        key: &project.key,
    };
    let mut untried = vec![
        "links and codes in messages, which somebody would have to read",
        "redirects of other providers",
        "second factors by telephone",
        "an edge that refuses the key, or has no server",
        "banned users, which need the secret key",
    ];
    let settings = client.asks("GET", "settings", "", None).await;
    let settings = settings.is_ok().json();
    for token in ["x", "ABCDEFGHIJKL", "not a token"] {
        Client::says(&client.refreshes(token).await, 400, "validation_failed");
    }
    let unknown = client.refreshes("nobodyhasit1").await;
    Client::says(&unknown, 400, "refresh_token_not_found");
    let empty = client.refreshes("").await;
    assert_eq!(empty.status, 400, "{}", empty.text());
    if settings["mailer_autoconfirm"] != true || settings["disable_signup"] == true {
        untried.push("whatever needs an account: sign-up is closed, or messages must be confirmed");
        return untried;
    }
    let email = format!("foregate-{}@example.com", Uuid::now_v7().simple());
    let new = client.asks("POST", "signup", "", Some(login(&email, PASSWORD)));
    new.await.is_ok();
    let wrong = login(&email, "not this one");
    let wrong = client.asks("POST", "token?grant_type=password", "", Some(wrong));
    Client::says(&wrong.await, 400, "invalid_credentials");
    let good = login(&email, PASSWORD);
    let grant = client.asks("POST", "token?grant_type=password", "", Some(good));
    let grant = grant.await.is_ok().json();
    let token = text(&grant, "access_token");
    changes_and_sessions(&client, token).await;

    let refreshed = client.refreshes(text(&grant, "refresh_token")).await;
    let refreshed = refreshed.is_ok().json();
    let newest = text(&refreshed, "access_token");
    client.own("POST", "logout", newest).await.is_ok();
    client.own("POST", "logout", newest).await.is_ok();
    for token in [token, newest] {
        let user = client.asks("GET", "user", token, None).await;
        Client::says(&user, 401, "session_not_found");
    }
    // Until the identity server has it, too, the gateway refuses by itself.
    let again = client.refreshes(text(&refreshed, "refresh_token")).await;
    assert_eq!(again.status, 400, "{}", again.text());
    let code = again.json()["code"].clone();
    assert!(
        code == "session_not_found" || code == "refresh_token_not_found",
        "{code}"
    );
    untried
}

async fn changes_and_sessions(client: &Client<'_>, token: &str) {
    let user = client.asks("GET", "user", token, None).await;
    assert!(user.is_ok().json()["id"].is_string());
    let nul = json!({ "data": { "note": "\0" } });
    let nul = client.asks("PUT", "user", token, Some(nul)).await;
    Client::says(&nul, 400, "validation_failed");
    let long = json!({ "data": { "note": "x".repeat(9000) } });
    let long = client.asks("PUT", "user", token, Some(long)).await;
    Client::says(&long, 400, "validation_failed");
    let data = json!({ "data": { "note": "<short>" } });
    let changed = client.asks("PUT", "user", token, Some(data)).await;
    assert_eq!(changed.is_ok().json()["user_metadata"]["note"], "<short>");
    let mine = client.gateway.get(Http::Two, "/mine").bearer(token).send();
    mine.await.is_ok();
    let list = client.own("GET", "sessions", token).await;
    let list = list.is_ok().json();
    let current = |one: &&Value| one["current"] == true;
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.iter().filter(current).count(), 1, "{list}");
}

#[tokio::test]
async fn a_real_identity_server_answers_as_its_double_does() {
    let double = AuthServer::start();
    ask(&Project::of(&double)).await;
    let Some(project) = Project::from_environment() else {
        eprintln!("NOT PROVEN: a real identity server; set FOREGATE_SUPABASE_URL");
        return;
    };
    for what in ask(&project).await {
        eprintln!("NOT TRIED: {what}");
    }
}
