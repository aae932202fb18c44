//! Signs in the users of a test: another replica from the gateway's point of view, which shares its
//! keys and its store.

use std::path::Path;
use std::sync::Arc;

use foregate::breaker::Outage;
use foregate::clock::unix_millis;
use foregate::config;
use foregate::gateway::metrics::Metrics;
use foregate::request::headers::DEFAULT_COOKIE;
use foregate::revocation::Revocations;
use foregate::secrets::secret::Secret;
use foregate::sessions::Sessions;
use foregate::sessions::cookie::Cookie;
use foregate::sessions::record::{Carrier, ClientInfo, InnerTokens};
use foregate::sessions::sign_in::{NewSession, SignedInUser};
use foregate::store::{self, Store};
use foregate::tokens::mint::Claims;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::client::Call;
use super::config::KEY;
use super::{AuthServer, Issuer, RedisServer, eventually};

/// A replica without listeners.
pub struct Desk {
    pub sessions: Arc<Sessions>,
    pub store: Arc<dyn Store>,
    pub metrics: Metrics,
    /// Its own runtime, since tests block theirs.
    background: Option<Runtime>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(background) = self.background.take() {
            background.shutdown_background();
        }
    }
}

/// A user who signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub subject: String,
    /// `session_id` of the tokens.
    pub session: String,
    /// The value of the cookie.
    pub cookie: String,
    pub csrf: String,
    /// The access token behind the cookie.
    pub access: String,
    /// And the refresh token.
    pub refresh: String,
    pub set_cookie: String,
}

impl Desk {
    /// A desk that shares this server, with the key that [`Config::store`](super::Config::store)
    /// writes.
    pub async fn at(redis: &RedisServer) -> Self {
        Self::with(redis, "{}").await
    }

    /// The same, with this value of `sessions`.
    pub async fn with(redis: &RedisServer, sessions: &str) -> Self {
        let desk = Self::open(
            &format!("store: {{ redis: \"{}\", timeout: 500ms }}\n", redis.url()),
            sessions,
        )
        .await;
        eventually("the store answers", || {
            desk.store.outage() == Outage::Reachable
        })
        .await;
        desk
    }

    /// A desk with the same key and a store of its own: its cookies are valid, and no other replica
    /// finds their sessions.
    pub async fn alone() -> Self {
        Self::open("", "{}").await
    }

    async fn open(store: &str, sessions: &str) -> Self {
        let text = format!(
            "environment: development\nlisten: [{{ address: 127.0.0.1:0, tls: off }}]\nkeys: [{{ id: k1, secret: \"{KEY}\" }}]\n{store}sessions: {sessions}\nroutes: [{{ path: /health, access: public, serve: health }}]\n"
        );
        let loaded = config::load_str("desk.yaml", &text, Path::new("."), &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let metrics = Metrics::new().unwrap();
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (config, counts) = (loaded.config, metrics.sessions.clone());
        let (stored, listed) = (metrics.store.clone(), metrics.revocations.clone());
        let opening = background.spawn(async move {
            let store = store::open(&config, &stored).unwrap();
            let (revocations, mut follower) = Revocations::new(store.clone(), 1000, listed);
            follower.catch_up().await;
            tokio::spawn(follower.run());
            let clock = unix_millis;
            let sessions =
                Sessions::new(&config, store.clone(), revocations, None, counts, clock).unwrap();
            (store, sessions)
        });
        let (store, sessions) = opening.await.unwrap();
        Self {
            sessions,
            store,
            metrics,
            background: Some(background),
        }
    }

    /// Signs a fresh user in, with a cookie.
    pub async fn sign_in(&self, issuer: &Issuer) -> SignedIn {
        self.sign_in_with(issuer, &issuer.claims(), None).await
    }

    /// Signs the user of these claims in, with a cookie that may replace an older one. The claims
    /// get a session unless they have one.
    pub async fn sign_in_with(
        &self,
        issuer: &Issuer,
        claims: &Claims,
        replaces: Option<&SignedIn>,
    ) -> SignedIn {
        let has_session = claims.as_object().contains_key("session_id");
        let claims = match has_session {
            true => claims.clone(),
            false => claims.clone().session(&uuid::Uuid::now_v7().to_string()),
        };
        let tokens = (issuer.sign(&claims), "no refresh token".to_owned());
        let claims = Value::from(claims.as_object().clone());
        self.begin(&claims, tokens, replaces).await
    }

    /// Signs in the user of these access and refresh tokens, which the identity server issued.
    pub async fn sign_in_by(&self, tokens: (String, String)) -> SignedIn {
        self.begin(&AuthServer::claims(&tokens.0), tokens, None)
            .await
    }

    async fn begin(
        &self,
        claims: &Value,
        (access, refresh): (String, String),
        replaces: Option<&SignedIn>,
    ) -> SignedIn {
        let text = |name: &str| claims[name].as_str().unwrap().to_owned();
        let (subject, session) = (text("sub"), text("session_id"));
        let granted = SignedInUser {
            issuer: text("iss"),
            subject: subject.clone(),
            session: Some(session.clone()),
            tokens: InnerTokens {
                access: Secret::new(access.as_str()),
                refresh: Secret::new(refresh.as_str()),
            },
            asked_at: unix_millis(),
        };
        let replaces = replaces.map(|old| self.read(&old.cookie));
        let begun = self
            .sessions
            .begin(granted, Carrier::Cookie, seen(), replaces);
        let NewSession { set_cookie, csrf } = begun.await.unwrap();
        let set_cookie = set_cookie.unwrap().to_str().unwrap().to_owned();
        let value = set_cookie.split(['=', ';']).nth(1).unwrap().to_owned();
        SignedIn {
            subject,
            session,
            cookie: value,
            csrf: csrf.unwrap(),
            access,
            refresh,
            set_cookie,
        }
    }

    /// The cookie of this value, which the gateway sealed.
    pub fn read(&self, value: &str) -> Cookie {
        self.sessions
            .cookies()
            .read(value)
            .expect("a cookie of ours")
    }
}

/// The client data of some browser.
pub fn seen() -> ClientInfo {
    ClientInfo {
        address: "203.0.113.9".parse().unwrap(),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0".to_owned()),
    }
}

impl<'c> Call<'c> {
    /// Adds the cookie of a user who signed in.
    pub fn cookie_of(self, somebody: &SignedIn) -> Self {
        self.header("cookie", format!("{DEFAULT_COOKIE}={}", somebody.cookie))
    }

    /// Adds the cookie, and the headers that a page of the gateway's own origin sends with a
    /// change.
    pub fn page_of(self, somebody: &SignedIn) -> Self {
        self.cookie_of(somebody)
            .header("origin", format!("https://{}", super::pki::NAME))
            .header("x-csrf-token", &somebody.csrf)
    }
}
