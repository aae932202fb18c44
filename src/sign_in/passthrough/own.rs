//! Operations on a user's own account that the gateway's own sign-in routes make: with the same
//! throttle, and the same effect on sessions, as if the client had called the identity server.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Response};
use serde_json::{Map, Value};

use super::Exchange;
use super::body::RequestBody;
use super::cookie_caller::CookieCaller;
use super::operations::OperationRequest;
use crate::denial::Denial;
use crate::denial::format::GotrueVersion;
use crate::policy::in_force::InForce;
use crate::secrets::secret::Secret;
use crate::sessions::sign_in::OwnSession;
use crate::sign_in::client::IdentityServer;
use crate::sign_in::context::Context;
use crate::sign_in::operation::{BodyRule, Operation};
use crate::sign_in::session::LogoutScope;
use crate::tokens::{Tokens, Verified};

/// The caller of an operation, and what it needs.
pub(in crate::sign_in) struct OwnCall {
    pub(in crate::sign_in) context: Arc<Context>,
    pub(in crate::sign_in) in_force: Arc<InForce>,
    pub(in crate::sign_in) tokens: Arc<Tokens>,
    pub(in crate::sign_in) identity: IdentityServer,
    pub(in crate::sign_in) client: IpAddr,
    pub(in crate::sign_in) user_agent: Option<HeaderValue>,
    pub(in crate::sign_in) user: (Arc<Verified>, Secret),
    pub(in crate::sign_in) own: OwnSession,
    pub(in crate::sign_in) cookie: Option<CookieCaller>,
}

impl OwnCall {
    /// Makes a call with this path below `/auth/v1`, and these members as its body. The answer is
    /// in the identity server's form.
    ///
    /// # Errors
    ///
    /// It is refused here, or the identity server does not answer.
    pub(in crate::sign_in) async fn make(
        self,
        operation: Operation,
        method: Method,
        path: String,
        members: Option<Map<String, Value>>,
    ) -> Result<Response<Bytes>, Denial> {
        let request = OperationRequest {
            operation,
            method,
            path,
            body: BodyRule::JsonOrNone,
            scope: LogoutScope::Global,
            client: None,
        };
        let agent = self.user_agent.map(|agent| (USER_AGENT, agent));
        let exchange = Exchange {
            context: self.context,
            in_force: self.in_force,
            tokens: self.tokens,
            identity: self.identity,
            client: self.client,
            version: GotrueVersion::V20240101,
            user: Some(self.user),
            own: self.own,
            cookie: self.cookie,
            fields: agent.into_iter().collect::<HeaderMap>(),
        };
        let body = members.map_or_else(RequestBody::default, RequestBody::written);
        exchange.answer(request, body).await
    }
}
