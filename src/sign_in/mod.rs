//! The identity server, Supabase Auth (GoTrue): it checks passwords and issues tokens.
//!
//! Decides:  how it is called ([`IdentityServer`]), and what its replies mean ([`Grant`],
//!           [`AuthError`]).
//! Trusts:   the identity server, for the users it signs in.
//! Not here: which tokens are accepted (`tokens`), and which were revoked (`revocation`).
//!
//! The identity server is slow by nature (it hashes passwords) and may be unreachable. So every
//! call has a deadline, calls run in bounded numbers on the background runtime, and a circuit
//! breaker keeps a server that does not answer from costing every client that deadline.

mod background;
mod backoff;
mod call;
mod client;
mod context;
mod edge;
pub mod endpoints;
mod grant;
mod metrics;
pub mod operation;
pub mod passthrough;
mod profile;
mod refresh;
mod refresh_driver;
pub mod refresh_protocol;
mod refused_session;
mod renewer;
mod sealed;
mod session;
mod settings;
pub mod throttle;
mod watch;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use tokio::runtime::Handle;
use tokio::task::JoinError;

pub use background::{BackgroundCallMetrics, BackgroundCalls};
pub use call::{ApiKey, Call, CallError, Reply};
pub use client::IdentityServer;
pub use context::Context;
pub use grant::{AuthError, Grant};
pub use metrics::IdentityMetrics;
pub use operation::Operation;
pub use profile::Profiles;
pub use refresh::{Refresh, RefreshOutcome};
pub use settings::SettingsCache;

use crate::clock;
use crate::denial::{Denial, Reason};
use crate::policy::outage::{self, AccessClass};
use crate::secrets::secret::Secret;

/// Runs work to completion, even if the caller stops waiting.
pub(crate) async fn run_to_completion<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = Result<T, Denial>> + Send + 'static,
) -> Result<T, Denial> {
    let ended = |error: JoinError| match error.is_panic() {
        true => Reason::Internal.because("a task panicked"),
        false => Reason::Internal.because("the process is shutting down"),
    };
    let done = runtime.spawn(work).await;
    done.unwrap_or_else(|error| Err(ended(error)))
}

/// The token in a field set by the chain: `Bearer` and the verified token.
fn bearer_token(field: &HeaderValue) -> Option<Secret> {
    let token = field.to_str().ok()?.strip_prefix("Bearer ")?;
    Some(Secret::new(token))
}

/// Whether the identity server examined its input and rejected it.
pub(crate) fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS
}

/// Lets sign-in requests pass only while the list of revocations is known.
///
/// # Errors
///
/// The failure matrix's answer for sign-in.
pub(crate) fn require_revocations(context: &Context) -> Result<(), Denial> {
    let (revocations, now) = (context.revocations(), clock::now());
    // Before the list is consulted: one that becomes complete only afterwards lacked entries when
    // it was consulted.
    let outage = revocations.outage(now);
    let is_complete = revocations.is_complete();
    outage::authorize(outage, is_complete, || AccessClass::SignIn, now, now)
}
