//! One call to the identity server: what is sent, what is answered, and why there may be no answer.

use std::net::IpAddr;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};

use super::metrics::Outcome;
use super::operation::Operation;
use crate::denial::{Denial, Reason};
use crate::http_client::pooled::Whole;
use crate::secrets::secret::Secret;

/// With which of the project's keys a call is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApiKey {
    /// The first publishable key: what any client may do.
    Publishable,
    /// The secret key: what an administrator may do.
    Secret,
}

/// One question.
#[derive(Clone)]
pub struct Call {
    /// What it is, for metrics.
    pub operation: Operation,
    /// The method.
    pub method: Method,
    /// Path and query below `/auth/v1`, such as `/token?grant_type=password`.
    pub path: String,
    /// With which key.
    pub key: ApiKey,
    /// For which user: an access token.
    pub bearer: Option<Secret>,
    /// JSON, if there is a body.
    pub body: Option<Bytes>,
    /// Whose call it is; the server may count by it.
    pub client: IpAddr,
    /// More fields, such as `User-Agent`, which the server writes down.
    pub headers: HeaderMap,
}

/// An answer, whatever it says. Errors are in the form of [`GotrueVersion::Words`](crate::denial::dialect::GotrueVersion::Words).
#[derive(Clone)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallError {
    /// Too many calls are under way. Nothing was sent.
    Busy,
    /// It cannot be reached, or has not answered lately. Nothing was sent.
    Away,
    /// It was sent, and no whole answer came. It may have been carried out.
    Unknown,
    /// It took too long.
    Deadline {
        /// Whether it was sent, and so may have been carried out.
        sent: bool,
    },
}

impl Call {
    /// A call with the publishable key, without a body.
    pub fn new(operation: Operation, method: Method, path: &str, client: IpAddr) -> Self {
        Self {
            operation,
            method,
            path: path.to_owned(),
            key: ApiKey::Publishable,
            bearer: None,
            body: None,
            client,
            headers: HeaderMap::new(),
        }
    }

    /// The same with a body, in JSON.
    #[must_use]
    pub fn with_body(mut self, json: impl Into<Bytes>) -> Self {
        self.body = Some(json.into());
        self
    }

    /// The same for a user.
    #[must_use]
    pub fn for_user(mut self, access_token: Secret) -> Self {
        self.bearer = Some(access_token);
        self
    }

    /// The same as an administrator.
    #[must_use]
    pub fn as_admin(mut self) -> Self {
        self.key = ApiKey::Secret;
        self
    }
}

impl CallError {
    /// What a request is refused for that needed this call.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Busy => Reason::SignInBusy,
            Self::Away | Self::Unknown => Reason::IdentityUnavailable,
            Self::Deadline { .. } => Reason::IdentityTimeout,
        }
    }

    /// Whether the server may have carried the call out.
    pub const fn may_be_done(self) -> bool {
        match self {
            Self::Busy | Self::Away => false,
            Self::Unknown => true,
            Self::Deadline { sent } => sent,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "too many calls are under way",
            Self::Away => "it cannot be reached",
            Self::Unknown => "the answer broke off",
            Self::Deadline { sent: true } => "no answer in time",
            Self::Deadline { sent: false } => "not sent in time",
        }
    }

    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Busy => Outcome::Busy,
            Self::Away => Outcome::Away,
            Self::Unknown => Outcome::Unknown,
            Self::Deadline { .. } => Outcome::Deadline,
        }
    }
}

impl From<CallError> for Denial {
    fn from(error: CallError) -> Self {
        error.reason().because(error.as_str())
    }
}

impl From<Whole> for Reply {
    fn from(whole: Whole) -> Self {
        Self {
            status: whole.status,
            headers: whole.headers,
            body: whole.body,
        }
    }
}

/// Bodies and fields hold passwords and tokens.
impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
