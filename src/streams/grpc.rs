//! What gRPC wants said in its own way: refusals, and the end of a stream (the gRPC specification over HTTP/2).
//!
//! Decides: which gRPC status a refusal has. Trusts: `denial` for everything else about it. Not here: messages, which are never looked at.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::Ending;
use crate::denial::grpc::code;
use crate::denial::grpc::escaped;
use crate::gateway::answer::Answer;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The trailers that end a stream.
pub(super) fn trailers(ending: Ending) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Every denial of something that was let in before is told alike, whatever the request would be answered now.
    let status = match ending.reason {
        None => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) if ending.status() == StatusCode::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
        Some(_) => StatusCode::FORBIDDEN,
    };
    write(&mut trailers, status, ending.code());
    trailers
}

/// A refusal without any message: its head is its trailers.
pub(crate) fn refusal(status: StatusCode, message: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    write(headers, status, message);
    response
}

fn write(headers: &mut HeaderMap, status: StatusCode, message: &str) {
    headers.insert(STATUS, HeaderValue::from(u16::from(code(status))));
    if let Ok(message) = HeaderValue::from_str(&escaped(message)) {
        headers.insert(MESSAGE, message);
    }
}
