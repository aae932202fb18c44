//! Sessions in cookies. Users sign in at [`Desk`], which shares a real Redis with the gateways
//! under test, so every session comes from another replica.

mod csrf;
mod ends;
mod outage;
mod streams;
mod tokens;
mod unstored;

use foregate::denial::Reason;

use crate::support::{
    Answer, Config, Desk, Gateway, Http, RedisServer, Reply, SignedIn, eventually,
};

/// Routes with cookies in every position of `credentials`.
const ROUTES: &str = r#"
  - { path: /health, methods: [GET], access: public, serve: health }
  - { path: /page, access: user, credentials: [cookie] }
  - { path: /either, access: user, credentials: [bearer, cookie] }
  - { path: /cookie-first, access: user, credentials: [cookie, bearer] }
  - { path: /optional, access: optional, credentials: [cookie] }
  - { path: /token, access: user }
  - { path: /open, access: public }
  - { path: /socket, methods: [GET], access: user, credentials: [cookie], upgrade: [websocket] }
"#;

/// A gateway, its store, and the desk where its users sign in.
struct Place {
    redis: RedisServer,
    gateway: Gateway,
    desk: Desk,
}

impl Place {
    async fn start() -> Self {
        Self::with("{}", |_| {}).await
    }

    async fn with(sessions: &str, change: impl FnOnce(&mut Config)) -> Self {
        let redis = RedisServer::start();
        let gateway = Gateway::with(|config| {
            settle(config, &redis, sessions);
            change(config);
        })
        .await;
        is_ready(&gateway).await;
        let desk = Desk::with(&redis, sessions).await;
        Self {
            redis,
            gateway,
            desk,
        }
    }

    /// Starts another replica of the gateway.
    async fn replica(&self) -> Gateway {
        let sessions = self.gateway.config_value("sessions");
        let gateway = self
            .gateway
            .replica(|config| settle(config, &self.redis, &sessions))
            .await;
        is_ready(&gateway).await;
        gateway
    }

    async fn sign_in(&self) -> SignedIn {
        self.desk.sign_in(&self.gateway.issuer).await
    }
}

fn settle(config: &mut Config, redis: &RedisServer, sessions: &str) {
    config
        .store(&redis.url())
        .set("sessions", sessions)
        .routes(ROUTES);
}

async fn is_ready(gateway: &Gateway) {
    eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
}

/// Checks that the page is served, and that the origin sees the caller but not the credential.
async fn is_served(gateway: &Gateway, http: Http, somebody: &SignedIn) {
    let answer = gateway.get(http, "/page").cookie_of(somebody).send().await;
    answer.is_ok();
    let seen = gateway.origin.only();
    assert_eq!(seen.header("cookie"), None);
    let authorization = format!("Bearer {}", somebody.access);
    assert_eq!(seen.header("authorization"), Some(authorization.as_str()));
}

/// Checks for a refusal with this reason, that the origin sees nothing, and that the cookie is
/// cleared.
#[track_caller]
fn is_over(gateway: &Gateway, answer: &Answer, reason: Reason) {
    answer.is_denied(reason);
    gateway.origin.saw_nothing();
    assert_eq!(answer.json()["code"], "session_not_found");
    assert_eq!(
        answer.header("set-cookie"),
        "__Host-foregate=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
    );
}

/// Checks for a refusal, that the origin sees nothing, and that no cookie is cleared: the browser
/// has another one under the same name.
async fn is_replaced_for(gateway: &Gateway, somebody: &SignedIn) {
    for http in Http::BOTH {
        let answer = gateway.get(http, "/page").cookie_of(somebody).send().await;
        answer.is_denied(Reason::SessionUnknown);
        gateway.origin.saw_nothing();
        assert!(!answer.headers.contains_key("set-cookie"), "it stays");
    }
}

async fn is_over_for(gateway: &Gateway, somebody: &SignedIn, reason: Reason) {
    for http in Http::BOTH {
        let answer = gateway.get(http, "/page").cookie_of(somebody).send().await;
        is_over(gateway, &answer, reason);
    }
}

#[tokio::test]
async fn a_cookie_is_accepted_on_every_replica_and_never_forwarded() {
    let place = Place::start().await;
    let other = place.replica().await;
    let somebody = place.sign_in().await;
    let expected = format!(
        "__Host-foregate={}; Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax",
        somebody.cookie
    );
    assert_eq!(somebody.set_cookie, expected);
    for gateway in [&place.gateway, &other] {
        for http in Http::BOTH {
            is_served(gateway, http, &somebody).await;
            // Beside unrelated cookies.
            let call = gateway.get(http, "/page");
            let cookies = format!("a=1; __Host-foregate={}; b=2", somebody.cookie);
            call.header("cookie", cookies).send().await.is_ok();
            assert_eq!(gateway.origin.only().header("cookie"), Some("a=1; b=2"));
            let line = gateway.get(http, "/page").cookie_of(&somebody);
            let line = line.send().await.log_line();
            assert_eq!(line["subject"], somebody.subject);
            assert_eq!(line["session"], somebody.session);
            gateway.origin.take();
        }
        let text = gateway.log().text();
        for secret in [&somebody.cookie, &somebody.csrf, &somebody.access] {
            assert!(!text.contains(secret.as_str()));
        }
        let metrics = gateway.metrics();
        let found = |result| metrics.sum("foregate_session_lookups_total", &[("result", result)]);
        assert_eq!((found("store"), found("memory")), (1.0, 5.0));
        assert_eq!(metrics.sum("foregate_sessions_remembered", &[]), 1.0);
    }
}

#[tokio::test]
async fn an_answer_to_a_cookie_is_not_stored_by_shared_caches() {
    let place = Place::start().await;
    let (gateway, somebody) = (&place.gateway, place.sign_in().await);
    gateway.origin.on("/cookie-first", |exchange| {
        exchange.reply(&Reply::ok().header("cache-control", "public, max-age=60"));
    });
    for http in Http::BOTH {
        let get = |path: &str| gateway.get(http, path);
        let answer = get("/page").cookie_of(&somebody).send().await;
        assert_eq!(answer.is_ok().header("cache-control"), "private");
        let told = get("/cookie-first").cookie_of(&somebody).send().await;
        assert_eq!(told.is_ok().header("cache-control"), "public, max-age=60");
        let token = get("/either").bearer(&gateway.issuer.token()).send().await;
        assert_eq!(token.is_ok().header("cache-control"), "");
    }
    gateway.origin.take();
}

#[tokio::test]
async fn the_first_credential_present_decides() {
    let place = Place::start().await;
    let (gateway, somebody) = (&place.gateway, place.sign_in().await);
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        let both = |path: &str, token: &str| {
            let call = gateway.get(http, path).cookie_of(&somebody);
            call.bearer(token).send()
        };
        let who = |answer: &Answer| answer.is_ok().log_line()["subject"].clone();
        assert_ne!(who(&both("/either", &token).await), somebody.subject);
        assert_eq!(who(&both("/cookie-first", &token).await), somebody.subject);
        assert_eq!(who(&both("/page", &token).await), somebody.subject);
        gateway.origin.take();
        // A valid credential does not replace an invalid one before it.
        both("/either", "bad")
            .await
            .is_denied(Reason::TokenMalformed);
        let bad = gateway.get(http, "/cookie-first").bearer(&token);
        let answer = bad.header("cookie", "__Host-foregate=bad").send().await;
        is_over(gateway, &answer, Reason::CookieMalformed);
        // Where no cookie is read, it is ignored; where it is optional, an invalid one is refused
        // all the same.
        for (path, status) in [("/token", 401), ("/open", 200), ("/optional", 200)] {
            let answer = gateway.get(http, path).cookie_of(&somebody).send().await;
            assert_eq!(answer.status, status, "{path}");
            for seen in gateway.origin.take() {
                assert_eq!(seen.header("cookie"), None);
            }
        }
        let bad = gateway.get(http, "/optional");
        let answer = bad.header("cookie", "__Host-foregate=bad").send().await;
        is_over(gateway, &answer, Reason::CookieMalformed);
        let nobody = gateway.get(http, "/optional").send().await;
        assert!(nobody.is_ok().log_line()["subject"].is_null());
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_made_up_cookie_is_refused_without_the_store() {
    let place = Place::start().await;
    let (gateway, somebody) = (&place.gateway, place.sign_in().await);
    let reads = || {
        let metrics = gateway.metrics();
        metrics.sum(
            "foregate_store_command_seconds_count",
            &[("command", "read")],
        )
    };
    is_served(gateway, Http::Two, &somebody).await;
    let before = reads();
    let mut client = gateway.connect(Http::Two).await;
    let good = &somebody.cookie;
    for number in 0..1000 {
        let value = match number {
            // Another session's random bytes with our tag, and the like.
            0..500 => format!("{number:064x}").replace('0', "Q"),
            500..600 => format!("{}{}", &good[..60], number),
            _ => format!("{number}"),
        };
        let call = client
            .get("/page")
            .header("cookie", format!("__Host-foregate={value}"));
        let answer = call.send().await;
        match number % 100 {
            // Reading the log takes time.
            0 => drop(answer.is_denied(Reason::CookieMalformed).status),
            _ => assert_eq!(answer.status, 401),
        }
    }
    assert_eq!(reads(), before);
    for http in Http::BOTH {
        for cookies in [
            format!("__Host-foregate={good}; __Host-foregate={good}"),
            format!("__Host-foregate={good}; __HOST-FOREGATE=x"),
            format!("__host-foregate={good}"),
            format!("=__Host-foregate={good}"),
            format!("__Host-foregate={good} x"),
            "__Host-foregate=".to_owned(),
        ] {
            let call = gateway.get(http, "/page").header("cookie", &cookies);
            is_over(gateway, &call.send().await, Reason::CookieMalformed);
        }
    }
    // A cookie that was valid once is looked up once in a while, however often it comes.
    let gone = Desk::alone().await.sign_in(&gateway.issuer).await;
    for _ in 0..100 {
        let answer = client.get("/page").cookie_of(&gone).send().await;
        assert_eq!(answer.json()["code"], "session_not_found");
    }
    assert!(reads() - before <= 2.0, "{}", reads() - before);
    gateway.origin.saw_nothing();
    is_served(gateway, Http::One, &somebody).await;
}

#[tokio::test]
async fn redis_holds_no_readable_cookie_token_or_user() {
    let place = Place::start().await;
    let claims = place
        .gateway
        .issuer
        .claims()
        .with("email", "someone@example.com");
    let somebody = place
        .desk
        .sign_in_with(&place.gateway.issuer, &claims, None)
        .await;
    is_served(&place.gateway, Http::Two, &somebody).await;
    let everything = place.redis.everything();
    assert!(everything.len() > 4);
    for secret in [
        &somebody.cookie,
        &somebody.csrf,
        &somebody.access,
        &somebody.refresh,
        &somebody.subject,
        &somebody.session,
        "someone@example.com",
    ] {
        let is_in = |seen: &Vec<u8>| {
            seen.windows(12)
                .any(|part| secret.as_bytes().windows(12).any(|window| window == part))
        };
        assert!(!everything.iter().any(is_in), "{secret}");
    }
    // Two records with exchanged keys cannot be opened.
    let other = place.sign_in().await;
    let keys = place.redis.say("KEYS foregate:session:*");
    let [one, two] = keys.list() else {
        panic!("{keys:?}")
    };
    let records = [one, two].map(|key| place.redis.call(&[b"GET", key.bytes()]));
    place.redis.call(&[b"SET", one.bytes(), records[1].bytes()]);
    place.redis.call(&[b"SET", two.bytes(), records[0].bytes()]);
    let newcomer = place.replica().await;
    for thief in [&somebody, &other] {
        is_over_for(&newcomer, thief, Reason::SessionUnknown).await;
    }
    let tampered = newcomer
        .metrics()
        .sum("foregate_store_tampered_total", &[("kind", "session")]);
    assert!(tampered >= 2.0);
}

#[tokio::test]
async fn a_client_cannot_choose_its_session() {
    let place = Place::start().await;
    let victim = place.sign_in().await;
    // Signing in with another user's cookie, or with a made-up one, issues a new one; and the one
    // that came is no longer valid.
    let claims = place.gateway.issuer.claims();
    let issuer = &place.gateway.issuer;
    is_served(&place.gateway, Http::Two, &victim).await;
    let next = place
        .desk
        .sign_in_with(issuer, &claims, Some(&victim))
        .await;
    assert_ne!(next.cookie, victim.cookie);
    assert_ne!(next.csrf, victim.csrf);
    eventually_over(&place.gateway, &victim).await;
    is_served(&place.gateway, Http::Two, &next).await;
}

/// Waits until a replica knows that the session ended, which takes no longer than the list of
/// revocations takes.
async fn eventually_over(gateway: &Gateway, somebody: &SignedIn) {
    let started = std::time::Instant::now();
    let mut client = gateway.connect(Http::Two).await;
    loop {
        let answer = client.get("/page").cookie_of(somebody).send().await;
        gateway.origin.take();
        if answer.status == 401 {
            break;
        }
        answer.is_ok();
        assert!(started.elapsed().as_secs() < 20, "it goes on");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
