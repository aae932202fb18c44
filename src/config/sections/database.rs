//! `database`: the operator's PostgreSQL.
//!
//! TLS verifies the server's certificate, unless the URL turns TLS off explicitly. Whether the
//! queries fit the database is checked elsewhere (`facts::schema`).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use url::{Host, Url};

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::units::{millis, secs};
use crate::config::wire::{Field, Value};
use crate::policy::storage::{self as checked, CallerShare, DatabaseServer, StoreTls};
use crate::secrets::secret::Secret;

const EXAMPLE: &str = "write the URL of the server, such as `postgres://foregate:password@db.example.com:5432/postgres`";

wire! {
    /// The database.
    struct Database {
        url: Text => EXAMPLE,
        notify_url: Text,
        ca: Text,
        pool: usize [1..=1000] = 8,
        pool_per_caller: usize [1..=1000],
        queue_per_caller: usize [0..=100_000] = 32,
        connect_timeout: Duration [millis(10)..=secs(30)] = secs(2),
        statement_timeout: Duration [millis(10)..=secs(30)] = secs(1),
    }
}

/// A URL, taken apart.
#[derive(Debug)]
struct Parts {
    tls: bool,
    host: String,
    port: u16,
    user: String,
    password: Option<Secret>,
    database: String,
}

impl Checker<'_> {
    /// `Some(None)` if there is none.
    pub(crate) fn database(
        &mut self,
        field: &Field<Database>,
    ) -> Option<Option<checked::Database>> {
        field.then(|wire| {
            let wire = &wire.value;
            let server = wire.url.good().and_then(|url| self.database_url(url));
            let notify = wire.notify_url.then(|url| self.database_url(url));
            let roots = self.database_roots(&wire.ca, server.as_ref(), &notify);
            let roots = roots?;
            let pool = NonZeroUsize::new(wire.pool()?)?;
            Some(checked::Database {
                server: server?.into_server(&roots),
                notify: notify?.map(|parts| parts.into_server(&roots)),
                pool,
                caller_share: CallerShare {
                    running: self.pool_per_caller(&wire.pool_per_caller, pool)?,
                    waiting: wire.queue_per_caller()?,
                },
                connect_timeout: wire.connect_timeout()?,
                statement_timeout: wire.statement_timeout()?,
            })
        })
    }

    fn pool_per_caller(
        &mut self,
        field: &Field<usize>,
        pool: NonZeroUsize,
    ) -> Option<NonZeroUsize> {
        let quarter = NonZeroUsize::new(pool.get() / 4).unwrap_or(NonZeroUsize::MIN);
        let Some(written) = field.optional()? else {
            return Some(quarter);
        };
        let running = NonZeroUsize::new(written.value)?;
        if running > pool {
            let message = format!("is more than `pool`, which is {pool}");
            let instead = "write fewer, so that one caller cannot hold every connection";
            return self.report.refuse_instead(&written.place, message, instead);
        }
        Some(running)
    }

    fn database_url(&mut self, text: &Value<Text>) -> Option<Parts> {
        match parts(&text.value.value) {
            Ok(parts) => Some(parts),
            Err(why) => self.report.refuse_instead(&text.place, why, EXAMPLE),
        }
    }

    fn database_roots(
        &mut self,
        field: &Field<Text>,
        server: Option<&Parts>,
        notify: &Option<Option<Parts>>,
    ) -> Option<Option<Arc<RootCertStore>>> {
        let notify_tls = matches!(notify, Some(Some(Parts { tls: true, .. })));
        let is_clear = server.is_some_and(|server| !server.tls) && !notify_tls;
        field.then(|ca| {
            if is_clear {
                let message = "has no effect with `sslmode=disable`; remove that, or `ca`";
                return self.report.refuse(&ca.place, message);
            }
            self.roots(ca)
        })
    }
}

impl Parts {
    fn into_server(self, roots: &Option<Arc<RootCertStore>>) -> DatabaseServer {
        DatabaseServer {
            tls: self.tls.then(|| StoreTls {
                roots: roots.clone(),
            }),
            host: self.host,
            port: self.port,
            user: self.user,
            password: self.password,
            database: self.database,
        }
    }
}

/// Takes a URL apart. It may hold a password, so the error says what is wrong without showing it.
fn parts(text: &str) -> Result<Parts, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("does not begin with `postgres://`");
    }
    // The scheme is not one whose hosts `url` reads, so an address is a name to it.
    let host = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => decoded(name)?.to_ascii_lowercase(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(Host::Domain(_)) | None => return Err("has no host"),
    };
    if host.contains(['/', ',']) {
        return Err("names a socket or several hosts, which does not work yet in this version");
    }
    if url.fragment().is_some() {
        return Err("has a `#`; write `%23` for one in a password");
    }
    let mut tls = true;
    for (key, value) in url.query_pairs() {
        match (key.as_ref(), value.as_ref()) {
            ("sslmode", "verify-full") => {}
            ("sslmode", "disable") => tls = false,
            ("sslmode", _) => {
                return Err(
                    "has an `sslmode` that checks no certificate; write `sslmode=verify-full` (with `ca` if the server's is not public), or `sslmode=disable` for clear text",
                );
            }
            _ => return Err("has a parameter that is not understood; only `sslmode` is"),
        }
    }
    let user = decoded(url.username())?;
    if user.is_empty() {
        return Err("has no user");
    }
    let database = decoded(url.path().trim_start_matches('/'))?;
    if database.is_empty() || database.contains('/') {
        return Err("names no database");
    }
    let password = url.password().map(decoded).transpose()?;
    Ok(Parts {
        tls,
        host,
        port: url.port().unwrap_or(5432),
        user,
        password: password.filter(|text| !text.is_empty()).map(Secret::new),
        database,
    })
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| "has a part that is not UTF-8")?;
    if text.contains('\0') {
        return Err("has a part with a zero byte");
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::*;

    #[test]
    fn a_url_is_parsed_or_refused() {
        let whole = parts("postgres://gate:p%40ss%23@Db.Example:6543/postgres")
            .unwrap_or_else(|why| unreachable!("{why}"));
        assert!(whole.tls, "unless somebody says otherwise");
        assert_eq!((whole.host.as_str(), whole.port), ("db.example", 6543));
        assert_eq!(
            (whole.user.as_str(), whole.database.as_str()),
            ("gate", "postgres")
        );
        assert_eq!(
            whole.password.map(|text| text.expose().to_vec()),
            Some(b"p@ss#".to_vec())
        );
        let short = parts("postgresql://gate@[::1]/velro?sslmode=disable")
            .unwrap_or_else(|why| unreachable!("{why}"));
        assert!(!short.tls && short.password.is_none());
        assert_eq!((short.host.as_str(), short.port), ("::1", 5432));
        for bad in [
            "mysql://gate@h/d",
            "postgres://h/d",
            "postgres://gate@h",
            "postgres://gate@h/",
            "postgres://gate@h/a/b",
            "postgres://gate@/d",
            "postgres://gate@h/d?sslmode=require",
            "postgres://gate@h/d?options=-csearch_path",
            "postgres://gate@%2Ftmp/d",
            "postgres://gate@a,b/d",
            "postgres://gate:a#b@h/d",
            "postgres://gate@h/%00",
            "",
        ] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_caller_has_a_quarter_of_the_pool_unless_another_part_is_written() {
        let database = |more: &str| {
            let url = "postgres://g@h/d?sslmode=disable";
            format!(
                "{}database: {{ url: \"{url}\"{more} }}\n",
                with_route("path: /a, access: public")
            )
        };
        for (more, running) in [
            ("", 2),
            (", pool: 3", 1),
            (", pool: 100", 25),
            (", pool: 3, pool_per_caller: 3", 3),
        ] {
            let database = good(&database(more)).config.database;
            let share = database.map(|database| database.caller_share.running.get());
            assert_eq!(share, Some(running), "{more}");
        }
        let refused = reported(&database(", pool: 3, pool_per_caller: 4"));
        let told = refused.concat();
        assert!(told.contains("database.pool_per_caller"), "{told}");
        assert!(told.contains("more than `pool`, which is 3"), "{told}");
    }
}
