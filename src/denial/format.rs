//! Error formats: problem+json, gRPC, Supabase Auth (GoTrue) and PostgREST.
//!
//! A client of Supabase expects the errors of the service that it believes to be calling. Status
//! and sentence are the same in every format; the codes are in the table of reasons.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use crate::denial::grpc::is_grpc;
use crate::denial::{FieldError, Reason, renamed};

/// The version of Supabase Auth's responses that a client requests, and that a response has.
pub const API_VERSION: HeaderName = HeaderName::from_static("x-supabase-api-version");

/// The code of an error, in both versions.
pub const ERROR_CODE: HeaderName = HeaderName::from_static("x-sb-error-code");

/// The first version in which `code` is the error code and not the status.
pub const VERSION_20240101: &str = "2024-01-01";

/// The `errors` of a route: how its refusals are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorsSetting {
    /// `application/problem+json` (RFC 9457). A gRPC request is still refused as gRPC.
    Problem,
    /// Always a gRPC status.
    Grpc,
    /// The errors of Supabase Auth, in the version that the client requests.
    Gotrue,
    /// The errors of PostgREST.
    Postgrest,
}

/// The format of a request's refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorFormat {
    /// `application/problem+json` (RFC 9457).
    Problem,
    /// A gRPC status.
    Grpc,
    /// The errors of Supabase Auth.
    Gotrue(GotrueVersion),
    /// The errors of PostgREST.
    Postgrest,
}

/// The two versions of Supabase Auth's errors, by its own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GotrueVersion {
    /// `code` is the status: `{"code":401,"error_code":"…","msg":"…"}`.
    Initial,
    /// `code` is the error code: `{"code":"…","message":"…"}`.
    V20240101,
}

impl GotrueVersion {
    /// The version that the client requests. A value that is not a date is ignored.
    pub fn requested(headers: &HeaderMap) -> Self {
        let requested = headers.get(API_VERSION).map(HeaderValue::as_bytes);
        match requested {
            Some(date) if is_date(date) && date >= VERSION_20240101.as_bytes() => Self::V20240101,
            Some(_) | None => Self::Initial,
        }
    }

    /// Writes the header fields of an error.
    pub fn write_head(self, headers: &mut HeaderMap, code: &'static str) {
        headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        if self == Self::V20240101 {
            headers.insert(API_VERSION, HeaderValue::from_static(VERSION_20240101));
        }
    }

    fn body(self, reason: Reason, sentence: &str) -> serde_json::Result<Vec<u8>> {
        let code = reason.gotrue_code();
        match self {
            Self::Initial => serde_json::to_vec(&GotrueInitial {
                code: reason.status().as_u16(),
                error_code: code,
                msg: sentence,
            }),
            Self::V20240101 => serde_json::to_vec(&Gotrue20240101 {
                code,
                message: sentence,
            }),
        }
    }
}

fn is_date(text: &[u8]) -> bool {
    text.len() == 10
        && text.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// The body of a refusal and its media type.
pub(crate) struct Written {
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Vec<u8>,
}

impl ErrorFormat {
    /// The format before a route is known.
    pub fn of(headers: &HeaderMap) -> Self {
        match is_grpc(headers) {
            true => Self::Grpc,
            false => Self::Problem,
        }
    }

    /// The format on a route. A gRPC request is refused as gRPC on every route.
    pub fn on(self, errors: ErrorsSetting, headers: &HeaderMap) -> Self {
        match (self, errors) {
            (Self::Grpc, _) | (_, ErrorsSetting::Grpc) => Self::Grpc,
            (_, ErrorsSetting::Problem) => Self::Problem,
            (_, ErrorsSetting::Gotrue) => Self::Gotrue(GotrueVersion::requested(headers)),
            (_, ErrorsSetting::Postgrest) => Self::Postgrest,
        }
    }

    /// Writes a refusal as JSON, and the header fields that belong to it. `sentence` is for the
    /// client, `errors` are the errors in fields of the request, `id` is the decision id.
    pub(crate) fn write(
        self,
        reason: Reason,
        sentence: &str,
        errors: &[FieldError],
        id: &str,
        headers: &mut HeaderMap,
    ) -> Written {
        let (content_type, body) = match self {
            Self::Gotrue(version) => {
                version.write_head(headers, reason.gotrue_code());
                ("application/json", version.body(reason, sentence))
            }
            Self::Postgrest => (
                "application/json; charset=utf-8",
                serde_json::to_vec(&PostgrestError {
                    code: reason.postgrest_code(),
                    details: None,
                    hint: None,
                    message: sentence,
                }),
            ),
            // A refusal over gRPC has no body, and `gateway::refuse` asks for none.
            Self::Problem | Self::Grpc => (
                "application/problem+json",
                serde_json::to_vec(&Problem::new(reason, sentence, errors, id)),
            ),
        };
        Written {
            content_type: HeaderValue::from_static(content_type),
            body: body.unwrap_or_default(),
        }
    }
}

/// A problem document (RFC 9457). Clients of FastAPI read `status_code`.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    status_code: u16,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl<'a> Problem<'a> {
    fn new(reason: Reason, sentence: &'a str, errors: &'a [FieldError], id: &'a str) -> Self {
        let status = reason.status();
        Self {
            kind: "about:blank",
            title: renamed(status)
                .or(status.canonical_reason())
                .unwrap_or("Error"),
            status: status.as_u16(),
            detail: sentence,
            code: reason.public_code(),
            request_id: id,
            status_code: status.as_u16(),
            errors,
        }
    }
}

#[derive(Serialize)]
struct GotrueInitial<'a> {
    code: u16,
    error_code: &'a str,
    msg: &'a str,
}

#[derive(Serialize)]
struct Gotrue20240101<'a> {
    code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct PostgrestError<'a> {
    code: &'a str,
    details: Option<&'a str>,
    hint: Option<&'a str>,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requesting(version: &'static str) -> GotrueVersion {
        let mut headers = HeaderMap::new();
        headers.insert(API_VERSION, HeaderValue::from_static(version));
        GotrueVersion::requested(&headers)
    }

    #[test]
    fn a_client_is_answered_in_the_version_it_requests() {
        assert_eq!(requesting("2024-01-01"), GotrueVersion::V20240101);
        assert_eq!(requesting("2025-12-31"), GotrueVersion::V20240101);
        for old in [
            "2023-12-31",
            "",
            "latest",
            "2024-1-1",
            "2024-01-01x",
            "zzzz-zz-zz",
        ] {
            assert_eq!(requesting(old), GotrueVersion::Initial, "{old}");
        }
        assert_eq!(
            GotrueVersion::requested(&HeaderMap::new()),
            GotrueVersion::Initial
        );
    }
}
