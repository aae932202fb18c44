//! `password-reset`: sends a message to set a new password.
//!
//! The answer is always the same and comes before the identity server is called, so that it does
//! not disclose whether the account exists. The new password is set by following the link in the
//! message, which leads to an address of the configured list, or to the identity server's own.

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::input::UnreadBody;
use super::{SignInRequest, reply, with_captcha};
use crate::denial::{Denial, Reason};
use crate::sign_in::background::CallKind;
use crate::sign_in::operation::Operation;
use crate::sign_in::throttle::Attempt;

pub(super) async fn password_reset(
    request: &SignInRequest,
    body: UnreadBody,
) -> Result<Response<Bytes>, Denial> {
    let input = body.reset().await?;
    let path = request.with_redirect("/recover", input.redirect_to.as_deref())?;
    let email = input.email;
    let admission = request.admit(Attempt::Reset, Some(&email)).await?;
    let body = with_captcha(json!({ "email": email }), input.captcha.as_ref());
    let call = request
        .call(&admission, Operation::Recover, Method::POST, &path)
        .with_body(body);
    admission.succeeded();
    // A duplicate message is worse than none: the user can ask again.
    let background = request.context.background();
    if !background.call(&request.identity, call, CallKind::Message) {
        return Err(Reason::SignInBusy.because("too many messages wait"));
    }
    reply::json(
        StatusCode::OK,
        &json!({ "message": "Password reset email sent if account exists", "email": email }),
    )
}
