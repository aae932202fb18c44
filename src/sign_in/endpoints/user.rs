//! `me` and `whoami`: the user as the identity server knows them now; 401 for a user or session
//! that it no longer knows. Metadata that users write about themselves is shown to them and
//! authorizes nothing.

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::outcome::{Flow, refusal};
use super::{SignInRequest, SignedInCaller, reply};
use crate::denial::{Denial, Reason};
use crate::sign_in::grant::AuthError;
use crate::sign_in::operation::Operation;
use crate::sign_in::throttle::Attempt;

/// Credits of a user without a stored balance, as in the earlier backend.
const CREDITS: i64 = 10;

pub(super) async fn me(
    request: &SignInRequest,
    caller: SignedInCaller,
) -> Result<Response<Bytes>, Denial> {
    let user = request.fetch_user(&caller).await?;
    let metadata = |key: &str| {
        user.get("user_metadata")
            .and_then(|metadata| metadata.get(key))
    };
    let credits = metadata("credits_balance").and_then(Value::as_i64);
    respond(
        &caller,
        json!({
            "id": caller.verified.subject(),
            "email": user.get("email"),
            "full_name": metadata("full_name").and_then(Value::as_str).unwrap_or_default(),
            "credits_balance": credits.unwrap_or(CREDITS),
            "created_at": user.get("created_at"),
            "updated_at": user.get("updated_at"),
            "role": caller.verified.role(),
        }),
    )
}

pub(super) async fn whoami(
    request: &SignInRequest,
    caller: SignedInCaller,
) -> Result<Response<Bytes>, Denial> {
    let user = request.fetch_user(&caller).await?;
    respond(
        &caller,
        json!({
            "id": caller.verified.subject(),
            "email": user.get("email"),
            "role": caller.verified.role(),
            "created_at": user.get("created_at"),
            "metadata": {},
        }),
    )
}

/// The answer about a user, with the CSRF token if the user came with a cookie.
fn respond(caller: &SignedInCaller, mut document: Value) -> Result<Response<Bytes>, Denial> {
    if let (Some(csrf), Some(members)) = (&caller.csrf, document.as_object_mut()) {
        members.insert("csrf_token".to_owned(), json!(csrf));
    }
    reply::json(StatusCode::OK, &document)
}

impl SignInRequest {
    async fn fetch_user(&self, caller: &SignedInCaller) -> Result<Map<String, Value>, Denial> {
        let admission = self.admit(Attempt::Account, None).await?;
        let call = self
            .call(&admission, Operation::ReadUser, Method::GET, "/user")
            .for_user(caller.access_token.clone());
        let replied = self.identity.call(call).await;
        match replied {
            Ok(_) => admission.succeeded(),
            Err(_) => admission.undecided(),
        }
        let reply = replied?;
        if !reply.status.is_success() {
            return Err(refusal(Flow::User, &AuthError::read(&reply)));
        }
        serde_json::from_slice(&reply.body)
            .map_err(|_| Reason::IdentityRefused.because("the reply is not a user"))
    }
}
