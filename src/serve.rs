//! Answers of our own that pass the same chain as forwarded requests.

use hyper::Response;
use hyper::header::{self, HeaderValue};

use crate::answer::Answer;
use crate::auth::Permit;
use crate::config::checked::Serve;

/// Answers a permitted request here.
///
/// # Panics
///
/// On `serve: panic`, which exists to prove that a panic is a 500 and no outage, and which only a development configuration may name.
pub fn serve(permit: Permit, what: Serve) -> Response<Answer> {
    drop(permit);
    match what {
        Serve::Health => {
            let body = r#"{"status":"healthy"}"#;
            let mut response = Response::new(Answer::full(body));
            let headers = response.headers_mut();
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        #[allow(clippy::panic, reason = "the purpose of this target")]
        Serve::Panic => panic!("`serve: panic`"),
    }
}
