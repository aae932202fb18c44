//! The double of Supabase Auth keeps the contract, and the gateway's client works with it, with and
//! without failures.

use std::sync::Arc;

use bytes::Bytes;
use foregate::breaker::Outage;
use foregate::denial::format::VERSION_20240101;
use foregate::http_client::HttpClients;
use foregate::policy::outbound_url::OutboundUrl;
use foregate::policy::sign_in::Supabase;
use foregate::secrets::secret::Secret;
use foregate::sign_in::{
    AuthError, Call, CallError, Grant, IdentityMetrics, IdentityServer, Operation, Reply,
};
use futures_util::future::join_all;
use hyper::Method;
use prometheus::Registry;
use serde_json::{Value, json};

use crate::support::auth_server::{Behave, Hold, Options, PUBLISHABLE, SECRET};
use crate::support::{AuthServer, eventually, in_time};

const EMAIL: &str = "ada@example.test";
const PASSWORD: &str = "correct horse";

fn client(url: &str, concurrency: usize, queue: usize) -> IdentityServer {
    client_with(url, [PUBLISHABLE, SECRET], concurrency, queue)
}

fn client_with(url: &str, keys: [&str; 2], concurrency: usize, queue: usize) -> IdentityServer {
    let config = Supabase {
        url: OutboundUrl::parse(&format!("{url}/auth/v1")).unwrap(),
        issuer: format!("{url}/auth/v1"),
        publishable_keys: vec![Secret::new(keys[0])],
        secret_key: Some(Secret::new(keys[1])),
        address_header: hyper::header::HeaderName::from_static("sb-forwarded-for"),
        concurrency: concurrency.try_into().unwrap(),
        queue,
    };
    let metrics = IdentityMetrics::new(&Registry::new()).unwrap();
    IdentityServer::new(
        Arc::new(config),
        &HttpClients::new().unwrap(),
        Arc::new(metrics),
    )
}

fn call(operation: Operation, method: Method, path: &str) -> Call {
    Call::new(operation, method, path, [203, 0, 113, 7].into())
}

fn login(password: &str) -> Call {
    let body = json!({ "email": EMAIL, "password": password }).to_string();
    call(
        Operation::PasswordGrant,
        Method::POST,
        "/token?grant_type=password",
    )
    .with_body(body)
}

fn refresh(token: &Secret) -> Call {
    let token = String::from_utf8(token.expose().to_vec()).unwrap();
    call(
        Operation::Refresh,
        Method::POST,
        "/token?grant_type=refresh_token",
    )
    .with_body(json!({ "refresh_token": token }).to_string())
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

async fn granted(server: &IdentityServer, call: Call) -> Grant {
    let reply = server.call(call).await.unwrap();
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    Grant::read(&reply.body).unwrap()
}

async fn refused(server: &IdentityServer, call: Call) -> AuthError {
    let reply = server.call(call).await.unwrap();
    assert!(reply.status.is_client_error(), "{:?}", reply.body);
    AuthError::read(&reply)
}

fn text(secret: &Secret) -> String {
    String::from_utf8(secret.expose().to_vec()).unwrap()
}

#[tokio::test]
async fn a_user_signs_up_signs_in_refreshes_and_signs_out() {
    let double = AuthServer::start();
    let server = client(&double.url(), 8, 8);
    let sign_up = json!({ "email": EMAIL, "password": PASSWORD, "data": { "full_name": "Ada" } });
    let sign_up = call(Operation::SignUp, Method::POST, "/signup").with_body(sign_up.to_string());
    granted(&server, sign_up.clone()).await;
    let again = refused(&server, sign_up).await;
    assert_eq!(
        (again.status.as_u16(), again.code.as_str()),
        (422, "user_already_exists")
    );

    let first = granted(&server, login(PASSWORD)).await;
    assert_eq!(first.expires_in, 3600);
    assert!(first.user.get().contains("\"full_name\":\"Ada\""));
    let wrong = refused(&server, login("wrong")).await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.code.as_str()),
        (400, "invalid_credentials")
    );

    // Refreshing keeps the session and the time of the sign-in.
    let second = granted(&server, refresh(&first.refresh_token)).await;
    let (old, new) = (
        AuthServer::claims(&text(&first.access_token)),
        AuthServer::claims(&text(&second.access_token)),
    );
    assert_eq!(old["session_id"], new["session_id"]);
    assert_eq!(old["amr"], new["amr"]);
    assert_eq!(old["amr"][0]["method"], "password");
    assert_ne!(text(&first.refresh_token), text(&second.refresh_token));

    let user =
        call(Operation::ReadUser, Method::GET, "/user").for_user(second.access_token.clone());
    assert_eq!(
        body(&server.call(user.clone()).await.unwrap())["email"],
        EMAIL
    );
    let leave = call(Operation::Logout, Method::POST, "/logout?scope=local")
        .for_user(second.access_token.clone());
    assert_eq!(server.call(leave).await.unwrap().status, 204);
    assert_eq!(refused(&server, user).await.code, "session_not_found");
    assert_eq!(
        refused(&server, refresh(&second.refresh_token)).await.code,
        "session_not_found"
    );

    let seen = double.last("password");
    assert_eq!(seen.header("apikey"), PUBLISHABLE);
    assert_eq!(seen.header("authorization"), "");
    assert_eq!(seen.header("x-supabase-api-version"), VERSION_20240101);
    assert_eq!(seen.header("sb-forwarded-for"), "203.0.113.7");
    assert!(seen.header("user-agent").starts_with("foregate/"));
}

#[tokio::test]
async fn a_used_refresh_token_is_forgiven_or_ends_the_session() {
    let lenient = AuthServer::start();
    let strict = AuthServer::with(Options {
        reuse_interval: std::time::Duration::ZERO,
        parent_is_good: false,
        ..Options::default()
    });
    for (double, is_strict) in [(&lenient, false), (&strict, true)] {
        let server = client(&double.url(), 8, 8);
        let user = double.add_user(EMAIL, PASSWORD);
        let (access, token) = double.sign_in(&user);
        let token = Secret::new(token);
        let session = AuthServer::session_of(&access);
        let first = granted(&server, refresh(&token)).await;
        if is_strict {
            let error = refused(&server, refresh(&token)).await;
            assert_eq!(error.code, "refresh_token_already_used");
            assert!(!double.session_lives(&session), "its whole family is gone");
            let error = refused(&server, refresh(&first.refresh_token)).await;
            assert_eq!(error.code, "session_not_found");
        } else {
            let again = granted(&server, refresh(&token)).await;
            assert_eq!(text(&again.refresh_token), text(&first.refresh_token));
            assert!(double.session_lives(&session));
        }
        let unknown = refused(&server, refresh(&Secret::new("nobodyhasit1"))).await;
        assert_eq!(unknown.code, "refresh_token_not_found");
    }
}

#[tokio::test]
async fn codes_factors_and_administrators_work() {
    let double = AuthServer::with(Options {
        autoconfirm: false,
        ..Options::default()
    });
    let server = client(&double.url(), 8, 8);
    let sign_up = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
    let sign_up = call(Operation::SignUp, Method::POST, "/signup").with_body(sign_up);
    let reply = server.call(sign_up.clone()).await.unwrap();
    assert!(
        Grant::read(&reply.body).is_none(),
        "it must be confirmed first"
    );
    assert_eq!(
        refused(&server, login(PASSWORD)).await.code,
        "email_not_confirmed"
    );
    let again = server.call(sign_up).await.unwrap();
    assert_eq!(again.status, 200, "nobody learns who is there");
    assert_ne!(body(&again)["id"], body(&reply)["id"]);

    let verify = |code: String| {
        let body = json!({ "type": "signup", "token_hash": code }).to_string();
        call(Operation::Verify, Method::POST, "/verify").with_body(body)
    };
    let code = double.code_for(EMAIL).unwrap();
    let grant = granted(&server, verify(code.clone())).await;
    assert_eq!(refused(&server, verify(code)).await.code, "otp_expired");

    let user = body(&reply)["id"].as_str().unwrap().to_owned();
    let factor = double.add_factor(&user);
    let path = format!("/factors/{factor}/challenge");
    let challenge = call(Operation::ChallengeFactor, Method::POST, &path)
        .with_body(json!({ "factorId": factor }).to_string())
        .for_user(grant.access_token.clone());
    let challenge = body(&server.call(challenge).await.unwrap())["id"].clone();
    let prove = |code: &str| {
        let path = format!("/factors/{factor}/verify");
        call(Operation::VerifyFactor, Method::POST, &path)
            .with_body(json!({ "challenge_id": challenge, "code": code }).to_string())
            .for_user(grant.access_token.clone())
    };
    assert_eq!(
        refused(&server, prove("000000")).await.code,
        "mfa_verification_failed"
    );
    let proven = granted(&server, prove("123456")).await;
    assert_eq!(
        AuthServer::claims(&text(&proven.access_token))["aal"],
        "aal2"
    );

    let create =
        json!({ "email": "eve@example.test", "password": PASSWORD, "email_confirm": true });
    let create =
        call(Operation::AdminUsers, Method::POST, "/admin/users").with_body(create.to_string());
    assert_eq!(refused(&server, create.clone()).await.code, "not_admin");
    let created = server.call(create.clone().as_admin()).await.unwrap();
    assert_eq!(created.status, 200);
    assert_eq!(
        refused(&server, create.as_admin()).await.code,
        "email_exists"
    );
    let id = body(&created)["id"].as_str().unwrap().to_owned();
    let path = format!("/admin/users/{id}");
    let delete = call(Operation::AdminUsers, Method::DELETE, &path).as_admin();
    assert_eq!(server.call(delete).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_error_says_whether_the_call_may_have_been_executed() {
    let double = AuthServer::start();
    let server = client(&double.url(), 8, 8);
    double.add_user(EMAIL, PASSWORD);
    double.behave("password", Behave::Reset);
    let broken = server.call(login(PASSWORD)).await.map(|reply| reply.status);
    assert_eq!(broken, Err(CallError::Unknown));
    assert_eq!(double.calls("password"), 1, "nothing is repeated");
    double.behave("password", Behave::Fail(500));
    assert_eq!(server.call(login(PASSWORD)).await.unwrap().status, 500);
    double.behave("password", Behave::Hang);
    let late = in_time("the deadline", server.call(login(PASSWORD))).await;
    assert_eq!(
        late.map(|reply| reply.status),
        Err(CallError::Deadline { sent: true })
    );
    double.behave("password", Behave::Well);
    granted(&server, login(PASSWORD)).await;

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let server = client(&url, 8, 8);
    let away = server.call(login(PASSWORD)).await.map(|reply| reply.status);
    assert_eq!(away, Err(CallError::Away));
}

#[tokio::test]
async fn running_and_waiting_calls_are_bounded() {
    let double = AuthServer::start();
    double.add_user(EMAIL, PASSWORD);
    let hold = Hold::new();
    double.behave("password", Behave::Wait(hold.clone()));
    let server = client(&double.url(), 2, 3);
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { server.call(login(PASSWORD)).await })
        })
        .collect();
    double.has_seen("password", 2).await;
    // Three wait, so the next is refused at once; tried until the others have come that far.
    let refused = async {
        loop {
            if let Err(error) = server.call(login(PASSWORD)).await {
                return error;
            }
        }
    };
    assert_eq!(in_time("a refusal", refused).await, CallError::Busy);
    assert_eq!(double.calls("password"), 2);
    hold.let_go();
    for call in calls {
        // Those that waited for more than their second were refused, too, and were not sent.
        match call.await.unwrap() {
            Ok(reply) => assert_eq!(reply.status, 200),
            Err(error) => assert_eq!(error, CallError::Busy),
        }
    }
}

#[tokio::test]
async fn dropping_a_call_does_not_abort_it() {
    let double = AuthServer::start();
    double.add_user(EMAIL, PASSWORD);
    let hold = Hold::new();
    double.behave("signup", Behave::Wait(hold.clone()));
    let server = client(&double.url(), 8, 8);
    let sign_up = json!({ "email": "bob@example.test", "password": PASSWORD }).to_string();
    let sign_up = call(Operation::SignUp, Method::POST, "/signup").with_body(sign_up);
    let task = tokio::spawn(async move { server.call(sign_up).await });
    double.has_seen("signup", 1).await;
    task.abort();
    let _ = task.await;
    hold.let_go();
    eventually("the user is there", || double.has_user("bob@example.test")).await;
}

#[tokio::test]
async fn the_breaker_opens_for_a_server_that_does_not_answer_until_it_does() {
    let double = AuthServer::start();
    double.add_user(EMAIL, PASSWORD);
    double.behave_always(Behave::Reset);
    let server = client(&double.url(), 8, 8);
    let broken = async {
        loop {
            match server.call(login(PASSWORD)).await {
                Err(CallError::Unknown) => {}
                other => return other.map(|reply| reply.status),
            }
        }
    };
    assert_eq!(in_time("the breaker", broken).await, Err(CallError::Away));
    let asked = double.calls("password");
    assert_eq!(
        server.call(login(PASSWORD)).await.map(|_| ()),
        Err(CallError::Away)
    );
    assert_eq!(double.calls("password"), asked, "it is not asked");
    double.has_seen("health", 1).await;
    double.behave_always(Behave::Well);
    let back = async {
        loop {
            match server.call(login(PASSWORD)).await {
                Err(CallError::Away) => tokio::task::yield_now().await,
                other => return other,
            }
        }
    };
    assert_eq!(in_time("its return", back).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_closed_pooled_connection_loses_no_answer() {
    let double = AuthServer::start();
    double.add_user(EMAIL, PASSWORD);
    let server = client(&double.url(), 8, 8);
    let settings = call(Operation::Settings, Method::GET, "/settings");
    let reply = server.call(settings.clone()).await.unwrap();
    assert_eq!(body(&reply)["mailer_autoconfirm"], true);
    // A server that read and closed is called again, since a GET may be repeated.
    double.behave("settings", Behave::First(2, Box::new(Behave::Reset)));
    assert_eq!(server.call(settings).await.unwrap().status, 200);
    assert_eq!(double.calls("settings"), 3);
    assert_eq!(Bytes::new(), double.last("settings").body);
}

/// Checks what the gateway relies on, against any server with the API of Supabase Auth. Leaves
/// nothing behind.
async fn keeps_the_contract(server: &IdentityServer) {
    let email = format!("{}@foregate.example.com", uuid::Uuid::now_v7().simple());
    let post = |operation, path: &str, body: Value| {
        call(operation, Method::POST, path).with_body(body.to_string())
    };
    let new = json!({ "email": email, "password": PASSWORD, "email_confirm": true });
    let create = || post(Operation::AdminUsers, "/admin/users", new.clone()).as_admin();
    let created = server.call(create()).await.unwrap();
    assert_eq!(created.status, 200, "{:?}", created.body);
    let id = body(&created)["id"].as_str().unwrap().to_owned();
    let again = refused(server, create()).await;
    assert_eq!(
        (again.status.as_u16(), again.code.as_str()),
        (422, "email_exists")
    );

    let login = |password: &str| {
        let body = json!({ "email": email, "password": password });
        post(Operation::PasswordGrant, "/token?grant_type=password", body)
    };
    let wrong = refused(server, login("wrong")).await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.code.as_str()),
        (400, "invalid_credentials")
    );
    let first = granted(server, login(PASSWORD)).await;
    let second = granted(server, refresh(&first.refresh_token)).await;
    let claims = |grant: &Grant| AuthServer::claims(&text(&grant.access_token));
    assert_eq!(claims(&first)["session_id"], claims(&second)["session_id"]);
    assert_eq!(
        claims(&first)["amr"],
        claims(&second)["amr"],
        "stamped at the grant"
    );
    // Used a moment ago, and forgiven.
    let repeated = granted(server, refresh(&first.refresh_token)).await;
    assert_eq!(text(&repeated.refresh_token), text(&second.refresh_token));
    let unknown = refused(server, refresh(&Secret::new("nobodyhasit1"))).await;
    assert_eq!(unknown.code, "refresh_token_not_found");
    let odd = post(Operation::PasswordGrant, "/token?grant_type=odd", json!({}));
    assert_eq!(refused(server, odd).await.code, "invalid_credentials");

    let leave = |grant: &Grant, scope: &str| {
        let path = format!("/logout?scope={scope}");
        call(Operation::Logout, Method::POST, &path).for_user(grant.access_token.clone())
    };
    assert_eq!(
        server.call(leave(&second, "local")).await.unwrap().status,
        204
    );
    let gone = refused(server, refresh(&second.refresh_token)).await;
    assert!(gone.status == 400, "{gone:?}");
    let user = call(Operation::ReadUser, Method::GET, "/user");
    let user = refused(server, user.for_user(second.access_token.clone())).await;
    assert_eq!(
        (user.status.as_u16(), user.code.as_str()),
        (403, "session_not_found")
    );

    let path = format!("/admin/users/{id}");
    let delete = call(Operation::AdminUsers, Method::DELETE, &path).as_admin();
    assert_eq!(server.call(delete).await.unwrap().status, 200);
}

/// Runs against the double always; against a real project if `FOREGATE_SUPABASE_URL`,
/// `FOREGATE_SUPABASE_PUBLISHABLE_KEY` and `FOREGATE_SUPABASE_SECRET_KEY` name one. It creates a
/// user there, and deletes it again.
#[tokio::test]
async fn the_double_and_an_optional_real_project_keep_the_contract() {
    let double = AuthServer::start();
    keeps_the_contract(&client(&double.url(), 8, 8)).await;
    let given = |name: &str| std::env::var(format!("FOREGATE_SUPABASE_{name}")).ok();
    let (Some(url), Some(publishable), Some(secret)) =
        (given("URL"), given("PUBLISHABLE_KEY"), given("SECRET_KEY"))
    else {
        println!("no real project was given: only the double was asked");
        return;
    };
    let url = url.trim_end_matches('/');
    keeps_the_contract(&client_with(url, [&publishable, &secret], 8, 8)).await;
}

#[tokio::test]
async fn one_user_or_a_mail_server_cannot_open_the_breaker() {
    let double = AuthServer::start();
    double.add_user(EMAIL, PASSWORD);
    let server = client(&double.url(), 8, 8);
    // The metadata of one user, grown beyond the limit of a reply.
    double.behave("read-user", Behave::Fill((1 << 20) + 1));
    let read = || call(Operation::ReadUser, Method::GET, "/user");
    for _ in 0..8 {
        let answer = server.call(read()).await.map(|reply| reply.status);
        assert_eq!(answer, Err(CallError::Unknown));
        assert_eq!(server.outage(), Outage::Reachable);
    }
    // A mail server that hangs.
    double.behave("recover", Behave::Hang);
    let recover = || {
        let body = json!({ "email": EMAIL }).to_string();
        call(Operation::Recover, Method::POST, "/recover").with_body(body)
    };
    let mails = join_all((0..4).map(|_| server.call(recover())));
    for answer in in_time("the deadline", mails).await {
        let answer = answer.map(|reply| reply.status);
        assert_eq!(answer, Err(CallError::Deadline { sent: true }));
    }
    assert_eq!(server.outage(), Outage::Reachable);
    granted(&server, login(PASSWORD)).await;
    // The same call that depends on no third party is one.
    double.behave("password", Behave::Hang);
    let logins = join_all((0..4).map(|_| server.call(login(PASSWORD))));
    in_time("the deadline", logins).await;
    assert!(matches!(server.outage(), Outage::Away { .. }));
}

#[tokio::test]
async fn hanging_messages_leave_slots_for_sign_ins() {
    let double = AuthServer::start();
    double.add_user(EMAIL, PASSWORD);
    let hold = Hold::new();
    double.behave("recover", Behave::Wait(hold.clone()));
    let server = client(&double.url(), 4, 100);
    let mails: Vec<_> = (0..20)
        .map(|_| {
            let server = server.clone();
            let body = json!({ "email": EMAIL }).to_string();
            let recover = call(Operation::Recover, Method::POST, "/recover").with_body(body);
            tokio::spawn(async move { server.call(recover).await })
        })
        .collect();
    double.has_seen("recover", 2).await;
    for _ in 0..5 {
        granted(&server, login(PASSWORD)).await;
    }
    assert_eq!(double.calls("recover"), 2, "half of the turns");
    hold.let_go();
    for mail in mails {
        // Those that waited for more than their second were not sent.
        match mail.await.unwrap() {
            Ok(reply) => assert_eq!(reply.status, 200),
            Err(error) => assert_eq!(error, CallError::Busy),
        }
    }
}
