//! Host names, addresses and URLs.
//!
//! Decides: their one spelling, and that nothing is in them that would be ignored, such as a password, a fragment, or bits behind a prefix. Trusts:
//! nothing. Not here: what is reached under them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::Uri;

use super::Checker;
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::TrustedProxies;

impl Checker<'_> {
    /// Host names without port, lower case. Nothing written means any host.
    pub(super) fn hosts(&mut self, field: &Field<List<Text>>) -> Option<Vec<String>> {
        let list = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(list) => list,
        };
        list.value.at_least_one(&list.place, self.report);
        self.each(&list.value, |checker, text| {
            let name = host(&text.value.value);
            if name.is_none() {
                let message = format!("`{}` is not a host name", text.value.shown());
                checker.report.problem_instead(&text.place, message, "write the name alone, without scheme, port and path, such as `api.example.com`");
            }
            name
        })
    }

    /// An address with its port.
    pub(super) fn address(&mut self, text: &Value<Text>) -> Option<SocketAddr> {
        let address = text.value.value.parse().ok();
        if address.is_none() {
            let message = format!("`{}` is not an address with a port", text.value.shown());
            self.report.problem_instead(
                &text.place,
                message,
                "write an IP address and a port, such as `0.0.0.0:8443` or `[::]:8443`",
            );
        }
        address
    }

    /// Whose `X-Forwarded-For` is believed.
    pub(super) fn trusted_proxies(
        &mut self,
        field: &Field<file::TrustedProxies>,
    ) -> Option<TrustedProxies> {
        let wire = match field {
            Field::Absent => {
                return Some(TrustedProxies {
                    from: Vec::new(),
                    hops: 1,
                });
            }
            Field::Bad => return None,
            Field::Good(wire) => wire,
        };
        let hops = self.number(&wire.value.hops, 1..=16, 1);
        let example = "write the networks of your proxies, such as `from: [10.0.0.0/8]`";
        let from = wire
            .value
            .from
            .required(&wire.place, "from", example, self.report)?;
        from.value.at_least_one(&from.place, self.report);
        let from = self.each(&from.value, Self::network);
        Some(TrustedProxies {
            from: from?,
            hops: hops?,
        })
    }

    fn network(&mut self, text: &Value<Text>) -> Option<ipnet::IpNet> {
        let shown = text.value.shown();
        if let Ok(address) = text.value.value.parse::<IpAddr>() {
            return Some(address.into());
        }
        let Ok(network) = text.value.value.parse::<ipnet::IpNet>() else {
            let message = format!("`{shown}` is not an address or a network");
            self.report.problem_instead(
                &text.place,
                message,
                "write an IP address, or a network such as `10.0.0.0/8`",
            );
            return None;
        };
        if network.trunc() != network {
            self.report.problem(&text.place, format!("`{shown}` has bits of an address behind its prefix; write the first address of the network"));
            return None;
        }
        if network.prefix_len() == 0 {
            self.report.warn(
                &text.place,
                "every client is believed about its own address",
            );
        }
        Some(network)
    }
}

/// A host name or address, lower case. `None` if it has a port or anything else around it.
pub(super) fn host(text: &str) -> Option<String> {
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

/// A URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// Lower case, an IPv6 address without brackets.
    pub host: String,
    /// As written, or the scheme's.
    pub port: u16,
    /// Path and query, at least `/`.
    pub path: String,
}

impl Url {
    /// Takes an `http` or `https` URL apart. The error says what is wrong with it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_or_told_why_not() {
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
    fn a_host_is_a_name_alone() {
        assert_eq!(host("API.example.com"), Some("api.example.com".to_owned()));
        assert_eq!(host("[::1]"), Some("[::1]".to_owned()));
        for bad in ["", "a:80", "http://a", "a/b", "a..b", "a.", "[x]", "*.a"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}
