//! Answers of our own that pass the same chain as forwarded requests.
//!
//! Decides: what `health` says; for the others, who answers. Trusts: the permit, without which
//! nobody is answered. Not here: signing in (`identity::endpoints`), and the identity server's own
//! paths (`identity::door`).

use hyper::Response;
use hyper::header::{self, HeaderValue};

use crate::auth::Permit;
use crate::auth::snapshot::Snapshot;
use crate::denial::Denial;
use crate::gateway::answer::Answer;
use crate::gateway::process::Process;
use crate::policy::route::Serve;
use crate::sign_in::{endpoints, passthrough};

/// Answers a permitted request here.
///
/// # Errors
///
/// What answers it refuses it.
///
/// # Panics
///
/// On `serve: panic`, which exists to prove that a panic is a 500 and no outage, and which only a
/// development configuration may name.
pub(crate) async fn serve(
    process: &Process,
    snapshot: &Snapshot,
    permit: Permit,
    what: Serve,
) -> Result<Response<Answer>, Denial> {
    let context = process.sign_in();
    match what {
        // Boxed, so that every other request does not carry room for it along.
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
