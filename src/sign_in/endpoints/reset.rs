//! `password-reset`: sends a message to set a new password.
//!
//! The answer is always the same and comes before the identity server is called, so that it does
//! not disclose whether the account exists. The new password is set by following the link in the
//! message.

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::input::UnreadBody;
use super::login::secret_text;
use super::{SignInRequest, reply};
use crate::denial::{Denial, Reason};
use crate::sign_in::background::CallKind;
use crate::sign_in::operation::Operation;
use crate::sign_in::throttle::Attempt;

pub(super) async fn password_reset(
    request: &SignInRequest,
    body: UnreadBody,
) -> Result<Response<Bytes>, Denial> {
    let (email, captcha) = body.email().await?;
    let admission = request.admit(Attempt::Reset, Some(&email)).await?;
    let mut body = json!({ "email": email });
    if let (Some(captcha), Some(members)) = (&captcha, body.as_object_mut()) {
        let answer = json!({ "captcha_token": secret_text(captcha.expose()) });
        members.insert("gotrue_meta_security".to_owned(), answer);
    }
    let call = request
        .call(&admission, Operation::Recover, Method::POST, "/recover")
        .with_body(body.to_string());
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
