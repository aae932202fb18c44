//! The user's row in the operator's database, inserted by the operator's SQL, which must do nothing
//! if the row exists.
//!
//! An account has its row before anyone acts for it, however the account was created: the row is
//! inserted before the answer that has tokens for the account, or that says that an anonymous user
//! became a permanent one. An answer waits for it no longer than [`PATIENCE`], except that of
//! `register`; the insert goes on. Where `facts.caller` requires a row, a user without one is an
//! unknown caller to the layers, and every replica looks again once the row was inserted. A row
//! that the database could not take is inserted as soon as it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::run_to_completion;
use crate::clock;
use crate::database::{DatabaseError, Param};
use crate::denial::{Denial, Reason};
use crate::facts::invalidate_caller;
use crate::policy::in_force::InForce;
use crate::policy::sign_in::Insert;
use crate::sign_in::context::Context;

/// The longest that the insert may take. A choice.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long an answer waits for the insert. A choice.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many users are remembered. A choice.
const CAPACITY: usize = 50_000;

/// How many rows may wait for the database. A choice.
const MOST_OWED: usize = 10_000;

/// The pause between two attempts to insert the rows that wait. A choice.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What this process knows of users' rows.
#[derive(Debug)]
pub struct Profiles {
    /// Users whose row this process has inserted, or found there. Spares the statement where it is
    /// rarely needed; a row that somebody deleted since is inserted at the next sign-in.
    known: Cache<Uuid, ()>,
    /// Rows that the database could not take, by user, each with the statement that inserts it.
    owed: DashMap<Uuid, (Arc<str>, Row)>,
    /// Whether a task inserts those.
    is_inserting: AtomicBool,
}

/// The parameters of the insert, in their order.
type Row = [Param; 3];

impl Default for Profiles {
    fn default() -> Self {
        Self {
            known: Cache::new(CAPACITY),
            owed: DashMap::new(),
            is_inserting: AtomicBool::new(false),
        }
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
/// 503 `registered_only`: the row may be missing. It is inserted once the database can take it, and
/// tried again at the next sign-in.
pub(super) async fn ensure(
    context: &Arc<Context>,
    in_force: &InForce,
    user: &str,
) -> Result<(), Denial> {
    let Some(insert) = insert_of(in_force) else {
        return Ok(());
    };
    let Some((user, id)) = User::read(user) else {
        tracing::error!("profile row not inserted: the identity server's user is unreadable");
        return Err(Reason::IdentityRefused.because("unreadable user"));
    };
    if !user.has_row(in_force) {
        return Ok(());
    }
    let text = |text: Option<String>| text.map_or(Param::Null, Param::Text);
    let full_name = user.user_metadata.get("full_name").and_then(Value::as_str);
    let row = [
        Param::Uuid(id),
        text(user.email),
        text(full_name.map(str::to_owned)),
    ];
    let Err(error) = insert_row(context, &insert.sql, id, &row).await else {
        return Ok(());
    };
    if is_passing(&error) {
        owe(context, insert.sql.clone(), id, row);
    }
    Err(not_inserted(id, &error))
}

/// The statement that inserts a row, if there is one.
fn insert_of(in_force: &InForce) -> Option<&Insert> {
    let sign_in = in_force.config().sign_in.as_ref();
    sign_in.and_then(|sign_in| sign_in.profile.as_ref())
}

/// Inserts a row, and has every replica look for it again unless it was there.
async fn insert_row(
    context: &Context,
    sql: &str,
    id: Uuid,
    row: &Row,
) -> Result<(), DatabaseError> {
    let database = context.database().ok_or(DatabaseError::Away)?;
    let deadline = clock::now() + DEADLINE;
    let result = database.execute(sql, row, deadline).await;
    // Also if it may have been inserted. `Ok(0)`: it was there.
    if !matches!(result, Ok(0) | Err(DatabaseError::Refused(_))) {
        invalidate_caller(context.facts(), &id.to_string()).await;
    }
    result?;
    context.profiles().known.insert(id, ());
    Ok(())
}

/// Whether the same insert may succeed later.
const fn is_passing(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Away | DatabaseError::Deadline | DatabaseError::Busy => true,
        DatabaseError::Refused(_) => false,
    }
}

/// Keeps a row until the database takes it. If too many wait, the user's next sign-in tries again.
fn owe(context: &Arc<Context>, sql: Arc<str>, id: Uuid, row: Row) {
    let profiles = context.profiles();
    let Some(identity) = context
        .identity()
        .filter(|_| profiles.owed.len() < MOST_OWED)
    else {
        return;
    };
    profiles.owed.insert(id, (sql, row));
    if !profiles.is_inserting.swap(true, Ordering::AcqRel) {
        identity.runtime().spawn(insert_owed(context.clone()));
    }
}

/// Inserts the rows that wait, until none does.
async fn insert_owed(context: Arc<Context>) {
    let profiles = context.profiles();
    loop {
        sleep(RETRY_PAUSE).await;
        let waiting: Vec<_> = profiles.owed.iter().map(|row| *row.key()).collect();
        for id in waiting {
            let Some((sql, row)) = profiles.owed.get(&id).map(|owed| owed.clone()) else {
                continue;
            };
            match insert_row(&context, &sql, id, &row).await {
                Err(error) if is_passing(&error) => break,
                Err(error) => drop(not_inserted(id, &error)),
                Ok(()) => tracing::info!(subject = %id, "the profile row is inserted now"),
            }
            profiles.owed.remove(&id);
        }
        if !profiles.owed.is_empty() {
            continue;
        }
        profiles.is_inserting.store(false, Ordering::Release);
        // A row may have come since; whoever brought it saw a task.
        if profiles.owed.is_empty() || profiles.is_inserting.swap(true, Ordering::AcqRel) {
            return;
        }
    }
}

fn not_inserted(id: Uuid, error: &DatabaseError) -> Denial {
    tracing::error!(
        subject = %id,
        %error,
        "the profile row may be missing; it is inserted when the database can take it, or at the next sign-in"
    );
    Reason::RegisteredOnly.because(match is_passing(error) {
        true => "no profile row: the database is unreachable",
        false => "no profile row: the database refused it",
    })
}

/// Whether rows are configured.
pub(super) fn is_configured(in_force: &InForce) -> bool {
    insert_of(in_force).is_some()
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
        !user.has_row(in_force) || context.profiles().known.get(&id).is_some()
    });
    if !is_known {
        ensure_before_answer(context, in_force, user).await;
    }
}
