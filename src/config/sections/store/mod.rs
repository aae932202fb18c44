//! `store`: where replicas share sessions, revocations and counters.
//!
//! Decides: which forms a URL may have, and that nothing is stored outside of this process without
//! a key to seal it. Trusts: the operator, for which server it is. Not here: whether the server may
//! evict records (`store::redis`).

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use url::{Host, Url};

use super::keys::Key;
use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::units::{millis, secs};
use crate::config::wire::{Field, List, Value};
use crate::policy::storage::{Redis, StoreChoice, StoreTls};
use crate::secrets::MasterKey;
use crate::secrets::secret::Secret;

const EXAMPLE: &str =
    "write the URL of the server, such as `rediss://user:password@redis.example.com:6379/0`";

wire! {
    /// The store.
    struct Store {
        redis: Text => EXAMPLE,
        ca: Text,
        timeout: Duration [millis(5)..=secs(5)] = millis(100),
        connect_timeout: Duration [millis(10)..=secs(30)] = secs(1),
        prefix: Text,
    }
}

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
    /// The store; the memory of this process if nothing was written.
    pub(crate) fn store(
        &mut self,
        field: &Field<Store>,
        keys: &Field<List<Key>>,
        checked_keys: Option<&[MasterKey]>,
    ) -> Option<StoreChoice> {
        let Some(wire) = field.optional()? else {
            if let Some(place) = keys.place() {
                let message =
                    "seals nothing: there is no `store.redis`, so nothing leaves this process";
                self.report.warn(place, message);
            }
            return Some(StoreChoice::Memory);
        };
        let wire = &wire.value;
        let server = wire.redis.good().and_then(|url| self.redis_url(url));
        if let (Some(place), Some([]), false) =
            (wire.redis.place(), checked_keys, keys.is_written())
        {
            self.report.problem_instead(
                place,
                "needs `keys`: what is kept there is sealed, since others may read and write it",
                "add `keys: [{ id: k1, secret_file: keys/k1 }]`, with a secret that `openssl rand -base64 32` made",
            );
        }
        let roots = self.store_roots(&wire.ca, server.as_ref());
        let prefix = self.store_prefix(&wire.prefix);
        let server = server?;
        Some(StoreChoice::Redis(Redis {
            tls: server.tls.then_some(StoreTls { roots: roots? }),
            host: server.host,
            port: server.port,
            user: server.user,
            password: server.password,
            database: server.database,
            timeout: wire.timeout()?,
            connect_timeout: wire.connect_timeout()?,
            prefix: prefix?,
        }))
    }

    fn redis_url(&mut self, text: &Value<Text>) -> Option<Server> {
        match server(&text.value.value) {
            Ok(server) => Some(server),
            Err(why) => self.report.refuse_instead(&text.place, why, EXAMPLE),
        }
    }

    fn store_roots(
        &mut self,
        field: &Field<Text>,
        server: Option<&Server>,
    ) -> Option<Option<Arc<RootCertStore>>> {
        field.then(|ca| {
            if server.is_some_and(|server| !server.tls) {
                let message =
                    "has no effect: `redis://` is clear text; write `rediss://`, or remove `ca`";
                return self.report.refuse(&ca.place, message);
            }
            self.roots(ca)
        })
    }

    fn store_prefix(&mut self, field: &Field<Text>) -> Option<String> {
        let Some(text) = field.optional()? else {
            return Some("foregate".to_owned());
        };
        // No braces: names of the log have a hash tag of their own.
        let plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        let fits = |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(plain);
        text.parse(
            |text| fits(text).then(|| text.to_owned()),
            "cannot be the prefix of record names",
            "write 1 to 64 letters, digits, `-`, `_`, `.` and `:`",
            self.report,
        )
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
