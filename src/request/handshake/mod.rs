//! The opening handshake of a WebSocket (RFC 6455, section 4).
//!
//! Decides:  whether a request is a handshake, and whether an upstream's 101 matches it.
//! Trusts:   neither side; the upstream gets a handshake that is written from the parsed one.
//! Not here: whether the route allows WebSocket (`Inbound::route`), and the messages (`streams`).
//!
//! The client's key is forwarded, so the upstream's response proves to us and to the client that it
//! read this handshake.

#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Version};

/// The constant that is hashed with the key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How a subprotocol begins that carries a token to a Phoenix socket.
const PHOENIX_TOKEN: &str = "base64url.bearer.phx.";

/// The fields of a handshake. An upstream gets only those that [`Handshake`] writes.
const FIELDS: [HeaderName; 5] = [
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_ACCEPT,
];

/// A client's handshake.
#[derive(Clone)]
pub struct Handshake {
    key: HeaderValue,
    accept: HeaderValue,
    /// Subprotocols, in the client's order of preference.
    protocols: Vec<String>,
    extensions: Option<HeaderValue>,
}

impl std::fmt::Debug for Handshake {
    /// Omits the values, because some clients send a token as a subprotocol.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handshake({} protocols)", self.protocols.len())
    }
}

impl Handshake {
    /// Parses the handshake of a request with an `Upgrade` field. `None` if it is another one, such
    /// as `h2c`.
    pub fn read(parts: &Parts) -> Option<Self> {
        let headers = &parts.headers;
        let asks = parts.method == Method::GET
            && parts.version == Version::HTTP_11
            && is_upgrade(headers)
            && only(headers, &header::SEC_WEBSOCKET_VERSION)? == "13"
            && !headers.contains_key(header::SEC_WEBSOCKET_ACCEPT)
            && !has_body(headers);
        if !asks {
            return None;
        }
        let key = only(headers, &header::SEC_WEBSOCKET_KEY)?;
        if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
            return None;
        }
        let protocols = list(headers, &header::SEC_WEBSOCKET_PROTOCOL)?;
        if !protocols.iter().all(|name| is_token(name)) {
            return None;
        }
        let extensions = list(headers, &header::SEC_WEBSOCKET_EXTENSIONS)?;
        if !extensions.iter().all(|offer| is_token(name_of(offer))) {
            return None;
        }
        let extensions = match extensions.is_empty() {
            true => None,
            false => Some(HeaderValue::from_str(&extensions.join(", ")).ok()?),
        };
        Some(Self {
            key: HeaderValue::from_str(key).ok()?,
            accept: accept(key)?,
            protocols,
            extensions,
        })
    }

    /// Removes all handshake fields from a message.
    pub(super) fn remove(headers: &mut HeaderMap) {
        for name in FIELDS {
            headers.remove(name);
        }
    }

    /// Offers no extension, so that frames are not compressed and can be inspected.
    pub(super) fn refuse_extensions(&mut self) {
        self.extensions = None;
    }

    /// Offers no subprotocol that carries a token for Phoenix, which would not be authorized.
    pub(super) fn refuse_bearer_protocols(&mut self) {
        let carries_token = |name: &String| {
            let prefix = name.get(..PHOENIX_TOKEN.len());
            prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PHOENIX_TOKEN))
        };
        self.protocols.retain(|name| !carries_token(name));
    }

    /// The fields of the handshake for the upstream.
    pub fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let protocols = HeaderValue::from_str(&self.protocols.join(", ")).ok();
        [
            (
                header::CONNECTION,
                Some(HeaderValue::from_static("Upgrade")),
            ),
            (header::UPGRADE, Some(HeaderValue::from_static("websocket"))),
            (
                header::SEC_WEBSOCKET_VERSION,
                Some(HeaderValue::from_static("13")),
            ),
            (header::SEC_WEBSOCKET_KEY, Some(self.key.clone())),
            (
                header::SEC_WEBSOCKET_PROTOCOL,
                protocols.filter(|_| !self.protocols.is_empty()),
            ),
            (header::SEC_WEBSOCKET_EXTENSIONS, self.extensions.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Checks an upstream's 101 and turns its fields into those for the client. `own` is the name
    /// of this gateway's cookie.
    ///
    /// # Errors
    ///
    /// The response does not match this handshake; the text is for the operator.
    pub fn finish(&self, headers: &mut HeaderMap, own: &str) -> Result<(), &'static str> {
        if !is_upgrade(headers) {
            return Err("its 101 does not switch to WebSocket");
        }
        let accept = only(headers, &header::SEC_WEBSOCKET_ACCEPT);
        if accept.map(str::as_bytes) != Some(self.accept.as_bytes()) {
            return Err("its 101 has a wrong `Sec-WebSocket-Accept`");
        }
        let chosen = list(headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .ok_or("its 101 has a subprotocol that is not text")?;
        let is_offered = |name: &String| self.protocols.contains(name);
        if chosen.len() > 1 || !chosen.iter().all(is_offered) {
            return Err("its 101 has a subprotocol that the client did not offer");
        }
        let used = list(headers, &header::SEC_WEBSOCKET_EXTENSIONS)
            .ok_or("its 101 has an extension that is not text")?;
        if !used.iter().all(|used| self.offers(name_of(used))) {
            return Err("its 101 has an extension that the client did not offer");
        }
        Self::remove(headers);
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        crate::request::headers::clean_response(headers, own);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        for (name, values) in [
            (header::SEC_WEBSOCKET_PROTOCOL, chosen),
            (header::SEC_WEBSOCKET_EXTENSIONS, used),
        ] {
            if let Ok(value) = HeaderValue::from_str(&values.join(", "))
                && !values.is_empty()
            {
                headers.insert(name, value);
            }
        }
        Ok(())
    }

    fn offers(&self, extension: &str) -> bool {
        let offered = self
            .extensions
            .as_ref()
            .and_then(|offered| offered.to_str().ok());
        offered
            .unwrap_or_default()
            .split(',')
            .any(|offer| name_of(offer).eq_ignore_ascii_case(extension))
    }
}

/// `base64(SHA-1(key + GUID))`. The standard requires SHA-1; it only has to show that the upstream
/// read a handshake.
fn accept(key: &str) -> Option<HeaderValue> {
    let hashed = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::from_str(&STANDARD.encode(hashed)).ok()
}

/// Whether `Upgrade` names WebSocket and nothing else, and `Connection` has the option `upgrade`.
fn is_upgrade(headers: &HeaderMap) -> bool {
    let is_websocket = only(headers, &header::UPGRADE)
        .is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
    let options = list(headers, &header::CONNECTION).unwrap_or_default();
    is_websocket
        && options
            .iter()
            .any(|option| option.eq_ignore_ascii_case("upgrade"))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
}

/// The value of a field that occurs exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

/// The members of a list field, over all its lines. `None` if a line is not text.
fn list(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let mut members = Vec::new();
    for line in headers.get_all(name) {
        let line = line.to_str().ok()?.split(',').map(str::trim);
        members.extend(line.filter(|member| !member.is_empty()).map(str::to_owned));
    }
    Some(members)
}

/// The name of an extension, without its parameters.
fn name_of(extension: &str) -> &str {
    extension.split(';').next().unwrap_or_default().trim()
}

/// Whether this is a token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
