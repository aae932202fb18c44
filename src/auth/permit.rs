//! The permit: proof that every layer the route enforces let a request pass.

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::caller::Caller;
use super::chain::Proofs;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::facts::{FactsVersion, Invalidation};
use crate::policy::route::{Access, Target};
use crate::policy::upstream::Authorization;
use crate::request::Inbound;
use crate::request::body::Body;
use crate::tokens::Verified;

/// How many seconds before the token behind a cookie expires its stream is re-authorized. The token
/// is renewed within that time.
const RENEWAL: i64 = 30;

/// Proof that every layer the route enforces let this request pass, together with the request. Only
/// [`Chain::authorize`] makes one, and forwarding or serving consumes it.
///
/// [`Chain::authorize`]: super::Chain::authorize
#[derive(Debug)]
pub struct Permit(Box<Authorized>);

/// The contents of a permit. Boxed, because a permit moves through every step of forwarding.
#[derive(Debug)]
struct Authorized {
    request: Inbound,
    caller: Caller,
    target: Target,
    authorization: Option<HeaderValue>,
    touched: Invalidation,
    facts: Option<FactsVersion>,
}

impl Permit {
    /// Consumes the proof that every layer ran, so that a chain that leaves one out does not
    /// compile.
    pub(super) fn new(
        request: Inbound,
        (caller, facts): (Caller, Option<FactsVersion>),
        touched: Invalidation,
        _proofs: Proofs,
    ) -> Result<Self, Denial> {
        let rule = request.rule();
        // Unreachable: the router refuses this first. Kept as defence in depth.
        let target = rule.target.ok_or(Reason::RouteDenied)?;
        let keeps_token = match target {
            Target::Upstream(index) => request
                .in_force()
                .upstream(index)
                .is_some_and(|upstream| upstream.authorization == Authorization::Keep),
            Target::Serve(what) => what.acts_for_caller(),
        };
        let authorization = match rule.pass_credentials {
            // The operator asked for it in the route map, and the gateway prints it at startup.
            true => request.authorization().cloned(),
            false => caller.authorization().filter(|_| keeps_token).cloned(),
        };
        Ok(Self(Box::new(Authorized {
            request,
            caller,
            target,
            authorization,
            touched,
            facts,
        })))
    }

    /// The authorized request.
    pub fn request(&self) -> &Inbound {
        &self.0.request
    }

    /// The caller, as the identity layer proved it.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// The one upstream or endpoint to which the request may go.
    pub fn target(&self) -> Target {
        self.0.target
    }

    /// Consumes the permit.
    pub(crate) fn spend(self) -> SpentPermit {
        SpentPermit(self.0)
    }
}

/// A consumed permit: the parts of the request that forwarding still needs.
#[derive(Debug)]
pub(crate) struct SpentPermit(Box<Authorized>);

impl SpentPermit {
    pub(crate) fn request(&self) -> &Inbound {
        &self.0.request
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// The verified token; `None` if the request proved no user.
    pub(crate) fn verified(&self) -> Option<&Verified> {
        self.caller().verified().map(|verified| &**verified)
    }

    /// The header fields that may be forwarded.
    pub(crate) fn fields(&mut self) -> &mut HeaderMap {
        self.0.request.fields()
    }

    /// The `Authorization` field for the upstream.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.0.authorization.as_ref()
    }

    pub(crate) fn take_body(&mut self) -> Option<Body> {
        self.0.request.take_body()
    }

    /// The facts that the request may change.
    pub(crate) fn take_touched(&mut self) -> Invalidation {
        std::mem::replace(&mut self.0.touched, Invalidation::nothing())
    }

    /// Keeps only what re-authorizing an open stream needs.
    pub(crate) fn into_stream(mut self) -> StreamAuthorization {
        self.0.request.forget_message();
        self.0.authorization = None;
        StreamAuthorization(self.0)
    }
}

/// An open stream's authorization: enough of its request to re-authorize it, and nothing that could
/// be forwarded.
#[derive(Debug)]
pub struct StreamAuthorization(Box<Authorized>);

impl StreamAuthorization {
    /// The request, without its fields and body.
    pub fn request(&self) -> &Inbound {
        &self.0.request
    }

    /// The caller, as it was proven last.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// Whether a credential proved a user, which may expire or be revoked.
    pub(crate) fn has_proof(&self) -> bool {
        self.caller().verified().is_some()
    }

    /// Which invalidations the facts knew by which it was authorized; `None` if it needed none.
    pub(super) fn facts(&self) -> Option<FactsVersion> {
        self.0.facts
    }

    /// Whether the stream may do nothing but authenticate: its route is for users, and no message
    /// has proven one yet.
    pub(crate) fn needs_token(&self) -> bool {
        self.request().rule().access == Access::User && self.caller().verified().is_none()
    }

    /// The latest time to re-authorize it, in Unix seconds; `None` if no credential was needed.
    pub fn accepted_until(&self) -> Option<i64> {
        let until = self.caller().verified()?.accepted_until();
        let Some(live) = self.caller().cookie_session() else {
            return Some(until);
        };
        // Half a minute before the token behind the cookie expires, so that it is renewed in time.
        let early = until - RENEWAL;
        let until = match clock::unix_now() < early {
            true => early,
            false => until,
        };
        let sessions = &self.request().in_force().config().sessions;
        Some(until.min(live.until(sessions)))
    }
}
