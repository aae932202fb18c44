//! Permitted requests that this gateway answers itself: health, sign-in routes
//! (`sign_in::endpoints`), and the identity server's own paths (`sign_in::passthrough`).

use hyper::Response;
use hyper::header::{self, HeaderValue};

use crate::auth::Permit;
use crate::auth::snapshot::Snapshot;
use crate::denial::Denial;
use crate::gateway::answer::Answer;
use crate::gateway::process::Process;
use crate::policy::route::Serve;
use crate::sign_in::{endpoints, passthrough};

/// Answers a permitted request.
///
/// # Errors
///
/// The refusals of whatever answers the request.
///
/// # Panics
///
/// On `serve: panic`, which exists to prove that a panic is answered with a 500 and is no outage.
/// Only a development configuration may name it.
pub(crate) async fn serve(
    process: &Process,
    snapshot: &Snapshot,
    permit: Permit,
    what: Serve,
) -> Result<Response<Answer>, Denial> {
    let context = process.sign_in();
    match what {
        // Boxed, so that the future of every other request has no room for it.
        Serve::SignIn(endpoint) => {
            let answering = endpoints::answer(context, snapshot.tokens(), permit, endpoint);
            Ok(Box::pin(answering).await?.map(Answer::full))
        }
        Serve::IdentityServer => {
            let answering = passthrough::answer(context, snapshot.tokens(), permit);
            Ok(Box::pin(answering).await?.map(Answer::full))
        }
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
            Ok(response)
        }
        #[allow(clippy::panic, reason = "the purpose of this target")]
        Serve::Panic => panic!("`serve: panic`"),
    }
}
