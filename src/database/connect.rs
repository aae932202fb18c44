//! How a connection to the database is made.
//!
//! Decides: TLS or not, as the configuration says, with a certificate that is checked. Trusts: the configuration. Not here: how many
//! connections there are (`pool`).

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

/// Where and how to connect.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    /// `name` is what the server calls these connections.
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

    /// A connection, driven by a task of the runtime this is called in, until its client is dropped. What the server says by itself goes
    /// to `said`, if anybody wants it.
    pub(super) async fn connect(
        &self,
        said: Option<UnboundedSender<AsyncMessage>>,
    ) -> Result<Client, tokio_postgres::Error> {
        self.make(said, None).await
    }

    /// The same, but closed then at the latest: without its client a connection lives on for as long as an answer is outstanding.
    pub(super) async fn connect_until(
        &self,
        end: Instant,
    ) -> Result<Client, tokio_postgres::Error> {
        self.make(None, Some(end)).await
    }

    async fn make(
        &self,
        said: Option<UnboundedSender<AsyncMessage>>,
        end: Option<Instant>,
    ) -> Result<Client, tokio_postgres::Error> {
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                drive(connection, said, end);
                Ok(client)
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                drive(connection, said, end);
                Ok(client)
            }
        }
    }
}

fn drive<S, T>(
    mut connection: Connection<S, T>,
    said: Option<UnboundedSender<AsyncMessage>>,
    end: Option<Instant>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let driving = async move {
        // An error ends it; whoever asks through its client is told.
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let Some(said) = &said {
                let _ = said.send(message);
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
