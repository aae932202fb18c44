//! One worker: it accepts connections, hands them to less busy workers, and drives its own.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::rt::Executor as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use super::connection;
use super::idle::{LongestIdle, OpenConnections};
use super::load::{ConnectionSlot, Load};
use super::metrics::ListenMetrics;
use super::poll::poll_forever;
use super::refusals;
use super::shares::Share;
use super::socket::ListeningSocket;
use crate::gateway::Gateway;
use crate::gateway::accept::accept_failed;
use crate::gateway::connection::ConnectionState;
use crate::gateway::ended::EndCause;
use crate::gateway::process::Process;
use crate::gateway::size::at_most;
use crate::network::Network;
use crate::upstream::http2::channel::LocalExecutor;

/// How long to wait for the end of connections that were asked to end, before others are asked.
const SHED_PAUSE: Duration = Duration::from_millis(250);

/// How long to wait before idle connections are searched again, when there was none.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

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

/// What a worker asks another one.
pub(super) enum Message {
    /// Serve this connection.
    Serve(Handover),
    /// Say for how long your connection has been idle that has been so for the longest time.
    LongestIdle(UnboundedSender<(usize, LongestIdle)>),
    /// End the connections that have been idle for the longest time: since before this time.
    Shed(u64),
    /// End one connection of this client, unless another worker has.
    ShedOne(Network, Arc<AtomicBool>),
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
    pub(super) senders: Vec<UnboundedSender<Message>>,
    pub(super) worker: usize,
}

pub(super) async fn run(
    context: WorkerContext,
    bound: Vec<ListeningSocket>,
    mut incoming: UnboundedReceiver<Message>,
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
        context.load.clone(),
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
            message = incoming.recv() => {
                let Some(message) = message else { break };
                receive(message, &context, &gateway, &connections);
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

fn receive(
    message: Message,
    context: &WorkerContext,
    gateway: &Rc<Gateway>,
    connections: &OpenConnections,
) {
    match message {
        Message::Serve(Handover {
            stream,
            peer,
            listener,
            slot,
        }) => {
            if let Ok(stream) = TcpStream::from_std(stream) {
                spawn(gateway, connections, stream, peer, listener, slot);
            }
        }
        Message::LongestIdle(answers) => {
            if let Some(idle) = connections.longest_idle() {
                // Whoever asked may not wait any more.
                let _ = answers.send((context.worker, idle));
            }
        }
        Message::ShedOne(network, is_done) => {
            let snapshot = context.process.snapshot();
            let trusted = &snapshot.config().trusted_proxies;
            let address = |connection: &ConnectionState| {
                let client = connection.facts().client_networks(trusted)?;
                (client.own == network).then(|| connection.facts().address())
            };
            for (address, connection) in connections.open.keyed(address) {
                if let Some(connection) = connection.upgrade()
                    && !connection.is_shutting_down()
                    && !is_done.swap(true, Ordering::Relaxed)
                {
                    connection.end();
                    let metrics = context.process.metrics();
                    refusals::note(EndCause::ShareShed, Some(address), metrics);
                }
            }
        }
        Message::Shed(before) => {
            for _ in 0..connections.shed(context.load.shed_at_once, before) {
                refusals::note(EndCause::IdleShed, None, context.process.metrics());
            }
        }
    }
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
        let Some((stream, peer)) = next_connection(&listener, &context, &mut phases).await else {
            return;
        };
        let share = match share(&context, peer, bound.index) {
            Ok(share) => share,
            Err(cause) => {
                refusals::note(cause, Some(peer.ip()), context.process.metrics());
                continue;
            }
        };
        // The slot is taken after `accept`: a listener that held one while no client connects would
        // keep it from the others.
        let permit = tokio::select! {
            biased;
            permit = slot(&context, &share) => permit,
            _ = phases.wait_for(|phase| *phase >= Phase::CloseIdle) => return,
        };
        if *phases.borrow() >= Phase::CloseIdle {
            return;
        }
        let target = context.load.least(context.worker);
        let slot = ConnectionSlot::take(
            context.load.clone(),
            target,
            context.metrics.clone(),
            permit,
            share,
        );
        if target == context.worker {
            spawn(&gateway, &connections, stream, peer, bound.index, slot);
        } else if let (Ok(stream), Some(sender)) = (stream.into_std(), context.senders.get(target))
        {
            // The other worker ends only with the process.
            let _ = sender.send(Message::Serve(Handover {
                stream,
                peer,
                listener: bound.index,
                slot,
            }));
        }
    }
}

/// A part of the client's share for a new connection.
fn share(context: &WorkerContext, peer: SocketAddr, listener: usize) -> Result<Share, EndCause> {
    let snapshot = context.process.snapshot();
    let config = snapshot.config();
    context.load.shares.take(
        peer.ip(),
        snapshot.tls(listener).is_some(),
        &config.connections,
        &config.trusted_proxies,
    )
}

/// Waits for the slot of a new connection. When all are taken, connections are ended that have no
/// request; if there are none of these, one of the client that has most, if that is far more than
/// the new one's client has. While there is nothing to end, the new one waits here and further ones
/// in the kernel's queue.
async fn slot(context: &WorkerContext, share: &Share) -> OwnedSemaphorePermit {
    let slots = &context.load.slots;
    loop {
        if let Ok(permit) = slots.clone().try_acquire_owned() {
            return permit;
        }
        let pause = match shed_longest_idle(context).await {
            true => SHED_PAUSE,
            false => {
                if let Some(network) = context.load.shares.larger_than(share.client()) {
                    let is_done = Arc::new(AtomicBool::new(false));
                    for sender in &context.senders {
                        let _ = sender.send(Message::ShedOne(network, is_done.clone()));
                    }
                }
                BUSY_PAUSE
            }
        };
        if let Ok(Ok(permit)) = timeout(pause, slots.clone().acquire_owned()).await {
            return permit;
        }
    }
}

/// Asks the worker for the end of idle connections that has the one which has been idle for the
/// longest time. False if no worker has one.
async fn shed_longest_idle(context: &WorkerContext) -> bool {
    let (answers, mut idle) = unbounded_channel();
    for sender in &context.senders {
        // A worker ends only with the process.
        let _ = sender.send(Message::LongestIdle(answers.clone()));
    }
    drop(answers);
    let mut longest: Option<(usize, LongestIdle)> = None;
    let asking = async {
        while let Some((worker, found)) = idle.recv().await {
            if longest.is_none_or(|(_, longest)| found.idle > longest.idle) {
                longest = Some((worker, found));
            }
        }
    };
    // A worker that is busy is not waited for.
    let _ = timeout(BUSY_PAUSE, asking).await;
    longest.is_some_and(|(worker, found)| {
        let sender = context.senders.get(worker);
        sender.is_some_and(|sender| sender.send(Message::Shed(found.now)).is_ok())
    })
}

/// The next connection of a listener; `None` once the process drains and none is queued. When the
/// system has no descriptor for it, connections are ended that have no request.
async fn next_connection(
    listener: &TcpListener,
    context: &WorkerContext,
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
                if let Some(pause) = accept_failed(&error, context.process.metrics()) {
                    context.load.note_exhausted();
                    shed_longest_idle(context).await;
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
