//! Requests at a steady rate over several kept connections, beside whatever a test does to the
//! gateway.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Client, Connector, Door, Http};
use super::{Gateway, eventually, in_time};

/// Kept connections of each version.
const CONNECTIONS: usize = 5;

/// Between two requests of a connection: ten connections make five hundred requests a second.
const PACE: Duration = Duration::from_millis(20);

/// Clients that send requests until they are stopped, or until the gateway closes their connection
/// between two requests.
#[derive(Debug)]
pub struct Load {
    state: Arc<State>,
    clients: Vec<JoinHandle<Outcome>>,
}

#[derive(Debug, Default)]
struct State {
    over: AtomicBool,
    answered: AtomicUsize,
}

/// What a client observed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answered with 200.
    pub answered: usize,
    /// Connections that were closed, or refused, while no request was on them.
    pub closed: usize,
    /// Requests that were sent and not answered with 200.
    pub failed: Vec<String>,
}

impl Load {
    /// Starts the clients: GET `path` with a token, over TLS.
    pub async fn start(gateway: &Gateway, path: &str) -> Self {
        let state = Arc::new(State::default());
        let mut clients = Vec::new();
        for http in Http::BOTH {
            for _ in 0..CONNECTIONS {
                let client = gateway.connect(http).await;
                let (path, token) = (path.to_owned(), gateway.issuer.token());
                clients.push(tokio::spawn(ask(client, path, token, state.clone())));
            }
        }
        Self { state, clients }
    }

    /// Adds a client with a connection for every request.
    pub fn with_fresh_connections(mut self, gateway: &Gateway, path: &str) -> Self {
        let (path, token) = (path.to_owned(), gateway.issuer.token());
        for http in Http::BOTH {
            let connector = gateway.connector(http, Door::Tls);
            let (path, token, state) = (path.clone(), token.clone(), self.state.clone());
            let client = async move { ask_afresh(connector, &path, &token, &state).await };
            self.clients.push(tokio::spawn(client));
        }
        self
    }

    /// Waits until so many more requests were answered.
    pub async fn goes_on(&self, requests: usize) {
        let answered = || self.state.answered.load(Ordering::Relaxed);
        let goal = answered() + requests;
        eventually("answers under load", || answered() >= goal).await;
    }

    /// Ends the clients, which finish what they have sent.
    pub async fn stop(self) -> Outcome {
        self.state.over.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until the gateway has closed every connection.
    pub async fn finish(self) -> Outcome {
        let mut sum = Outcome::default();
        for client in self.clients {
            let outcome = in_time("the end of the load", client).await.unwrap();
            sum.answered += outcome.answered;
            sum.closed += outcome.closed;
            sum.failed.extend(outcome.failed);
        }
        sum
    }
}

async fn ask(mut client: Client, path: String, token: String, state: Arc<State>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !state.over.load(Ordering::Relaxed) && outcome.closed == 0 {
        pace.tick().await;
        outcome.note(&mut client, &path, &token, &state).await;
    }
    outcome
}

async fn ask_afresh(connector: Connector, path: &str, token: &str, state: &State) -> Outcome {
    let mut outcome = Outcome::default();
    while !state.over.load(Ordering::Relaxed) && outcome.closed == 0 {
        match in_time("connecting", connector.try_connect()).await {
            Ok(mut client) => outcome.note(&mut client, path, token, state).await,
            Err(_) => outcome.closed += 1,
        }
    }
    outcome
}

impl Outcome {
    async fn note(&mut self, client: &mut Client, path: &str, token: &str, state: &State) {
        let answer = match in_time("an answer", client.get(path).bearer(token).try_send()).await {
            Ok(head) => head.try_finish().await,
            Err(error) if was_not_sent(&error) => return self.closed += 1,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) if answer.status == 200 => {
                self.answered += 1;
                state.answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => self.failed.push(answer.text().to_owned()),
            Err(error) => self.failed.push(format!("{error:?}")),
        }
    }
}

/// Whether the request was certainly not processed: it was never written, or the gateway had sent
/// GOAWAY before (RFC 9113, section 6.8).
fn was_not_sent(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref());
    let goodbye = |error: &h2::Error| {
        error.is_remote() && error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
    };
    error.is_canceled() || error.is_closed() || source.is_some_and(goodbye)
}
