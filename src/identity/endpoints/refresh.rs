//! `refresh`: new tokens for a session.
//!
//! Decides:  what the client is told. Trusts: the identity server, for which refresh tokens are good.

use hyper::{Method, Response};
use serde_json::json;

use super::input::Unread;
use super::login::text;
use super::outcome::{Asked, refusal};
use super::{Visit, reply};
use crate::answer::Answer;
use crate::denial::{Denial, Reason};
use crate::identity::throttle::Attempt;
use crate::identity::{AuthError, Grant, Operation};

pub(super) async fn refresh(visit: &Visit, unread: Unread) -> Result<Response<Answer>, Denial> {
    let token = unread.refresh_token().await?;
    let admission = visit.admit(Attempt::Refresh, None).await?;
    let body = json!({ "refresh_token": text(token.expose()) });
    let path = "/token?grant_type=refresh_token";
    let call = visit
        .call(Operation::Refresh, Method::POST, path)
        .with_body(body.to_string());
    let reply = match visit.identity.call(call).await {
        Ok(reply) => reply,
        Err(error) => {
            admission.undecided();
            return Err(error.into());
        }
    };
    if !reply.status.is_success() {
        let denial = refusal(Asked::Refresh, &AuthError::read(&reply));
        match denial.reason {
            Reason::RefreshTokenInvalid => admission.failed(),
            _ => admission.undecided(),
        }
        return Err(denial);
    }
    admission.succeeded();
    let grant = Grant::read(&reply.body)
        .ok_or(Reason::IdentityRefused.because("its answer is no grant"))?;
    reply::tokens(&grant)
}
