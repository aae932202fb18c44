//! The server behind the gateway: records every request exactly as it came, and answers as a test
//! scripts it.
//!
//! It reads HTTP/1.1 by hand and strictly: whatever is not exactly one well-formed request after
//! another (a bare line feed, a folded line, two lengths, a length beside chunks) fails the test.
//! Every connection has a thread, so scripts may block; a panic in a script fails the test, too.

mod exchange;
mod reader;

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub use exchange::{Exchange, Reply};

use super::eventually;

/// A request as the origin saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// Names as they were written, in order.
    pub headers: Vec<(String, String)>,
    /// The head, byte for byte.
    pub head: Vec<u8>,
    /// The beginning of the body: at most 64 KiB.
    pub body: Vec<u8>,
    /// How many bytes of body were read.
    pub length: u64,
    /// SHA-256 over the body, once it is complete.
    pub sha256: Option<String>,
    pub trailers: Vec<(String, String)>,
    /// Which connection it was received on, from 0.
    pub connection: usize,
}

impl Seen {
    /// The value of a field that occurs at most once, whatever the case of its name.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(
            values.len() <= 1,
            "`{name}` occurs {} times: {self:?}",
            values.len()
        );
        values.first().copied()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Whether this text is anywhere in the head.
    pub fn mentions(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.head).contains(text)
    }
}

type Script = Arc<dyn Fn(&mut Exchange) + Send + Sync>;

/// A running origin.
pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<Seen>>,
    scripts: Mutex<HashMap<String, Script>>,
    otherwise: Mutex<Option<Script>>,
    failures: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// Connections on which bytes were received that never became a request.
    fragments: AtomicUsize,
    over: AtomicBool,
}

impl Origin {
    /// Answers everything with 200 and `ok`.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::Relaxed) {
                    break;
                }
                let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                shared.open.fetch_add(1, Ordering::Relaxed);
                let state = shared.clone();
                thread::spawn(move || serve(&state, stream, number));
            }
        });
        Self { address, state }
    }

    /// Scripts a path (without its query). The script has a thread of its own and may block on a
    /// `Gate`.
    pub fn on(&self, path: &str, script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> &Self {
        self.state
            .scripts
            .lock()
            .unwrap()
            .insert(path.to_owned(), Arc::new(script));
        self
    }

    /// Scripts all paths that have no script of their own.
    pub fn otherwise(&self, script: impl Fn(&mut Exchange) + Send + Sync + 'static) -> &Self {
        *self.state.otherwise.lock().unwrap() = Some(Arc::new(script));
        self
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Takes every request so far.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.state.requests.lock().unwrap())
    }

    /// Takes the one request so far.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut requests = self.take();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.remove(0)
    }

    /// Nothing has reached it: no request, and no beginning of one.
    #[track_caller]
    pub fn saw_nothing(&self) {
        let requests = self.requests();
        assert!(requests.is_empty(), "the origin saw {requests:#?}");
        assert_eq!(
            self.state.fragments.load(Ordering::Relaxed),
            0,
            "a piece of a request"
        );
        let failures = self.state.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:?}");
    }

    /// Waits until so many requests were received (heads; bodies may be incomplete).
    pub async fn has_seen(&self, count: usize) {
        eventually(&format!("{count} requests"), || {
            self.requests().len() >= count
        })
        .await;
    }

    /// Connections ever accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::Relaxed)
    }
}

impl Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Origin({})", self.address)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
        let failures = self.state.failures.lock().unwrap();
        if !failures.is_empty() && !thread::panicking() {
            panic!("the origin failed: {failures:#?}");
        }
    }
}

fn serve(state: &Arc<State>, stream: TcpStream, number: usize) {
    let conversation = || converse(state, stream, number);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(conversation)) {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        state.failures.lock().unwrap().push(text);
    }
    state.open.fetch_sub(1, Ordering::Relaxed);
}

fn converse(state: &Arc<State>, stream: TcpStream, number: usize) {
    stream.set_nodelay(true).unwrap();
    let mut reader = reader::Reader::new(stream);
    loop {
        let head = match reader.head() {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(reader::Fault::Incomplete) => {
                state.fragments.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(reader::Fault::Malformed(why)) => panic!("a malformed request: {why}"),
        };
        let seen = Seen {
            connection: number,
            ..head.seen
        };
        let path = seen.target.split('?').next().unwrap_or_default().to_owned();
        let place = {
            let mut requests = state.requests.lock().unwrap();
            requests.push(seen.clone());
            (requests.len() - 1, seen)
        };
        let script = state.scripts.lock().unwrap().get(&path).cloned();
        let script = script.or_else(|| state.otherwise.lock().unwrap().clone());
        let mut exchange = Exchange::new(state.clone(), reader, head.framing, place);
        match script {
            Some(script) => script(&mut exchange),
            None => exchange.reply(&Reply::ok()),
        }
        match exchange.into_next() {
            Some(next) => reader = next,
            None => return,
        }
    }
}
