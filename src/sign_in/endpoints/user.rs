//! `me` and `whoami`: the user as the identity server knows them now, and what the route map adds:
//! columns of the user's row in the operator's database, and named members of the user's metadata.
//! 401 for a user or session that the identity server no longer knows.
//!
//! `user_metadata` is what users write about themselves. It authorizes nothing, and is shown only
//! where the route map names a member of it.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::outcome::{Flow, refusal};
use super::{SignInRequest, SignedInCaller, reply, sign_in};
use crate::clock;
use crate::database::DatabaseError;
use crate::denial::{Denial, Reason};
use crate::policy::resources::Query;
use crate::policy::sign_in::MeSource;
use crate::sign_in::grant::AuthError;
use crate::sign_in::operation::Operation;
use crate::sign_in::throttle::Attempt;

/// The longest row in bytes of JSON. A choice: as long as a sign-in route's longest body.
const LONGEST_ROW: usize = 16 << 10;

/// How long the row may take. A choice.
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) async fn me(
    request: &SignInRequest,
    caller: SignedInCaller,
) -> Result<Response<Bytes>, Denial> {
    let (user, members) = request.describe(&caller).await?;
    let mut document = json!({
        "id": caller.verified.subject(),
        "email": user.get("email"),
        "created_at": user.get("created_at"),
        "updated_at": user.get("updated_at"),
        "role": caller.verified.role(),
    });
    if let Some(document) = document.as_object_mut() {
        document.extend(members);
    }
    respond(&caller, document)
}

pub(super) async fn whoami(
    request: &SignInRequest,
    caller: SignedInCaller,
) -> Result<Response<Bytes>, Denial> {
    let (user, members) = request.describe(&caller).await?;
    respond(
        &caller,
        json!({
            "id": caller.verified.subject(),
            "email": user.get("email"),
            "role": caller.verified.role(),
            "created_at": user.get("created_at"),
            "metadata": members,
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
    /// The identity server's document about the user, and the members that the route map adds.
    /// What is not there is null.
    async fn describe(
        &self,
        caller: &SignedInCaller,
    ) -> Result<(Map<String, Value>, Map<String, Value>), Denial> {
        let me = &sign_in(&self.in_force)?.me;
        let user = self.fetch_user(caller).await?;
        let row = match &me.row {
            Some(query) => self.fetch_row(query, caller).await?,
            None => Map::new(),
        };
        let metadata = |of: &str, name: &str| user.get(of).and_then(|data| data.get(name));
        let member = |(name, source): &(String, MeSource)| {
            let value = match source {
                MeSource::Column(column) => row.get(column),
                MeSource::AppMetadata(member) => metadata("app_metadata", member),
                MeSource::UserMetadata(member) => metadata("user_metadata", member),
            };
            (name.clone(), value.cloned().unwrap_or(Value::Null))
        };
        let members = me.members.iter().map(member).collect();
        Ok((user, members))
    }

    /// The user's row; empty if there is none.
    async fn fetch_row(
        &self,
        query: &Query,
        caller: &SignedInCaller,
    ) -> Result<Map<String, Value>, Denial> {
        let subject = self.in_force.config().facts.subject;
        let Some(subject) = subject.param(caller.verified.subject()) else {
            return Ok(Map::new());
        };
        let database = self.context.database().ok_or(Reason::Internal)?;
        // One row more than there may be, so that too many are noticed.
        let sql = query.sql.shown();
        let sql = format!("select to_json(f)::text from ({sql}) as f limit 2");
        let deadline = clock::now() + DEADLINE;
        let rows = database.query(&sql, &[subject], deadline).await;
        let rows = rows.map_err(|error: DatabaseError| {
            Reason::FactsUnavailable.because(format!("the row of `me`: {error}"))
        })?;
        match (rows.len(), rows.text(0, 0)) {
            (0, _) => Ok(Map::new()),
            (1, Some(row)) if row.len() <= LONGEST_ROW => {
                serde_json::from_str(row).map_err(|_| Reason::Internal.into())
            }
            (1, _) => Err(Reason::FactsUnavailable.because("the row of `me` is too long")),
            _ => Err(Reason::FactsUnavailable.because("the query of `me` returns several rows")),
        }
    }

    async fn fetch_user(&self, caller: &SignedInCaller) -> Result<Map<String, Value>, Denial> {
        let admission = self.admit(Attempt::Account, None).await?;
        let call = self
            .call(&admission, Operation::ReadUser, Method::GET, "/user")
            .for_user(caller.access_token.clone());
        let replied = self.identity.call(call).await;
        match &replied {
            Ok(_) => admission.succeeded(),
            Err(error) => admission.unanswered(*error),
        }
        let reply = replied?;
        if !reply.status.is_success() {
            return Err(refusal(Flow::User, &AuthError::read(&reply)));
        }
        serde_json::from_slice(&reply.body)
            .map_err(|_| Reason::IdentityRefused.because("the reply is not a user"))
    }
}
