//! Reads the head of a request, before a route is chosen.

use std::rc::Rc;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Version};

use super::apikey::KeyFields;
use super::handshake::Handshake;
use super::headers::{self, GatewayCookie, HeaderScan};
use super::host::Host;
use super::peer::{Client, Connection};
use crate::denial::{Denial, Reason};
use crate::policy::in_force::InForce;
use crate::policy::listen::Connections;
use crate::record::Record;
use crate::tokens::WorkerCache;

/// A request head that has one reading, before a route is selected.
#[derive(Clone)]
pub struct Head {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) host: Host,
    pub(super) client: Client,
    pub(super) worker_cache: Rc<WorkerCache>,
    pub(super) headers: HeaderMap,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) cookie: Option<GatewayCookie>,
    pub(super) keys: Option<Box<KeyFields>>,
    pub(super) handshake: Option<Box<Handshake>>,
    pub(super) uri: hyper::Uri,
}

impl Head {
    /// Reads a head and takes the credentials out of its fields.
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
        check_limits(&parts, &config.connections)?;
        let host = Host::of(&parts, connection.over_tls, &connection.host)?;
        record.host = Some(host.value().clone());
        if !in_force.serves_host(host.name()) {
            return Err(Reason::HostUnknown.into());
        }
        let scan = HeaderScan::of(&parts.headers);
        let handshake = match scan.upgrade {
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
        if scan.authorizations > 1 {
            return Err(Reason::AuthorizationRepeated.into());
        }
        let mut keys = match scan.keys {
            false => None,
            true => Some(Box::new(KeyFields::removed_of(&headers))),
        };
        let cookie = headers::clean_request(&mut headers, &scan, &config.sessions.cookie);
        if handshake.is_some() {
            Handshake::remove(&mut headers);
        }
        if let Some(keys) = &mut keys {
            keys.add_forwarded(&headers);
        }
        let authorization = match scan.authorizations {
            0 => None,
            _ => take_authorization(&mut headers),
        };
        // The canonical host is kept outside the headers.
        if scan.host {
            headers.remove(header::HOST);
        }
        Ok(Box::new(Self {
            method,
            version,
            host,
            client,
            worker_cache: connection.worker_cache.clone(),
            headers,
            authorization,
            cookie,
            keys,
            handshake: handshake.map(Box::new),
            uri,
        }))
    }

    /// The method of the request.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The header fields that may be forwarded, without `Host` and `Authorization`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The canonical host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The handshake, if the client requests a WebSocket.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.handshake.as_deref()
    }

    /// The target as the client sent it, for a redirect.
    pub(crate) fn uri(&self) -> &hyper::Uri {
        &self.uri
    }
}

/// Refuses methods that are never served, and heads above the limits.
fn check_limits(parts: &Parts, limits: &Connections) -> Result<(), Denial> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Reason::MethodRefused.into());
    }
    if parts.headers.len() > limits.max_headers {
        return Err(Reason::HeadersTooMany.into());
    }
    let length = parts.uri.path().len() + parts.uri.query().map_or(0, |query| query.len() + 1);
    match length > limits.max_uri {
        true => Err(Reason::UriTooLong.into()),
        false => Ok(()),
    }
}

fn take_authorization(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut field = headers.remove(header::AUTHORIZATION)?;
    // Its `Debug` then never shows the value.
    field.set_sensitive(true);
    Some(field)
}

impl std::fmt::Debug for Head {
    /// Omits headers and query, which hold tokens and cookies.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head")
            .field("method", &self.method)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}
