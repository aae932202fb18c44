//! URLs that the gateway itself calls, such as an issuer's key server: `https`, or `http` on a
//! loopback address.
//!
//! A URL from an issuer's document is trusted only within the issuer's own site. Upstreams have
//! another type, so that the two cannot be confused.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use hyper::Uri;

/// A server that the gateway itself calls, from a checked URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboundSite {
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port, 443 or 80 by default.
    pub port: u16,
}

/// A URL on such a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboundUrl {
    /// The server.
    pub site: OutboundSite,
    /// Path and query, at least `/`.
    pub path: String,
}

impl OutboundUrl {
    /// Parses a URL. The error says what is wrong and, where possible, what to write instead.
    ///
    /// # Errors
    ///
    /// The text is not a URL, or a URL in clear text to another machine.
    pub fn parse(text: &str) -> Result<Self, OutboundUrlError> {
        let url = Self::parse_any(text)?;
        let is_loopback = url
            .site
            .host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        // An attacker who can respond for an issuer can sign tokens.
        if !url.site.tls && !is_loopback {
            return Err(OutboundUrlError::ClearText);
        }
        Ok(url)
    }

    /// Parses a URL that may be in clear text to any machine, because the operator allowed it.
    ///
    /// # Errors
    ///
    /// The text is not a URL.
    pub fn parse_any(text: &str) -> Result<Self, OutboundUrlError> {
        let Url {
            tls,
            host,
            port,
            path,
        } = Url::parse(text).map_err(OutboundUrlError::Malformed)?;
        Ok(Self {
            site: OutboundSite { tls, host, port },
            path,
        })
    }
}

/// Why the gateway does not call a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundUrlError {
    /// It cannot be parsed.
    Malformed(&'static str),
    /// It is `http` and not on a loopback address.
    ClearText,
}

impl fmt::Display for OutboundUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(why) => why,
            Self::ClearText => {
                "keys fetched in clear text can be forged; write `https`, or a loopback address such as `127.0.0.1`"
            }
        })
    }
}

impl std::error::Error for OutboundUrlError {}

impl fmt::Display for OutboundSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl OutboundSite {
    /// `host`, with the port unless it is the scheme's default: the value of a `Host` field (RFC
    /// 9110, section 7.2).
    pub fn authority(&self) -> String {
        let default_port = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for OutboundUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.site, self.path)
    }
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// Lower case, an IPv6 address without brackets.
    pub host: String,
    /// The port, by default the scheme's.
    pub port: u16,
    /// Path and query, at least `/`.
    pub path: String,
}

impl Url {
    /// Splits an `http` or `https` URL into its parts. The error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('#') {
            return Err("has a fragment (`#`); remove it");
        }
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("does not begin with `http://` or `https://`"),
        };
        let authority = uri.authority().ok_or("has no host")?.as_str();
        if authority.contains('@') {
            return Err("holds a name or password; remove it");
        }
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (authority, None),
        };
        let host = host(name).ok_or("has no valid host")?;
        let port = match port {
            None if tls => 443,
            None => 80,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or("has no valid port")?,
        };
        let path = uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            path,
        })
    }
}

/// A host name or address, lower case. `None` if the text has a port or anything else.
pub(crate) fn host(text: &str) -> Option<String> {
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        return inner
            .parse::<Ipv6Addr>()
            .is_ok()
            .then(|| text.to_ascii_lowercase());
    }
    let fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    (text.len() <= 253 && text.split('.').all(fits)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_displayed_without_its_default_port() {
        for (text, written) in [
            ("https://A.example:443/x?y", "https://a.example/x?y"),
            ("https://a.example:8443", "https://a.example:8443/"),
            ("http://127.0.0.1:80/k", "http://127.0.0.1/k"),
            ("http://[::1]:81/k", "http://[::1]:81/k"),
            ("https://[2001:DB8::1]/", "https://[2001:db8::1]/"),
        ] {
            assert_eq!(
                OutboundUrl::parse(text).map(|url| url.to_string()),
                Ok(written.to_owned())
            );
        }
    }

    #[test]
    fn clear_text_is_allowed_on_loopback_only() {
        for text in [
            "http://a.example/",
            "http://localhost/",
            "http://10.0.0.1/",
            "http://[::2]/",
            "http://127.0.0.1.evil.test/",
        ] {
            assert_eq!(
                OutboundUrl::parse(text),
                Err(OutboundUrlError::ClearText),
                "{text}"
            );
        }
        for text in ["ftp://a/", "/keys", "https://u@a/", "https://a/#b", ""] {
            assert!(
                matches!(
                    OutboundUrl::parse(text),
                    Err(OutboundUrlError::Malformed(_))
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn a_url_is_split_into_its_parts_or_refused() {
        let url = |tls, host: &str, port, path: &str| {
            Ok(Url {
                tls,
                host: host.to_owned(),
                port,
                path: path.to_owned(),
            })
        };
        assert_eq!(
            Url::parse("https://A.example/x?y"),
            url(true, "a.example", 443, "/x?y")
        );
        assert_eq!(Url::parse("http://[::1]:81"), url(false, "::1", 81, "/"));
        assert_eq!(Url::parse("http://[::1]"), url(false, "::1", 80, "/"));
        for bad in [
            "ftp://a",
            "a:80",
            "http://",
            "http://u:p@a",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "http://a/#x",
            "http://a b",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_alone() {
        assert_eq!(host("API.example.com"), Some("api.example.com".to_owned()));
        assert_eq!(host("[::1]"), Some("[::1]".to_owned()));
        for bad in ["", "a:80", "http://a", "a/b", "a..b", "a.", "[x]", "*.a"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}
