//! Opens connections to the database, with TLS and certificate verification where configured.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout_at;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::policy;
use crate::policy::storage::{DatabaseServer, StoreTls};

/// How to connect to one server.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// `name` is the `application_name` of the connections.
    pub(super) fn new(
        server: &DatabaseServer,
        timeouts: &policy::storage::Database,
        name: &str,
    ) -> anyhow::Result<Self> {
        let mut config = Config::new();
        config
            .host(&server.host)
            .port(server.port)
            .user(&server.user)
            .dbname(&server.database)
            .application_name(name)
            .connect_timeout(timeouts.connect_timeout)
            .ssl_mode(match server.tls {
                Some(_) => SslMode::Require,
                None => SslMode::Disable,
            });
        if let Some(password) = &server.password {
            config.password(password.expose());
        }
        Ok(Self {
            config,
            tls: server.tls.as_ref().map(tls).transpose()?,
        })
    }

    /// Opens a connection. A task of the current runtime drives it until its client is dropped.
    /// Asynchronous messages of the server, such as notifications, go to `messages`.
    pub(super) async fn connect(
        &self,
        messages: Option<UnboundedSender<AsyncMessage>>,
    ) -> Result<Client, tokio_postgres::Error> {
        self.make(messages, None).await
    }

    /// Opens a connection that is closed at `end` at the latest. A connection whose client was
    /// dropped otherwise lives for as long as an answer is outstanding.
    pub(super) async fn connect_until(
        &self,
        end: Instant,
    ) -> Result<Client, tokio_postgres::Error> {
        self.make(None, Some(end)).await
    }

    async fn make(
        &self,
        messages: Option<UnboundedSender<AsyncMessage>>,
        end: Option<Instant>,
    ) -> Result<Client, tokio_postgres::Error> {
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                drive(connection, messages, end);
                Ok(client)
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                drive(connection, messages, end);
                Ok(client)
            }
        }
    }
}

fn drive<S, T>(
    mut connection: Connection<S, T>,
    messages: Option<UnboundedSender<AsyncMessage>>,
    end: Option<Instant>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let driving = async move {
        // An error ends the task; users of the client get the error, too.
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let Some(messages) = &messages {
                let _ = messages.send(message);
            }
        }
    };
    match end {
        None => drop(tokio::spawn(driving)),
        Some(end) => drop(tokio::spawn(timeout_at(end.into(), driving))),
    }
}

fn tls(tls: &StoreTls) -> anyhow::Result<MakeRustlsConnect> {
    let roots = match &tls.roots {
        Some(roots) => roots.clone(),
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            anyhow::ensure!(
                !roots.is_empty(),
                "the system has no root certificates; write `database.ca`"
            );
            Arc::new(roots)
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("database: TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("hosts", &self.config.get_hosts())
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}
