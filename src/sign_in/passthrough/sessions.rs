//! Sessions that pass-through requests begin and end. A logout ends here first, and at the identity
//! server second, as at the gateway's own `logout` (`endpoints`).

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::USER_AGENT;
use hyper::{Method, Response};
use serde_json::json;

use super::attempts::Admissions;
use super::body::RequestBody;
use super::operations::OperationRequest;
use super::{Exchange, reply};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::secrets::secret::Secret;
use crate::sessions::record::Carrier;
use crate::sessions::sign_in::SessionSelection;
use crate::sign_in::call::{Call, Reply};
use crate::sign_in::grant::Grant;
use crate::sign_in::operation::Operation;
use crate::sign_in::run_to_completion;
use crate::sign_in::session::{
    EndedLocally, LogoutScope, RevokedForLogout, check_new, check_refreshed, end_locally,
    forward_logout, granted, seen, signed_out_recently,
};
use crate::tokens::{Presented, Verified};

impl Exchange {
    /// Adds a new session to its user's list. The client asked for it at `asked_at`, in Unix
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// The user signed out everywhere a moment ago; see [`signed_out_recently`].
    pub(super) async fn begin_session(&self, grant: &Grant, asked_at: i64) -> Result<(), Denial> {
        // A token that is not accepted here needs no session here.
        let Some(verified) = self.verify_grant(grant).await else {
            return Ok(());
        };
        let must_be_stored = check_new(&self.context, &verified, Carrier::Bearer, asked_at)?;
        let sessions = self.context.sessions();
        let granted = granted(&verified, grant, asked_at);
        let seen = seen(self.client, self.fields.get(USER_AGENT));
        let begun = sessions.begin(granted, Carrier::Bearer, seen, None).await;
        match begun.is_err() && must_be_stored {
            true => Err(signed_out_recently()),
            // The tokens are valid without the store; only the user's list lacks the session.
            false => Ok(()),
        }
    }

    /// Ends a session at the identity server whose tokens the client does not get.
    pub(super) fn drop_session(&self, access_token: Secret) {
        let call = Call::new(
            Operation::Logout,
            Method::POST,
            "/logout?scope=local",
            self.client,
        );
        let call = call.for_user(access_token);
        forward_logout(
            &self.context,
            &self.identity,
            call,
            RevokedForLogout::default(),
        );
    }

    /// Whether new tokens belong to a session that was revoked here, which the identity server may
    /// not know yet.
    pub(super) async fn is_grant_revoked(&self, grant: &Grant) -> bool {
        // A token that cannot be verified now is verified when it is used.
        let verified = self.verify_grant(grant).await;
        match verified {
            Some(verified) => check_refreshed(&self.context, &verified).await.is_err(),
            None => false,
        }
    }

    /// The user of an access token, in the form of the identity server's user document.
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

    pub(super) async fn verify_token(&self, token: &str) -> Option<Arc<Verified>> {
        match self.tokens.verify_or_wait(token, clock::unix_now).await {
            Ok(Presented::User(verified)) => Some(verified),
            Ok(Presented::Nobody) | Err(_) => None,
        }
    }

    /// Revokes here first; then forwards the logout, in the background if the identity server is
    /// away or the address makes too many calls. Signing out is never refused, since each time ends
    /// a session; only the end of other sessions can be repeated.
    pub(super) async fn log_out(
        self,
        request: OperationRequest,
        admitted: Result<Admissions, Denial>,
    ) -> Result<Response<Bytes>, Denial> {
        let admissions = match (admitted, request.scope) {
            (Ok(admissions), _) => Some(admissions),
            (Err(denial), LogoutScope::Others) => return Err(denial),
            (Err(_), LogoutScope::Local | LogoutScope::Global) => None,
        };
        let (runtime, version) = (self.identity.runtime().clone(), self.version);
        let work = async move {
            let ended = self.end_sessions(request.scope).await?;
            // Even if not every replica has it yet: end as much as possible.
            let call = self.unlimited_call(&request, &RequestBody::default());
            let replied = match admissions {
                Some(admissions) => {
                    let replied = self.identity.call(call.clone()).await;
                    admissions.settle_call(&self.identity, &replied);
                    replied.ok()
                }
                None => None,
            };
            let is_done = |reply: &Reply| !reply.status.is_server_error() && reply.status != 429;
            let forwarded = replied.filter(is_done);
            match &forwarded {
                None => forward_logout(&self.context, &self.identity, call, ended.revoked),
                Some(reply) => {
                    let confirmed = ended.revoked.confirmed_by(reply);
                    self.context.sessions().confirm_logout(confirmed);
                }
            }
            ended.sessions.map(|_| forwarded)
        };
        match run_to_completion(&runtime, work).await? {
            Some(reply) => reply::answer(&reply, version),
            // It is done here, and will be done there.
            None => Ok(reply::no_content(version)),
        }
    }

    /// Ends sessions of the user on every replica and in the user's list.
    async fn end_sessions(&self, scope: LogoutScope) -> Result<EndedLocally, Denial> {
        let is_own = scope != LogoutScope::Others;
        self.end(scope.which(self.own.clone()), is_own).await
    }

    /// The same for any selection. `is_own`: the caller's own session is one of them.
    pub(super) async fn end(
        &self,
        which: SessionSelection,
        is_own: bool,
    ) -> Result<EndedLocally, Denial> {
        let (verified, token) = self.user.as_ref().ok_or(Reason::TokenMissing)?;
        Ok(end_locally(&self.context, verified, token, which, is_own).await)
    }
}
