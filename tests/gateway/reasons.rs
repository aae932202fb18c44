//! Every reason of the table is produced end to end, on every version that the table says can
//! produce it.
//!
//! The test iterates over `Reason::ALL`, and no `match` here has a wildcard: a new reason without a
//! case does not compile.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use foregate::denial::{Reason, Wire};
use foregate::tokens::mint::Claims;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::overload;
use crate::passthrough;
use crate::revocation;
use crate::sign_in;
use crate::streams::socket::{self, End};
use crate::support::client::Door;
use crate::support::tokens::{ISSUER, now, subject};
use crate::support::{
    Desk, Gate, Gateway, Http, Origin, RedisServer, Reply, World, eventually, in_time, world,
};

/// Bodies and heads of this length exceed every limit of the configuration below.
const LONG: usize = 9 * 1024;

/// A case with a gateway of its own.
type Apart = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many of those run at once. They wait for processes to start, and for timeouts.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn every_reason_is_produced_on_every_version_in_the_table() {
    let servers = Arc::new(Servers::start());
    let gateway = servers.gateway().await;
    gateway.may_panic();
    let gateway = Arc::new(gateway);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut apart = JoinSet::new();
    let mut missing = Vec::new();
    for reason in Reason::ALL {
        for http in versions(*reason) {
            let name = format!("{} on {http:?}", reason.code());
            let (gateway, servers) = (gateway.clone(), servers.clone());
            // One after the other, since each inspects what the shared origin received.
            let case = async move {
                let apart = produce(&gateway, &servers, *reason, http).await;
                if is_found_before_forwarding(*reason) {
                    gateway.origin.saw_nothing();
                }
                gateway.origin.take();
                apart
            };
            // A task of its own, so that one failure does not hide the others.
            match tokio::spawn(case).await {
                Ok(None) => {}
                Ok(Some(case)) => {
                    let places = places.clone();
                    apart.spawn(async move {
                        let _place = places.acquire_owned().await.unwrap();
                        tokio::spawn(case).await.is_err().then_some(name)
                    });
                }
                Err(_) => missing.push(name),
            }
        }
    }
    missing.extend(apart.join_all().await.into_iter().flatten());
    assert!(missing.is_empty(), "{missing:#?}");
}

#[tokio::test]
async fn a_denied_path_looks_like_one_that_does_not_exist() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        for method in ["GET", "POST", "OPTIONS", "PROPFIND"] {
            let mut shown = Vec::new();
            for (path, reason) in [
                ("/hidden", Reason::RouteDenied),
                ("/nowhere", Reason::RouteUnknown),
            ] {
                let call = gateway
                    .call(http, method, path)
                    .bearer(&gateway.issuer.token());
                let answer = call.send().await;
                let (id, mut headers) = (
                    answer.is_denied(reason).id().to_owned(),
                    answer.headers.clone(),
                );
                headers.remove("x-request-id");
                headers.remove("date");
                shown.push((answer.status, answer.text().replace(&id, ""), headers));
            }
            assert_eq!(shown[0], shown[1], "{method}");
        }
    }
    gateway.origin.saw_nothing();
}

fn versions(reason: Reason) -> Vec<Http> {
    match reason.wire() {
        Wire::Both => Http::BOTH.to_vec(),
        Wire::H1 => vec![Http::One],
    }
}

/// Whether the reason is found before the request is forwarded. A body is checked while it is
/// forwarded, and the upstream fails later.
fn is_found_before_forwarding(reason: Reason) -> bool {
    !reason.code().starts_with("upstream_")
        && !matches!(
            reason,
            Reason::BodyTimeout | Reason::BodyBroken | Reason::BindingFailed
        )
}

/// A caller of whom the database knows nothing.
async fn without_a_row(http: Http) {
    let world = World::new();
    let gateway = world.gateway().await;
    let token = gateway.issuer.token_of(&world::new_id());
    let call = gateway.get(http, "/me").bearer(&token);
    call.send().await.is_denied(Reason::CallerAbsent);
    gateway.origin.saw_nothing();
}

/// Servers that fail in ways an origin cannot.
struct Servers {
    /// Bound, so that no other process gets the port, and not listening.
    closed: Socket,
    /// Listening with a full queue, so that a connection attempt stays unanswered.
    full: Socket,
    _queued: Vec<Socket>,
    /// Responds on command.
    busy: Origin,
}

impl Servers {
    fn start() -> Self {
        let loopback = "127.0.0.1:0"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into();
        let bound = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&loopback).unwrap();
            socket
        };
        let full = bound();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap();
        let queued = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                // The first are queued, the rest find the queue full; neither is visible at once.
                let _ = socket.connect(&address);
                socket
            })
            .collect();
        Self {
            closed: bound(),
            full,
            _queued: queued,
            busy: Origin::start(),
        }
    }

    async fn gateway(&self) -> Gateway {
        let url = |socket: &Socket| {
            format!(
                "http://{}",
                socket.local_addr().unwrap().as_socket().unwrap()
            )
        };
        let origin = Origin::start();
        origin.on("/closing", |exchange| exchange.close());
        origin.on("/garbage", |exchange| {
            exchange.raw(b"220 mail.example ESMTP\r\n");
            exchange.wait_for_close();
        });
        for silent in ["/silent", "/slow"] {
            origin.on(silent, |exchange| exchange.wait_for_close());
        }
        Gateway::before(origin, |config| {
            let tokens = config.get("tokens").to_owned();
            config
                .set("workers", "1")
                .set("identity", "{ supabase: { url: \"https://issuer.test\", publishable_keys: [sb_publishable_a] } }")
                .set("hosts", "[api.test]")
                .set("connections", "{ body_idle: 1s, max_headers: 40, max_head: 16KiB, max_uri: 8KiB, inspected_memory: 1MiB, inspected_share: 1MiB }")
                .set("trusted_proxies", "{ from: [127.0.0.1] }")
                .set("tokens", &format!("{tokens}\n  - {{ issuer: unreachable, audience: authenticated, algorithms: ES256, jwks_url: \"{}/keys\" }}\n  - {{ issuer: revoked, audience: authenticated, algorithms: ES256, jwks_file: jwks.json }}", url(&self.closed)))
                .upstream("closed", &url(&self.closed), "")
                .upstream("full", &url(&self.full), ", connect_timeout: 200ms")
                .upstream("busy", &self.busy.url(), ", max_connections: 1, connect_timeout: 200ms")
                .more_routes(
                    r#"
                    - { path: /closed, access: public, upstream: closed }
                    - { path: /full, access: public, upstream: full }
                    - { path: /busy, access: public, upstream: busy }
                    - { path: /keyed, access: public, apikey: required }
                    - { path: "/rest/{*rest}", access: public, rest: { tables: { notes: { write: [name] } } } }
                    - { path: /realtime, methods: [GET], access: user, upgrade: [websocket], realtime: true }
                    - { path: /closing, access: public }
                    - { path: /garbage, access: public }
                    - { path: /silent, access: public, timeouts: { first_byte: 200ms } }
                    - { path: /slow, access: public, timeouts: { first_byte: 10s, total: 200ms } }
                    - { path: "/mixed/{*rest}", access: public }
                    - { path: /mixed/secret, access: user }
                    - { path: /when, access: user, when: request.method == 'POST' }
                    - { path: /when-claim, access: user, when: caller.claims.plan == 'pro' }
                    "#,
                );
        })
        .await
    }
}

/// Produces the reason and asserts it; or returns a future that does so with a gateway of its own.
async fn produce(
    gateway: &Gateway,
    servers: &Arc<Servers>,
    reason: Reason,
    http: Http,
) -> Option<Apart> {
    let get = |path: &str| gateway.get(http, path);
    let signer = gateway.issuer.signer();
    let claims = || gateway.issuer.claims();
    let with = |token: String| get("/me").bearer(&token);
    let call = match reason {
        Reason::HostMissing => return here(without_host(gateway, http)).await,
        Reason::HostRepeated => get("/me")
            .header("host", "api.test")
            .header("host", "api.test"),
        Reason::HostInvalid => get("/me").host("api.test."),
        Reason::HostMismatch => match http {
            Http::One => get("https://other.test/me"),
            Http::Two => get("/me").header("host", "other.test"),
        },
        Reason::HostUnknown => get("/me").host("other.test"),
        Reason::TargetForm => return here(asterisk(gateway, http)).await,
        Reason::HeadMalformed => return here(raw_head(gateway, "X: a\n", reason)).await,
        Reason::FramingAmbiguous => {
            let fields = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";
            return here(raw_head(gateway, fields, reason)).await;
        }
        Reason::HeadTooLarge => {
            let fields = format!("X: {}\r\n", "x".repeat(16 * 1024));
            return here(raw_head(gateway, &fields, reason)).await;
        }
        Reason::HttpOnTlsPort => return here(clear_text(gateway)).await,
        Reason::VersionUnsupported => return here(newer_version(gateway)).await,
        Reason::UriTooLong => get(&format!("/me?{}", "x".repeat(LONG))),
        Reason::HeadersTooMany => {
            (0..41).fold(get("/me"), |call, n| call.header(&format!("a{n}"), "1"))
        }
        Reason::PathSlashEncoded => get("/public/a%2Fb"),
        Reason::PathBackslash => get("/public/a%5Cb"),
        Reason::PathControl => get("/public/a%00b"),
        Reason::PathDotSegment => get("/public/../me"),
        Reason::PathEmptySegment => get("/public//me"),
        Reason::PathDoubleEncoded => get("/public/a%2541b"),
        Reason::PathEscape => get("/public/%zz"),
        Reason::PathUtf8 => get("/public/%c0%af"),
        Reason::PathNonAscii => get("/public/é"),
        Reason::PathParameters => get("/public/a;b"),
        Reason::PathAmbiguous => get("/mixed/Secret"),
        Reason::QueryRepeated => get("/socket?access_token=a&access_token=b"),
        Reason::AuthorizationRepeated => get("/me").bearer("a").bearer("b"),
        Reason::MethodRefused => gateway.call(http, "TRACE", "/me"),
        Reason::UpgradeRefused => get("/public/x")
            .header("connection", "upgrade")
            .header("upgrade", "websocket"),
        Reason::HttpsRequired => gateway.connector(http, Door::Redirect).call("POST", "/me"),
        Reason::BodyTooLarge => gateway.post(http, "/small").body(vec![b'x'; LONG]),
        Reason::BodyTimeout => return here(stalled_body(gateway, http)).await,
        Reason::ClientBusy => {
            return here(beside_a_held_body(gateway, http, reason, "192.0.2.1")).await;
        }
        Reason::BodiesBusy => {
            return here(beside_a_held_body(gateway, http, reason, "192.0.2.2")).await;
        }
        Reason::Overloaded => return Some(Box::pin(overload::refused(http))),
        Reason::BodyBroken => return here(broken_body(gateway)).await,
        Reason::BodyType => gateway.post(http, "/rest/notes").body("a,b"),
        Reason::BodyMalformed => gateway
            .post(http, "/rest/notes")
            .header("content-type", "application/json")
            .body(r#"{"name":1,"name":2}"#),
        Reason::MessageInvalid => {
            return here(said_on_a_socket(gateway, "hello", 1002, reason)).await;
        }
        Reason::RouteUnknown => get("/nowhere"),
        Reason::RouteDenied => get("/hidden"),
        Reason::MethodNotAllowed => gateway.post(http, "/read-only"),
        Reason::TokenMissing => get("/me"),
        Reason::TokenMalformed => with("not.a.token".to_owned()),
        Reason::TokenTooLarge => with(format!("{}.a.b", "a".repeat(LONG))),
        Reason::TokenCritical => with(
            signer
                .sign_raw(
                    r#"{"alg":"ES256","kid":"current","crit":["b64"],"b64":true}"#,
                    "{}",
                )
                .unwrap(),
        ),
        Reason::TokenAlgorithm => with(
            signer
                .sign_raw(r#"{"alg":"ES384"}"#, &payload(&claims()))
                .unwrap(),
        ),
        Reason::TokenIssuer => with(
            gateway
                .issuer
                .sign(&claims().with("iss", "https://stranger.test")),
        ),
        Reason::TokenKeyUnknown => with(signer.clone().with_kid("other").sign(&claims()).unwrap()),
        Reason::TokenSignature => with(with_signature_of(
            &gateway.issuer.token(),
            &gateway.issuer.token(),
        )),
        Reason::TokensTooMany => return apart(with_too_many_tokens(http)),
        Reason::TokenExpired => with(gateway.issuer.expired()),
        Reason::TokenNotYetValid => with(gateway.issuer.sign(&claims().with("nbf", now() + 600))),
        Reason::TokenIssuedAhead => with(gateway.issuer.sign(&claims().with("iat", now() + 600))),
        Reason::TokenAudience => with(gateway.issuer.sign(&claims().audience("others"))),
        Reason::TokenClaims => with(gateway.issuer.sign(&claims().role("other"))),
        Reason::ServiceKeyRefused => with("sb_secret_abcdefgh".to_owned()),
        Reason::KeysUnavailable => with(gateway.issuer.sign(&claims().with("iss", "unreachable"))),
        Reason::SessionDiffers => {
            let join = join(&gateway.issuer.token());
            return here(said_on_a_socket(gateway, &join, 4401, reason)).await;
        }
        Reason::TokenRevoked => {
            let token = gateway.issuer.token();
            gateway.revoke(&json!({ "kind": "token", "token": token }));
            with(token)
        }
        Reason::SessionRevoked => {
            let revoked = json!({ "kind": "session", "session": "lost", "issuer": ISSUER });
            gateway.revoke(&revoked);
            with(gateway.issuer.sign(&claims().session("lost")))
        }
        Reason::SubjectRevoked => {
            let revoked =
                json!({ "kind": "subject", "subject": subject("banned"), "issuer": ISSUER });
            gateway.revoke(&revoked);
            with(gateway.issuer.token_of(&subject("banned")))
        }
        Reason::IssuerRevoked => {
            gateway.revoke(&json!({ "kind": "issuer", "issuer": "revoked" }));
            with(gateway.issuer.sign(&claims().with("iss", "revoked")))
        }
        Reason::BucketRevoked => return apart(revocation::refused_by_bucket(http)),
        Reason::CookieMalformed
        | Reason::SessionUnknown
        | Reason::SessionExpired
        | Reason::SessionUnavailable
        | Reason::CsrfOrigin
        | Reason::CsrfToken => return apart(by_cookie(servers.clone(), reason, http)),
        Reason::StoreUnavailable => return apart(without_store(servers.clone(), http)),
        Reason::SignInBusy
        | Reason::IdentityUnavailable
        | Reason::IdentityTimeout
        | Reason::IdentityRefused
        | Reason::IdentityLimited
        | Reason::TooManyAttempts
        | Reason::InputInvalid
        | Reason::InvalidCredentials
        | Reason::AccountBanned
        | Reason::EmailNotConfirmed
        | Reason::RefreshTokenInvalid
        | Reason::EmailExists
        | Reason::WeakPassword
        | Reason::CaptchaFailed
        | Reason::SignInClosed
        | Reason::RegistrationRefused
        | Reason::RegisteredOnly
        | Reason::RegistrationUnknown
        | Reason::SignedOutRecently
        | Reason::SessionAbsent
        | Reason::FactorAbsent
        | Reason::SecondFactorRequired
        | Reason::LogoutIncomplete => return apart(sign_in::reasons::produce(reason, http)),
        Reason::OperationUnknown => return apart(passthrough::unlisted(http)),
        Reason::MemberSpelling => return apart(passthrough::misspelt(http)),
        Reason::ApikeyMissing => get("/keyed"),
        Reason::ApikeyUnknown => get("/keyed?apikey=sb_publishable_other"),
        Reason::ApikeyRepeated => get("/keyed?apikey=a").header("apikey", "a"),
        Reason::RestDenied => get("/rest/other"),
        Reason::IdentifierInvalid => get("/things/1").bearer(&gateway.issuer.token()),
        Reason::CallerBanned => with(gateway.issuer.sign(&claims().roles(["banned"]))),
        Reason::ClientRefused => with(gateway.issuer.sign(&claims().with("client_id", "an app"))),
        Reason::AnonymousRefused => with(gateway.issuer.sign(&claims().anonymous())),
        Reason::AalInsufficient => get("/second-factor").bearer(&gateway.issuer.token()),
        Reason::RoleInsufficient => get("/admin").bearer(&gateway.issuer.token()),
        Reason::WhenRefused => get("/when").bearer(&gateway.issuer.token()),
        Reason::WhenFailed => get("/when-claim").bearer(&gateway.issuer.token()),
        Reason::CallerInactive
        | Reason::NotYours
        | Reason::Absent
        | Reason::LineageCycle
        | Reason::LineageMissing
        | Reason::LineageDeep => return apart(by_written_facts(reason, http)),
        Reason::CallerAbsent => return apart(without_a_row(http)),
        Reason::FactsUnavailable => return apart(without_database(servers.clone(), http)),
        Reason::LookupsTooMany => return apart(beside_a_waiting_lookup(http)),
        Reason::BudgetSpent => return apart(with_a_locked_table(http)),
        Reason::BindingFailed => return apart(with_an_answer_that_teaches_nothing(http)),
        Reason::UpstreamConnect => get("/closed"),
        Reason::UpstreamConnectTimeout => get("/full"),
        Reason::UpstreamBusy => return here(busy(gateway, servers, http)).await,
        Reason::UpstreamClosed => get("/closing"),
        Reason::UpstreamProtocol => get("/garbage"),
        Reason::UpstreamFirstByteTimeout => get("/silent"),
        Reason::UpstreamTotalTimeout => get("/slow"),
        Reason::Internal => get("/panic"),
    };
    call.send().await.is_denied(reason);
    None
}

/// A case that uses the shared gateway.
async fn here(case: impl Future<Output = ()>) -> Option<Apart> {
    case.await;
    None
}

fn apart(case: impl Future<Output = ()> + Send + 'static) -> Option<Apart> {
    Some(Box::pin(case))
}

/// Sessions begin on another replica, so these cases need a store; one of them needs a store that
/// is down.
async fn by_cookie(servers: Arc<Servers>, reason: Reason, http: Http) {
    let redis = RedisServer::start();
    let away = servers.closed.local_addr().unwrap().as_socket().unwrap();
    let (url, desk) = match reason {
        Reason::SessionUnavailable => (format!("redis://{away}"), Desk::alone().await),
        _ => (redis.url(), Desk::at(&redis).await),
    };
    let idle = match reason {
        Reason::SessionExpired => "1s",
        _ => "1h",
    };
    let gateway = Gateway::with(|config| {
        config
            .store(&url)
            .set("sessions", &format!("{{ idle: {idle} }}"))
            .routes("- { path: /page, access: user, credentials: [cookie] }");
    })
    .await;
    if reason != Reason::SessionUnavailable {
        eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
    }
    let somebody = desk.sign_in(&gateway.issuer).await;
    let elsewhere = Desk::alone().await.sign_in(&gateway.issuer).await;
    let (get, post) = (gateway.get(http, "/page"), gateway.post(http, "/page"));
    let call = match reason {
        Reason::CookieMalformed => get.header("cookie", "__Host-foregate=made-up"),
        Reason::SessionUnknown => get.cookie_of(&elsewhere),
        Reason::SessionExpired => {
            tokio::time::sleep(Duration::from_millis(1001)).await;
            get.cookie_of(&somebody)
        }
        Reason::SessionUnavailable => get.cookie_of(&somebody),
        Reason::CsrfOrigin => post.cookie_of(&somebody),
        _ => post
            .cookie_of(&somebody)
            .header("origin", "https://api.test"),
    };
    call.send().await.is_denied(reason);
    gateway.origin.saw_nothing();
}

fn join(token: &str) -> String {
    json!([null, "1", "realtime:a", "phx_join", { "access_token": token }]).to_string()
}

/// Joins a channel, sends this message, and expects the refusal.
async fn said_on_a_socket(gateway: &Gateway, text: &str, code: u16, reason: Reason) {
    gateway.origin.on("/realtime", |exchange| {
        let key = exchange.request().header("sec-websocket-key").unwrap();
        let accept = derive_accept_key(key.as_bytes());
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        exchange.raw(format!("{head}Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes());
        exchange.wait_for_close();
    });
    let mut socket = socket::Socket::open_silently(gateway, "/realtime").await;
    socket.say(&join(&gateway.issuer.token())).await;
    socket.say(text).await;
    let told = End::Told(code, reason.public_code().to_owned());
    assert_eq!(socket.end().await, told);
    // The handshake was forwarded, the refused message was not.
    gateway.origin.take();
}

async fn without_store(servers: Arc<Servers>, http: Http) {
    let address = servers.closed.local_addr().unwrap().as_socket().unwrap();
    let gateway = Gateway::with(|config| {
        config.store(&format!("redis://{address}"));
    })
    .await;
    let call = gateway.get(http, "/me").bearer(&gateway.issuer.token());
    call.send().await.is_denied(Reason::StoreUnavailable);
    gateway.origin.saw_nothing();
}

async fn by_written_facts(reason: Reason, http: Http) {
    let chain: String = (0..12)
        .map(|index| {
            format!(
                "\n      deep{index}: {{ owner: me, parent: deep{} }}",
                index + 1
            )
        })
        .collect();
    let gateway = Gateway::with(|config| {
        config
            .set("facts", "{ subject: text }")
            .set("resources", "{ note: { id: text, parent: note } }")
            .set(
                "static_facts",
                &format!(
                    "
  inactive: [inactive]
  resources:
    note:
      mine: {{ owner: me }}
      cycle: {{ owner: me, parent: cycle }}
      orphan: {{ owner: me, parent: nothing }}
      deep12: {{ owner: me }}{chain}"
                ),
            )
            .routes(r#"- { path: "/notes/{note_id}", access: user, resource: note }"#);
    })
    .await;
    let (subject, note) = match reason {
        Reason::CallerInactive => ("inactive", "mine"),
        Reason::NotYours => ("other", "mine"),
        Reason::LineageCycle => ("me", "cycle"),
        Reason::LineageMissing => ("me", "orphan"),
        Reason::LineageDeep => ("me", "deep0"),
        _ => ("me", "nothing"),
    };
    let token = gateway.issuer.token_of(subject);
    let call = gateway.get(http, &format!("/notes/{note}")).bearer(&token);
    call.send().await.is_denied(reason);
    gateway.origin.saw_nothing();
    let good = gateway
        .get(http, "/notes/mine")
        .bearer(&gateway.issuer.token_of("me"));
    good.send().await.is_ok();
}

async fn without_database(servers: Arc<Servers>, http: Http) {
    let address = servers.closed.local_addr().unwrap().as_socket().unwrap();
    let gateway = Gateway::with(|config| {
        config
            .set(
                "database",
                &format!("{{ url: \"postgres://gate@{address}/velro?sslmode=disable\" }}"),
            )
            .set(
                "facts",
                "{ caller: select true as active where $1::uuid is not null }",
            );
    })
    .await;
    let call = gateway.get(http, "/me").bearer(&gateway.issuer.token());
    call.send().await.is_denied(Reason::FactsUnavailable);
    gateway.origin.saw_nothing();
}

async fn with_a_locked_table(http: Http) {
    let world = World::new();
    let user = world.user();
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config.set("budget", "300ms");
    })
    .await;
    let token = gateway.issuer.token_of(&user);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while gateway.get(http, "/me").bearer(&token).send().await.status != 200 {
        assert!(std::time::Instant::now() < deadline);
    }
    gateway.origin.take();
    let lock = world.lock("projects");
    let path = format!("/projects/{}", world::new_id());
    let call = gateway.get(http, &path).bearer(&token);
    call.send().await.is_denied(Reason::BudgetSpent);
    gateway.origin.saw_nothing();
    drop(lock);
}

async fn with_too_many_tokens(http: Http) {
    let gateway = Gateway::with(|config| {
        config.set("connections", "{ refused_tokens: 1/d }");
    })
    .await;
    let expired = gateway.issuer.expired();
    for reason in [Reason::TokenExpired, Reason::TokensTooMany] {
        let call = gateway.get(http, "/me").bearer(&expired);
        call.send().await.is_denied(reason);
    }
    gateway.origin.saw_nothing();
}

async fn beside_a_waiting_lookup(http: Http) {
    let world = World::new();
    let user = world.user();
    let gateway = Gateway::with(|config| {
        world.configure(config);
        let limits = ", pool_per_caller: 1, queue_per_caller: 0, statement_timeout: 30s }";
        let database = config
            .get("database")
            .replace(", statement_timeout: 3s }", limits);
        config.set("database", &database);
    })
    .await;
    let token = gateway.issuer.token_of(&user);
    eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
    gateway.get(http, "/me").bearer(&token).send().await.is_ok();
    gateway.origin.take();
    let lock = world.lock("projects");
    let [first, second] = [(); 2].map(|()| format!("/projects/{}", world::new_id()));
    let waiting = gateway.get(http, &first).bearer(&token).send();
    let refused = async {
        let waits = "select count(*) from pg_locks where not granted";
        while world.database.value(waits) == "0" {
            tokio::task::yield_now().await;
        }
        let call = gateway.get(http, &second).bearer(&token);
        let answer = call.send().await;
        answer.is_denied(Reason::LookupsTooMany);
        assert_eq!(answer.header("retry-after"), "1");
        drop(lock);
    };
    let (waited, ()) = tokio::join!(waiting, refused);
    waited.is_denied(Reason::Absent);
    gateway.origin.saw_nothing();
}

async fn with_an_answer_that_teaches_nothing(http: Http) {
    let gateway = Gateway::with(|config| {
        config
            .set("resources", "{ job: { learned: true } }")
            .routes("- { path: /jobs, access: user, learn: { kind: job, field: id } }");
    })
    .await;
    let call = gateway.post(http, "/jobs").bearer(&gateway.issuer.token());
    let answer = call.send().await;
    answer.is_denied(Reason::BindingFailed);
    gateway.origin.only();
}

async fn without_host(gateway: &Gateway, http: Http) {
    let reason = Reason::HostMissing;
    match http {
        Http::One => {
            let mut raw = gateway.raw(Door::Tls).await;
            raw.write("GET /me HTTP/1.1\r\n\r\n").await;
            raw.answer().await.answer().is_denied(reason);
        }
        Http::Two => {
            let mut raw = gateway.connector(http, Door::Tls).raw_h2().await;
            let fields = [(":method", "GET"), (":scheme", "https"), (":path", "/me")];
            assert_eq!(raw.reason(&fields).await, reason.code());
        }
    }
}

/// Sends a head with these fields, which is refused.
async fn raw_head(gateway: &Gateway, fields: &str, reason: Reason) {
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write(format!(
        "GET /me HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n"
    ))
    .await;
    raw.answer().await.answer().is_denied(reason);
}

async fn clear_text(gateway: &Gateway) {
    let mut raw = gateway.clear_text_to_tls().raw().await;
    raw.write("GET /me HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    raw.answer().await.answer().is_denied(Reason::HttpOnTlsPort);
}

async fn newer_version(gateway: &Gateway) {
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("GET /me HTTP/1.2\r\nHost: api.test\r\n\r\n")
        .await;
    raw.answer()
        .await
        .answer()
        .is_denied(Reason::VersionUnsupported);
}

async fn asterisk(gateway: &Gateway, http: Http) {
    let reason = Reason::TargetForm;
    match http {
        Http::One => {
            let mut raw = gateway.raw(Door::Tls).await;
            raw.write("OPTIONS * HTTP/1.1\r\nHost: api.test\r\n\r\n")
                .await;
            raw.answer().await.answer().is_denied(reason);
        }
        Http::Two => {
            let mut raw = gateway.connector(http, Door::Tls).raw_h2().await;
            let fields = [
                (":method", "OPTIONS"),
                (":scheme", "https"),
                (":authority", "api.test"),
                (":path", "*"),
            ];
            assert_eq!(raw.reason(&fields).await, reason.code());
        }
    }
}

async fn stalled_body(gateway: &Gateway, http: Http) {
    let (call, body) = gateway.post(http, "/public/upload").streaming();
    body.chunk("begun").await;
    call.send().await.is_denied(Reason::BodyTimeout);
    drop(body);
}

/// Sends a body to be inspected while another one of the same client, or of another, holds most of
/// the memory for them.
async fn beside_a_held_body(gateway: &Gateway, http: Http, reason: Reason, address: &str) {
    let most = vec![b' '; 700 << 10];
    let post = |address: &str| {
        gateway
            .post(http, "/rest/notes")
            .header("content-type", "application/json")
            .header("x-forwarded-for", address)
    };
    // A body that does not end is held until it is too slow, so it is sent again until it is seen.
    in_time("a refusal", async {
        loop {
            let (call, held) = post("192.0.2.1").streaming();
            let holding = call.send();
            let second = async {
                held.chunk(most.clone()).await;
                let answer = post(address).body(most.clone()).send().await;
                drop(held);
                answer
            };
            let (_, second) = tokio::join!(holding, second);
            if second.status == reason.status() {
                second.is_denied(reason);
                return;
            }
        }
    })
    .await;
}

async fn broken_body(gateway: &Gateway) {
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("POST /public/upload HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
        .await;
    raw.answer().await.answer().is_denied(Reason::BodyBroken);
}

async fn busy(gateway: &Gateway, servers: &Servers, http: Http) {
    let release = Gate::new();
    let gate = release.clone();
    servers.busy.otherwise(move |exchange| {
        gate.pass();
        exchange.reply(&Reply::ok());
    });
    let first = tokio::spawn(
        gateway
            .connector(http, Door::Tls)
            .call("GET", "/busy")
            .send(),
    );
    servers.busy.has_seen(1).await;
    gateway
        .get(http, "/busy")
        .send()
        .await
        .is_denied(Reason::UpstreamBusy);
    release.open();
    first.await.unwrap().is_ok();
    assert_eq!(
        servers.busy.take().len(),
        1,
        "the refused one was never sent"
    );
}

fn payload(claims: &Claims) -> String {
    Value::from(claims.as_object().clone()).to_string()
}

fn with_signature_of(token: &str, other: &str) -> String {
    let signed = token.rsplit_once('.').unwrap().0;
    let signature = other.rsplit_once('.').unwrap().1;
    format!("{signed}.{signature}")
}
