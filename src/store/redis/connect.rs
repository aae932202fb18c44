//! Clients of Redis: trusted certificates, credentials and timeouts. Each makes one connection when
//! it is told to (`reconnect`, `subscription`), and resolves the name of the server again for it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fred::clients::{Client, SubscriberClient};
use fred::socket2::TcpKeepalive;
use fred::types::Builder;
use fred::types::RespVersion;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ServerConfig, TcpConfig, TlsConfig, TlsConnector,
    UnresponsiveConfig,
};
use rustls::{ClientConfig, RootCertStore};

use crate::policy::storage::{Redis, StoreTls};

/// Commands that may wait to be written; further ones fail. A choice: more than this is an outage,
/// not a burst.
const WAITING: usize = 10_000;

/// How long a connection may owe an answer before it is given up. Deadlines of commands are far
/// shorter; a process that was itself stopped for a few seconds keeps its connection.
const UNRESPONSIVE: Duration = Duration::from_secs(5);

/// A connection for commands and one for messages, neither made yet.
pub(super) fn clients(redis: &Redis) -> anyhow::Result<(Client, SubscriberClient)> {
    let password = password(redis)?;
    // Without a name the password would be refused by a server that has none.
    let user = redis.user.clone().unwrap_or_else(|| "default".to_owned());
    let config = Config {
        server: ServerConfig::new_centralized(redis.host.clone(), redis.port),
        username: password.is_some().then_some(user),
        password,
        database: (redis.database != 0).then_some(redis.database),
        // For version 3 the driver authenticates with an inline command, in which a blank or a
        // quote ends the password. For version 2 it sends `AUTH` with the bytes as they are.
        version: RespVersion::RESP2,
        tls: redis.tls.as_ref().map(tls).transpose()?,
        // Without a policy for reconnects, a connection that ends says why.
        fail_fast: true,
        ..Config::default()
    };
    let mut builder = Builder::from_config(config);
    builder
        .set_performance_config(PerformanceConfig {
            broadcast_channel_capacity: 1024,
            // Commands have deadlines of their own; this is for what fred sends by itself.
            default_command_timeout: redis.connect_timeout,
            ..PerformanceConfig::default()
        })
        .set_connection_config(ConnectionConfig {
            connection_timeout: redis.connect_timeout,
            internal_command_timeout: redis.connect_timeout,
            max_command_attempts: 1,
            max_command_buffer_len: WAITING,
            // Whether a password is still right shows on a new connection.
            reconnect_on_auth_error: true,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(UNRESPONSIVE),
                interval: Duration::from_millis(500),
            },
            tcp: TcpConfig {
                nodelay: Some(true),
                keepalive: Some(
                    TcpKeepalive::new()
                        .with_time(Duration::from_secs(10))
                        .with_interval(Duration::from_secs(3)),
                ),
                ..TcpConfig::default()
            },
            ..ConnectionConfig::default()
        });
    let client = builder.build().context("store.redis")?;
    let subscriber = builder.build_subscriber_client().context("store.redis")?;
    Ok((client, subscriber))
}

fn password(redis: &Redis) -> anyhow::Result<Option<String>> {
    let text = redis.password.as_ref();
    text.map(|text| String::from_utf8(text.expose().to_vec()))
        .transpose()
        .context("store.redis: the password is not UTF-8")
}

fn tls(tls: &StoreTls) -> anyhow::Result<TlsConfig> {
    let roots = match &tls.roots {
        Some(roots) => roots.clone(),
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            anyhow::ensure!(
                !roots.is_empty(),
                "the system has no root certificates; write `store.ca`"
            );
            Arc::new(roots)
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(config).into())
}
