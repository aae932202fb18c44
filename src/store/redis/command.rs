//! One command: its breaker, its metrics, and the meaning of its answer or error.

use std::sync::Arc;

use fred::clients::{Client, WithOptions};
use fred::error::Error;
use fred::interfaces::ClientLike as _;
use fred::types::{CustomCommand, Value};

use super::Redis;
use super::meaning::{Meaning, meaning};
use crate::breaker::CallRefused;
use crate::clock;
use crate::store::contract::Unreachable;
use crate::store::metrics::Command;

/// The answer to a command.
pub(super) enum Reply {
    /// A value.
    Value(Value),
    /// The key holds another type, which no gateway wrote.
    Other,
}

impl Redis {
    /// Sends a command, unless the breaker is open. `send` takes the client: one that was taken
    /// before the wait for a new connection would belong to the old one.
    pub(super) async fn call(
        &self,
        command: Command,
        send: impl AsyncFnOnce() -> Result<Value, Error>,
    ) -> Result<Reply, Unreachable> {
        if let Err(refused) = self.breaker.permits() {
            let reason = match refused {
                CallRefused::Open => Unreachable::BreakerOpen,
                CallRefused::Barred => Unreachable::Evicting,
            };
            self.metrics.unreachable(reason);
            return Err(reason);
        }
        // A new connection may lead to another server.
        if !self.connection.is_ready() && !self.until_ready(self.timeout).await {
            self.metrics.unreachable(Unreachable::Disconnected);
            return Err(Unreachable::Disconnected);
        }
        self.send(command, send).await
    }

    /// Sends a command, and reports its outcome to the breaker. An answer that says that this is
    /// the wrong server, or that it serves nobody, opens the breaker at once and ends the
    /// connection.
    pub(super) async fn send(
        &self,
        command: Command,
        send: impl AsyncFnOnce() -> Result<Value, Error>,
    ) -> Result<Reply, Unreachable> {
        let started = clock::now();
        let connection = self.connection.number();
        // The driver would keep the command until there is a connection again.
        let outcome = match connection {
            None => Err(Meaning::Gone),
            Some(_) => send().await.map_err(|error| meaning(&error)),
        };
        let now = clock::now();
        self.metrics.took(
            command,
            now.saturating_duration_since(started),
            outcome.is_ok(),
        );
        let why = match outcome {
            Ok(value) => {
                self.breaker.answered(now);
                return Ok(Reply::Value(value));
            }
            Err(Meaning::OtherType) => {
                self.breaker.answered(now);
                return Ok(Reply::Other);
            }
            Err(why) => why,
        };
        let reason = match &why {
            Meaning::Full => Unreachable::Full,
            Meaning::OtherType | Meaning::Refused => Unreachable::Answer,
            Meaning::Silent => Unreachable::Timeout,
            Meaning::Gone | Meaning::Busy | Meaning::Unusable(_) => Unreachable::Disconnected,
        };
        self.metrics.unreachable(reason);
        match why {
            Meaning::OtherType | Meaning::Full | Meaning::Refused => self.breaker.answered(now),
            Meaning::Silent | Meaning::Gone | Meaning::Busy => self.failed(&why),
            Meaning::Unusable(fault) => self.leave(connection, fault),
        }
        Err(reason)
    }
}

/// Runs a script as a plain command: fred's own call for scripts takes no options such as a
/// deadline.
pub(super) async fn script(
    client: Arc<WithOptions<Client>>,
    script: &'static str,
    keys: &[&str],
    arguments: Vec<Value>,
) -> Result<Value, Error> {
    let slot = keys.first().copied().unwrap_or_default();
    let eval = CustomCommand::new_static("EVAL", slot, false);
    let mut command: Vec<Value> = Vec::with_capacity(2 + keys.len() + arguments.len());
    command.push(Value::from_static_str(script));
    command.push(keys.len().to_string().into());
    command.extend(keys.iter().map(|key| Value::from(*key)));
    command.extend(arguments);
    client.custom(eval, command).await
}
