//! The handle of a registered stream.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{Entry, Streams};
use crate::auth::StreamAuthorization;
use crate::denial::{Denial, Reason};
use crate::panics::catch_panic;
use crate::record::stream::{StreamEnd, StreamKind};
use crate::streams::ending::Ending;

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
    pub(in crate::streams) fn kind(&self) -> StreamKind {
        self.entry.kind
    }

    pub(in crate::streams) fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }

    /// The current authorization of the stream.
    pub(in crate::streams) fn authorization(&self) -> Rc<StreamAuthorization> {
        self.entry.authorization.borrow().clone()
    }

    /// Authorizes the stream with this token, or without one. The stream keeps its authorization
    /// until [`Self::replace_authorization`].
    pub(in crate::streams) fn authorize_speaker(
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
    pub(in crate::streams) fn replace_authorization(&self, authorization: StreamAuthorization) {
        let (streams, entry) = (&self.streams, &self.entry);
        let is_current = streams.is_current(&authorization);
        streams.set_due(self.id, entry, authorization.accepted_until());
        *entry.authorization.borrow_mut() = Rc::new(authorization);
        if !is_current {
            let (streams, id) = (streams.clone(), self.id);
            tokio::task::spawn_local(async move { streams.reauthorize(id).await });
        }
    }

    /// Ready when the stream must end.
    pub(in crate::streams) fn poll_ending(&self, context: &mut Context<'_>) -> Poll<Ending> {
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
    pub(in crate::streams) fn ends_by(&self, cause: StreamEnd) {
        self.cause.set(cause);
    }

    pub(in crate::streams) fn cause(&self) -> StreamEnd {
        self.cause.get()
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.streams.set_due(self.id, &self.entry, None);
        self.streams.open.borrow_mut().remove(&self.id);
        let metrics = &self.streams.metrics;
        metrics.ended(self.entry.kind, self.cause.get());
    }
}
