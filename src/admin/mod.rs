//! The admin listener: `/metrics`, `/livez`, `/readyz`, and calls of operators. Clear text, on the
//! loopback by default.
//!
//! Decides:  whether the process is alive and ready (`readiness`).
//! Trusts:   anyone who reaches the address, for reading the state of the gateway; for changes, an
//!           operator's token (`operators`), or the identity server's signature (`webhook`).
//! Not here: requests of clients.

mod connection;
mod entries;
mod operators;
mod places;
mod readiness;
mod revocations;
mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::places::{Place, Places};
use self::readiness::readiness;
use crate::clock;
use crate::denial::renamed;
use crate::gateway::accept::accept_failed;
use crate::gateway::process::Process;

/// The longest body that is read. A revocation is a line; a changed row about a user, with the old
/// row, is a few kilobytes.
const MAX_BODY: usize = 64 * 1024;

/// Serves so many connections at once, over all stages (`places`), until the process ends.
pub async fn serve(listener: TcpListener, process: Arc<Process>, connections: usize) {
    let places = Places::new(connections);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection::serve(stream, process.clone(), places.take()));
                // Whoever has sent a whole head leaves the first stage before others need its
                // place.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if let Some(pause) = accept_failed(&error, process.metrics()) {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Binds the address.
///
/// # Errors
///
/// The address is in use, or does not belong to this machine.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn answer(
    process: &Process,
    request: Request<Incoming>,
    place: &Place,
) -> Response<Full<Bytes>> {
    let allowed = match request.uri().path() {
        "/revocations" => "GET, HEAD, POST",
        "/revocations/undo" | "/webhooks/identity" => "POST",
        _ => "GET, HEAD",
    };
    let mut response = route(process, request, place).await;
    let status = response.status();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    if let Some(phrase) = renamed(status) {
        let phrase = ReasonPhrase::from_static(phrase.as_bytes());
        response.extensions_mut().insert(phrase);
    }
    response
}

async fn route(
    process: &Process,
    request: Request<Incoming>,
    place: &Place,
) -> Response<Full<Bytes>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match (request.uri().path(), reads) {
        ("/metrics", true) => metrics(process),
        ("/livez", true) => plain(StatusCode::OK, "ok\n"),
        ("/readyz", true) => {
            let (status, text) = readiness(process);
            plain(status, text)
        }
        ("/revocations", true) => revocations::status(process),
        ("/revocations", false) => respond(revocations::revoke(process, request, place).await),
        ("/revocations/entries", true) => respond(entries::list(process, request, place).await),
        ("/revocations/undo", false) => respond(entries::undo(process, request, place).await),
        ("/webhooks/identity", false) => respond(webhook::receive(process, request, place).await),
        ("/metrics" | "/livez" | "/readyz" | "/revocations/entries", false) => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n")
        }
        ("/revocations/undo" | "/webhooks/identity", true) => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "POST only\n")
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            "/metrics, /livez, /readyz, /revocations, /revocations/entries, /revocations/undo or /webhooks/identity\n",
        ),
    }
}

/// Why a call failed.
#[derive(Debug)]
struct AdminError {
    status: StatusCode,
    why: String,
}

impl AdminError {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            why: why.into(),
        }
    }
}

fn respond(outcome: Result<Response<Full<Bytes>>, AdminError>) -> Response<Full<Bytes>> {
    outcome.unwrap_or_else(|AdminError { status, why }| {
        let mut response = document(status, &json!({ "error": why }));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"admin\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    })
}

/// Checks what the head of a call that changes something declares about its body: JSON, and not too
/// long.
fn check_body_fields(headers: &HeaderMap) -> Result<(), AdminError> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    // An HTML form cannot set this content type, and a script cannot without a CORS preflight.
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        return Err(AdminError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send `Content-Type: application/json`",
        ));
    }
    // hyper has refused a length that is not a number.
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    match length {
        Some(length) if length > MAX_BODY => Err(too_long()),
        Some(_) | None => Ok(()),
    }
}

fn too_long() -> AdminError {
    AdminError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is longer than {MAX_BODY} bytes"),
    )
}

/// Reads a whole body before the deadline.
async fn body(request: Request<Incoming>, deadline: Duration) -> Result<Bytes, AdminError> {
    let collected = Limited::new(request.into_body(), MAX_BODY).collect();
    match tokio::time::timeout(deadline, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(_)) => Err(AdminError::new(
            StatusCode::BAD_REQUEST,
            "the body ended early",
        )),
        Err(_) => Err(AdminError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

fn document(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut text = value.to_string();
    text.push('\n');
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn metrics(process: &Process) -> Response<Full<Bytes>> {
    let snapshot = process.snapshot();
    let waived = snapshot.in_force().waived_layers(clock::unix_now());
    process.metrics().configured(snapshot.generation(), waived);
    for (issuer, age) in snapshot.tokens().key_ages(clock::unix_now()) {
        process.metrics().keys().set_age(issuer, age);
    }
    match process.metrics().render(&process.shared().token_cache) {
        Ok(text) => {
            let mut response = Response::new(Full::new(text.into()));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(_) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics cannot be encoded\n",
        ),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
