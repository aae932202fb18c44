//! Refusals: the reasons for them, and how each error format writes them.
//!
//! Decides:  the status, the public code and the wording of every refusal.
//! Trusts:   the [`Reason`] that it is given.
//! Not here: when to refuse; `request`, the layers of `auth` and `upstream` decide that.
//!
//! The operator's code is in logs and metrics, the client's code in the response. They differ where
//! the difference would tell a client what exists: `route_denied` and `route_unknown` both show
//! `not_found`, with the same body. `config/reasons.md` is generated from the table in `reason.rs`,
//! and a test compares the two.

pub mod format;
pub mod grpc;
mod reason;

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;

pub use self::reason::{Fault, Reason, Wire};

/// A refusal: the reason, a detail that only the operator may read, and extra response fields.
#[derive(Debug)]
pub struct Denial {
    /// The reason, which decides status, codes and wording.
    pub reason: Reason,
    /// For the log line only. Never holds a token, a cookie, a query value or a secret.
    pub detail: Option<Cow<'static, str>>,
    /// Response fields besides the body.
    pub extra: Extra,
}

/// Response fields that only some refusals have.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Extra {
    /// No other field.
    #[default]
    None,
    /// `Allow`, for a known path that does not offer the method (RFC 9110, section 10.2.1).
    Allow(String),
    /// `Retry-After`, in whole seconds.
    RetryAfter(Duration),
    /// `Set-Cookie` that clears the cookie of a session that has ended.
    ClearCookie(HeaderValue),
    /// Errors in fields of the request; written into the body, as `errors`.
    Fields(Vec<FieldError>),
    /// `Retry-After` and the `RateLimit` fields, for a client over its rate limit.
    Limited {
        /// How many requests may come at once.
        limit: u32,
        /// The time until the next request may come.
        wait: Duration,
    },
}

/// An error in a field of a request, for the client.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The name of the field.
    pub field: &'static str,
    /// What is wrong, in a sentence. Never repeats the value.
    pub detail: Cow<'static, str>,
}

/// The name of a status (RFC 9110, section 15), where the `http` crate has one from an older
/// standard.
pub fn renamed(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        413 => Some("Content Too Large"),
        422 => Some("Unprocessable Content"),
        _ => None,
    }
}

impl Reason {
    /// A denial with a detail for the operator.
    pub fn because(self, detail: impl Into<Cow<'static, str>>) -> Denial {
        Denial {
            detail: Some(detail.into()),
            ..Denial::from(self)
        }
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        let extra = match reason.status() {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Extra::RetryAfter(Duration::from_secs(1))
            }
            _ => Extra::None,
        };
        Self {
            reason,
            detail: None,
            extra,
        }
    }
}
