//! What a request at the identity server's own paths begins and ends here.
//!
//! Decides:  the order: what ends is refused here first, and ended there second. Trusts: `sessions` to refuse it everywhere.
//! Not here: the gateway's own `logout` (`endpoints`), which ends the same in the same way.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Response;
use hyper::header::USER_AGENT;
use serde_json::json;

use super::attempts::Admissions;
use super::operations::OperationRequest;
use super::{Exchange, RequestBody, reply};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::sessions::record::Carrier;
use crate::sign_in::grant::Grant;
use crate::sign_in::run_to_completion;
use crate::sign_in::session::{
    LogoutScope, check_revocations, end_locally, forward_logout, granted, seen, signed_out_recently,
};
use crate::tokens::{Presented, Verified};

impl Exchange {
    /// Writes down that a session began, so that its user finds it in the list. What was signed in to in the moment after a logout everywhere
    /// cannot be told from what was there before, and would be refused at its first use.
    pub(super) async fn begin_session(&self, grant: &Grant) -> Result<(), Denial> {
        // What is not accepted here does no harm here.
        let Some(verified) = self.verify_grant(grant).await else {
            return Ok(());
        };
        if check_revocations(&self.context, &verified).is_err() {
            return Err(signed_out_recently());
        }
        let sessions = self.context.sessions();
        let granted = granted(&verified, grant);
        let seen = seen(self.client, self.fields.get(USER_AGENT));
        // The tokens are good without the store; only the list lacks the session.
        let _ = sessions.begin(granted, Carrier::Bearer, seen, None).await;
        Ok(())
    }

    /// Whether new tokens are of something that was revoked here, of which the identity server may not know yet.
    pub(super) async fn is_grant_revoked(&self, grant: &Grant) -> bool {
        // What cannot be judged now is judged when it is used.
        let verified = self.verify_grant(grant).await;
        verified.is_some_and(|verified| check_revocations(&self.context, &verified).is_err())
    }

    /// The user of an access token, in the words of the identity server's own document about them.
    pub(super) async fn user_from_token(&self, token: &str) -> Option<String> {
        let verified = self.verify_token(token).await?;
        let claim = |name: &str| verified.claims().get(name);
        let user = json!({
            "id": verified.subject(),
            "email": claim("email"),
            "is_anonymous": verified.is_anonymous(),
            "user_metadata": claim("user_metadata"),
        });
        Some(user.to_string())
    }

    async fn verify_grant(&self, grant: &Grant) -> Option<Arc<Verified>> {
        let token = std::str::from_utf8(grant.access_token.expose()).ok()?;
        self.verify_token(token).await
    }

    async fn verify_token(&self, token: &str) -> Option<Arc<Verified>> {
        match self.tokens.verify_or_wait(token, clock::unix_now).await {
            Ok(Presented::User(verified)) => Some(verified),
            Ok(Presented::Nobody) | Err(_) => None,
        }
    }

    /// Refuses here first; then the identity server ends it, behind the answer if it is away.
    pub(super) async fn log_out(
        self,
        request: OperationRequest,
    ) -> Result<Response<Bytes>, Denial> {
        let (runtime, version) = (self.identity.runtime().clone(), self.version);
        let work = async move {
            let ended = self.end_sessions(request.scope).await;
            // Also if not every replica could be told: as much ends as can.
            let call = self.call(&request, &RequestBody::default());
            let forwarded = match self.identity.call(call.clone()).await {
                Ok(reply) if !reply.status.is_server_error() && reply.status != 429 => Some(reply),
                Ok(_) | Err(_) => {
                    forward_logout(&self.context, &self.identity, call);
                    None
                }
            };
            ended.map(|()| forwarded)
        };
        match run_to_completion(&runtime, work).await? {
            Some(reply) => reply::answer(&reply, version),
            // It is done here, and will be there.
            None => Ok(reply::no_content(version)),
        }
    }

    /// Whoever changes a password wants nobody in who knew the old one: every other session of theirs ends, once it may have been changed.
    pub(super) async fn change_password(
        self,
        request: OperationRequest,
        body: RequestBody,
        admissions: Admissions,
    ) -> Result<Response<Bytes>, Denial> {
        let (runtime, version) = (self.identity.runtime().clone(), self.version);
        let work = async move {
            let replied = self.identity.call(self.call(&request, &body)).await;
            admissions.settle_call(&replied);
            let is_changed = match &replied {
                Ok(reply) => reply.status.is_success(),
                Err(error) => error.may_be_done(),
            };
            if is_changed {
                self.end_sessions(LogoutScope::Others).await?;
            }
            Ok(replied?)
        };
        let reply = run_to_completion(&runtime, work).await?;
        reply::answer(&reply, version)
    }

    /// Ends sessions of the user on every replica and in the user's list.
    async fn end_sessions(&self, scope: LogoutScope) -> Result<(), Denial> {
        let (verified, token) = self.user.as_ref().ok_or(Reason::TokenMissing)?;
        let which = scope.which(self.own.clone());
        let is_own = scope == LogoutScope::Local;
        let ended = end_locally(&self.context, verified, token, which, is_own);
        ended.await.map(drop)
    }
}
