//! Maps errors of the identity server to the refusals of a sign-in route, by the error code, or by
//! the status if the code is unknown; one table, [`TABLE`].
//!
//! An unknown error is never read as a wrong password or an ended session, with one exception: a
//! 400 at `login`, which older servers answer with codes of their own.

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;

use super::input::invalid;
use crate::denial::{Denial, Extra, FieldError, Reason};
use crate::sign_in::grant::{AuthError, is_code};

/// What the identity server was called for; a column of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flow {
    /// Tokens for a password.
    Login,
    /// A new account.
    Register,
    /// Tokens for a refresh token.
    Refresh,
    /// The user's document.
    User,
}

/// `Retry-After` for a 429 of the identity server that says nothing of it. A choice.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(10);

/// A row: codes, and the reason for each of `Login`, `Register`, `Refresh` and `User`.
type Row = (&'static [&'static str], [Reason; 4]);

/// A code that makes no sense here: our keys are wrong, or the server is not the expected one.
const UNEXPECTED: Reason = Reason::IdentityRefused;

/// Every code with a reason of its own. The statuses in the comments are what the identity server
/// sends; they are not used.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    // login                       register                refresh                      user 400
    (&["invalid_credentials", "invalid_grant", "user_not_found"], [Reason::InvalidCredentials, UNEXPECTED,             Reason::RefreshTokenInvalid, Reason::SessionRevoked]),
    (&["email_not_confirmed", "phone_not_confirmed"],             [Reason::EmailNotConfirmed,  Reason::RegisteredOnly, Reason::RefreshTokenInvalid, UNEXPECTED]),
    (&["user_banned"],                                            [Reason::AccountBanned,      Reason::RegisteredOnly, Reason::RefreshTokenInvalid, Reason::SessionRevoked]),
    // Of a refresh, only its token can be malformed.
    (&["validation_failed"],                                      [Reason::InputInvalid,       Reason::InputInvalid,   Reason::RefreshTokenInvalid, UNEXPECTED]),
    (&["email_address_invalid", "email_address_not_authorized"],  [Reason::InputInvalid,       Reason::InputInvalid,   UNEXPECTED,                  UNEXPECTED]),
    // The codes of its OAuth part: no refresh token, and one of a third party's session.
    (&["invalid_request", "invalid_client"],                      [Reason::InvalidCredentials, UNEXPECTED,             Reason::RefreshTokenInvalid, UNEXPECTED]),
    (&["captcha_failed"],                                         [Reason::CaptchaFailed,      Reason::CaptchaFailed,  UNEXPECTED,                  UNEXPECTED]),
    (&["refresh_token_not_found", "refresh_token_already_used"],  [UNEXPECTED,                 UNEXPECTED,             Reason::RefreshTokenInvalid, UNEXPECTED]),
    (&["session_not_found", "session_expired"],                   [UNEXPECTED,                 UNEXPECTED,             Reason::RefreshTokenInvalid, Reason::SessionRevoked]),
    // 422
    (&["email_exists", "user_already_exists"],                    [UNEXPECTED,                 Reason::EmailExists,    UNEXPECTED,                  UNEXPECTED]),
    (&["weak_password"],                                          [Reason::WeakPassword,       Reason::WeakPassword,   UNEXPECTED,                  UNEXPECTED]),
    (&["signup_disabled", "email_provider_disabled",
       "provider_disabled"],                                      [Reason::SignInClosed,       Reason::SignInClosed,   UNEXPECTED,                  UNEXPECTED]),
    // 401, 403: about our key, or about the user's token
    (&["bad_jwt", "no_authorization", "not_admin"],               [UNEXPECTED,                 UNEXPECTED,             UNEXPECTED,                  UNEXPECTED]),
    // 409: it could not lock the session in time
    (&["conflict"],                                               [Reason::SignInBusy,         Reason::SignInBusy,     Reason::SignInBusy,          Reason::SignInBusy]),
    // 429
    (&["over_request_rate_limit", "over_email_send_rate_limit"],  [Reason::IdentityLimited,    Reason::IdentityLimited, Reason::SignInBusy,         Reason::SignInBusy]),
    // 500, 504
    (&["unexpected_failure", "hook_timeout", "hook_timeout_after_retry",
       "hook_payload_over_size_limit",
       "hook_payload_invalid_content_type"],                      [Reason::IdentityUnavailable; 4]),
    (&["request_timeout"],                                        [Reason::IdentityTimeout; 4]),
];

/// The refusal of a client's request for an error of the identity server.
pub fn refusal(flow: Flow, error: &AuthError) -> Denial {
    let reason = reason(flow, error);
    let code = match error.code.as_str() {
        "" => format!("status {}", error.status.as_u16()),
        // A code is a lower-case word; anything else may quote the input and is not logged.
        code if is_code(code) => code.to_owned(),
        _ => format!("status {} with a malformed code", error.status.as_u16()),
    };
    let denial = reason.because(code);
    if reason == Reason::WeakPassword {
        return Denial {
            extra: Extra::Fields(weak_password_errors(error)),
            ..denial
        };
    }
    if reason == Reason::IdentityLimited {
        return Denial {
            extra: Extra::RetryAfter(error.retry_after.unwrap_or(DEFAULT_RETRY_AFTER)),
            ..denial
        };
    }
    if reason == Reason::InputInvalid {
        let detail = Cow::Borrowed("is not accepted by the identity server");
        return Denial {
            detail: denial.detail,
            ..invalid(vec![FieldError {
                field: "email",
                detail,
            }])
        };
    }
    denial
}

fn reason(flow: Flow, error: &AuthError) -> Reason {
    let [login, register, refresh, user] = TABLE
        .iter()
        .find(|(codes, _)| codes.contains(&error.code.as_str()))
        .map_or_else(|| by_status(error.status), |(_, reasons)| *reasons);
    // A page of a proxy in front of it is no answer about a password.
    let login = match login == Reason::InvalidCredentials && !error.is_own {
        true => UNEXPECTED,
        false => login,
    };
    match flow {
        Flow::Login => login,
        Flow::Register => register,
        Flow::Refresh => refresh,
        Flow::User => user,
    }
}

/// The reasons for a code that is not in the table.
fn by_status(status: StatusCode) -> [Reason; 4] {
    match status.as_u16() {
        400 => [
            Reason::InvalidCredentials,
            UNEXPECTED,
            UNEXPECTED,
            UNEXPECTED,
        ],
        429 => [
            Reason::IdentityLimited,
            Reason::IdentityLimited,
            Reason::SignInBusy,
            Reason::SignInBusy,
        ],
        504 => [Reason::IdentityTimeout; 4],
        500.. => [Reason::IdentityUnavailable; 4],
        _ => [UNEXPECTED; 4],
    }
}

/// The field errors for the reasons that the identity server gives, such as `length`.
fn weak_password_errors(error: &AuthError) -> Vec<FieldError> {
    let reasons = error
        .weak_password
        .as_ref()
        .and_then(|weak| weak.get("reasons")?.as_array());
    let mut errors: Vec<FieldError> = reasons
        .into_iter()
        .flatten()
        .filter_map(|reason| reason.as_str())
        .map(|reason| FieldError {
            field: "password",
            detail: match reason {
                "length" => "is too short".into(),
                "characters" => "lacks a required kind of character".into(),
                "pwned" => "is known from a data leak".into(),
                _ => "is too easy to guess".into(),
            },
        })
        .take(8)
        .collect();
    if errors.is_empty() {
        errors.push(FieldError {
            field: "password",
            detail: "is too easy to guess".into(),
        });
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FLOWS: [Flow; 4] = [Flow::Login, Flow::Register, Flow::Refresh, Flow::User];

    fn error(status: u16, code: &str) -> AuthError {
        let status = StatusCode::from_u16(status).expect("a status");
        AuthError::new(status, code, "Sentence")
    }

    #[test]
    fn every_code_has_its_reasons_for_any_status() {
        for (codes, reasons) in TABLE {
            for code in *codes {
                for (flow, reason) in FLOWS.into_iter().zip(reasons) {
                    for status in [400, 422, 500] {
                        let denial = refusal(flow, &error(status, code));
                        assert_eq!(denial.reason, *reason, "{code} {flow:?}");
                        assert_eq!(denial.detail.as_deref(), Some(*code));
                    }
                }
            }
        }
    }

    #[test]
    fn no_code_has_two_rows() {
        let mut codes: Vec<&str> = TABLE
            .iter()
            .flat_map(|(codes, _)| *codes)
            .copied()
            .collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }

    #[test]
    fn a_refresh_is_refused_only_for_a_known_code_and_never_with_429_or_409() {
        for status in 400..600 {
            let denial = refusal(Flow::Refresh, &error(status, "something_new"));
            assert!(denial.reason.status().is_server_error(), "{status}");
            assert!(
                refusal(Flow::User, &error(status, ""))
                    .reason
                    .status()
                    .is_server_error()
            );
        }
        for (codes, [_, _, refresh, _]) in TABLE {
            let status = refresh.status().as_u16();
            assert!([401, 503, 504].contains(&status), "{codes:?}");
        }
    }

    #[test]
    fn an_outage_is_never_a_client_error() {
        for flow in FLOWS {
            for status in [500, 502, 503, 504, 520, 599] {
                let denial = refusal(flow, &error(status, ""));
                assert!(
                    denial.reason.status().is_server_error(),
                    "{flow:?} {status}"
                );
            }
        }
    }

    #[test]
    fn a_code_that_quotes_the_input_is_not_logged() {
        for code in ["a@b.test", "Hunter 2", &"x".repeat(65)] {
            let denial = refusal(Flow::Login, &error(400, code));
            let detail = denial.detail.expect("a detail");
            assert_eq!(detail, "status 400 with a malformed code");
        }
    }

    #[test]
    fn a_weak_password_is_refused_with_the_reasons() {
        let mut weak = error(422, "weak_password");
        weak.weak_password = Some(json!({ "reasons": ["length", "pwned", "<script>"] }));
        let Extra::Fields(errors) = refusal(Flow::Register, &weak).extra else {
            unreachable!("says why");
        };
        let details: Vec<&str> = errors.iter().map(|error| error.detail.as_ref()).collect();
        assert_eq!(
            details,
            [
                "is too short",
                "is known from a data leak",
                "is too easy to guess"
            ]
        );
        weak.weak_password = None;
        let Extra::Fields(errors) = refusal(Flow::Register, &weak).extra else {
            unreachable!("says something");
        };
        assert_eq!(errors.len(), 1);
    }
}
