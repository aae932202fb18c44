//! A call to the identity server, its reply, and the reasons for having none.

use std::net::IpAddr;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};

use super::metrics::Outcome;
use super::operation::Operation;
use crate::denial::{Denial, Reason};
use crate::http_client::pooled::FullResponse;
use crate::secrets::secret::Secret;

/// The project's key that a call is made with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApiKey {
    /// The first publishable key, with the rights of any client.
    Publishable,
    /// The secret key, with the rights of an administrator.
    Secret,
}

/// A call to the identity server.
#[derive(Clone)]
pub struct Call {
    /// The operation, for metrics.
    pub operation: Operation,
    /// The HTTP method.
    pub method: Method,
    /// Path and query below `/auth/v1`, such as `/token?grant_type=password`.
    pub path: String,
    /// The project's key to send.
    pub key: ApiKey,
    /// The user's access token, if the call is on behalf of a user.
    pub bearer: Option<Secret>,
    /// The body; in JSON, unless `headers` has another type.
    pub body: Option<Bytes>,
    /// The client's address; the server may count by it.
    pub client: IpAddr,
    /// Further header fields, such as `User-Agent`, which the server records.
    pub headers: HeaderMap,
}

/// A reply of any status. Errors have the form of
/// [`GotrueVersion::V20240101`](crate::denial::format::GotrueVersion::V20240101).
#[derive(Clone)]
pub struct Reply {
    /// Any status, from 1xx to 5xx.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallError {
    /// Too many calls are in progress. Nothing was sent.
    Busy,
    /// The server is unreachable, or has not answered lately. Nothing was sent.
    Away,
    /// The edge in front of the server refuses the gateway's key. The server was not reached.
    KeyRefused,
    /// The call was sent, and no complete reply came. It may have been executed.
    Unknown,
    /// The deadline passed.
    Deadline {
        /// Whether the call was sent, and so may have been executed.
        sent: bool,
    },
}

impl Call {
    /// A call with the publishable key and without a body.
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

    /// Adds a body, in JSON.
    #[must_use]
    pub fn with_body(mut self, json: impl Into<Bytes>) -> Self {
        self.body = Some(json.into());
        self
    }

    /// Makes the call on behalf of a user.
    #[must_use]
    pub fn for_user(mut self, access_token: Secret) -> Self {
        self.bearer = Some(access_token);
        self
    }

    /// Makes the call with the secret key.
    #[must_use]
    pub fn as_admin(mut self) -> Self {
        self.key = ApiKey::Secret;
        self
    }
}

impl CallError {
    /// The reason to refuse a request that needed this call.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Busy => Reason::SignInBusy,
            Self::KeyRefused => Reason::IdentityRefused,
            Self::Away | Self::Unknown => Reason::IdentityUnavailable,
            Self::Deadline { .. } => Reason::IdentityTimeout,
        }
    }

    /// Whether the server may have executed the call.
    pub const fn may_be_done(self) -> bool {
        match self {
            Self::Busy | Self::Away | Self::KeyRefused => false,
            Self::Unknown => true,
            Self::Deadline { sent } => sent,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "too many calls in progress",
            Self::Away => "unreachable",
            Self::KeyRefused => {
                "the edge in front of it refuses the gateway: its key, or by a rule of a firewall"
            }
            Self::Unknown => "the reply ended early",
            Self::Deadline { sent: true } => "no reply before the deadline",
            Self::Deadline { sent: false } => "not sent before the deadline",
        }
    }

    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Busy => Outcome::Busy,
            Self::Away => Outcome::Away,
            Self::KeyRefused => Outcome::Refused,
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

impl From<FullResponse> for Reply {
    fn from(whole: FullResponse) -> Self {
        Self {
            status: whole.status,
            headers: whole.headers,
            body: whole.body,
        }
    }
}

/// Omits bodies and fields, which hold passwords and tokens.
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
