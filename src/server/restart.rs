//! Which changes of a configuration need a restart: what listens, how many workers there are, how
//! much is kept in memory, and which servers are connected to.

use std::net::SocketAddr;

use crate::policy::Config;
use crate::policy::listen::ListenKind;
use crate::policy::sign_in::Supabase;
use crate::policy::storage::{Database, DatabaseServer, Redis, StoreChoice};
use crate::secrets::MasterKey;
use crate::secrets::secret::Secret;

/// The keys that changed and cannot change in a running process, as a refusal.
pub(super) fn needs_restart(old: &Config, new: &Config) -> Option<String> {
    let changed = [
        ("listen", sockets(old) != sockets(new)),
        ("admin.address", old.admin.address != new.admin.address),
        ("workers", old.workers != new.workers),
        (
            "connections.max",
            old.connections.max != new.connections.max,
        ),
        ("token_cache", old.token_cache != new.token_cache),
        (
            "revocations.capacity",
            old.revocations.capacity != new.revocations.capacity,
        ),
        ("sessions.cache", old.sessions.cache != new.sessions.cache),
        ("keys", !are_same_keys(&old.keys, &new.keys)),
        ("store", !is_same_store(&old.store, &new.store)),
        (
            "database",
            !is_same_database(old.database.as_ref(), new.database.as_ref()),
        ),
        (
            "identity",
            !is_same_identity(old.identity.as_deref(), new.identity.as_deref()),
        ),
    ];
    let keys: Vec<&str> = changed
        .iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| *key)
        .collect();
    (!keys.is_empty()).then(|| format!("`{}` cannot change without a restart", keys.join("`, `")))
}

/// The address and protocol of every listener.
fn sockets(config: &Config) -> Vec<(SocketAddr, String)> {
    let kind = |kind: &ListenKind| match kind {
        ListenKind::Tls(_) => "tls".to_owned(),
        ListenKind::Plain => "plain".to_owned(),
        ListenKind::RedirectToHttps { port } => format!("redirect {port}"),
    };
    let listeners = config.listen.iter();
    listeners
        .map(|listen| (listen.address, kind(&listen.kind)))
        .collect()
}

fn are_same_keys(old: &[MasterKey], new: &[MasterKey]) -> bool {
    let same = |(old, new): (&MasterKey, &MasterKey)| {
        old.id == new.id && old.secret.expose() == new.secret.expose()
    };
    old.len() == new.len() && old.iter().zip(new).all(same)
}

/// Whether two configurations mean the same database.
fn is_same_database(old: Option<&Database>, new: Option<&Database>) -> bool {
    let server = |server: &DatabaseServer| {
        (
            server.shown(),
            server.user.clone(),
            server.password.as_ref().map(|text| text.expose().to_vec()),
            server
                .tls
                .as_ref()
                .map(|tls| root_keys(tls.roots.as_deref())),
        )
    };
    // Every field by name, so that a new one is not forgotten here.
    let all = |database: &Database| {
        let Database {
            server: statements,
            notify,
            pool,
            caller_share,
            connect_timeout,
            statement_timeout,
        } = database;
        (
            server(statements),
            notify.as_ref().map(server),
            *pool,
            *caller_share,
            [*connect_timeout, *statement_timeout],
        )
    };
    old.map(all) == new.map(all)
}

/// The public keys of root certificates, to compare them; `None` is the system's.
fn root_keys(roots: Option<&rustls::RootCertStore>) -> Option<Vec<Vec<u8>>> {
    let roots = roots?.roots.iter();
    Some(
        roots
            .map(|root| root.subject_public_key_info.to_vec())
            .collect(),
    )
}

/// Whether two configurations mean the same identity server, called in the same way but for the
/// publishable key.
fn is_same_identity(old: Option<&Supabase>, new: Option<&Supabase>) -> bool {
    let shape = |one: &Supabase| {
        let text = |secret: &Secret| secret.expose().to_vec();
        (
            one.url.clone(),
            one.issuer.clone(),
            one.secret_key.as_ref().map(text),
            one.address_header.clone(),
            one.concurrency,
            one.queue,
        )
    };
    old.map(shape) == new.map(shape)
}

/// Whether two configurations mean the same store.
fn is_same_store(old: &StoreChoice, new: &StoreChoice) -> bool {
    let (old, new) = match (old, new) {
        (StoreChoice::Memory, StoreChoice::Memory) => return true,
        (StoreChoice::Redis(old), StoreChoice::Redis(new)) => (old, new),
        (StoreChoice::Memory, StoreChoice::Redis(_))
        | (StoreChoice::Redis(_), StoreChoice::Memory) => return false,
    };
    let password = |redis: &Redis| redis.password.as_ref().map(|text| text.expose().to_vec());
    // `Some(None)` is TLS with the system's certificates.
    let roots = |redis: &Redis| {
        let tls = redis.tls.as_ref();
        tls.map(|tls| root_keys(tls.roots.as_deref()))
    };
    let place = |redis: &Redis| {
        (
            redis.host.clone(),
            redis.port,
            redis.user.clone(),
            redis.database,
            redis.timeout,
            redis.connect_timeout,
            redis.prefix.clone(),
        )
    };
    place(old) == place(new) && password(old) == password(new) && roots(old) == roots(new)
}
