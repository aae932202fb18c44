//! One command: its breaker, its metrics, and the meaning of its answer or error.

use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike as _;
use fred::types::{CustomCommand, Value};

use super::Redis;
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
    /// Sends a command, unless the breaker is open.
    pub(super) async fn call(
        &self,
        command: Command,
        answer: impl Future<Output = Result<Value, Error>>,
    ) -> Result<Reply, Unreachable> {
        if let Err(refused) = self.breaker.permits() {
            let reason = match refused {
                CallRefused::Open => Unreachable::BreakerOpen,
                CallRefused::Barred => Unreachable::Evicting,
            };
            self.metrics.unreachable(reason);
            return Err(reason);
        }
        self.send(command, answer).await
    }

    /// Sends a command, and reports its outcome to the breaker.
    pub(super) async fn send(
        &self,
        command: Command,
        answer: impl Future<Output = Result<Value, Error>>,
    ) -> Result<Reply, Unreachable> {
        let started = clock::now();
        let outcome = answer.await;
        let now = clock::now();
        self.metrics.took(
            command,
            now.saturating_duration_since(started),
            outcome.is_ok(),
        );
        let reason = match outcome {
            Ok(value) => {
                self.breaker.answered(now);
                return Ok(Reply::Value(value));
            }
            Err(error) if error.details().starts_with("WRONGTYPE") => {
                self.breaker.answered(now);
                return Ok(Reply::Other);
            }
            Err(error) => reason_of(&error),
        };
        self.metrics.unreachable(reason);
        match reason {
            Unreachable::Disconnected | Unreachable::Timeout => {
                if self.breaker.failed() {
                    self.metrics.set_up(false);
                    tracing::error!(why = %reason, "Redis does not answer; circuit breaker open");
                }
            }
            Unreachable::BreakerOpen
            | Unreachable::UnknownKey
            | Unreachable::Full
            | Unreachable::Evicting
            | Unreachable::Answer => self.breaker.answered(now),
        }
        Err(reason)
    }
}

/// Runs a script as a plain command: fred's own call for scripts takes no options such as a
/// deadline.
pub(super) async fn script(
    client: &WithOptions<Client>,
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

/// What an error of fred or Redis means.
fn reason_of(error: &Error) -> Unreachable {
    let prefix = error.details().split(' ').next().unwrap_or_default();
    match prefix {
        "OOM" => return Unreachable::Full,
        // The server is up, but cannot answer for any record.
        "LOADING" | "MASTERDOWN" | "BUSY" | "NOAUTH" => return Unreachable::Disconnected,
        _ => {}
    }
    match error.kind() {
        ErrorKind::Timeout => Unreachable::Timeout,
        ErrorKind::IO
        | ErrorKind::Canceled
        | ErrorKind::Tls
        | ErrorKind::Routing
        | ErrorKind::Auth
        | ErrorKind::Backpressure => Unreachable::Disconnected,
        ErrorKind::Unknown if error.details().starts_with("Client is not initialized") => {
            Unreachable::Disconnected
        }
        ErrorKind::Config
        | ErrorKind::InvalidCommand
        | ErrorKind::InvalidArgument
        | ErrorKind::Url
        | ErrorKind::Protocol
        | ErrorKind::Unknown
        | ErrorKind::Cluster
        | ErrorKind::Parse
        | ErrorKind::Sentinel
        | ErrorKind::NotFound => Unreachable::Answer,
    }
}
