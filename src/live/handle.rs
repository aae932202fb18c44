//! The handle of a registered stream.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::ending::Ending;
use super::registry::{Entry, Streams};
use crate::auth::StreamAuthorization;
use crate::denial::{Denial, Reason};
use crate::panics::catch_panic;
use crate::record::stream::{StreamEnd, StreamKind};

/// A registered stream. Dropping the handle removes the stream from the registry and counts its
/// end.
#[derive(Debug)]
pub(crate) struct StreamHandle {
    pub(super) streams: Rc<Streams>,
    pub(super) id: u64,
    pub(super) entry: Rc<Entry>,
    pub(super) cause: Cell<StreamEnd>,
}

impl StreamHandle {
    pub(crate) fn kind(&self) -> StreamKind {
        self.entry.kind.get()
    }

    /// The kind is known, now that the head of the answer has arrived.
    pub(super) fn become_kind(&self, kind: StreamKind) {
        let metrics = &self.streams.metrics;
        metrics.changed(self.entry.kind.replace(kind), kind);
        self.streams.end_if_drained(&self.entry);
    }

    /// The current authorization of the stream.
    pub(crate) fn authorization(&self) -> Rc<StreamAuthorization> {
        self.entry.authorization()
    }

    /// Authorizes the stream with this token, or without one. The stream keeps its authorization
    /// until [`Self::replace_authorization`].
    pub(crate) fn authorize_speaker(
        &self,
        token: Option<String>,
    ) -> impl Future<Output = Result<StreamAuthorization, Denial>> + use<> {
        let (authorization, snapshot) = (self.authorization(), self.streams.current.get());
        async move {
            let chain = snapshot.chain();
            let authorizing = pin!(chain.reauthorize_speaker(
                &authorization,
                snapshot.in_force().clone(),
                token.as_deref()
            ));
            catch_panic(authorizing)
                .await
                .unwrap_or_else(|panic| Err(Reason::Internal.because(panic)))
        }
    }

    /// Replaces the authorization of the stream.
    pub(crate) fn replace_authorization(&self, authorization: StreamAuthorization) {
        self.streams.replace(self.id, &self.entry, authorization);
    }

    /// Authorizes the request by the whole chain before anything of it, or of its body, is sent. If
    /// it would be refused now, it also ends.
    ///
    /// # Errors
    ///
    /// The reason why it would be refused now.
    pub(super) fn authorize_unsent(&self) -> impl Future<Output = Result<(), Denial>> + use<> {
        let (streams, id, entry) = (self.streams.clone(), self.id, self.entry.clone());
        async move { streams.authorize_unsent(id, &entry).await }
    }

    /// Whether the stream must end.
    pub(crate) fn must_end(&self) -> bool {
        self.entry.ending.get().is_some()
    }

    /// Ready when the stream must end.
    pub(crate) fn poll_ending(&self, context: &mut Context<'_>) -> Poll<Ending> {
        if let Some(ending) = self.entry.ending.get() {
            return Poll::Ready(ending);
        }
        let mut waker = self.entry.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Notes why the stream ends; until then the cause is a client that went away.
    pub(crate) fn ends_by(&self, cause: StreamEnd) {
        self.cause.set(cause);
    }

    pub(crate) fn cause(&self) -> StreamEnd {
        self.cause.get()
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.streams.set_due(self.id, &self.entry, None);
        self.streams.open.borrow_mut().remove(&self.id);
        let metrics = &self.streams.metrics;
        metrics.ended(self.entry.kind.get(), self.cause.get());
    }
}
