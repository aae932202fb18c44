//! `password-reset`: sends a message to set a new password.
//!
//! The answer is always the same and takes the same time, so that it does not disclose whether the
//! account exists. Only what the identity server says before it looks for the account is passed on:
//! that the answer to a captcha is missing or wrong. The new password is set by following the link
//! in the message, which leads to an address of the configured list, or to the identity server's
//! own.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::input::UnreadBody;
use super::outcome::{Flow, refusal};
use super::{SignInRequest, reply, sign_in, with_captcha};
use crate::denial::{Denial, Reason};
use crate::sign_in::background::CallKind;
use crate::sign_in::call::Reply;
use crate::sign_in::grant::AuthError;
use crate::sign_in::operation::Operation;
use crate::sign_in::throttle::Attempt;

/// How long the answer to a captcha may take to be checked, which is done by a third party. A
/// choice.
const CHECKING: Duration = Duration::from_secs(1);

pub(super) async fn password_reset(
    request: &SignInRequest,
    body: UnreadBody,
) -> Result<Response<Bytes>, Denial> {
    let input = body.reset().await?;
    let path = request.with_redirect("/recover", input.redirect_to.as_deref())?;
    let email = input.email;
    let admission = request.admit(Attempt::Reset, Some(&email)).await?;
    let began = Instant::now();
    let body = with_captcha(json!({ "email": email }), input.captcha.as_ref());
    let call = request
        .call(&admission, Operation::Recover, Method::POST, &path)
        .with_body(body);
    admission.succeeded();
    let (sender, refused) = oneshot::channel();
    let answered = |reply: &Reply| {
        // Nobody waits any more if it took long.
        let _ = sender.send(captcha_refusal(reply));
    };
    // A duplicate message is worse than none: the user can ask again.
    let background = request.context.background();
    if !background.call_then(&request.identity, call, CallKind::Message, answered) {
        return Err(Reason::SignInBusy.because("too many messages wait"));
    }
    let floor = sign_in(&request.in_force)?.throttle.refusal_floor;
    let until = began + input.captcha.map_or(floor, |_| floor.max(CHECKING));
    match timeout_at(until, refused).await {
        Ok(Ok(Some(denial))) => return Err(denial),
        // Whether it was sent at once discloses as much as what it says.
        Ok(_) | Err(_) => sleep_until(until).await,
    }
    reply::json(
        StatusCode::OK,
        &json!({ "message": "Password reset email sent if account exists", "email": email }),
    )
}

/// The refusal if the identity server did not accept the answer to a captcha, which it says of any
/// address.
fn captcha_refusal(reply: &Reply) -> Option<Denial> {
    let error = reply
        .status
        .is_client_error()
        .then(|| AuthError::read(reply));
    let denial = refusal(Flow::Register, &error?);
    (denial.reason == Reason::CaptchaFailed).then_some(denial)
}
