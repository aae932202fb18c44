//! The host of a request. Refuses with 400 a request with no host, with several, with a malformed
//! one, or with two that disagree.
//!
//! The host is lower-cased. A port is kept and ignored for authorization, since a load balancer may
//! listen on another port.

use std::cell::RefCell;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, Scheme};

use crate::denial::Reason;

/// A host in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Lower case, with the port if there is one, as the upstream gets it.
    value: HeaderValue,
    /// Length of the name in `value`.
    name: usize,
}

impl Host {
    /// The host of a request; `over_tls` says whether the connection has TLS.
    ///
    /// # Errors
    ///
    /// [`Reason::HostMissing`], [`Reason::HostRepeated`], [`Reason::HostInvalid`],
    /// [`Reason::HostMismatch`].
    pub fn of(parts: &Parts, over_tls: bool, last: &LastHost) -> Result<Self, Reason> {
        let mut fields = parts.headers.get_all(header::HOST).iter();
        let field = fields.next();
        if fields.next().is_some() {
            return Err(Reason::HostRepeated);
        }
        // An `http` target over TLS names another origin than the connection's. The reverse is
        // normal behind an edge.
        if over_tls
            && parts
                .uri
                .scheme()
                .is_some_and(|scheme| *scheme != Scheme::HTTPS)
        {
            return Err(Reason::HostMismatch);
        }
        match (field, parts.uri.authority()) {
            (Some(field), None) => last.or(field.as_bytes(), || Self::parse(field)),
            (None, Some(authority)) => {
                let text = authority.as_str().as_bytes();
                last.or(text, || Self::from_authority(authority))
            }
            (None, None) => Err(Reason::HostMissing),
            (Some(field), Some(authority)) => {
                let host = Self::parse(field)?;
                match Self::from_authority(authority)? == host {
                    true => Ok(host),
                    false => Err(Reason::HostMismatch),
                }
            }
        }
    }

    fn from_authority(authority: &Authority) -> Result<Self, Reason> {
        Self::parse(&HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::HostInvalid)?)
    }

    fn parse(value: &HeaderValue) -> Result<Self, Reason> {
        let bytes = value.as_bytes();
        if bytes.is_empty() {
            return Err(Reason::HostMissing);
        }
        let name = name_length(bytes).ok_or(Reason::HostInvalid)?;
        if !bytes.iter().any(u8::is_ascii_uppercase) {
            return Ok(Self {
                value: value.clone(),
                name,
            });
        }
        let value = HeaderValue::from_bytes(&bytes.to_ascii_lowercase())
            .map_err(|_| Reason::HostInvalid)?;
        Ok(Self { value, name })
    }

    /// The name with its port, as a header value.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The name or address, without its port.
    pub fn name(&self) -> &str {
        // Only ASCII passes `name_length`.
        self.value
            .to_str()
            .ok()
            .and_then(|text| text.get(..self.name))
            .unwrap_or_default()
    }
}

/// The host of the last request of a connection, which is nearly always the host of the next one.
#[derive(Debug, Default)]
pub struct LastHost(RefCell<Option<Host>>);

impl LastHost {
    /// The last host if its text was the same, or else the result of `read`.
    fn or(&self, text: &[u8], read: impl FnOnce() -> Result<Host, Reason>) -> Result<Host, Reason> {
        if let Some(last) = &*self.0.borrow()
            && last.value.as_bytes() == text
        {
            return Ok(last.clone());
        }
        let host = read()?;
        self.0.replace(Some(host.clone()));
        Ok(host)
    }
}

/// The length of the name, if the text is a name or an address with an optional port (RFC 9110,
/// section 7.2).
fn name_length(host: &[u8]) -> Option<usize> {
    let name = if host.first() == Some(&b'[') {
        let end = host.iter().position(|&byte| byte == b']')?;
        let address = std::str::from_utf8(host.get(1..end)?).ok()?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        end + 1
    } else {
        let end = host
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(host.len());
        let name = host.get(..end)?;
        let valid = name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        // With a trailing dot the name is the same to DNS, and another one to most servers.
        if !valid || name.split(|&byte| byte == b'.').any(<[u8]>::is_empty) {
            return None;
        }
        end
    };
    let port = match host.get(name..)? {
        [] => return Some(name),
        [b':', port @ ..] => port,
        _ => return None,
    };
    let valid = port.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(port).ok()?.parse::<u16>().ok()? > 0;
    valid.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for (text, name) in [
            ("a.example", "a.example"),
            ("A.Example:8443", "a.example"),
            ("[::1]:80", "[::1]"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            let host = Host::parse(&HeaderValue::from_static(text)).expect(text);
            assert_eq!(host.name(), name);
            assert_eq!(host.value(), &text.to_ascii_lowercase());
        }
        for text in [
            "a.example.",
            "a..b",
            "user@a",
            "a:0",
            "a:99999",
            "a:+80",
            "a:",
            "[::1",
            "[x]",
            "a b",
            "a/b",
            "é",
            ".a",
            "[::1]x",
        ] {
            let value = HeaderValue::from_bytes(text.as_bytes()).expect("a header value");
            assert_eq!(Host::parse(&value), Err(Reason::HostInvalid), "{text}");
        }
        assert_eq!(
            Host::parse(&HeaderValue::from_static("")),
            Err(Reason::HostMissing)
        );
    }
}
