//! A panic in a request is that request's 500, not an outage.
//!
//! Decides: that what was polled when it panicked is never polled again, and that the panic's text stays out of the log, since it may quote a
//! request. Trusts: what requests share to be whole after any of them stops, because it is replaced and never half written. Not here: the answer
//! (`gateway`).

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// Runs a future and turns a panic into an error, which never says what data the future saw.
///
/// # Errors
///
/// The future panicked; it is not polled again.
pub async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, &'static str> {
    poll_fn(move |context| {
        // What the future shared is per request, or is only ever replaced whole.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err("panic; see the log line before this one")),
        }
    })
    .await
}

/// Makes every panic one log line with its place. The message stays out: it may quote a request.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(%place, "panic");
    }));
}
