//! The authorization of a request on its way to an answer: by itself while the request is short, in
//! the registry once it has lasted.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::{Instant, sleep_until};

use super::LASTING;
use super::ending::Ending;
use super::handle::StreamHandle;
use super::registry::Streams;
use crate::auth::StreamAuthorization;
use crate::denial::{Denial, Reason};
use crate::record::stream::{StreamEnd, StreamKind};

/// Why a request always has its authorization.
const KEPT: &str = "registering a request does not fail";

/// The authorization of a request whose answer begins.
#[derive(Debug)]
pub(crate) enum AnswerAuthorization {
    /// It has not lasted.
    Short(StreamAuthorization),
    /// It has. Boxed, so that the future of a request has no room for it.
    Registered(Box<Registered>),
}

/// A registered request, and the authorization with which it was registered.
#[derive(Debug)]
pub(crate) struct Registered {
    handle: StreamHandle,
    authorization: Rc<StreamAuthorization>,
    /// When it will have lasted, or has; `None` if it has.
    lasts: Option<Instant>,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    streams: &'a Rc<Streams>,
    /// `None` only while it is being registered.
    state: Option<State>,
}

/// There is one per open request, so it is as small as it can be.
#[derive(Debug)]
enum State {
    Short {
        authorization: StreamAuthorization,
        /// When it will have lasted; `None` if nothing of it could end.
        lasts: Option<Instant>,
    },
    Registered(Box<Registered>),
}

impl AnswerAuthorization {
    /// The authorization, as it was when the request was forwarded.
    pub(crate) fn authorization(&self) -> &StreamAuthorization {
        match self {
            Self::Short(authorization) => authorization,
            Self::Registered(registered) => &registered.authorization,
        }
    }

    /// The handle of the stream that the request has become.
    pub(crate) fn begin(self, kind: StreamKind, streams: &Rc<Streams>) -> StreamHandle {
        match self {
            Self::Short(authorization) => streams.begin(kind, authorization),
            Self::Registered(registered) => {
                registered.handle.become_kind(kind);
                registered.handle
            }
        }
    }

    /// Notes that the request ends with the head of its answer.
    pub(crate) fn finish(self) {
        if let Self::Registered(registered) = self {
            registered.handle.ends_by(StreamEnd::Finished);
        }
    }

    /// The handle of a request that has lasted. `Err` is the authorization of one that has not.
    pub(crate) fn split(self) -> Result<StreamHandle, StreamAuthorization> {
        match self {
            Self::Short(authorization) => Err(authorization),
            Self::Registered(registered) => Ok(registered.handle),
        }
    }
}

impl<'a> Waiting<'a> {
    /// A request that began at `began`.
    pub(crate) fn new(
        streams: &'a Rc<Streams>,
        authorization: StreamAuthorization,
        began: Instant,
    ) -> Self {
        Self {
            streams,
            state: Some(State::Short {
                authorization,
                lasts: Some(began + LASTING),
            }),
        }
    }

    /// Its authorization, now that its answer begins.
    pub(crate) fn into_answer(self) -> AnswerAuthorization {
        match self.state {
            Some(State::Registered(registered)) => AnswerAuthorization::Registered(registered),
            Some(State::Short { authorization, .. }) => AnswerAuthorization::Short(authorization),
            None => unreachable!("{KEPT}"),
        }
    }

    /// Its authorization, as it was when the request was forwarded.
    pub(crate) fn authorization(&self) -> &StreamAuthorization {
        match &self.state {
            Some(State::Registered(registered)) => &registered.authorization,
            Some(State::Short { authorization, .. }) => authorization,
            None => unreachable!("{KEPT}"),
        }
    }

    /// Notes that there will be no answer. Returns whether that is because the request would be
    /// refused now.
    pub(crate) fn fail(&self) -> bool {
        let Some(registered) = self.registered() else {
            return false;
        };
        let is_refused = registered.handle.must_end();
        if !is_refused {
            registered.handle.ends_by(StreamEnd::UpstreamGone);
        }
        is_refused
    }

    /// When [`Self::has_lasted`] must be called at the latest: when the request has lasted, or at
    /// `due`.
    pub(crate) fn earlier(&self, due: Option<Instant>) -> Option<Instant> {
        match (self.lasts(), due) {
            (Some(lasts), Some(due)) => Some(lasts.min(due)),
            (lasts, due) => lasts.or(due),
        }
    }

    /// Whether the request has lasted at `now`, just before it is sent. It may have waited for its
    /// body, or for a connection. Then its facts may be older than any request may use, and it must
    /// be [authorized again](Self::authorize_again) first.
    pub(crate) fn is_outdated(&self, now: Instant) -> bool {
        let lasts = match &self.state {
            Some(State::Registered(registered)) => registered.lasts,
            Some(State::Short { lasts, .. }) => *lasts,
            None => unreachable!("{KEPT}"),
        };
        lasts.is_none_or(|lasts| now >= lasts)
    }

    /// Authorizes by the whole chain a request of which nothing was sent.
    ///
    /// # Errors
    ///
    /// The reason why it would be refused now; in an outage, as the failure matrix says.
    pub(crate) async fn authorize_again(&mut self) -> Result<(), Denial> {
        let handle = self.register();
        let outcome = handle.authorize_unsent().await;
        if let Err(denial) = &outcome {
            handle.ends_by(Ending::refused(denial.reason).cause);
        }
        outcome
    }

    /// What the first part of a body waits for whose request is sent before it: that the whole
    /// chain authorizes the request, if it has lasted by then. Pending if it would be refused now;
    /// then its [refusal](Self::poll_refusal) is ready.
    pub(crate) fn authorize_body(&mut self) -> impl Future<Output = ()> + use<> {
        let lasts = self.lasts();
        let authorizing = self.register().authorize_unsent();
        async move {
            if lasts.is_some_and(|lasts| Instant::now() < lasts) {
                return;
            }
            if authorizing.await.is_err() {
                pending().await
            }
        }
    }

    /// Registers the request if it is not registered.
    fn register(&mut self) -> &StreamHandle {
        let registered = match self.state.take() {
            Some(State::Short {
                authorization,
                lasts,
            }) => {
                let handle = self.streams.begin(StreamKind::Lasting, authorization);
                Box::new(Registered {
                    authorization: handle.authorization(),
                    handle,
                    lasts,
                })
            }
            Some(State::Registered(registered)) => registered,
            None => unreachable!("{KEPT}"),
        };
        match self.state.insert(State::Registered(registered)) {
            State::Registered(registered) => &registered.handle,
            State::Short { .. } => unreachable!("{KEPT}"),
        }
    }

    /// Registers the request if it has lasted at `now`. True if that was now: then it must be asked
    /// for its [refusal](Self::poll_refusal) again.
    pub(crate) fn has_lasted(&mut self, now: Instant) -> bool {
        if self.lasts().is_none_or(|lasts| now < lasts) {
            return false;
        }
        if self.authorization().has_proof() {
            self.register();
        } else if let Some(State::Short { lasts, .. }) = &mut self.state {
            *lasts = None;
        }
        self.registered().is_some()
    }

    fn lasts(&self) -> Option<Instant> {
        match &self.state {
            Some(State::Short { lasts, .. }) => *lasts,
            Some(State::Registered(_)) | None => None,
        }
    }

    fn registered(&self) -> Option<&Registered> {
        match &self.state {
            Some(State::Registered(registered)) => Some(registered),
            Some(State::Short { .. }) | None => None,
        }
    }

    /// Ready with the reason if the request has lasted, and would be refused now.
    pub(crate) fn poll_refusal(&self, context: &mut Context<'_>) -> Poll<Reason> {
        let Some(registered) = self.registered() else {
            return Poll::Pending;
        };
        registered.handle.poll_ending(context).map(|ending| {
            registered.handle.ends_by(ending.cause);
            ending.reason.unwrap_or(Reason::Internal)
        })
    }

    /// Waits for anything else that the answer needs.
    ///
    /// # Errors
    ///
    /// The request would be refused now.
    pub(crate) async fn wait_for<F: Future>(&mut self, future: F) -> Result<F::Output, Reason> {
        let mut future = pin!(future);
        let mut timer = pin!(sleep_until(self.lasts().unwrap_or_else(Instant::now)));
        poll_fn(|context| {
            if self.lasts().is_some() && timer.as_mut().poll(context).is_ready() {
                self.has_lasted(Instant::now());
            }
            match self.poll_refusal(context) {
                Poll::Ready(reason) => Poll::Ready(Err(reason)),
                Poll::Pending => future.as_mut().poll(context).map(Ok),
            }
        })
        .await
    }
}
