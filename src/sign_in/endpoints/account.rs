//! `password`, `reauthenticate` and `factors`: what a user changes in their own account, above all
//! one whose session is in a cookie, since the page of such a user has no token to call the
//! identity server with.
//!
//! The calls are those of the pass-through: a new password ends the user's other sessions, a proven
//! second factor ends those below its level, and its tokens go behind the cookie.

use bytes::Bytes;
use hyper::header::SET_COOKIE;
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::input::{UnreadBody, error, invalid};
use super::outcome::{Flow, refusal};
use super::{SignInRequest, SignedInCaller, reply};
use crate::denial::{Denial, FieldError, Reason};
use crate::policy::endpoint::Endpoint;
use crate::sign_in::grant::{AuthError, Grant, is_code};
use crate::sign_in::operation::Operation;
use crate::sign_in::passthrough::own::OwnCall;

/// The longest sentence of the identity server that is passed on, in bytes.
const LONGEST_SENTENCE: usize = 200;

/// The call that an endpoint makes.
struct AccountCall {
    operation: Operation,
    method: Method,
    path: String,
    /// The members of the body that are passed on; none if there is no body.
    members: &'static [&'static str],
}

pub(super) async fn account(
    request: &SignInRequest,
    endpoint: Endpoint,
    body: UnreadBody,
    caller: SignedInCaller,
    path: &str,
) -> Result<Response<Bytes>, Denial> {
    let call = call(endpoint, path)?;
    let members = match call.members {
        [] => None,
        names => Some(body.members(names).await?),
    };
    if endpoint == Endpoint::ChangePassword {
        require_password(members.as_ref())?;
    }
    let own = OwnCall {
        context: request.context.clone(),
        in_force: request.in_force.clone(),
        tokens: request.tokens.clone(),
        identity: request.identity.clone(),
        client: request.client,
        user_agent: request.user_agent.clone(),
        user: (caller.verified, caller.access_token),
        own: caller.own,
        cookie: caller.cookie,
    };
    let answer = own
        .make(call.operation, call.method, call.path, members)
        .await?;
    if !answer.status().is_success() {
        return Err(refused(&answer));
    }
    let mut response = answered(endpoint, &answer)?;
    if let Some(cookie) = answer.headers().get(SET_COOKIE) {
        response.headers_mut().insert(SET_COOKIE, cookie.clone());
    }
    Ok(response)
}

fn call(endpoint: Endpoint, path: &str) -> Result<AccountCall, Denial> {
    let of_factor = |end: &str| factor_id(path).map(|id| format!("/factors/{id}{end}"));
    let (operation, method, path, members): (_, _, _, &'static [&'static str]) = match endpoint {
        Endpoint::ChangePassword => (
            Operation::ChangeUser,
            Method::PUT,
            "/user".to_owned(),
            &["password", "current_password", "nonce"],
        ),
        Endpoint::Reauthenticate => (
            Operation::Reauthenticate,
            Method::GET,
            "/reauthenticate".to_owned(),
            &[],
        ),
        Endpoint::Factors => (Operation::ReadUser, Method::GET, "/user".to_owned(), &[]),
        Endpoint::Enroll => (
            Operation::Factors,
            Method::POST,
            "/factors".to_owned(),
            &["factor_type", "friendly_name", "issuer", "phone"],
        ),
        Endpoint::Challenge => (
            Operation::ChallengeFactor,
            Method::POST,
            of_factor("/challenge")?,
            &["channel", "webauthn"],
        ),
        Endpoint::VerifyFactor => (
            Operation::VerifyFactor,
            Method::POST,
            of_factor("/verify")?,
            &["challenge_id", "code", "webauthn"],
        ),
        Endpoint::Unenroll => (Operation::Unenroll, Method::DELETE, of_factor("")?, &[]),
        Endpoint::Login
        | Endpoint::Register
        | Endpoint::Refresh
        | Endpoint::PasswordReset
        | Endpoint::Logout
        | Endpoint::Me
        | Endpoint::WhoAmI
        | Endpoint::Sessions
        | Endpoint::EndSession => return Err(Reason::Internal.into()),
    };
    Ok(AccountCall {
        operation,
        method,
        path,
        members,
    })
}

/// The id in the path of a factor: a UUID, in the identity server's spelling.
fn factor_id(path: &str) -> Result<String, Denial> {
    let mut segments = path.split('/').skip_while(|segment| *segment != "factors");
    let id = segments.nth(1).and_then(|id| Uuid::try_parse(id).ok());
    id.map(|id| id.to_string())
        .ok_or(Reason::FactorAbsent.into())
}

fn require_password(members: Option<&Map<String, Value>>) -> Result<(), Denial> {
    let password = members.and_then(|members| members.get("password")?.as_str());
    match password {
        Some(password) if !password.is_empty() => Ok(()),
        Some(_) | None => Err(invalid(vec![error("password", "is missing or empty")])),
    }
}

/// The answer to a client, in the form of the sign-in routes.
fn answered(endpoint: Endpoint, answer: &Response<Bytes>) -> Result<Response<Bytes>, Denial> {
    let message = |text: &str| reply::json(StatusCode::OK, &json!({ "message": text }));
    let unreadable = || Reason::IdentityRefused.because("the reply is not JSON");
    let document = || serde_json::from_slice::<Value>(answer.body()).map_err(|_| unreadable());
    match endpoint {
        Endpoint::ChangePassword => message("Password changed"),
        Endpoint::Reauthenticate => message("Code sent"),
        Endpoint::Unenroll => message("Factor removed"),
        Endpoint::Factors => {
            let mut user = document()?;
            let factors = user.get_mut("factors").map(Value::take);
            let factors = factors.unwrap_or_else(|| json!([]));
            reply::json(StatusCode::OK, &json!({ "factors": factors }))
        }
        Endpoint::VerifyFactor => match Grant::read(answer.body()) {
            Some(grant) => reply::tokens(&grant),
            // The tokens are behind the cookie.
            None => reply::json(StatusCode::OK, &document()?),
        },
        Endpoint::Enroll
        | Endpoint::Challenge
        | Endpoint::Login
        | Endpoint::Register
        | Endpoint::Refresh
        | Endpoint::PasswordReset
        | Endpoint::Logout
        | Endpoint::Me
        | Endpoint::WhoAmI
        | Endpoint::Sessions
        | Endpoint::EndSession => reply::json(StatusCode::OK, &document()?),
    }
}

/// The refusal for an error of the identity server.
fn refused(answer: &Response<Bytes>) -> Denial {
    let error = AuthError::of_answer(answer);
    // A malformed code may quote the input.
    let code = match is_code(&error.code) {
        true => error.code.clone(),
        false => format!("status {}", error.status.as_u16()),
    };
    let field = |field, detail: &'static str| Denial {
        detail: Some(code.clone().into()),
        ..invalid(vec![FieldError {
            field,
            detail: detail.into(),
        }])
    };
    match error.code.as_str() {
        "insufficient_aal" => Reason::SecondFactorRequired.into(),
        "mfa_factor_not_found" => Reason::FactorAbsent.into(),
        "mfa_verification_failed" => field("code", "is wrong"),
        "mfa_verification_rejected" => field("code", "was rejected; sign in again"),
        "mfa_challenge_expired" => field("challenge_id", "has expired; ask for another"),
        "mfa_ip_address_mismatch" => field("challenge_id", "was used, or is of another client"),
        "same_password" => field("password", "is the present one"),
        "weak_password" => refusal(Flow::Register, &error),
        "reauthentication_needed" => field("nonce", "is needed; `reauthenticate` sends one"),
        "reauthentication_not_valid" => field("nonce", "is wrong or has expired"),
        "user_banned" | "user_not_found" | "session_not_found" | "session_expired"
        | "no_authorization" | "bad_jwt" | "not_admin" | "conflict" => refusal(Flow::User, &error),
        _ if error.status == StatusCode::TOO_MANY_REQUESTS => refusal(Flow::Login, &error),
        _ if error.status.is_client_error() => Denial {
            detail: Some(code.clone().into()),
            ..invalid(vec![FieldError {
                field: "body",
                detail: sentence(&error).into(),
            }])
        },
        _ => refusal(Flow::User, &error),
    }
}

/// What the identity server says to developers, if it is short.
fn sentence(error: &AuthError) -> String {
    match error.message.len() <= LONGEST_SENTENCE {
        true => format!("is refused by the identity server: {}", error.message),
        false => "is refused by the identity server".to_owned(),
    }
}
