//! The row that a user has in the operator's database.
//!
//! Decides:  that an account has one before anybody acts for it, whichever door it came in by: with the account where it is made here, before
//! the tokens are handed on where the identity server may have made it for this sign-in, and behind each sign-in with a password, in case it is
//! still not there. Trusts: the operator's SQL to do nothing if it is there. Not here: what is in it.
//!
//! Whoever signs in without one, where `facts.caller` asks for it, is nobody to the layers.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::operation::Operation;
use super::run_to_completion;
use crate::clock;
use crate::database::{DatabaseError, Param};
use crate::denial::{Denial, Reason};
use crate::policy::in_force::InForce;
use crate::sign_in::context::Context;

/// How long it may take. A choice.
const DEADLINE: Duration = Duration::from_secs(2);

/// What is read of the identity server's user.
#[derive(Deserialize)]
struct User {
    id: String,
    email: Option<String>,
    #[serde(default)]
    is_anonymous: bool,
    /// What users write about themselves, in any shape.
    #[serde(default)]
    user_metadata: Value,
}

/// Makes the row of a user, as the identity server describes them, if it is not there.
///
/// # Errors
///
/// 503 `registered_only`: it is not known to be there. It is tried again when they sign in.
pub(super) async fn ensure(
    context: &Context,
    in_force: &InForce,
    user: &str,
) -> Result<(), Denial> {
    let sign_in = in_force.config().sign_in.as_ref();
    let Some(insert) = sign_in.and_then(|sign_in| sign_in.profile.as_ref()) else {
        return Ok(());
    };
    let database = context.database().ok_or(Reason::Internal)?;
    // Its text may quote what users wrote.
    let user: Option<User> = serde_json::from_str(user).ok();
    let id = user
        .as_ref()
        .and_then(|user| Uuid::try_parse(&user.id).ok());
    let (Some(user), Some(id)) = (user, id) else {
        tracing::error!("no row is made: the identity server's user cannot be read");
        return Err(Reason::IdentityRefused.because("its user cannot be read"));
    };
    // Nobody knows who that is, and a row would say no more.
    if user.is_anonymous {
        return Ok(());
    }
    let text = |text: Option<String>| text.map_or(Param::Null, Param::Text);
    let full_name = user.user_metadata.get("full_name").and_then(Value::as_str);
    let params = [
        Param::Uuid(id),
        text(user.email),
        text(full_name.map(str::to_owned)),
    ];
    let deadline = clock::now() + DEADLINE;
    let result = database.execute(insert, &params, deadline).await;
    result.map(drop).map_err(|error| {
        tracing::error!(
            subject = %id,
            %error,
            "the user's row is not known to be there; it is tried again when they sign in"
        );
        Reason::RegisteredOnly.because(match error {
            DatabaseError::Away | DatabaseError::Deadline | DatabaseError::Busy => {
                "no row: the database is away"
            }
            DatabaseError::Refused(_) => "no row: the database refused it",
        })
    })
}

/// Whether users have rows that are made here.
pub(super) fn is_configured(in_force: &InForce) -> bool {
    let sign_in = in_force.config().sign_in.as_ref();
    sign_in.is_some_and(|sign_in| sign_in.profile.is_some())
}

/// The same, also when nobody waits for the answer any more.
pub(super) async fn ensure_now(
    context: &Arc<Context>,
    in_force: &Arc<InForce>,
    user: &str,
) -> Result<(), Denial> {
    let identity = context.identity().ok_or(Reason::Internal)?;
    let (context, in_force, user) = (context.clone(), in_force.clone(), user.to_owned());
    let work = async move { ensure(&context, &in_force, &user).await };
    run_to_completion(identity.runtime(), work).await
}

/// The same behind an answer that does not depend on it.
pub(super) fn ensure_in_background(context: &Arc<Context>, in_force: &Arc<InForce>, user: &str) {
    let Some(identity) = context.identity() else {
        return;
    };
    let (context, in_force, user) = (context.clone(), in_force.clone(), user.to_owned());
    identity.runtime().spawn(async move {
        let _ = ensure(&context, &in_force, &user).await;
    });
}

/// Whether an operation that gave tokens may have made the account that they are for.
pub(super) const fn may_create_account(operation: Operation) -> bool {
    match operation {
        Operation::SignUp
        | Operation::Verify
        | Operation::PkceGrant
        | Operation::IdTokenGrant
        | Operation::Web3Grant => true,
        Operation::PasswordGrant
        | Operation::Refresh
        | Operation::Otp
        | Operation::MagicLink
        | Operation::Recover
        | Operation::Resend
        | Operation::Logout
        | Operation::ReadUser
        | Operation::ChangeUser
        | Operation::Reauthenticate
        | Operation::Identities
        | Operation::Factors
        | Operation::VerifyFactor
        | Operation::Authorize
        | Operation::Callback
        | Operation::Settings
        | Operation::Health
        | Operation::KeySet
        | Operation::AdminUsers => false,
    }
}
