//! The user's row in the operator's database, inserted by the operator's SQL, which must do nothing
//! if the row exists.
//!
//! An account has its row before anyone acts for it, however the account was created: the row is
//! inserted before the answer that has tokens for the account, or that says that an anonymous user
//! became a permanent one. An answer waits for it no longer than [`PATIENCE`], except that of
//! `register`; the insert goes on. Where `facts.caller` requires a row, a user without one is an
//! unknown caller to the layers, and every replica looks again once the row was inserted.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::run_to_completion;
use crate::clock;
use crate::database::{DatabaseError, Param};
use crate::denial::{Denial, Reason};
use crate::facts::invalidate_caller;
use crate::policy::in_force::InForce;
use crate::sign_in::context::Context;

/// The longest that the insert may take. A choice.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long an answer waits for the insert. A choice.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many users are remembered. A choice.
const CAPACITY: usize = 50_000;

/// Users whose row this process has inserted, or found there. Spares the statement where it is
/// rarely needed; a row that somebody deleted since is inserted at the next sign-in.
#[derive(Debug)]
pub struct KnownProfiles(Cache<Uuid, ()>);

impl Default for KnownProfiles {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

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

impl User {
    /// The user, and the id. The error's text may quote what users wrote, so it is dropped.
    fn read(document: &str) -> Option<(Self, Uuid)> {
        let user: Self = serde_json::from_str(document).ok()?;
        let id = Uuid::try_parse(&user.id).ok()?;
        Some((user, id))
    }

    /// Whether this user should have a row. An anonymous one has nothing to put into it.
    fn has_row(&self, in_force: &InForce) -> bool {
        !self.is_anonymous || in_force.config().facts.anonymous
    }
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
    let Some((user, id)) = User::read(user) else {
        tracing::error!("profile row not inserted: the identity server's user is unreadable");
        return Err(Reason::IdentityRefused.because("unreadable user"));
    };
    if !user.has_row(in_force) {
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
    // Also if it may have been inserted. `Ok(0)`: it was there.
    if !matches!(result, Ok(0) | Err(DatabaseError::Refused(_))) {
        invalidate_caller(context.facts(), &id.to_string()).await;
    }
    match result {
        Ok(_) => {
            context.profiles().0.insert(id, ());
            Ok(())
        }
        Err(error) => Err(not_inserted(id, &error)),
    }
}

fn not_inserted(id: Uuid, error: &DatabaseError) -> Denial {
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
}

/// Whether rows are configured.
pub(super) fn is_configured(in_force: &InForce) -> bool {
    let sign_in = in_force.config().sign_in.as_ref();
    sign_in.is_some_and(|sign_in| sign_in.profile.is_some())
}

/// Whether a document of the identity server describes this user.
pub(super) fn describes(document: &str, subject: &str) -> bool {
    User::read(document).is_some_and(|(_, id)| id.to_string() == subject)
}

/// Like [`ensure`], before an answer that is good without the row: waits no longer than
/// [`PATIENCE`], and reports no failure, which is in the log. The insert goes on, also if the
/// client disconnects.
pub(super) async fn ensure_before_answer(
    context: &Arc<Context>,
    in_force: &Arc<InForce>,
    user: &str,
) {
    let identity = context.identity();
    let Some(identity) = identity.filter(|_| is_configured(in_force)) else {
        return;
    };
    let (context, in_force, user) = (context.clone(), in_force.clone(), user.to_owned());
    let work = async move { ensure(&context, &in_force, &user).await };
    let _ = timeout(PATIENCE, run_to_completion(identity.runtime(), work)).await;
}

/// Like [`ensure_before_answer`], unless the user's row is known: where a row is missing only if
/// the user was anonymous until now, or signed in elsewhere.
pub(super) async fn ensure_unless_known(
    context: &Arc<Context>,
    in_force: &Arc<InForce>,
    user: &str,
) {
    if !is_configured(in_force) {
        return;
    }
    let is_known = User::read(user).is_none_or(|(user, id)| {
        !user.has_row(in_force) || context.profiles().0.get(&id).is_some()
    });
    if !is_known {
        ensure_before_answer(context, in_force, user).await;
    }
}
