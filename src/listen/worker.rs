//! One worker: it accepts connections, hands them to less busy workers, and drives its own.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;

use hyper::rt::Executor as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::sleep;

use super::connection;
use super::load::{ConnectionSlot, Load};
use super::metrics::ListenMetrics;
use super::poll::{OpenConnections, poll_forever};
use super::socket::ListeningSocket;
use crate::gateway::Gateway;
use crate::gateway::accept::accept_failed;
use crate::gateway::connection::ConnectionState;
use crate::gateway::metrics::Metrics;
use crate::gateway::process::Process;
use crate::gateway::size::at_most;
use crate::upstream::http2::channel::LocalExecutor;

/// The most bytes that the task of a connection may have.
const CONNECTION_SIZE: usize = 1920;

/// The phases of the process, up to the end of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Phase {
    Serving,
    /// No new connections are accepted; answers close theirs.
    StopAccepting,
    /// Idle connections are closed, too.
    CloseIdle,
    /// Calls that may still finish are ended with a message.
    EndStreams,
    /// Connections that are still open are aborted.
    Stop,
}

/// A connection on its way to its worker.
pub(super) struct Handover {
    stream: StdStream,
    peer: SocketAddr,
    listener: usize,
    slot: ConnectionSlot,
}

/// What one worker shares with the others.
#[derive(Clone)]
pub(super) struct WorkerContext {
    pub(super) process: Arc<Process>,
    pub(super) metrics: Arc<ListenMetrics>,
    pub(super) load: Arc<Load>,
    pub(super) senders: Vec<UnboundedSender<Handover>>,
    pub(super) worker: usize,
}

pub(super) async fn run(
    context: WorkerContext,
    bound: Vec<ListeningSocket>,
    mut incoming: UnboundedReceiver<Handover>,
    mut phases: watch::Receiver<Phase>,
    ticks: watch::Receiver<u64>,
) {
    let gateway = Gateway::new(
        context.process.clone(),
        context.worker,
        context.senders.len(),
    );
    let connections = OpenConnections::default();
    tokio::task::spawn_local(poll_forever(
        ticks,
        gateway.clone(),
        connections.clone(),
        context.metrics.clone(),
        context.senders.len(),
    ));
    for bound in bound {
        tokio::task::spawn_local(accept(
            context.clone(),
            gateway.clone(),
            connections.clone(),
            bound,
            phases.clone(),
        ));
    }
    tokio::task::spawn_local(gateway.streams().clone().watch());
    loop {
        tokio::select! {
            handover = incoming.recv() => {
                let Some(Handover { stream, peer, listener, slot }) = handover else { break };
                if let Ok(stream) = TcpStream::from_std(stream) {
                    spawn(&gateway, &connections, stream, peer, listener, slot);
                }
            }
            changed = phases.changed() => {
                let phase = *phases.borrow_and_update();
                begin(phase, &gateway, &connections);
                if phase == Phase::Stop || changed.is_err() {
                    break;
                }
            }
        }
    }
    gateway.flush();
}

/// Asks connections and streams to end, as the phase requires.
fn begin(phase: Phase, gateway: &Gateway, connections: &OpenConnections) {
    match phase {
        Phase::Serving | Phase::Stop => {}
        Phase::StopAccepting => drain(connections, ConnectionState::is_h2),
        Phase::CloseIdle => {
            drain(connections, |_| true);
            gateway.streams().drain(false);
        }
        // The worker may have missed the phase before.
        Phase::EndStreams => {
            drain(connections, |_| true);
            gateway.streams().drain(true);
        }
    }
}

fn drain(connections: &OpenConnections, which: impl Fn(&ConnectionState) -> bool) {
    connections.open.each(|connection| {
        if which(connection) {
            connection.drain();
        }
    });
}

async fn accept(
    context: WorkerContext,
    gateway: Rc<Gateway>,
    connections: OpenConnections,
    bound: ListeningSocket,
    mut phases: watch::Receiver<Phase>,
) {
    let listener = match TcpListener::from_std(bound.socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen"),
    };
    loop {
        let Some((stream, peer)) =
            next_connection(&listener, context.process.metrics(), &mut phases).await
        else {
            return;
        };
        // At the limit, one connection waits here and further ones in the kernel's queue. The slot
        // is taken after `accept`: a listener that held one while no client connects would keep it
        // from the others.
        let permit = tokio::select! {
            biased;
            permit = context.load.slots.clone().acquire_owned() => permit,
            _ = phases.wait_for(|phase| *phase >= Phase::CloseIdle) => return,
        };
        let Ok(permit) = permit else { return };
        if *phases.borrow() >= Phase::CloseIdle {
            return;
        }
        let target = context.load.least(context.worker);
        let slot = ConnectionSlot::take(
            context.load.clone(),
            target,
            context.metrics.clone(),
            permit,
        );
        if target == context.worker {
            spawn(&gateway, &connections, stream, peer, bound.index, slot);
        } else if let (Ok(stream), Some(sender)) = (stream.into_std(), context.senders.get(target))
        {
            // The other worker ends only with the process.
            let _ = sender.send(Handover {
                stream,
                peer,
                listener: bound.index,
                slot,
            });
        }
    }
}

/// The next connection of a listener; `None` once the process drains and none is queued.
async fn next_connection(
    listener: &TcpListener,
    metrics: &Metrics,
    phases: &mut watch::Receiver<Phase>,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        // Connections that are queued when the drain begins are still served: for their clients
        // they are established.
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = phases.wait_for(|phase| *phase != Phase::Serving) => return None,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                if let Some(pause) = accept_failed(&error, metrics) {
                    sleep(pause).await;
                }
            }
        }
    }
}

fn spawn(
    gateway: &Rc<Gateway>,
    connections: &OpenConnections,
    stream: TcpStream,
    peer: SocketAddr,
    listener: usize,
    slot: ConnectionSlot,
) {
    let (gateway, connections) = (gateway.clone(), connections.clone());
    let serving = async move {
        let process = gateway.process().clone();
        let register = |state: &Rc<ConnectionState>| {
            connections.open.add(state);
            // It was accepted after the others were asked to end.
            if process.is_draining() {
                state.drain_if_h2();
            }
        };
        let clock = connections.clock.clone();
        if let Err(cause) = connection::serve(
            gateway,
            stream,
            peer,
            listener,
            clock,
            &slot.metrics,
            register,
        )
        .await
        {
            slot.metrics.failed.inc(cause);
        }
        drop(slot);
    };
    LocalExecutor.execute(at_most::<CONNECTION_SIZE, _>(serving));
}
