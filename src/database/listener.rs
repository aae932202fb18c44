//! Connections that receive notifications.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client};

use super::connect::Connector;
use super::fault;
use crate::fault::Fault;
use crate::policy;

/// The channel on which triggers report changed rows.
pub(super) const CHANNEL: &str = "foregate_facts";

/// Opens connections that receive what the database notifies.
#[derive(Debug)]
pub struct Listener {
    connector: Connector,
    connect_timeout: Duration,
}

impl Listener {
    /// A listener for this configuration; `None` without `database.notify_url`.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(config: &policy::storage::Database) -> anyhow::Result<Option<Self>> {
        let Some(server) = &config.notify else {
            return Ok(None);
        };
        Ok(Some(Self {
            connector: Connector::new(server, config, "foregate listener")?,
            connect_timeout: config.connect_timeout,
        }))
    }

    /// Opens a connection that listens. The receiver yields messages until the connection breaks or
    /// the client is dropped.
    ///
    /// # Errors
    ///
    /// The connection cannot be made.
    pub(crate) async fn listen(&self) -> Result<(Client, UnboundedReceiver<AsyncMessage>), Fault> {
        let (sender, messages) = unbounded_channel();
        let listening = async {
            let client = self.connector.connect(Some(sender)).await?;
            client.batch_execute(&format!("listen {CHANNEL}")).await?;
            Ok::<_, tokio_postgres::Error>(client)
        };
        match timeout(self.connect_timeout, listening).await {
            Ok(Ok(client)) => Ok((client, messages)),
            Ok(Err(error)) => Err(fault::of_connecting(&error)),
            Err(_) => Err(Fault::silent()),
        }
    }
}
