//! Replies by which the identity server would tell a stranger something of an account: that it
//! exists, is banned, or has not been confirmed. They are replaced by the reply about an account
//! that does not exist, as at the gateway's own sign-in routes.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use serde_json::json;

use super::operations::OperationRequest;
use crate::denial::Reason;
use crate::denial::format::ERROR_CODE;
use crate::sign_in::call::Reply;
use crate::sign_in::endpoints::outcome::{Flow, refusal};
use crate::sign_in::grant::AuthError;
use crate::sign_in::operation::Operation;

/// Codes for accounts that cannot sign in. The identity server finds out before it checks the code
/// that was sent.
const OF_ACCOUNTS: [&str; 2] = ["user_banned", "user_not_found"];

/// Codes of limits that only messages to existing accounts reach.
const OF_MESSAGES: [&str; 2] = ["over_email_send_rate_limit", "over_sms_send_rate_limit"];

/// The reply as a stranger may see it.
pub(super) fn concealed(request: &OperationRequest, reply: Reply) -> Reply {
    if !reply.status.is_client_error() {
        return reply;
    }
    let error = AuthError::read(&reply);
    let is_one_of = |codes: &[&str]| codes.contains(&error.code.as_str());
    let operation = request.operation;
    // By the same table as at `login`, so that neither tells more than the other.
    if operation == Operation::PasswordGrant && is_wrong_password(&error) {
        let (code, message) = ("invalid_credentials", "Invalid login credentials");
        return refused(reply, StatusCode::BAD_REQUEST, code, message);
    }
    // The answer to GET is a redirect, and to whoever has the link.
    let is_code = operation == Operation::Verify && request.method == Method::POST;
    if is_code && is_one_of(&OF_ACCOUNTS) {
        let (code, message) = ("otp_expired", "Token has expired or is invalid");
        return refused(reply, StatusCode::FORBIDDEN, code, message);
    }
    let sends = matches!(operation, Operation::Recover | Operation::Resend);
    match sends && is_one_of(&OF_MESSAGES) {
        true => sent(reply),
        false => reply,
    }
}

fn is_wrong_password(error: &AuthError) -> bool {
    let code = refusal(Flow::Login, error).reason.public_code();
    code == Reason::InvalidCredentials.public_code()
}

/// An error in the identity server's form.
fn refused(reply: Reply, status: StatusCode, code: &'static str, message: &str) -> Reply {
    let body = json!({ "code": code, "message": message });
    let mut replaced = with_json(reply, status, body.to_string().into());
    let code = HeaderValue::from_static(code);
    replaced.headers.insert(ERROR_CODE, code);
    replaced
}

/// What the identity server says when it has sent a message, and when there is nobody to send it
/// to.
fn sent(reply: Reply) -> Reply {
    let mut replaced = with_json(reply, StatusCode::OK, Bytes::from_static(b"{}"));
    replaced.headers.remove(ERROR_CODE);
    replaced.headers.remove(RETRY_AFTER);
    replaced
}

fn with_json(reply: Reply, status: StatusCode, body: Bytes) -> Reply {
    let mut headers = reply.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Reply {
        status,
        headers,
        body,
    }
}
