//! The identity server, Supabase Auth (GoTrue): the one place where passwords are checked and tokens are issued.
//!
//! Decides:  how it is called ([`IdentityServer`]), and what its answers are ([`Grant`], [`AuthError`]).
//! Trusts:   the identity server, for the users it signs in.
//! Not here: whose tokens are accepted (`tokens`), and what was revoked (`sessions`).
//!
//! The identity server is slow by nature (it hashes passwords) and may be away. So every call has a deadline, calls run in bounded numbers on the
//! background runtime, and a breaker keeps a server that does not answer from costing everybody that deadline.

mod background;
mod backoff;
mod call;
mod client;
mod context;
pub mod endpoints;
mod grant;
mod metrics;
mod operation;
pub mod passthrough;
mod profile;
mod refresh;
pub mod refresh_protocol;
mod renewer;
mod sealed;
mod session;
pub mod throttle;

use hyper::StatusCode;
use tokio::runtime::Handle;
use tokio::task::JoinError;

pub use background::{BackgroundCallMetrics, BackgroundCalls};
pub use call::{ApiKey, Call, CallError, Reply};
pub use client::IdentityServer;
pub use context::Context;
pub use grant::{AuthError, Grant};
pub use metrics::IdentityMetrics;
pub use operation::Operation;
pub use refresh::{Refresh, RefreshOutcome};

use crate::clock;
use crate::denial::{Denial, Reason};
use crate::policy::outage::{self, AccessClass};

/// Does something to its end, also when nobody waits for it any more.
pub(crate) async fn run_to_completion<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = Result<T, Denial>> + Send + 'static,
) -> Result<T, Denial> {
    let ended = |error: JoinError| match error.is_panic() {
        true => Reason::Internal.because("a task panicked"),
        false => Reason::Internal.because("the process ends"),
    };
    let done = runtime.spawn(work).await;
    done.unwrap_or_else(|error| Err(ended(error)))
}

/// Whether the identity server judged what it was given, and found it wrong.
pub(crate) fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS
}

/// Lets pass what is about signing in, while it can be known what was revoked.
///
/// # Errors
///
/// What the failure matrix says of signing in.
pub(crate) fn require_revocations(context: &Context) -> Result<(), Denial> {
    let (revocations, now) = (context.revocations(), clock::now());
    // Before the list is asked: one that becomes complete after it was asked did not have everything when it was.
    let outage = revocations.outage(now);
    let is_complete = revocations.is_complete();
    outage::judge(outage, is_complete, || AccessClass::SignIn, now, now)
}
