//! Where replicas share what they know.
//!
//! Decides: which forms a URL may have, and that nothing is stored outside of this process without a key to seal it. Trusts: the operator, for which
//! server it is. Not here: whether that server may throw records away (`store::redis`).

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{Checker, secs};
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::storage::{Redis, StoreChoice, StoreTls};
use crate::secrets::MasterKey;
use crate::secrets::secret::Secret;

const EXAMPLE: &str =
    "write the URL of the server, such as `rediss://user:password@redis.example.com:6379/0`";

/// A Redis URL, taken apart.
struct Server {
    tls: bool,
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<Secret>,
    database: u8,
}

impl Checker<'_> {
    /// The store; without a word, this process's own memory.
    pub(super) fn store(
        &mut self,
        field: &Field<file::Store>,
        keys: &Field<List<file::Key>>,
        checked_keys: Option<&[MasterKey]>,
    ) -> Option<StoreChoice> {
        let wire = match field {
            Field::Absent => {
                if let Some(keys) = keys.good() {
                    self.report.warn(
                        &keys.place,
                        "seals nothing: there is no `store.redis`, so nothing leaves this process",
                    );
                }
                return Some(StoreChoice::Memory);
            }
            Field::Bad => return None,
            Field::Good(store) => store,
        };
        let url = wire
            .value
            .redis
            .required(&wire.place, "redis", EXAMPLE, self.report);
        let server = url.and_then(|url| self.redis_url(url));
        if let (Some(url), Some([])) = (url, checked_keys)
            && !keys.is_written()
        {
            let instead = "add `keys: [{ id: k1, secret_file: keys/k1 }]`, with a secret that `openssl rand -base64 32` made";
            let message =
                "needs `keys`: what is kept there is sealed, since others may read and write it";
            self.report.problem_instead(&url.place, message, instead);
        }
        let roots = self.store_roots(&wire.value.ca, server.as_ref());
        let timeout = self.duration(
            &wire.value.timeout,
            Duration::from_millis(5)..=secs(5),
            Duration::from_millis(100),
        );
        let connect_timeout = self.duration(
            &wire.value.connect_timeout,
            Duration::from_millis(10)..=secs(30),
            secs(1),
        );
        let prefix = self.store_prefix(&wire.value.prefix);
        let server = server?;
        Some(StoreChoice::Redis(Redis {
            tls: server.tls.then_some(StoreTls { roots: roots? }),
            host: server.host,
            port: server.port,
            user: server.user,
            password: server.password,
            database: server.database,
            timeout: timeout?,
            connect_timeout: connect_timeout?,
            prefix: prefix?,
        }))
    }

    fn redis_url(&mut self, text: &Value<Text>) -> Option<Server> {
        match server(&text.value.value) {
            Ok(server) => Some(server),
            Err(why) => {
                self.report.problem_instead(&text.place, why, EXAMPLE);
                None
            }
        }
    }

    fn store_roots(
        &mut self,
        field: &Field<Text>,
        server: Option<&Server>,
    ) -> Option<Option<Arc<rustls::RootCertStore>>> {
        let ca = match field {
            Field::Absent => return Some(None),
            Field::Bad => return None,
            Field::Good(ca) => ca,
        };
        if server.is_some_and(|server| !server.tls) {
            let message =
                "has no effect: `redis://` is clear text; write `rediss://`, or remove `ca`";
            self.report.problem(&ca.place, message);
            return None;
        }
        self.roots(ca).map(Some)
    }

    fn store_prefix(&mut self, field: &Field<Text>) -> Option<String> {
        let text = match field {
            Field::Absent => return Some("foregate".to_owned()),
            Field::Bad => return None,
            Field::Good(text) => text,
        };
        let prefix = &text.value.value;
        // No braces: names of the log have a hash tag of their own.
        let fits = (1..=64).contains(&prefix.len())
            && prefix.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':')
            });
        if !fits {
            let message = format!("`{}` cannot begin the names of records", text.value.shown());
            let instead = "write 1 to 64 letters, digits, `-`, `_`, `.` and `:`";
            self.report.problem_instead(&text.place, message, instead);
        }
        fits.then(|| prefix.clone())
    }
}

/// Takes a URL apart. It may hold a password, so the error says what is wrong without showing it.
fn server(text: &str) -> Result<Server, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        "redis-cluster" | "rediss-cluster" | "redis-sentinel" | "rediss-sentinel"
        | "redis+unix" => {
            return Err("Sentinel, Cluster and sockets do not work yet in this version");
        }
        _ => return Err("does not begin with `redis://` or `rediss://`"),
    };
    let host = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => name.to_ascii_lowercase(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(Host::Domain(_)) | None => return Err("has no host"),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has more behind the database; remove it");
    }
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number
            .parse()
            .map_err(|_| "names a database that is not a number from 0 to 255")?,
    };
    let user = decoded(url.username())?;
    let password = url.password().map(decoded).transpose()?;
    if password.as_ref().is_none_or(String::is_empty) && !user.is_empty() {
        return Err("has a user without a password; write `user:password@`, or `:password@`");
    }
    Ok(Server {
        tls,
        host,
        port: url.port().unwrap_or(6379),
        user: Some(user).filter(|user| !user.is_empty()),
        password: password.filter(|text| !text.is_empty()).map(Secret::new),
        database,
    })
}

fn decoded(text: &str) -> Result<String, &'static str> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| "has a user or password that is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_or_told_why_not() {
        let whole = server("rediss://gate:p%40ss@Redis.Example:7000/3")
            .unwrap_or_else(|why| unreachable!("{why}"));
        assert!(whole.tls);
        assert_eq!(whole.host, "redis.example");
        assert_eq!((whole.port, whole.database), (7000, 3));
        assert_eq!(whole.user.as_deref(), Some("gate"));
        assert_eq!(
            whole.password.map(|text| text.expose().to_vec()),
            Some(b"p@ss".to_vec())
        );
        let short = server("redis://[::1]").unwrap_or_else(|why| unreachable!("{why}"));
        assert_eq!(
            (short.tls, short.host.as_str(), short.port),
            (false, "::1", 6379)
        );
        assert!(short.user.is_none() && short.password.is_none());
        let only = server("redis://:secret@h").unwrap_or_else(|why| unreachable!("{why}"));
        assert!(only.user.is_none() && only.password.is_some());
        for bad in [
            "http://h",
            "redis://",
            "h:6379",
            "redis://h/x",
            "redis://h/256",
            "redis://h/0?a=b",
            "redis://h#x",
            "redis://user@h",
            "redis-sentinel://h",
            "redis://h:99999",
            "",
        ] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }
}
