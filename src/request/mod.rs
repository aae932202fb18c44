//! Bytes from outside become one [`Inbound`], or a refusal, before anybody judges.
//!
//! Decides: everything that can be refused without knowing the caller: host, path, query, method, route. Trusts: hyper's framing.
//! Not here: credentials are taken out of the headers but not judged; that is the identity layer's.
//!
//! Nothing after this module sees an uncanonical path, a client's identity header, or a raw `Authorization` header.

pub mod apikey;
pub mod body;
pub mod cors;
pub mod handshake;
pub mod headers;
pub mod host;
pub mod peer;
pub mod query;

use std::rc::Rc;
use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Version};

use crate::clock;
use crate::denial::{Denial, Reason};
use crate::policy::in_force::InForce;
use crate::policy::layers::{LayerName, WaivedMode};
use crate::policy::path::{self, Canonical, ParameterKind, Pattern, Segment};
use crate::policy::route::{Route, Tail};
use crate::policy::router::Selected;
use crate::record::Record;
use crate::tokens::Recent;
use body::Body;
use handshake::Handshake;
use headers::{OwnCookie, Survey};
use host::Host;
use peer::Client;
pub use peer::Connection;

/// A request head that can be read in one way only, before a route is chosen.
#[derive(Clone)]
pub struct Head {
    method: Method,
    version: Version,
    host: Host,
    client: Client,
    recent: Rc<Recent>,
    headers: HeaderMap,
    authorization: Option<HeaderValue>,
    cookie: Option<OwnCookie>,
    handshake: Option<Box<Handshake>>,
    uri: hyper::Uri,
}

/// A canonical request with the route it belongs to: what the chain judges.
pub struct Inbound {
    head: Box<Head>,
    target: PathAndQuery,
    query_credentials: Vec<(String, String)>,
    selected: Selected,
    in_force: Arc<InForce>,
    /// Until it is taken for forwarding.
    body: Option<Body>,
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    ///
    /// A [`Reason`] of the first group of the table.
    pub fn read(
        parts: Parts,
        connection: &Connection,
        in_force: &InForce,
        record: &mut Record,
    ) -> Result<Box<Self>, Denial> {
        let config = in_force.config();
        let client = Client::of(connection, &parts.headers, &config.trusted_proxies);
        record.client = Some(client.text.clone());
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(Reason::MethodRefused.into());
        }
        if parts.headers.len() > config.connections.max_headers {
            return Err(Reason::HeadersTooMany.into());
        }
        let length = parts.uri.path().len() + parts.uri.query().map_or(0, |query| query.len() + 1);
        if length > config.connections.max_uri {
            return Err(Reason::UriTooLong.into());
        }
        let host = Host::of(&parts, connection.over_tls, &connection.host)?;
        record.host = Some(host.value().clone());
        if !in_force.serves_host(host.name()) {
            return Err(Reason::HostUnknown.into());
        }
        let survey = Survey::of(&parts.headers);
        let handshake = match survey.upgrade {
            false => None,
            true => Some(Handshake::read(&parts).ok_or(Reason::UpgradeRefused)?),
        };
        let Parts {
            method,
            uri,
            version,
            mut headers,
            ..
        } = parts;
        if survey.authorizations > 1 {
            return Err(Reason::AuthorizationRepeated.into());
        }
        let cookie = headers::clean_request(&mut headers, &survey, &config.sessions.cookie);
        if handshake.is_some() {
            Handshake::remove(&mut headers);
        }
        let authorization = match survey.authorizations {
            0 => None,
            _ => headers.remove(header::AUTHORIZATION).map(|mut field| {
                // No `Debug` shows it, wherever it goes.
                field.set_sensitive(true);
                field
            }),
        };
        // The host is kept beside the headers, in canonical form.
        if survey.host {
            headers.remove(header::HOST);
        }
        Ok(Box::new(Self {
            method,
            version,
            host,
            client,
            recent: connection.recent.clone(),
            headers,
            authorization,
            cookie,
            handshake: handshake.map(Box::new),
            uri,
        }))
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The fields that may pass; without `Host` and `Authorization`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The handshake, if the client asks for WebSocket.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.handshake.as_deref()
    }

    /// The target as it came, for a redirect.
    pub(crate) fn uri(&self) -> &hyper::Uri {
        &self.uri
    }
}

impl Inbound {
    /// Chooses the route, and gives the target its canonical form.
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
        let path = forwarded_path(head.uri.path(), canonical, route, pattern)?;
        let target = match (path, query.is_unchanged()) {
            // The usual case copies nothing. A target that begins with its query is judged as `/`, and must be written so.
            (None, true) if begins_with_slash(&head.uri) => head
                .uri
                .path_and_query()
                .cloned()
                .ok_or(Reason::TargetForm)?,
            (path, _) => target(
                path.as_deref().unwrap_or(head.uri.path()),
                query.forwarded(),
            )?,
        };
        if target.path() != record.path {
            record.path.clear();
            record.path.push_str(target.path());
        }
        let query_credentials = query.into_credentials(|name| route.reads_query(name));
        let mut head = head;
        if let Some(handshake) = head.handshake.as_mut().filter(|_| route.realtime) {
            handshake.refuse_extensions();
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

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The version the client spoke.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.head.host
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.head.client
    }

    /// The tokens that were proven on the same worker of late.
    pub(crate) fn recent(&self) -> &Recent {
        &self.head.recent
    }

    /// Path and query, exactly as they are forwarded.
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// The fields that may pass; without `Host` and `Authorization`.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The `Authorization` field, not yet judged.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.head.authorization.as_ref()
    }

    /// This gateway's cookie, not yet judged; it is not in [`Self::headers`] any more.
    pub fn cookie(&self) -> Option<&OwnCookie> {
        self.head.cookie.as_ref()
    }

    /// The value of a query key that the route reads as a credential; it is not in [`Self::target`] any more.
    pub fn query_credential(&self, name: &str) -> Option<&str> {
        self.query_credentials
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The route.
    pub fn rule(&self) -> &Route {
        // `route` checked both indices, and a policy never changes.
        self.in_force
            .route(self.selected)
            .unwrap_or_else(|| unreachable!("the selected route is in its own policy"))
    }

    /// The pattern of the route's that the path matched.
    pub fn pattern(&self) -> Option<&Pattern> {
        self.rule().paths.get(self.selected.pattern)
    }

    /// How the route waives a layer now, if it does.
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

    /// Path parameters with their type and text, in order; none if every segment would do for each.
    pub fn typed_parameters(&self) -> impl Iterator<Item = (&str, ParameterKind, &str)> {
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

    /// What stands behind the fixed part of the route's path, without the slash between: what `{*rest}` matched, in its canonical form.
    pub fn tail(&self) -> Option<&str> {
        let pattern = self.rule().paths.get(self.selected.pattern)?;
        let fixed = pattern.segments().len().checked_sub(1)?;
        let path = self.target.path();
        let (place, _) = path.match_indices('/').nth(fixed)?;
        path.get(place + 1..).filter(|_| pattern.has_tail())
    }

    /// A path parameter, as the canonical path has it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pattern = self.rule().paths.get(self.selected.pattern)?;
        let texts = self.target.path().split('/').skip(1);
        let mut pairs = pattern.segments().iter().zip(texts);
        pairs.find_map(|(segment, text)| match segment {
            Segment::Parameter { name: known, .. } => (known == name).then_some(text),
            Segment::Literal(_) | Segment::Tail => None,
        })
    }

    /// The fields that may pass, to be changed for an upstream.
    pub(crate) fn fields(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Takes the body out for forwarding.
    pub(crate) fn take_body(&mut self) -> Option<Body> {
        self.body.take()
    }

    /// Drops what only forwarding needs. What is left can be judged again.
    pub(crate) fn forget_message(&mut self) {
        self.head.authorization = None;
        self.head.cookie = None;
        self.head.headers = HeaderMap::new();
        self.body = None;
    }

    /// Reads the body, for rules that judge what it says. From now on it is [`Self::inspected_body`].
    ///
    /// # Errors
    ///
    /// See [`body`].
    pub async fn inspect_body(&mut self) -> Result<(), Denial> {
        let Some(body) = self.body.take() else {
            return Err(Reason::BodyMalformed.because("there is none"));
        };
        let idle = self.in_force.config().connections.body_idle;
        let judged = body.judge(&self.head.headers, self.rule().body_limit, idle);
        self.body = Some(judged.await?);
        Ok(())
    }

    /// Whether there is a body that nobody has read.
    pub fn has_unread_body(&self) -> bool {
        use hyper::body::Body as _;
        match &self.body {
            Some(body @ (Body::Streamed(_) | Body::Whole(_))) => !body.is_end_stream(),
            Some(Body::Judged(_)) | None => false,
        }
    }

    /// What the body says, if it was read.
    pub fn inspected_body(&self) -> Option<&serde_json::Value> {
        match self.body.as_ref()? {
            Body::Judged(judged) => Some(judged.value()),
            Body::Streamed(_) | Body::Whole(_) => None,
        }
    }

    /// The handshake, if the client asks for WebSocket.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.head.handshake()
    }

    /// A record for judging again, which nobody reads.
    pub(crate) fn record_again(&self, in_force: Arc<InForce>) -> Record {
        Record::begin(in_force, self.head.method.clone(), self.head.version)
    }

    /// The same request under another configuration.
    ///
    /// # Errors
    ///
    /// It has no route there, or one that does not offer the same.
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

impl std::fmt::Debug for Head {
    /// Headers and query stay out: they hold tokens and cookies.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head")
            .field("method", &self.method)
            .field("host", &self.host)
            .finish_non_exhaustive()
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

/// The path as it is forwarded, if it differs from how it came.
fn forwarded_path(
    raw: &str,
    canonical: Canonical<'_>,
    route: &Route,
    pattern: &Pattern,
) -> Result<Option<String>, Denial> {
    let fixed = pattern.segments().len().saturating_sub(1);
    let opaque = route.tail == Tail::Opaque && pattern.has_tail();
    if let Some((reason, segment)) = canonical.oddity
        && !(opaque && segment >= fixed)
    {
        return Err(reason.into());
    }
    let path = if opaque {
        let tail = |path: &str| path.match_indices('/').nth(fixed).map(|(place, _)| place);
        match (tail(&canonical.text), tail(raw)) {
            (Some(head_end), Some(tail_start)) => {
                let head = canonical.text.get(..head_end).unwrap_or_default();
                format!("{head}{}", raw.get(tail_start..).unwrap_or_default())
            }
            _ => return Err(Reason::Internal.into()),
        }
    } else {
        canonical.text.into_owned()
    };
    let path = lower_case_uuids(path, pattern);
    Ok((path != raw).then_some(path))
}

/// Clients on some platforms write UUIDs in upper case; what is judged and forwarded is lower case (RFC 9562, section 4).
fn lower_case_uuids(path: String, pattern: &Pattern) -> String {
    if !pattern.is_typed() {
        return path;
    }
    let is_uuid = |index: usize| {
        matches!(
            pattern.segments().get(index),
            Some(Segment::Parameter {
                kind: ParameterKind::Uuid,
                ..
            })
        )
    };
    let has_upper = |text: &str| text.bytes().any(|byte| byte.is_ascii_uppercase());
    if !path
        .split('/')
        .skip(1)
        .enumerate()
        .any(|(index, text)| is_uuid(index) && has_upper(text))
    {
        return path;
    }
    path.split('/')
        .skip(1)
        .enumerate()
        .map(|(index, text)| {
            if is_uuid(index) && text.len() == 36 {
                format!("/{}", text.to_ascii_lowercase())
            } else {
                format!("/{text}")
            }
        })
        .collect()
}

fn begins_with_slash(uri: &hyper::Uri) -> bool {
    uri.path_and_query()
        .is_some_and(|target| target.as_str().starts_with('/'))
}

fn target(path: &str, query: Option<&str>) -> Result<PathAndQuery, Denial> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    // Only bytes that a URI may hold are left.
    PathAndQuery::try_from(text)
        .map_err(|_| Reason::Internal.because("the canonical target is not a URI"))
}
