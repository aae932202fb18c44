//! The user's row in the operator's database, inserted by the operator's SQL, which must do nothing
//! if the row exists.
//!
//! An account has its row before anyone acts for it, however the account was created: it is
//! inserted with the account at `register`; before the tokens are returned where the sign-in may
//! have created the account; and in the background after each sign-in with a password, in case it
//! is still missing. Where `facts.caller` requires a row, a user without one is an unknown caller
//! to the layers.

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

/// The longest that the insert may take. A choice.
const DEADLINE: Duration = Duration::from_secs(2);

/// The members of the identity server's user document that are read.
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

/// Inserts the row of a user, as the identity server describes them, if it is missing.
///
/// # Errors
///
/// 503 `registered_only`: the row may be missing. It is tried again at the next sign-in.
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
    // The error's text may quote what users wrote, so it is dropped.
    let user: Option<User> = serde_json::from_str(user).ok();
    let id = user
        .as_ref()
        .and_then(|user| Uuid::try_parse(&user.id).ok());
    let (Some(user), Some(id)) = (user, id) else {
        tracing::error!("profile row not inserted: the identity server's user is unreadable");
        return Err(Reason::IdentityRefused.because("unreadable user"));
    };
    // An anonymous user has nothing to put into a row.
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
            "the profile row may be missing; the next sign-in tries again"
        );
        Reason::RegisteredOnly.because(match error {
            DatabaseError::Away | DatabaseError::Deadline | DatabaseError::Busy => {
                "no profile row: the database is unreachable"
            }
            DatabaseError::Refused(_) => "no profile row: the database refused it",
        })
    })
}

/// Whether rows are configured.
pub(super) fn is_configured(in_force: &InForce) -> bool {
    let sign_in = in_force.config().sign_in.as_ref();
    sign_in.is_some_and(|sign_in| sign_in.profile.is_some())
}

/// Like [`ensure`], and not aborted if the client disconnects.
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

/// Like [`ensure`], in the background of an answer that does not depend on it.
pub(super) fn ensure_in_background(context: &Arc<Context>, in_force: &Arc<InForce>, user: &str) {
    let Some(identity) = context.identity() else {
        return;
    };
    let (context, in_force, user) = (context.clone(), in_force.clone(), user.to_owned());
    identity.runtime().spawn(async move {
        let _ = ensure(&context, &in_force, &user).await;
    });
}

/// Whether an operation that returned tokens may have created the account they are for.
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
