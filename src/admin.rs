//! The admin listener: `/metrics`, `/livez`, `/readyz`. Clear text, on the loopback by default.
//!
//! Decides: whether the process is alive and ready. Trusts: whoever reaches the address; nothing here changes anything. Not here:
//! requests of clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::clock;
use crate::process::Process;
use crate::store::Outage;

/// Scrapers and probes that may be connected at once.
const CONNECTIONS: usize = 64;

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, process: Arc<Process>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let process = process.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&process, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(30));
            // A peer that does not read would keep its place, and 64 of them would hide that this process is alive.
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(Duration::from_secs(300), serving).await;
            drop(place);
        });
    }
}

/// Binds the address.
///
/// # Errors
///
/// The address is in use or not ours.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

fn answer(process: &Process, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/metrics" => metrics(process),
        "/livez" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match readiness(process) {
            Ok(()) => plain(StatusCode::OK, "ok\n"),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        _ => plain(StatusCode::NOT_FOUND, "/metrics, /livez or /readyz\n"),
    }
}

/// Ready means that this process can judge: the keys of every issuer are there, the store has been, and it is not about to end. No
/// upstream is asked.
fn readiness(process: &Process) -> Result<(), &'static str> {
    if process.is_draining() {
        return Err("draining\n");
    }
    if !process.snapshot().tokens().has_all_keys(clock::unix_now()) {
        return Err("keys of an issuer have not been fetched yet\n");
    }
    // One that went away later does not count: all replicas would leave at once, and take the public routes with them.
    if process.store().outage() == Outage::NeverSeen {
        return Err("the store has not answered yet\n");
    }
    Ok(())
}

fn metrics(process: &Process) -> Response<Full<Bytes>> {
    let snapshot = process.snapshot();
    let waived = snapshot.waived_layers(clock::unix_now());
    process.metrics().configured(snapshot.generation(), waived);
    for (issuer, age) in snapshot.tokens().key_ages(clock::unix_now()) {
        process.metrics().keys().set_age(issuer, age);
    }
    match process.metrics().render(process.token_cache()) {
        Ok(text) => {
            let mut response = Response::new(Full::new(text.into()));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(_) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics cannot be written\n",
        ),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
