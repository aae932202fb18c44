//! Contains panics: a panic in a request is that request's 500, not an outage. Its message stays
//! out of the log, since it may quote a request. State that requests share stays consistent,
//! because it is replaced and never half written.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// Runs a future and turns a panic into an error, which never says what data the future saw.
///
/// # Errors
///
/// The future panicked; it is not polled again.
pub async fn catch_panic<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, &'static str> {
    poll_fn(move |context| {
        // The future's state belongs to one request, or is replaced as a whole.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err("panic; see the log line before this one")),
        }
    })
    .await
}

/// Logs every panic as one line with its source location, without the message, which may quote a
/// request.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(%place, "panic");
    }));
}
