//! The row that a user has in the operator's database.
//!
//! Decides:  when it is written: with the account, and again behind each login, in case it was not. Trusts: the operator's SQL to do nothing if it
//! is there. Not here: what is in it.

use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::{Visit, sign_in};
use crate::clock;
use crate::database::{DatabaseError, Param};
use crate::denial::{Denial, Reason};

/// How long it may take. A choice.
const DEADLINE: Duration = Duration::from_secs(2);

/// What is read of the identity server's user.
#[derive(Deserialize)]
struct User {
    id: String,
    email: Option<String>,
    #[serde(default)]
    user_metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    full_name: Option<String>,
}

impl Visit {
    /// Makes the row of a user, as the identity server describes them, if it is not there.
    pub(super) async fn make_profile(&self, user: &str) -> Result<(), Denial> {
        let Some(insert) = &sign_in(&self.snapshot)?.profile else {
            return Ok(());
        };
        let database = self.process.database().ok_or(Reason::Internal)?;
        // Its text may quote what users wrote.
        let user: Option<User> = serde_json::from_str(user).ok();
        let id = user
            .as_ref()
            .and_then(|user| Uuid::try_parse(&user.id).ok());
        let (Some(user), Some(id)) = (user, id) else {
            return Err(Reason::IdentityRefused.because("its user cannot be read"));
        };
        let text = |text: Option<String>| text.map_or(Param::Null, Param::Text);
        let params = [
            Param::Uuid(id),
            text(user.email),
            text(user.user_metadata.full_name),
        ];
        let deadline = clock::now() + DEADLINE;
        let made = database.execute(insert, &params, deadline).await;
        made.map(drop).map_err(|error| {
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

    /// The same behind an answer that does not depend on it.
    pub(super) fn make_profile_later(&self, user: &str) {
        let (visit, user) = (self.clone(), user.to_owned());
        self.identity.runtime().spawn(async move {
            let _ = visit.make_profile(&user).await;
        });
    }
}
