//! What an operation does to sessions at the identity server, it does here, too: on every replica,
//! although their access tokens are still valid.

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::Exchange;
use super::body::{Member, RequestBody};
use super::operations::OperationRequest;
use crate::denial::Denial;
use crate::revocation::{Exemption, SECOND_FACTOR, canonical_id};
use crate::sessions::sign_in::SessionSelection;
use crate::sign_in::call::{Call, CallError, Reply};
use crate::sign_in::grant::AuthError;
use crate::sign_in::operation::{Effect, Operation};

/// The code of a second factor that a hook of the operator rejected: the identity server has ended
/// all sessions of the user.
const REJECTED: &str = "mfa_verification_rejected";

/// What a request ends if the identity server carries it out.
#[derive(Debug)]
pub(super) enum Ends {
    Nothing,
    /// The user's other sessions.
    Others,
    /// Those below the level of the caller, who proves a second factor.
    BelowCaller,
    /// Access tokens that were issued on account of a second factor. Their sessions go on.
    RaisedTokens,
    /// The tokens of the app with this `client_id`.
    OfClient(String),
}

impl Ends {
    /// Whether it takes a level from sessions that go on.
    pub(super) const fn lowers(&self) -> bool {
        matches!(self, Self::RaisedTokens)
    }
}

impl Exchange {
    /// What this request would end.
    pub(super) async fn effect_of(&self, request: &OperationRequest, body: &RequestBody) -> Ends {
        match request.operation.row().effect {
            Effect::EndsOthersWithPassword if body.gives(Member::Password) => Ends::Others,
            Effect::Raises => Ends::BelowCaller,
            Effect::Lowers if self.is_proven_factor(request).await => Ends::RaisedTokens,
            Effect::EndsOfClient if request.method == Method::DELETE => {
                let client = request.client.clone();
                client.map_or(Ends::Nothing, Ends::OfClient)
            }
            Effect::EndsOthersWithPassword
            | Effect::Lowers
            | Effect::EndsOfClient
            | Effect::None
            | Effect::Begins
            | Effect::Refreshes
            | Effect::EndsByScope => Ends::Nothing,
        }
    }

    /// Ends here what the identity server has ended, or may have ended.
    ///
    /// # Errors
    ///
    /// Not every replica refuses it, after a change of the password.
    pub(super) async fn apply(
        &self,
        ends: &Ends,
        replied: &Result<Reply, CallError>,
    ) -> Result<(), Denial> {
        let is_rejected = |reply: &Reply| {
            reply.status == StatusCode::FORBIDDEN && AuthError::read(reply).code == REJECTED
        };
        let own = self.own.clone();
        let which = match (ends, replied) {
            (Ends::BelowCaller, Ok(reply)) if is_rejected(reply) => SessionSelection::All(own),
            (_, Ok(reply)) if !reply.status.is_success() && !is_lost(reply) => return Ok(()),
            (_, Err(error)) if !error.may_be_done() => return Ok(()),
            (Ends::Nothing, _) => return Ok(()),
            (Ends::Others, _) => SessionSelection::Others(own),
            (Ends::BelowCaller, _) => {
                let level = Exemption::FromLevel(SECOND_FACTOR.to_owned());
                SessionSelection::TokensBut(self.own_and([level]))
            }
            (Ends::RaisedTokens, _) => {
                let below = Exemption::BelowLevel(SECOND_FACTOR.to_owned());
                let exempt = [below, Exemption::IssuedLater];
                SessionSelection::TokensBut(match &self.cookie {
                    // It gets new tokens as soon as this one is refused.
                    Some(_) => exempt.into(),
                    None => self.own_and(exempt),
                })
            }
            (Ends::OfClient(client), _) => {
                SessionSelection::TokensBut(vec![Exemption::OtherClients(client.clone())])
            }
        };
        let is_own = matches!(which, SessionSelection::All(_));
        let is_certain = replied.as_ref().is_ok_and(|reply| !is_lost(reply));
        let ended = self.end(which, is_own).await?;
        if is_certain {
            self.context.sessions().confirm_logout(ended.revoked.all());
        }
        match (ends, ended.sessions) {
            // Whoever knew the old password must lose access, or the user must know.
            (Ends::Others, sessions) => sessions.map(drop),
            // What is not stored yet is stored later. The answer may hold tokens that the client
            // must get.
            (_, Ok(_)) => Ok(()),
            (_, Err(denial)) => {
                let why = denial.reason.code();
                tracing::warn!(
                    why,
                    "sessions that the identity server ended may go on on other replicas for now"
                );
                Ok(())
            }
        }
    }

    /// The caller's own session, and what else is exempt.
    fn own_and<const N: usize>(&self, others: [Exemption; N]) -> Vec<Exemption> {
        let own = self.own.session.as_deref();
        let own = own.map(|id| Exemption::Session(canonical_id(id).into_owned()));
        own.into_iter().chain(others).collect()
    }

    /// Whether the factor that a request removes has proven sessions, or may have: the identity
    /// server lowers these. A factor that was never verified has proven none.
    async fn is_proven_factor(&self, request: &OperationRequest) -> bool {
        let Some(id) = request.path.strip_prefix("/factors/") else {
            return true;
        };
        let call = Call {
            bearer: self.user.as_ref().map(|(_, token)| token.clone()),
            headers: self.fields.clone(),
            ..Call::new(Operation::ReadUser, Method::GET, "/user", self.client)
        };
        let Ok(reply) = self.identity.call(call).await else {
            return true;
        };
        let user: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let Some(factors) = user.get("factors").and_then(Value::as_array) else {
            return !reply.status.is_success();
        };
        let is_unproven = |factor: &Value| {
            let text = |name: &str| factor.get(name).and_then(Value::as_str);
            text("id") == Some(id) && text("status") == Some("unverified")
        };
        !factors.iter().any(is_unproven)
    }
}

/// Whether a reply leaves open what the identity server did: it ran out of time, or a proxy in front
/// of it lost its reply.
fn is_lost(reply: &Reply) -> bool {
    let is_of_proxy = || AuthError::read(reply).code.is_empty();
    reply.status == StatusCode::GATEWAY_TIMEOUT || reply.status.is_server_error() && is_of_proxy()
}
