//! Starts the workers, and drains them.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::load::Load;
use super::metrics::ListenMetrics;
use super::poll::tick;
use super::socket::ListeningSocket;
use super::worker::{Phase, WorkerContext, run};
use crate::gateway::process::Process;

/// How long a kept HTTP/1.1 connection stays open when the process drains, so that an answer to one
/// more request can close it. A client that sends at the very moment its connection is closed would
/// see an error. Two seconds is a choice.
const LAME_DUCK: Duration = Duration::from_secs(2);

/// How long before the deadline gRPC calls are ended with a message.
const STREAM_NOTICE: Duration = Duration::from_secs(1);

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    load: Arc<Load>,
}

impl Workers {
    /// Starts the workers, which begin to accept.
    ///
    /// # Errors
    ///
    /// The operating system has no thread or no event queue left; two metrics have one name.
    pub fn start(process: &Arc<Process>, bound: Vec<ListeningSocket>) -> anyhow::Result<Self> {
        let snapshot = process.snapshot();
        let metrics = Arc::new(ListenMetrics::new(process.metrics().registry())?);
        let workers = snapshot.config().workers.get();
        let load = Arc::new(Load::new(workers, process.max_connections()));
        let (phase, phases) = watch::channel(Phase::Serving);
        let (tick_sender, ticks) = watch::channel(0);
        thread::Builder::new()
            .name("tick".to_owned())
            .spawn(move || tick(&tick_sender))?;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| unbounded_channel()).unzip();
        let listeners = spread(bound, workers);
        let mut threads = Vec::new();
        for (worker, (incoming, bound)) in receivers.into_iter().zip(listeners).enumerate() {
            let context = WorkerContext {
                process: process.clone(),
                metrics: metrics.clone(),
                load: load.clone(),
                senders: senders.clone(),
                worker,
            };
            let (phases, ticks) = (phases.clone(), ticks.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let thread = thread::Builder::new().name(format!("worker-{worker}"));
            threads.push(thread.spawn(move || {
                LocalSet::new().block_on(&runtime, run(context, bound, incoming, phases, ticks))
            })?);
        }
        Ok(Self {
            threads,
            phase,
            load,
        })
    }

    /// Drains: stops accepting, lets open requests finish, and aborts the rest at the deadline.
    pub async fn drain(self, process: &Process, deadline: Duration) {
        process.drain();
        self.phase.send_replace(Phase::StopAccepting);
        let ended = async {
            let lame = LAME_DUCK.min(deadline / 2);
            self.wait_for_none(lame).await;
            self.phase.send_replace(Phase::CloseIdle);
            let notice = STREAM_NOTICE.min(deadline / 4);
            self.wait_for_none(deadline.saturating_sub(lame + notice))
                .await;
            self.phase.send_replace(Phase::EndStreams);
            self.wait_for_none(notice).await;
        };
        ended.await;
        let left = self.load.total();
        if left > 0 {
            tracing::warn!(
                connections = left,
                "connections aborted at the end of the drain"
            );
        }
        self.phase.send_replace(Phase::Stop);
        for thread in self.threads {
            // A worker that panicked outside a request has already reported it.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn wait_for_none(&self, limit: Duration) {
        let none = async {
            while self.load.total() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(limit, none).await;
    }
}

/// Assigns each listening socket to one worker, in turn.
fn spread(bound: Vec<ListeningSocket>, workers: usize) -> Vec<Vec<ListeningSocket>> {
    let mut listeners: Vec<Vec<ListeningSocket>> = (0..workers).map(|_| Vec::new()).collect();
    for (place, bound) in bound.into_iter().enumerate() {
        if let Some(own) = listeners.get_mut(place % workers) {
            own.push(bound);
        }
    }
    listeners
}
