//! In which words a refusal is told: those of this gateway, of gRPC, or of the Supabase service that the client believes it speaks to.
//!
//! Decides: the code and the shape of a refusal in each dialect. Trusts: `denial` for its status, which is the same in every dialect, and for
//! its sentence. Not here: when to refuse, and what gRPC calls a status (`streams::grpc`).
//!
//! A client of Supabase ends its session when it reads `session_not_found`, or when a refresh is refused with anything but a 5xx. So a session
//! that was revoked is told by that word, and what is down is a 5xx under a word that no client takes for an answer about its session.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use crate::denial::grpc::is_grpc;
use crate::denial::{FieldError, Reason};

/// Which version of its answers a client of Supabase Auth speaks.
pub const API_VERSION: HeaderName = HeaderName::from_static("x-supabase-api-version");

/// The code of an error, in both versions.
pub const ERROR_CODE: HeaderName = HeaderName::from_static("x-sb-error-code");

/// The first version in which `code` is a word.
pub const WORDS_SINCE: &str = "2024-01-01";

/// How a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `application/problem+json` (RFC 9457).
    Problem,
    /// A gRPC status.
    Grpc,
    /// As Supabase Auth does.
    Gotrue(GotrueVersion),
    /// As PostgREST does.
    Postgrest,
}

/// The two shapes of an error of Supabase Auth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GotrueVersion {
    /// `code` is the status: `{"code":401,"error_code":"…","msg":"…"}`.
    Numbers,
    /// 2024-01-01: `code` is the word: `{"code":"…","message":"…"}`.
    Words,
}

impl GotrueVersion {
    /// What the client asks for. Anything but a date is no version.
    pub fn asked(headers: &HeaderMap) -> Self {
        let asked = headers.get(API_VERSION).map(HeaderValue::as_bytes);
        match asked {
            Some(date) if is_date(date) && date >= WORDS_SINCE.as_bytes() => Self::Words,
            Some(_) | None => Self::Numbers,
        }
    }

    /// Writes what every error says in its head.
    pub fn write_head(self, headers: &mut HeaderMap, code: &'static str) {
        headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        if self == Self::Words {
            headers.insert(API_VERSION, HeaderValue::from_static(WORDS_SINCE));
        }
    }
}

fn is_date(text: &[u8]) -> bool {
    text.len() == 10
        && text.iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// The body of a refusal and its type.
pub(crate) struct Written {
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Vec<u8>,
}

impl Dialect {
    /// Before a route is known: what the request itself speaks.
    pub fn of(headers: &HeaderMap) -> Self {
        match is_grpc(headers) {
            true => Self::Grpc,
            false => Self::Problem,
        }
    }

    /// On a route. Who speaks gRPC is answered in gRPC everywhere.
    pub fn on(self, errors: Errors, headers: &HeaderMap) -> Self {
        match (self, errors) {
            (Self::Grpc, _) | (_, Errors::Grpc) => Self::Grpc,
            (_, Errors::Problem) => Self::Problem,
            (_, Errors::Gotrue) => Self::Gotrue(GotrueVersion::asked(headers)),
            (_, Errors::Postgrest) => Self::Postgrest,
        }
    }

    /// The refusal as JSON, and the fields that belong to it. `sentence` is what a client may read, `errors` what is wrong with
    /// which fields, `id` the decision id.
    pub(crate) fn write(
        self,
        reason: Reason,
        sentence: &str,
        errors: &[FieldError],
        id: &str,
        headers: &mut HeaderMap,
    ) -> Written {
        let status = reason.status();
        let words = Words::of(reason);
        match self {
            Self::Gotrue(version) => {
                version.write_head(headers, words.gotrue);
                let body = match version {
                    GotrueVersion::Numbers => serde_json::to_vec(&GotrueNumbers {
                        code: status.as_u16(),
                        error_code: words.gotrue,
                        msg: sentence,
                    }),
                    GotrueVersion::Words => serde_json::to_vec(&GotrueWords {
                        code: words.gotrue,
                        message: sentence,
                    }),
                };
                Written {
                    content_type: HeaderValue::from_static("application/json"),
                    body: body.unwrap_or_default(),
                }
            }
            Self::Postgrest => {
                let body = serde_json::to_vec(&PostgrestError {
                    code: words.postgrest,
                    details: None,
                    hint: None,
                    message: sentence,
                });
                Written {
                    content_type: HeaderValue::from_static("application/json; charset=utf-8"),
                    body: body.unwrap_or_default(),
                }
            }
            // A refusal in gRPC has no body; `answer` does not ask for one.
            Self::Problem | Self::Grpc => {
                let body = serde_json::to_vec(&Problem {
                    kind: "about:blank",
                    title: status.canonical_reason().unwrap_or("Error"),
                    status: status.as_u16(),
                    detail: sentence,
                    code: reason.public_code(),
                    request_id: id,
                    status_code: status.as_u16(),
                    errors,
                });
                Written {
                    content_type: HeaderValue::from_static("application/problem+json"),
                    body: body.unwrap_or_default(),
                }
            }
        }
    }
}

/// A problem document (RFC 9457). `status_code` is what clients of FastAPI read.
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

#[derive(Serialize)]
struct GotrueNumbers<'a> {
    code: u16,
    error_code: &'a str,
    msg: &'a str,
}

#[derive(Serialize)]
struct GotrueWords<'a> {
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

/// The word for one reason in the dialects of Supabase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// `error_code` of Supabase Auth. Where it has no word, it is ours.
    pub gotrue: &'static str,
    /// `code` of PostgREST: one of its own, or an SQLSTATE. Where it has none, it is our word.
    pub postgrest: &'static str,
}

const fn words(gotrue: &'static str, postgrest: &'static str) -> Words {
    Words { gotrue, postgrest }
}

impl Words {
    /// The table. Reasons with one public code have one word in every dialect, or the dialect would tell them apart.
    pub const fn of(reason: Reason) -> Self {
        match reason {
            // The request cannot be read: GoTrue's word for what it cannot read, PostgREST's for a query it cannot.
            Reason::HostMissing
            | Reason::HostRepeated
            | Reason::HostInvalid
            | Reason::HostMismatch
            | Reason::HostUnknown
            | Reason::TargetForm
            | Reason::UriTooLong
            | Reason::HeadersTooMany
            | Reason::PathSlashEncoded
            | Reason::PathBackslash
            | Reason::PathControl
            | Reason::PathDotSegment
            | Reason::PathEmptySegment
            | Reason::PathDoubleEncoded
            | Reason::PathEscape
            | Reason::PathUtf8
            | Reason::PathNonAscii
            | Reason::PathParameters
            | Reason::PathAmbiguous
            | Reason::QueryRepeated
            | Reason::AuthorizationRepeated
            | Reason::UpgradeRefused
            | Reason::MessageInvalid
            | Reason::IdentifierInvalid => words("validation_failed", "PGRST100"),
            Reason::HttpsRequired => words("https_required", "https_required"),
            Reason::MethodRefused => words("method_refused", "PGRST117"),
            Reason::MethodNotAllowed => words("method_not_allowed", "PGRST117"),
            Reason::BodyTooLarge => words("body_too_large", "body_too_large"),
            Reason::BodyTimeout => words("body_timeout", "body_timeout"),
            Reason::BodyBroken | Reason::BodyMalformed => words("bad_json", "PGRST102"),
            Reason::BodyType => words("body_type", "PGRST107"),
            Reason::RouteUnknown
            | Reason::RouteDenied
            | Reason::OperationUnknown
            | Reason::SessionAbsent
            | Reason::NotYours
            | Reason::Absent
            | Reason::LineageCycle
            | Reason::LineageMissing
            | Reason::LineageDeep => words("not_found", "PGRST125"),

            // Who is calling.
            Reason::ApikeyMissing => words("apikey_missing", "apikey_missing"),
            Reason::ApikeyUnknown => words("apikey_unknown", "apikey_unknown"),
            Reason::ApikeyRepeated => words("validation_failed", "apikey_repeated"),
            Reason::TokenMissing => words("no_authorization", "PGRST302"),
            Reason::TokenMalformed
            | Reason::TokenTooLarge
            | Reason::TokenCritical
            | Reason::TokenAlgorithm
            | Reason::TokenIssuer
            | Reason::TokenKeyUnknown
            | Reason::TokenSignature => words("bad_jwt", "PGRST301"),
            // A token that is no longer good can be refreshed, so it is not the end of its session.
            Reason::TokenExpired
            | Reason::TokenNotYetValid
            | Reason::TokenAudience
            | Reason::TokenClaims
            | Reason::SessionDiffers
            | Reason::TokenRevoked => words("bad_jwt", "PGRST303"),
            // The word at which a client ends its session.
            Reason::SessionRevoked
            | Reason::SubjectRevoked
            | Reason::IssuerRevoked
            | Reason::CookieMalformed
            | Reason::SessionUnknown
            | Reason::SessionExpired => words("session_not_found", "PGRST303"),

            // Signing in. PostgREST has no words for it.
            Reason::TooManyAttempts | Reason::IdentityLimited => {
                words("over_request_rate_limit", "too_many_attempts")
            }
            Reason::InputInvalid => words("validation_failed", "input_invalid"),
            Reason::InvalidCredentials | Reason::AccountBanned => {
                words("invalid_credentials", "invalid_credentials")
            }
            Reason::EmailNotConfirmed => words("email_not_confirmed", "email_not_confirmed"),
            Reason::RefreshTokenInvalid => {
                words("refresh_token_not_found", "refresh_token_invalid")
            }
            Reason::EmailExists => words("email_exists", "email_exists"),
            Reason::WeakPassword => words("weak_password", "weak_password"),
            Reason::CaptchaFailed => words("captcha_failed", "captcha_failed"),
            Reason::SignInClosed => words("signup_disabled", "sign_in_closed"),

            // What the caller may do. PostgREST tells the same with PostgreSQL's `insufficient_privilege`.
            Reason::ServiceKeyRefused => words("not_admin", "42501"),
            Reason::RestDenied => words("rest_denied", "42501"),
            Reason::CallerBanned | Reason::CallerInactive => words("user_banned", "42501"),
            Reason::CsrfOrigin => words("csrf_origin", "42501"),
            Reason::CsrfToken => words("csrf_token", "42501"),
            Reason::WhenRefused | Reason::WhenFailed => words("when_refused", "42501"),
            Reason::AnonymousRefused => words("anonymous_refused", "42501"),
            Reason::AalInsufficient => words("insufficient_aal", "42501"),
            Reason::RoleInsufficient => words("role_insufficient", "42501"),

            // What is down says nothing about anybody's session.
            Reason::KeysUnavailable
            | Reason::StoreUnavailable
            | Reason::SessionUnavailable
            | Reason::FactsUnavailable => words("unexpected_failure", "PGRST001"),
            Reason::BudgetSpent => words("request_timeout", "PGRST003"),
            Reason::UpstreamConnect
            | Reason::UpstreamBusy
            | Reason::UpstreamClosed
            | Reason::UpstreamProtocol
            | Reason::BindingFailed => words("unexpected_failure", "PGRST000"),
            Reason::SignInBusy
            | Reason::IdentityUnavailable
            | Reason::IdentityRefused
            | Reason::RegisteredOnly
            | Reason::RegistrationUnknown
            | Reason::SignedOutRecently
            | Reason::LogoutIncomplete => words("unexpected_failure", "PGRST000"),
            Reason::IdentityTimeout => words("request_timeout", "PGRST003"),
            Reason::UpstreamConnectTimeout
            | Reason::UpstreamFirstByteTimeout
            | Reason::UpstreamTotalTimeout => words("request_timeout", "PGRST003"),
            Reason::Internal => words("unexpected_failure", "PGRSTX00"),
        }
    }
}

/// How refusals are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// `application/problem+json` (RFC 9457); a request in gRPC is refused in gRPC all the same.
    Problem,
    /// Always as a gRPC status.
    Grpc,
    /// As Supabase Auth does, in the version that the client asks for.
    Gotrue,
    /// As PostgREST does.
    Postgrest,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn asking(version: &'static str) -> GotrueVersion {
        let mut headers = HeaderMap::new();
        headers.insert(API_VERSION, HeaderValue::from_static(version));
        GotrueVersion::asked(&headers)
    }

    #[test]
    fn a_client_is_answered_in_the_version_it_asks_for() {
        assert_eq!(asking("2024-01-01"), GotrueVersion::Words);
        assert_eq!(asking("2025-12-31"), GotrueVersion::Words);
        for old in [
            "2023-12-31",
            "",
            "latest",
            "2024-1-1",
            "2024-01-01x",
            "zzzz-zz-zz",
        ] {
            assert_eq!(asking(old), GotrueVersion::Numbers, "{old}");
        }
        assert_eq!(
            GotrueVersion::asked(&HeaderMap::new()),
            GotrueVersion::Numbers
        );
    }

    #[test]
    fn no_dialect_tells_apart_what_the_public_code_does_not() {
        let mut seen = HashMap::new();
        for reason in Reason::ALL {
            let words = Words::of(*reason);
            let first = *seen.entry(reason.public_code()).or_insert(words);
            assert_eq!(first, words, "{reason:?}");
        }
    }

    #[test]
    fn only_what_was_revoked_ends_a_session() {
        for reason in Reason::ALL {
            let ends = Words::of(*reason).gotrue == "session_not_found";
            assert_eq!(
                ends,
                reason.public_code() == "session_not_found",
                "{reason:?}"
            );
            // supabase-js keeps its session at 500 to 504 whatever they say.
            if reason.status().is_server_error() {
                assert!(!ends && (500..=504).contains(&reason.status().as_u16()));
            }
        }
    }
}
