//! The body of an answer, and the answers this gateway writes itself.
//!
//! Decides: what every refusal has besides its words (`dialect`). Trusts: nothing about
//! the client; an answer says no more than the public code allows. Not here: headers that every answer has (`gateway`).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};

use crate::denial::dialect::{Dialect, Written};
use crate::denial::{Denial, Extra, Reason};
use crate::listen::connection::StreamSlot;
use crate::record::{End, Trail};
use crate::streams::{Cause, Opening, Streaming, Tunnel, grpc};
use crate::upstream::UpstreamBody;

/// The body of an answer. Finishes the request's record when it is dropped.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    trail: Option<Trail>,
    slot: Option<StreamSlot>,
    streaming: Option<Box<Streaming>>,
}

#[derive(Debug)]
enum Content {
    Own(Option<Bytes>),
    Upstream(UpstreamBody),
    /// Behind a 101: nothing for HTTP, and a tunnel for the connection.
    Tunnel(Option<Box<Opening>>),
}

impl Answer {
    /// No body.
    pub fn empty() -> Self {
        Self::new(Content::Own(None))
    }

    /// A body of our own.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::new(Content::Own(
            Some(bytes.into()).filter(|bytes| !bytes.is_empty()),
        ))
    }

    /// The upstream's body, streamed.
    pub fn upstream(body: UpstreamBody) -> Self {
        Self::new(Content::Upstream(body))
    }

    /// The upstream's body, which is a live stream.
    pub(crate) fn stream(body: UpstreamBody, streaming: Streaming) -> Self {
        Self {
            streaming: Some(Box::new(streaming)),
            ..Self::upstream(body)
        }
    }

    /// The head before a tunnel.
    pub(crate) fn tunnel(opening: Opening) -> Self {
        Self::new(Content::Tunnel(Some(Box::new(opening))))
    }

    fn new(content: Content) -> Self {
        Self {
            content,
            trail: None,
            slot: None,
            streaming: None,
        }
    }

    /// Attaches the record, which is finished when the body is.
    pub(crate) fn followed_by(mut self, mut trail: Trail) -> Self {
        if let Content::Tunnel(opening) = &mut self.content {
            if let Some(opening) = opening.take() {
                let connection = trail.connection().clone();
                connection.open_tunnel(Tunnel::begin(*opening, trail));
            }
            return self;
        }
        // hyper never asks for the body of an answer to HEAD, so it is complete with its head.
        if trail.method == Method::HEAD {
            self.content = Content::Own(None);
        }
        if self.is_end_stream() {
            trail.end = End::Complete;
        } else {
            self.slot = Some(trail.connection().open_stream());
            if let Some(streaming) = &mut self.streaming {
                streaming.begin(&trail);
                trail.stream = streaming.ends_by(Cause::ClientGone);
            }
        }
        self.trail = Some(trail);
        self
    }

    fn note(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, AnswerError>>>) {
        if let Some(slot) = &self.slot {
            slot.note(polled.is_pending());
        }
        let complete = self.is_end_stream();
        let Some(trail) = &mut self.trail else { return };
        match polled {
            Poll::Pending => {}
            Poll::Ready(None) => trail.end = End::Complete,
            Poll::Ready(Some(Err(AnswerError::Ended))) => trail.end = End::Ended,
            Poll::Ready(Some(Err(AnswerError::Upstream))) => trail.end = End::UpstreamFailed,
            Poll::Ready(Some(Err(AnswerError::Upload))) => trail.end = End::ClientGone,
            Poll::Ready(Some(Ok(frame))) => {
                trail.sent += frame
                    .data_ref()
                    .map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
                if complete {
                    trail.end = End::Complete;
                }
            }
        }
        if let Some(streaming) = &self.streaming {
            if streaming.is_ended() {
                trail.end = End::Ended;
            }
            trail.stream = streaming.ends_by(match trail.end {
                End::Complete => Cause::Finished,
                End::ClientGone | End::Ended => Cause::ClientGone,
                End::UpstreamFailed => Cause::UpstreamGone,
            });
        }
    }
}

/// The answer broke off. hyper then breaks the client's message off: no end of chunks on HTTP/1.1, RST_STREAM on HTTP/2.
#[derive(Debug)]
pub enum AnswerError {
    /// The upstream failed.
    Upstream,
    /// The client broke its upload off, which the upstream was still reading.
    Upload,
    /// This gateway ended the stream, and could not say so.
    Ended,
}

impl std::fmt::Display for AnswerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Upstream => "the upstream failed in the middle of its answer",
            Self::Ended => "the stream may not go on",
            Self::Upload => "the request broke off in the middle of its answer",
        })
    }
}

impl std::error::Error for AnswerError {}

impl Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = &mut *self;
        let polled = match &mut this.content {
            Content::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Upstream(body) => match &mut this.streaming {
                None => Pin::new(body).poll_frame(context),
                Some(streaming) => streaming.poll_frame(body, context),
            },
            Content::Tunnel(_) => Poll::Ready(None),
        };
        self.note(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_none(),
            Content::Upstream(body) => match &self.streaming {
                None => body.is_end_stream(),
                Some(streaming) => streaming.is_over() || body.is_end_stream(),
            },
            Content::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(
                bytes
                    .as_ref()
                    .map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            ),
            Content::Upstream(body) => body.size_hint(),
            Content::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

/// The answer to a refused request; notes the refusal in the record.
pub(crate) fn refuse(denial: Denial, trail: &mut Trail) -> Response<Answer> {
    let Denial {
        reason,
        detail,
        extra,
    } = denial;
    trail.reason = Some(reason);
    trail.detail = detail;
    if trail.dialect == Dialect::Grpc {
        return grpc::refusal(reason.status(), public_wording(reason));
    }
    let errors = match &extra {
        Extra::Fields(errors) => errors.as_slice(),
        Extra::None
        | Extra::Allow(_)
        | Extra::RetryAfter(_)
        | Extra::ClearCookie(_)
        | Extra::Limited { .. } => &[],
    };
    let mut fields = HeaderMap::new();
    let id = trail.id.to_str().unwrap_or_default();
    let sentence = public_wording(reason);
    let Written { content_type, body } =
        trail
            .dialect
            .write(reason, sentence, errors, id, &mut fields);
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Answer::full(body));
    *response.status_mut() = reason.status();
    *response.headers_mut() = fields;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    // Also right for HEAD, whose body is left out.
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if reason.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, challenge(reason));
    }
    match extra {
        Extra::None | Extra::Fields(_) => {}
        Extra::Allow(methods) => {
            if let Ok(value) = HeaderValue::from_str(&methods) {
                headers.insert(header::ALLOW, value);
            }
        }
        Extra::ClearCookie(cookie) => {
            headers.insert(header::SET_COOKIE, cookie);
        }
        Extra::RetryAfter(after) => {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(after.as_secs().max(1)),
            );
        }
        Extra::Limited { limit, wait } => {
            // Rounded up: whoever comes when we said must not be refused again.
            let wait = HeaderValue::from(wait.as_millis().div_ceil(1000).max(1) as u64);
            headers.insert("ratelimit-limit", HeaderValue::from(limit));
            headers.insert("ratelimit-remaining", HeaderValue::from(0));
            headers.insert("ratelimit-reset", wait.clone());
            headers.insert(header::RETRY_AFTER, wait);
        }
    }
    response
}

/// The sentence a client may read. Reasons that share a public code share their wording, or the wording would tell them apart.
fn public_wording(reason: Reason) -> &'static str {
    match reason.public_code() {
        "not_found" => "There is nothing here.",
        "upstream_timeout" => "The server behind this gateway did not answer in time.",
        "upstream_unreachable" => "The server behind this gateway cannot be reached.",
        // Today's clients show these sentences.
        "invalid_credentials" => "Invalid email or password",
        "refresh_token_invalid" => "Invalid refresh token",
        "email_exists" => "Email already registered",
        "identity_unavailable" => "Authentication service unavailable",
        "identity_timeout" => "Authentication service timeout",
        "email_not_confirmed" => "Confirm your e-mail address first.",
        "too_many_attempts" => "Too many attempts; come again later.",
        "registered_only" => "Your account was made, but signing in failed; sign in.",
        "registration_unknown" => {
            "Your account may have been made; try to sign in, and register again if that fails."
        }
        "signed_out_recently" => {
            "You signed out everywhere a moment ago; come again in some seconds."
        }
        "logout_incomplete" => {
            "You are signed out here; other servers learn of it as soon as they can be reached."
        }
        "session_not_found" => "The session has ended; sign in again.",
        "internal" => {
            "The gateway failed; the request was not carried out, or its answer was lost."
        }
        _ => reason.meaning(),
    }
}

/// RFC 6750, section 3: no error code when no credential came.
fn challenge(reason: Reason) -> HeaderValue {
    let came_with_none = matches!(
        reason,
        Reason::TokenMissing
            | Reason::ApikeyMissing
            | Reason::InvalidCredentials
            | Reason::AccountBanned
            | Reason::EmailNotConfirmed
            | Reason::RefreshTokenInvalid
    );
    if came_with_none {
        HeaderValue::from_static("Bearer realm=\"api\"")
    } else {
        HeaderValue::from_static("Bearer realm=\"api\", error=\"invalid_token\"")
    }
}

/// The answer to a CORS preflight, alike for every path; `cors` adds what the origin may do.
pub(crate) fn no_content() -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
