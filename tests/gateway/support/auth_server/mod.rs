//! A double of Supabase Auth (GoTrue), as the edge of a project shows it: `/auth/v1` behind an
//! `apikey`.
//!
//! It does what the real one documents: real bcrypt at cost 10, ES256 tokens whose `amr` is stamped
//! at grants and kept by refreshes, refresh tokens that rotate, reuse rules, both formats of
//! errors. It counts every call by kind, and can be told to misbehave, kind by kind.

mod answers;
mod elsewhere;
mod endpoints;
mod factors;
mod state;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use foregate::tokens::mint::Signer;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use jsonwebtoken::Algorithm;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub use endpoints::CAPTCHA;
pub use state::Options;
use state::State;

use super::eventually;

/// Keys of the project.
pub const PUBLISHABLE: &str = "sb_publishable_double0123456789";
/// Another publishable key.
pub const OTHER_PUBLISHABLE: &str = "sb_publishable_other0123456789";
/// The administrators' key.
pub const SECRET: &str = "sb_secret_double0123456789";

/// How a kind of call is answered.
#[derive(Clone, Debug, Default)]
pub enum Behave {
    /// As documented.
    #[default]
    Well,
    /// Never, and the connection stays open.
    Hang,
    /// The request is read, nothing is done, and the connection ends.
    Reset,
    /// The request is carried out, and the connection ends before the answer.
    LoseAnswer,
    /// With this status, and an error in GoTrue's format.
    Fail(u16),
    /// With this status and code.
    Refuse(u16, &'static str),
    /// As the edge in front of it answers, with this status and body.
    Edge(u16, &'static str),
    /// With a body of so many bytes.
    Fill(usize),
    /// As documented, after this long.
    Slow(Duration),
    /// As documented, when the gate is open.
    Wait(Hold),
    /// The first calls in this way, the others as documented.
    First(usize, Box<Behave>),
}

/// Holds calls back until it is released.
#[derive(Clone, Debug)]
pub struct Hold(Arc<watch::Sender<bool>>);

impl Hold {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub fn let_go(&self) {
        self.0.send_replace(true);
    }

    async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|gone| *gone).await;
    }
}

/// A call as it was received.
#[derive(Clone, Debug)]
pub struct Called {
    /// Its kind; see [`kind`].
    pub kind: String,
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Called {
    /// A field that occurs once; empty if it does not occur.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let all: Vec<_> = self.headers.get_all(name).iter().collect();
        assert!(all.len() <= 1, "`{name}` occurs {} times", all.len());
        all.first().map_or("", |value| value.to_str().unwrap())
    }
}

/// A running double. Dropping it ends it.
pub struct AuthServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    state: Mutex<State>,
    signer: Signer,
    issuer: String,
    calls: Mutex<Vec<Called>>,
    begun: Mutex<HashMap<String, usize>>,
    behaviour: Mutex<HashMap<String, Behave>>,
    options: Options,
}

impl AuthServer {
    /// Signs up without confirmation, like a developer's project.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// The same with other settings.
    pub fn with(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            signer: Signer::generate(Algorithm::ES256)
                .unwrap()
                .with_kid("double"),
            issuer: format!("http://{address}/auth/v1"),
            calls: Mutex::default(),
            begun: Mutex::default(),
            behaviour: Mutex::default(),
            options,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let accepting = shared.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(accepting.clone(), stream));
            }
        });
        Self {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    /// The URL of the project.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// The mapping under `identity:` of a gateway in front of it; `more` is written into
    /// `supabase`.
    pub fn identity(&self, more: &str) -> String {
        format!(
            "{{ supabase: {{ url: \"{}\", publishable_keys: [{PUBLISHABLE}, {OTHER_PUBLISHABLE}], secret_key: {SECRET}{more} }} }}",
            self.url()
        )
    }

    /// An item of `tokens:` that accepts its tokens, whose keys are published.
    pub fn tokens(&self) -> String {
        format!(
            "\n  - {{ issuer: \"{issuer}\", audience: authenticated, algorithms: ES256, jwks_url: \"{issuer}/.well-known/jwks.json\", require: {{ role: [authenticated] }} }}",
            issuer = self.issuer()
        )
    }

    /// How this kind of call is answered from now on; see [`kind`].
    pub fn behave(&self, kind: &str, how: Behave) -> &Self {
        let mut behaviour = self.shared.behaviour.lock().unwrap();
        behaviour.insert(kind.to_owned(), how);
        self
    }

    /// How all kinds of calls are answered that have no behaviour of their own.
    pub fn behave_always(&self, how: Behave) -> &Self {
        self.behave("*", how)
    }

    /// How many calls of this kind were received.
    pub fn calls(&self, kind: &str) -> usize {
        let begun = self.shared.begun.lock().unwrap();
        begun.get(kind).copied().unwrap_or(0)
    }

    /// Waits until so many calls of this kind were received.
    pub async fn has_seen(&self, kind: &str, calls: usize) {
        let what = format!("{calls} calls of `{kind}`");
        eventually(&what, || self.calls(kind) >= calls).await;
    }

    /// The newest call of this kind.
    #[track_caller]
    pub fn last(&self, kind: &str) -> Called {
        let calls = self.shared.calls.lock().unwrap();
        let found = calls.iter().rev().find(|call| call.kind == kind);
        found.unwrap_or_else(|| panic!("no `{kind}`")).clone()
    }

    /// Adds a user with a confirmed e-mail address and returns the id. The hash is of cost 4, to be
    /// quick; this user's sign-ins are compared at that cost.
    pub fn add_user(&self, email: &str, password: &str) -> String {
        let hash = bcrypt::hash(password, 4).unwrap();
        self.state().add_user(email, Some(hash), true)
    }

    /// Whether a user has this address.
    pub fn has_user(&self, email: &str) -> bool {
        self.state().by_email(email).is_some()
    }

    /// A session of a user, as if they had signed in: access and refresh token.
    pub fn sign_in(&self, user: &str) -> (String, String) {
        let body = self
            .shared
            .grant(&mut self.state(), user, "password", "aal1");
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (text("access_token"), text("refresh_token"))
    }

    /// New tokens for a refresh token, as if another client had used it: access and refresh token.
    #[track_caller]
    pub fn refresh(&self, token: &str) -> (String, String) {
        let state::Refreshed::Good(body) = self.shared.refresh(&mut self.state(), token) else {
            panic!("it is refused");
        };
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (text("access_token"), text("refresh_token"))
    }

    /// The claims of an access token.
    pub fn claims(token: &str) -> serde_json::Value {
        state::claims_of(token).unwrap()
    }

    /// The session of an access token.
    pub fn session_of(token: &str) -> String {
        let claims = Self::claims(token);
        claims["session_id"].as_str().unwrap().to_owned()
    }

    /// Whether a session can still be refreshed.
    pub fn session_lives(&self, session: &str) -> bool {
        self.state().sessions.contains_key(session)
    }

    /// How many open sessions a user has.
    pub fn sessions_of(&self, user: &str) -> usize {
        let state = self.state();
        let of = |session: &&state::Session| session.user == user;
        state.sessions.values().filter(of).count()
    }

    /// Bans a user.
    pub fn ban(&self, user: &str) {
        self.state().users.get_mut(user).unwrap().banned = true;
    }

    /// Replaces what a user has written about themselves.
    pub fn set_metadata(&self, user: &str, metadata: serde_json::Value) {
        self.state().users.get_mut(user).unwrap().user_metadata = metadata;
    }

    /// Adds a proven second factor; its id. The code `123456` proves it again.
    pub fn add_factor(&self, user: &str) -> String {
        self.state().add_factor(user)
    }

    /// Adds a second factor that was never proven; its id.
    pub fn add_unproven_factor(&self, user: &str) -> String {
        let id = self.state().add_factor(user);
        self.state().factor(user, &id).verified = false;
        id
    }

    /// Access and refresh token of a session at the second level, proven by this factor.
    pub fn sign_in_with(&self, user: &str, factor: &str) -> (String, String) {
        let mut state = self.state();
        let body = self.shared.grant(&mut state, user, "password", "aal1");
        let session = Self::session_of(body["access_token"].as_str().unwrap());
        let body = self.shared.step_up(&mut state, &session);
        state.sessions.get_mut(&session).unwrap().factor = Some(factor.to_owned());
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (text("access_token"), text("refresh_token"))
    }

    /// The access token of an app to which a user gave access.
    pub fn sign_in_app(&self, user: &str, client: &str) -> String {
        let mut state = self.state();
        let body = self.shared.grant(&mut state, user, "password", "aal1");
        let session = Self::session_of(body["access_token"].as_str().unwrap());
        state.sessions.get_mut(&session).unwrap().client = Some(client.to_owned());
        let body = self.shared.token_body(&state, &session);
        body["access_token"].as_str().unwrap().to_owned()
    }

    /// The code in the last message to this address.
    pub fn code_for(&self, email: &str) -> Option<String> {
        self.state().code_for(email)
    }

    /// The code in the last message to this user, whatever the address.
    pub fn code_for_user(&self, id: &str) -> Option<String> {
        self.state().code_for_user(id)
    }

    /// Makes a permanent user of an anonymous one, as a link that leads past the gateway does.
    pub fn convert(&self, id: &str, email: &str) {
        let mut state = self.state();
        state.users.get_mut(id).unwrap().new_email = Some(email.to_owned());
        state.confirm(id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl Drop for AuthServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The kind of a call, in a word: for `/token` its `grant_type`, else the path with `/` as `-`, ids
/// left out, and the method where there are several.
pub fn kind(method: &Method, path: &str, query: &str) -> String {
    let path = path.trim_start_matches("/auth/v1/").trim_end_matches('/');
    if path == "token" {
        let grant = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("grant_type="));
        return grant.unwrap_or("token").to_owned();
    }
    let parts: Vec<&str> = path.split('/').filter(|part| part.len() != 36).collect();
    let path = parts.join("-");
    match (method, path.as_str()) {
        (&Method::GET, "user") => "read-user".to_owned(),
        (&Method::PUT, "user") => "change-user".to_owned(),
        (&Method::POST, "admin-users") => "create-user".to_owned(),
        (&Method::DELETE, "admin-users") => "delete-user".to_owned(),
        (_, ".well-known-jwks.json") => "jwks".to_owned(),
        (&Method::DELETE, "factors") => "unenroll".to_owned(),
        _ => path,
    }
}

async fn serve(shared: Arc<Shared>, stream: tokio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(shared.clone(), request));
    // An error of a service ends its connection without an answer.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The connection ends.
#[derive(Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ended")
    }
}

impl std::error::Error for Ended {}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Ended> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Ended)?.to_bytes();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let kind = kind(&head.method, head.uri.path(), &query);
    let call = Called {
        kind: kind.clone(),
        method: head.method,
        target: head.uri.to_string(),
        headers: head.headers,
        body,
    };
    shared.calls.lock().unwrap().push(call.clone());
    let number = {
        let mut begun = shared.begun.lock().unwrap();
        let count = begun.entry(kind.clone()).or_default();
        *count += 1;
        *count
    };
    let mut how = shared.behaviour(&kind);
    if let Behave::First(calls, rest) = how {
        how = match number <= calls {
            true => *rest,
            false => Behave::Well,
        };
    }
    match how {
        Behave::Well | Behave::First(..) | Behave::LoseAnswer => {}
        Behave::Hang => std::future::pending::<()>().await,
        Behave::Reset => return Err(Ended),
        Behave::Fail(status) => {
            return Ok(answers::error(
                &call,
                status,
                "unexpected_failure",
                "as told",
            ));
        }
        Behave::Refuse(status, code) => return Ok(answers::error(&call, status, code, "as told")),
        Behave::Edge(status, body) => {
            let answer = Response::builder()
                .status(status)
                .header("content-type", "application/json");
            return Ok(answer.body(Full::from(body)).unwrap());
        }
        Behave::Fill(bytes) => return Ok(Response::new(Full::from(vec![b' '; bytes]))),
        Behave::Slow(pause) => tokio::time::sleep(pause).await,
        Behave::Wait(ref hold) => hold.pass().await,
    }
    let answer: Result<_, Infallible> = Ok(endpoints::answer(&shared, &call).await);
    match how {
        Behave::LoseAnswer => Err(Ended),
        _ => answer.map_err(|never| match never {}),
    }
}

impl Shared {
    fn behaviour(&self, kind: &str) -> Behave {
        let behaviour = self.behaviour.lock().unwrap();
        let how = behaviour.get(kind).or_else(|| behaviour.get("*"));
        how.cloned().unwrap_or_default()
    }
}
