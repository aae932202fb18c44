//! One worker: it accepts connections, hands them on, and drives its own.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::sleep;

use super::connection;
use super::load::{Load, Place};
use super::metrics::ListenMetrics;
use super::poll::{Connections, look_forever};
use super::socket::Bound;
use crate::gateway::Gateway;
use crate::gateway::connection::ConnectionState;
use crate::gateway::process::Process;
use crate::upstream::http2::channel::LocalExecutor;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Phase {
    Serving,
    /// No new connections; answers close theirs.
    Closing,
    /// Idle connections are closed, too.
    Leaving,
    /// Calls that may still finish are told that they will not.
    Parting,
    /// What is left is cut.
    Over,
}

/// A connection on its way to its worker.
pub(super) struct Handover {
    stream: StdStream,
    peer: SocketAddr,
    listener: usize,
    place: Place,
}

/// What one worker needs of the others.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) process: Arc<Process>,
    pub(super) metrics: Arc<ListenMetrics>,
    pub(super) load: Arc<Load>,
    pub(super) senders: Vec<UnboundedSender<Handover>>,
    pub(super) worker: usize,
}

pub(super) async fn run(
    shared: Shared,
    bound: Vec<Bound>,
    mut incoming: UnboundedReceiver<Handover>,
    mut phases: watch::Receiver<Phase>,
    beats: watch::Receiver<u64>,
) {
    let gateway = Gateway::new(shared.process.clone(), shared.worker, shared.senders.len());
    let connections = Connections::default();
    tokio::task::spawn_local(look_forever(beats, gateway.clone(), connections.clone()));
    for bound in bound {
        tokio::task::spawn_local(accept(
            shared.clone(),
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
                let Some(Handover { stream, peer, listener, place }) = handover else { break };
                if let Ok(stream) = TcpStream::from_std(stream) {
                    spawn(&gateway, &connections, stream, peer, listener, place);
                }
            }
            changed = phases.changed() => {
                let phase = *phases.borrow_and_update();
                begin(phase, &gateway, &connections);
                if phase == Phase::Over || changed.is_err() {
                    break;
                }
            }
        }
    }
    gateway.flush();
}

/// Asks connections and streams to end, as far as the phase says.
fn begin(phase: Phase, gateway: &Gateway, connections: &Connections) {
    match phase {
        Phase::Serving | Phase::Over => {}
        Phase::Closing => drain(connections, ConnectionState::is_h2),
        Phase::Leaving => {
            drain(connections, |_| true);
            gateway.streams().drain(false);
        }
        // The phase before may have passed unseen.
        Phase::Parting => {
            drain(connections, |_| true);
            gateway.streams().drain(true);
        }
    }
}

fn drain(connections: &Connections, which: impl Fn(&ConnectionState) -> bool) {
    connections.open.each(|connection| {
        if which(connection) {
            connection.drain();
        }
    });
}

async fn accept(
    shared: Shared,
    gateway: Rc<Gateway>,
    connections: Connections,
    bound: Bound,
    mut phases: watch::Receiver<Phase>,
) {
    let listener = match TcpListener::from_std(bound.socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen"),
    };
    loop {
        let Some((stream, peer)) = next_connection(&listener, &mut phases).await else {
            return;
        };
        // At the limit, one connection waits here and further ones in the kernel's queue. Not before `accept`: a listener that holds
        // a place while nobody comes keeps it from the others.
        let permit = tokio::select! {
            biased;
            permit = shared.load.places.clone().acquire_owned() => permit,
            _ = phases.wait_for(|phase| *phase >= Phase::Leaving) => return,
        };
        let Ok(permit) = permit else { return };
        if *phases.borrow() >= Phase::Leaving {
            return;
        }
        let target = shared.load.least(shared.worker);
        let place = Place::take(shared.load.clone(), target, shared.metrics.clone(), permit);
        if target == shared.worker {
            spawn(&gateway, &connections, stream, peer, bound.index, place);
        } else if let (Ok(stream), Some(sender)) = (stream.into_std(), shared.senders.get(target)) {
            // The other worker only goes away with the process.
            let _ = sender.send(Handover {
                stream,
                peer,
                listener: bound.index,
                place,
            });
        }
    }
}

/// The next connection of a listener; `None` once the process ends and none is queued.
async fn next_connection(
    listener: &TcpListener,
    phases: &mut watch::Receiver<Phase>,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        // What the queue holds when the end begins is still served: its clients were told that they are connected.
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = phases.wait_for(|phase| *phase != Phase::Serving) => return None,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                // Out of file descriptors, or a connection that ended in the queue. Waiting a little does no harm to the second.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn spawn(
    gateway: &Rc<Gateway>,
    connections: &Connections,
    stream: TcpStream,
    peer: SocketAddr,
    listener: usize,
    place: Place,
) {
    let (gateway, connections) = (gateway.clone(), connections.clone());
    LocalExecutor.execute(async move {
        let process = gateway.process().clone();
        let register = |state: &Rc<ConnectionState>| {
            connections.open.add(state);
            // It came too late to be told with the others.
            if process.is_draining() {
                state.drain_if_h2();
            }
        };
        let clock = connections.clock.clone();
        if let Err(cause) =
            connection::serve(gateway, stream, peer, listener, clock, register).await
        {
            place.metrics.failed.inc(cause);
        }
        drop(place);
    });
}
