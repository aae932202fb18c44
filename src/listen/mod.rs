//! Sockets, workers, and the end of them.
//!
//! Decides: which worker a connection goes to (the one with the fewest), how many there may be, and how the process ends. Trusts: the
//! configuration for addresses. Not here: what is said on a connection (`connection`).
//!
//! A worker is a thread with a runtime of its own. A connection never changes its worker, so nothing a request needs is shared with
//! another thread except what is read without a global lock. Listeners are spread over the workers; the worker that accepts hands the
//! connection on if another has fewer.

pub mod connection;
mod metrics;
mod redirect;
pub mod tls;

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::rt::Executor as _;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::gateway::Gateway;
use crate::gateway::connection::{ConnectionState, LOOK, LookClock};
use crate::gateway::process::Process;
use crate::upstream::http2::channel::LocalExecutor;
use crate::weak_list::Living;
use metrics::ListenMetrics;

/// How long a kept HTTP/1.1 connection gets, when the process ends, to send one more request and be told to go. A client that sends at
/// the very moment its connection is closed would see an error. Two seconds is a choice.
const LAME_DUCK: Duration = Duration::from_secs(2);

/// How long before the deadline calls of gRPC are told that it comes.
const PARTING: Duration = Duration::from_secs(1);

/// How long a peer may be gone without a word, whether something is sent to it or not. A minute is a choice: long enough for a hole in the
/// radio, and longer than the limits of connections by default, which know better why.
const SILENT: Duration = Duration::from_secs(60);

/// When and how often the kernel asks a peer that is silent, and to which nothing is sent. More than once, since a question may get lost.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(5))
    .with_retries(6);

/// How many looks lie between two at the kept upstream connections: five seconds.
const SWEEP: u64 = 50;

/// A bound socket.
#[derive(Debug)]
pub struct Bound {
    socket: std::net::TcpListener,
    /// Index into the configuration's listeners.
    index: usize,
}

impl Bound {
    /// Binds a listener's address.
    ///
    /// # Errors
    ///
    /// The address is in use or not ours.
    pub fn new(address: SocketAddr, index: usize) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restarted process may take the port while old connections linger.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit all three, which spares every connection the calls.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&KEEPALIVE)?;
        socket.set_tcp_user_timeout(Some(SILENT))?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        Ok(Self {
            socket: socket.into(),
            index,
        })
    }

    /// The address, with the port that was found for port 0.
    ///
    /// # Errors
    ///
    /// The operating system does not know it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
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

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    load: Arc<Load>,
}

/// How many connections each worker has.
#[derive(Debug)]
struct Load {
    counts: Vec<AtomicUsize>,
    places: Arc<Semaphore>,
}

/// A place among the open connections; given back when the connection ends.
struct Place {
    load: Arc<Load>,
    worker: usize,
    metrics: Arc<ListenMetrics>,
    _permit: OwnedSemaphorePermit,
}

impl Load {
    fn total(&self) -> usize {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// The worker with the fewest connections; `own` if it is one of them.
    fn least(&self, own: usize) -> usize {
        let count = |worker: usize| {
            self.counts
                .get(worker)
                .map_or(usize::MAX, |count| count.load(Ordering::Relaxed))
        };
        let fewest = (0..self.counts.len())
            .min_by_key(|worker| count(*worker))
            .unwrap_or(own);
        if count(own) <= count(fewest) {
            own
        } else {
            fewest
        }
    }
}

impl Place {
    fn take(
        load: Arc<Load>,
        worker: usize,
        metrics: Arc<ListenMetrics>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        if let Some(count) = load.counts.get(worker) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        metrics.connections.inc();
        Self {
            load,
            worker,
            metrics,
            _permit: permit,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = self.load.counts.get(self.worker) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics.connections.dec();
    }
}

/// A connection on its way to its worker.
struct Handover {
    stream: StdStream,
    peer: SocketAddr,
    listener: usize,
    place: Place,
}

impl Workers {
    /// Starts the workers and begins to accept.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread or no event queue; two metrics have one name.
    pub fn start(process: &Arc<Process>, bound: Vec<Bound>) -> anyhow::Result<Self> {
        let snapshot = process.snapshot();
        let metrics = Arc::new(ListenMetrics::new(process.metrics().registry())?);
        let workers = snapshot.config().workers.get();
        let load = Arc::new(Load {
            counts: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            places: Arc::new(Semaphore::new(snapshot.config().connections.max)),
        });
        let (phase, phases) = watch::channel(Phase::Serving);
        let (beating, beats) = watch::channel(0);
        thread::Builder::new()
            .name("beat".to_owned())
            .spawn(move || beat(&beating))?;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| unbounded_channel()).unzip();
        let mut listeners: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
        for (place, bound) in bound.into_iter().enumerate() {
            if let Some(own) = listeners.get_mut(place % workers) {
                own.push(bound);
            }
        }
        let mut threads = Vec::new();
        for (worker, (incoming, bound)) in receivers.into_iter().zip(listeners).enumerate() {
            let shared = Shared {
                process: process.clone(),
                metrics: metrics.clone(),
                load: load.clone(),
                senders: senders.clone(),
                worker,
            };
            let (phases, beats) = (phases.clone(), beats.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let thread = thread::Builder::new().name(format!("worker-{worker}"));
            threads.push(thread.spawn(move || {
                LocalSet::new().block_on(&runtime, run(shared, bound, incoming, phases, beats))
            })?);
        }
        Ok(Self {
            threads,
            phase,
            load,
        })
    }

    /// Ends gracefully: stops accepting, lets running requests finish, and cuts what is left at the deadline.
    pub async fn drain(self, process: &Process, deadline: Duration) {
        process.drain();
        self.phase.send_replace(Phase::Closing);
        let ended = async {
            let lame = LAME_DUCK.min(deadline / 2);
            self.wait_for_none(lame).await;
            self.phase.send_replace(Phase::Leaving);
            let parting = PARTING.min(deadline / 4);
            self.wait_for_none(deadline.saturating_sub(lame + parting))
                .await;
            self.phase.send_replace(Phase::Parting);
            self.wait_for_none(parting).await;
        };
        ended.await;
        let left = self.load.total();
        if left > 0 {
            tracing::warn!(connections = left, "cut at the end of the drain");
        }
        self.phase.send_replace(Phase::Over);
        for thread in self.threads {
            // A worker that panicked outside a request has said so already.
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

/// What one worker needs of the others.
#[derive(Clone)]
struct Shared {
    process: Arc<Process>,
    metrics: Arc<ListenMetrics>,
    load: Arc<Load>,
    senders: Vec<UnboundedSender<Handover>>,
    worker: usize,
}

async fn run(
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
                match phase {
                    Phase::Serving => {}
                    Phase::Closing => drain(&connections, ConnectionState::is_h2),
                    Phase::Leaving => {
                        drain(&connections, |_| true);
                        gateway.streams().drain(false);
                    }
                    // The phase before may have passed unseen.
                    Phase::Parting => {
                        drain(&connections, |_| true);
                        gateway.streams().drain(true);
                    }
                    Phase::Over => break,
                }
                if changed.is_err() {
                    break;
                }
            }
        }
    }
    gateway.flush();
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
        // What the queue holds when the end begins is still served: its clients were told that they are connected.
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = phases.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a connection that ended in the queue. Waiting a little does no harm to the second.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(10)).await;
                continue;
            }
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

/// The connections of a worker, and the clock by which it looks at them.
#[derive(Clone, Default)]
struct Connections {
    open: Living<ConnectionState>,
    clock: LookClock,
}

/// Looks around whenever it is told to, until the worker ends: at every connection and exchange, at the log, and now and then at what is kept.
async fn look_forever(
    mut beats: watch::Receiver<u64>,
    gateway: Rc<Gateway>,
    connections: Connections,
) {
    let mut swept = 0;
    while beats.changed().await.is_ok() {
        // Before the work, so that a beat that comes meanwhile is another look.
        let sweep = *beats.borrow_and_update() / SWEEP;
        connections.clock.advance();
        connections.open.each(ConnectionState::look);
        gateway.pools().look();
        gateway.flush();
        // A busy worker misses beats, and should miss no sweep.
        if sweep != swept {
            swept = sweep;
            gateway.pools().sweep();
        }
    }
}

/// Tells the workers when to look around, until they have ended. They have no timer of their own for it: where one is set, every wait for events
/// sets one in the kernel and takes it back when an event comes, which costs more than this thread. It is one, so that nothing can keep it busy.
fn beat(beats: &watch::Sender<u64>) {
    while !beats.is_closed() {
        #[allow(clippy::disallowed_methods, reason = "a thread that serves no request")]
        thread::sleep(LOOK);
        beats.send_modify(|beat| *beat += 1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use socket2::SockRef;

    use super::*;

    #[test]
    fn accepted_connections_inherit_how_long_a_peer_may_be_gone() {
        let bound = Bound::new((Ipv4Addr::LOCALHOST, 0).into(), 0).expect("a port");
        bound.socket.set_nonblocking(false).expect("blocking");
        let address = bound.address().expect("an address");
        let _client = TcpStream::connect(address).expect("a connection");
        let (accepted, _) = bound.socket.accept().expect("the other end");
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().expect("an option"));
        let time = socket.tcp_keepalive_time().expect("an option");
        let interval = socket.tcp_keepalive_interval().expect("an option");
        let retries = socket.tcp_keepalive_retries().expect("an option");
        assert_eq!(time + interval * retries, SILENT);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(SILENT));
        assert!(socket.tcp_nodelay().expect("an option"));
    }
}
