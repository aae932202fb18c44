//! Turns a request from outside into one [`Inbound`], or refuses it, before any layer runs.
//!
//! Decides:  everything that can be refused without knowing the caller: host, path, query, method,
//!           route.
//! Trusts:   the framing of HTTP/1.1 (`listen::http1`) and of HTTP/2 (hyper).
//! Not here: verifying credentials. They are taken out of the headers here; the identity layer
//!           verifies them.
//!
//! Behind this module there is no uncanonical path, no identity header of a client, and no raw
//! `Authorization` header.

pub mod apikey;
pub mod body;
pub mod client_body;
pub mod cors;
pub mod handshake;
mod head;
pub mod headers;
pub(crate) mod holder;
pub mod host;
pub mod memory;
pub(crate) mod pace;
pub mod peer;
pub mod query;
mod target;

use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Version};

use crate::clock;
use crate::denial::{Denial, Reason};
use crate::policy::in_force::InForce;
use crate::policy::layers::{LayerName, WaivedMode};
use crate::policy::listen::BodyPace;
use crate::policy::outage::AccessClass;
use crate::policy::path::{self, Pattern, Segment};
use crate::policy::resources::ParamType;
use crate::policy::route::Route;
use crate::policy::router::Selected;
use crate::record::Record;
use crate::tokens::{Verified, WorkerCache};
use apikey::KeyFields;
use body::{Body, BodyBudget};
use handshake::Handshake;
pub use head::Head;
use headers::GatewayCookie;
use holder::Holder;
use host::Host;
use memory::BodyMemory;
use peer::Client;
pub use peer::Connection;
use target::forwarded_target;

/// A canonical request with its route: what the chain authorizes.
pub struct Inbound {
    head: Box<Head>,
    target: PathAndQuery,
    query_credentials: Vec<(String, String)>,
    selected: Selected,
    in_force: Arc<InForce>,
    /// The body, until it is taken for forwarding.
    body: Option<Body>,
}

impl Inbound {
    /// Selects the route and canonicalizes the target.
    ///
    /// # Errors
    ///
    /// A [`Reason`] about the path, the query or the route.
    pub fn route(
        head: Box<Head>,
        body: Option<Body>,
        in_force: Arc<InForce>,
        record: &mut Record,
    ) -> Result<Self, Denial> {
        let canonical = path::canonicalise(head.uri.path())?;
        record.path.push_str(&canonical.text);
        let selected = in_force
            .routes()
            .select(head.host.name(), &canonical.text, &head.method)?;
        let route = in_force.route(selected).ok_or(Reason::Internal)?;
        let pattern = route.paths.get(selected.pattern).ok_or(Reason::Internal)?;
        record.route = Some(selected.route);
        record.error_format = record.error_format.on(route.errors, &head.headers);
        if head.handshake.is_some() && !route.websocket {
            return Err(Reason::UpgradeRefused.into());
        }
        let credentials = if route.pass_credentials {
            &[]
        } else {
            in_force.query_credentials()
        };
        let query = query::Query::read(head.uri.query(), credentials)?;
        let target = forwarded_target(&head.uri, canonical, route, pattern, &query)?;
        if target.path() != record.path {
            record.path.clear();
            record.path.push_str(target.path());
        }
        let query_credentials = query.into_credentials(|name| route.reads_query(name));
        let mut head = head;
        if let Some(handshake) = head.handshake.as_mut().filter(|_| route.realtime) {
            handshake.refuse_extensions();
            handshake.refuse_bearer_protocols();
        }
        Ok(Self {
            head,
            target,
            query_credentials,
            selected,
            in_force,
            body,
        })
    }

    /// The method of the request.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The HTTP version of the client's request.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The canonical host.
    pub fn host(&self) -> &Host {
        &self.head.host
    }

    /// The client's address and scheme, as far as they can be trusted.
    pub fn client(&self) -> &Client {
        &self.head.client
    }

    /// The tokens that were verified recently on the same worker.
    pub(crate) fn worker_cache(&self) -> &WorkerCache {
        &self.head.worker_cache
    }

    /// Path and query, exactly as they are forwarded.
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// The header fields that may be forwarded, without `Host` and `Authorization`.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The `Authorization` field, not yet verified.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.head.authorization.as_ref()
    }

    /// This gateway's cookie, not yet verified; it is no longer in [`Self::headers`].
    pub fn cookie(&self) -> Option<&GatewayCookie> {
        self.head.cookie.as_ref()
    }

    /// The API keys in the header fields.
    pub fn key_fields(&self) -> Option<&KeyFields> {
        self.head.keys.as_deref()
    }

    /// The value of a query key that the route reads as a credential; it is no longer in
    /// [`Self::target`].
    pub fn query_credential(&self, name: &str) -> Option<&str> {
        self.query_credentials
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The route that the request matched.
    pub fn rule(&self) -> &Route {
        // `route` checked both indices, and a policy never changes.
        self.in_force
            .route(self.selected)
            .unwrap_or_else(|| unreachable!("the selected route is in its own policy"))
    }

    /// The pattern of the route that the path matched.
    pub fn pattern(&self) -> Option<&Pattern> {
        self.rule().paths.get(self.selected.pattern)
    }

    /// What the request does, as the failure matrix groups requests.
    pub fn access_class(&self) -> AccessClass {
        AccessClass::of(self.rule(), self.method(), &self.in_force.config().roles)
    }

    /// How the route currently waives a layer, if it does.
    pub fn waived(&self, layer: LayerName) -> Option<WaivedMode> {
        let rule = self.rule();
        if rule.waived.is_empty() {
            None
        } else {
            rule.waived(layer, clock::unix_now())
        }
    }

    /// The policy by which this request is authorized, from its head to its end.
    pub fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// Path parameters with their type and text, in order; empty if all of them are text.
    pub fn typed_parameters(&self) -> impl Iterator<Item = (&str, ParamType, &str)> {
        let typed = self.pattern().filter(|pattern| pattern.is_typed());
        let segments = typed.map(Pattern::segments).unwrap_or_default();
        let texts = self.target.path().split('/').skip(1);
        segments
            .iter()
            .zip(texts)
            .filter_map(|(segment, text)| match segment {
                Segment::Parameter { name, kind } => Some((name.as_str(), *kind, text)),
                Segment::Literal(_) | Segment::Tail => None,
            })
    }

    /// The part of the path that `{*rest}` matched, in canonical form, without the slash before it.
    pub fn tail(&self) -> Option<&str> {
        let pattern = self.rule().paths.get(self.selected.pattern)?;
        let fixed = pattern.segments().len().checked_sub(1)?;
        let path = self.target.path();
        let (slash, _) = path.match_indices('/').nth(fixed)?;
        path.get(slash + 1..).filter(|_| pattern.has_tail())
    }

    /// The text of a path parameter in the canonical path.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pattern = self.rule().paths.get(self.selected.pattern)?;
        let texts = self.target.path().split('/').skip(1);
        let mut pairs = pattern.segments().iter().zip(texts);
        pairs.find_map(|(segment, text)| match segment {
            Segment::Parameter { name: known, .. } => (known == name).then_some(text),
            Segment::Literal(_) | Segment::Tail => None,
        })
    }

    /// The header fields that may be forwarded, to be changed for an upstream.
    pub(crate) fn fields(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Takes the body out for forwarding.
    pub(crate) fn take_body(&mut self) -> Option<Body> {
        let mut body = self.body.take();
        if let Some(body) = &mut body {
            body.forget_document();
        }
        body
    }

    /// Drops the parts that only forwarding needs. The rest can be re-authorized.
    pub(crate) fn forget_message(&mut self) {
        self.head.authorization = None;
        self.head.cookie = None;
        self.head.keys = None;
        self.head.headers = HeaderMap::new();
        self.body = None;
    }

    /// Reads the body, for rules that inspect it. Afterwards it is [`Self::inspected_body`].
    ///
    /// # Errors
    ///
    /// See [`body`].
    pub async fn inspect_body(
        &mut self,
        memory: &Arc<BodyMemory>,
        verified: Option<&Verified>,
    ) -> Result<(), Denial> {
        let Some(body) = self.body.take() else {
            return Err(Reason::BodyMalformed.because("no body"));
        };
        let budget = self.body_budget(memory, verified);
        self.body = Some(body.inspect(&self.head.headers, budget).await?);
        Ok(())
    }

    /// What the body of this request may cost if it is read into memory.
    pub(crate) fn body_budget(
        &self,
        memory: &Arc<BodyMemory>,
        verified: Option<&Verified>,
    ) -> BodyBudget {
        BodyBudget {
            limit: self.rule().body_limit,
            pace: self.body_pace(),
            inspected: self.in_force.config().connections.inspected,
            memory: memory.clone(),
            holder: Holder::of(self.client(), verified),
        }
    }

    /// How slowly the client may send the body.
    pub(crate) fn body_pace(&self) -> BodyPace {
        let (rule, connections) = (self.rule(), &self.in_force.config().connections);
        BodyPace {
            idle: rule.body_idle.unwrap_or(connections.body_idle),
            rate: rule.body_rate.unwrap_or(connections.body_rate),
            grace: connections.body_grace,
        }
    }

    /// Whether the request has a body that was not read yet.
    pub fn has_unread_body(&self) -> bool {
        use hyper::body::Body as _;
        match &self.body {
            Some(body @ (Body::Streamed(_) | Body::Whole(_))) => !body.is_end_stream(),
            Some(Body::Inspected(_)) | None => false,
        }
    }

    /// The JSON document of the body, if it was read.
    pub fn inspected_body(&self) -> Option<&serde_json::Value> {
        match self.body.as_ref()? {
            Body::Inspected(inspected) => Some(inspected.value()),
            Body::Streamed(_) | Body::Whole(_) => None,
        }
    }

    /// The handshake, if the client requests a WebSocket.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.head.handshake()
    }

    /// A record for a re-authorization. It is discarded.
    pub(crate) fn record_again(&self, in_force: Arc<InForce>) -> Record {
        Record::begin(in_force, self.head.method.clone(), self.head.version)
    }

    /// The same request under another configuration.
    ///
    /// # Errors
    ///
    /// Under that configuration the request has no route, or the route refuses it.
    pub(crate) fn reroute(
        &self,
        in_force: Arc<InForce>,
        record: &mut Record,
    ) -> Result<Self, Denial> {
        if !in_force.serves_host(self.head.host.name()) {
            return Err(Reason::HostUnknown.into());
        }
        Self::route(self.head.clone(), None, in_force, record)
    }
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound")
            .field("head", &self.head)
            .field("path", &self.target.path())
            .finish_non_exhaustive()
    }
}
