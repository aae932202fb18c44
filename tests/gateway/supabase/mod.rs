//! The unmodified Supabase clients, from npm, against a gateway in front of all services of a
//! project: they sign up, in and out, read and write tables, upload, and use a channel. Behind the
//! gateway are doubles, small and strict.
//!
//! `npm ci` in `tests/supabase-js` installs them; `tests/all.sh` does.

mod accounts;
mod channels;
mod driver;
mod files;
mod tables;

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::sign_in::{Desk, UNLIMITED};
use crate::support::auth_server::{AuthServer, Behave, Options, PUBLISHABLE};
use crate::support::{Origin, eventually};
use channels::Channels;
use driver::Driver;

/// The routes of a project.
const ROUTES: &str = r#"
    - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
    - { path: /second, access: user, aal: aal2 }
    - path: "/rest/v1/{*rest}"
      access: user
      apikey: required
      errors: postgrest
      rest: { tables: { projects: { read: [id, name], write: [id, name] } }, rpc: [search] }
    - { path: "/storage/v1/object/public/{*rest}", methods: [GET], access: public, tail: opaque }
    - { path: "/storage/v1/{*rest}", access: optional, apikey: optional, tail: opaque, body: { limit: 5GiB }, timeouts: { first_byte: 10m, total: 1d } }
    - { path: /realtime/v1/websocket, methods: [GET], access: user, apikey: required, upstream: channels, upgrade: [websocket], realtime: true }
"#;

async fn project(channels: &Channels) -> Desk {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config
            .upstream("channels", &channels.url(), "")
            .routes(ROUTES);
    })
    .await;
    desk.is_ready().await;
    desk
}

fn serve(origin: &Origin) -> Arc<Mutex<Vec<u8>>> {
    tables::serve(origin);
    files::serve(origin)
}

#[tokio::test]
async fn an_unmodified_client_works_for_a_day_and_its_sign_out_ends_everything() {
    let channels = Channels::start();
    let desk = project(&channels).await;
    let uploaded = serve(&desk.gateway.origin);
    let mut driver = Driver::start(&desk.gateway, PUBLISHABLE, "whole");
    driver.waits("refreshed");
    // The channel received a join and a newer token, both of users.
    eventually("the newer token", || channels.tokens().len() >= 2).await;
    let sessions: Vec<String> = channels
        .tokens()
        .iter()
        .map(|(_, token)| AuthServer::session_of(token))
        .collect();
    assert!(sessions.iter().all(|session| *session == sessions[0]));
    assert_eq!(channels.tokens()[0].0, "phx_join");
    assert!(
        channels
            .tokens()
            .iter()
            .any(|(event, _)| event == "access_token")
    );
    driver.resume();
    driver.finishes();

    // Forbidden requests never arrived, and an API key was never taken for a user.
    let mut seen = desk.gateway.origin.take();
    for request in &seen {
        assert!(
            !request.mentions("owner") && !request.mentions("add_user_credits"),
            "{}",
            request.target
        );
        assert!(
            !request.target.starts_with("/rest/v1/users"),
            "{}",
            request.target
        );
        for value in request.all("authorization") {
            assert!(value.starts_with("Bearer ey"), "{value}");
        }
        let body = String::from_utf8_lossy(&request.body);
        assert!(!body.contains("owner"), "{body}");
    }
    seen.retain(|request| request.target.starts_with("/storage/v1/upload"));
    let methods: Vec<&str> = seen.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "HEAD", "PATCH", "PATCH"]);
    for request in &seen {
        assert_eq!(request.header("tus-resumable"), Some("1.0.0"));
        assert_eq!(request.header("x-upsert"), Some("true"));
    }
    let content: Vec<u8> = b"tus".iter().copied().cycle().take(100_000).collect();
    assert!(*uploaded.lock().unwrap() == content);
}

#[tokio::test]
async fn a_revoked_session_signs_a_client_out_and_an_outage_does_not() {
    let channels = Channels::start();
    let desk = project(&channels).await;
    let mut driver = Driver::start(&desk.gateway, PUBLISHABLE, "outage");
    driver.waits("signed in");
    desk.double.behave_always(Behave::Reset);
    driver.resume();
    driver.waits("asked");
    desk.double.behave_always(Behave::Well);
    driver.resume();
    driver.waits("asked again");
    let token = desk
        .double
        .last("read-user")
        .header("authorization")
        .to_owned();
    let claims = AuthServer::claims(token.trim_start_matches("Bearer "));
    let revoked =
        json!({ "kind": "session", "session": claims["session_id"], "issuer": claims["iss"] });
    desk.gateway.revoke(&revoked);
    driver.resume();
    driver.finishes();
}

#[tokio::test]
async fn a_client_with_a_malformed_stored_session_signs_out_at_once() {
    let channels = Channels::start();
    let desk = project(&channels).await;
    let mut driver = Driver::start(&desk.gateway, PUBLISHABLE, "stored");
    driver.finishes();
    assert_eq!(desk.double.calls("refresh_token"), 1);
}

#[tokio::test]
async fn an_unmodified_client_proves_every_kind_of_second_factor() {
    let channels = Channels::start();
    let desk = project(&channels).await;
    let mut driver = Driver::start(&desk.gateway, PUBLISHABLE, "factors");
    driver.waits("proven");
    // It sends members that the identity server does not know.
    let challenge = desk.double.last("factors-challenge");
    let body: serde_json::Value = serde_json::from_slice(&challenge.body).unwrap();
    assert!(body["factorId"].is_string(), "{body}");
    driver.resume();
    driver.finishes();
}

#[tokio::test]
async fn an_unmodified_client_calls_what_else_the_identity_server_has() {
    let channels = Channels::start();
    let desk = project(&channels).await;
    Driver::start(&desk.gateway, PUBLISHABLE, "elsewhere").finishes();
    assert_eq!(desk.double.calls("admin-users"), 0);
}

#[tokio::test]
async fn a_client_from_a_redirect_is_listed_and_signs_out_everywhere_at_once() {
    let channels = Channels::start();
    let desk = project(&channels).await;
    let id = desk
        .double
        .add_user("linked@example.test", "correct horse battery");
    let (elsewhere, _) = desk.double.sign_in(&id);
    let (access, refresh) = desk.double.sign_in(&id);
    let input = format!("{access} {refresh} {elsewhere}");
    let mut driver = Driver::start_with(&desk.gateway, PUBLISHABLE, "linked", &input);
    driver.finishes();
    assert_eq!(desk.double.sessions_of(&id), 0);
}
