//! The answers to refused requests and to CORS preflights: the fields that every refusal has. The
//! body's format is in `denial::format`; an answer says no more than the public code allows.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::denial::format::{ErrorFormat, Written};
use crate::denial::{Denial, Extra, Reason, grpc};
use crate::gateway::answer::Answer;
use crate::record::{Decision, Record};

/// The response to a refused request. Notes the refusal in the record.
pub(crate) fn refuse(denial: Denial, record: &mut Record) -> Response<Answer> {
    let Denial {
        reason,
        detail,
        extra,
    } = denial;
    record.reason = Some(reason);
    record.detail = detail;
    if record.error_format == ErrorFormat::Grpc {
        return over_grpc(reason.status(), public_wording(reason));
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
    let id = record.id.to_str().unwrap_or_default();
    let sentence = public_wording(reason);
    let Written { content_type, body } =
        record
            .error_format
            .write(reason, sentence, errors, id, &mut fields);
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Answer::full(body));
    *response.status_mut() = reason.status();
    *response.headers_mut() = fields;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    // Also correct for HEAD, whose body is left out.
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if reason.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, challenge(reason));
    }
    add_fields(headers, extra);
    response
}

/// Adds the fields of this particular refusal.
fn add_fields(headers: &mut HeaderMap, extra: Extra) {
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
            // Rounded up: a client that retries at the announced time must not be refused again.
            let wait = HeaderValue::from(wait.as_millis().div_ceil(1000).max(1) as u64);
            headers.insert("ratelimit-limit", HeaderValue::from(limit));
            headers.insert("ratelimit-remaining", HeaderValue::from(0));
            headers.insert("ratelimit-reset", wait.clone());
            headers.insert(header::RETRY_AFTER, wait);
        }
    }
}

/// The sentence a client may read. Reasons that share a public code share their wording, or the
/// wording would tell them apart.
fn public_wording(reason: Reason) -> &'static str {
    match reason.public_code() {
        "not_found" => "Not found.",
        "upstream_timeout" => "The server behind this gateway did not answer in time.",
        "upstream_unreachable" => "The server behind this gateway cannot be reached.",
        // Existing clients show these sentences to users.
        "invalid_credentials" => "Invalid email or password",
        "refresh_token_invalid" => "Invalid refresh token",
        "email_exists" => "Email already registered",
        "identity_unavailable" => "Authentication service unavailable",
        "identity_timeout" => "Authentication service timeout",
        "email_not_confirmed" => "Confirm your e-mail address first.",
        "too_many_requests" => "Too many requests. Try again later.",
        "too_many_attempts" => "Too many attempts. Try again later.",
        "registration_refused" => "This account cannot be created.",
        "profile_missing" => "Your account has no profile yet. Sign in again.",
        "registered_only" => {
            "Your account was created, but a later step failed. Sign in, or ask again for the message that confirms your address."
        }
        "registration_unknown" => {
            "Your account may have been created. Try to sign in; if that fails, register again."
        }
        "signed_out_recently" => "You just signed out everywhere. Try again in a few seconds.",
        "logout_incomplete" => {
            "You are signed out here. Other servers will sign you out as soon as they can be reached."
        }
        "session_not_found" => "The session has ended. Sign in again.",
        "when_refused" => "A condition of this route does not allow the request.",
        "internal" => {
            "The gateway failed. The request was not processed, or its response was lost."
        }
        _ => reason.meaning(),
    }
}

/// RFC 6750, section 3: no error code if the request had no credential.
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

/// The answer to a CORS preflight, the same for every path; `cors` adds what the origin may do.
pub(super) fn preflight(record: &mut Record) -> Response<Answer> {
    record.decision = Decision::Preflight;
    let mut response = Response::new(Answer::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The refusal of a gRPC call. It has no message, so its head is its trailers.
fn over_grpc(status: StatusCode, message: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    grpc::write_status(headers, status, message);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn reasons_with_one_public_code_have_one_sentence() {
        let mut sentences = HashMap::new();
        for reason in Reason::ALL {
            let sentence = public_wording(*reason);
            let first = *sentences.entry(reason.public_code()).or_insert(sentence);
            assert_eq!(first, sentence, "{reason:?}");
        }
    }
}
