//! The page: what happens to a request, one line a step.
//!
//! Decides: in which order others decide, and what every answer carries (id, HSTS, CORS, `Connection: close` while draining). Trusts: [`Inbound`] for what a request is, the [`Chain`] for
//! whether it may go on, and `upstream` and `serve` to take nothing but a [`Permit`]. Not here: every rule.
//!
//! There is one [`Gateway`] per worker thread, with its own upstream connections and log lines; what workers share is in [`Process`].
//!
//! [`Chain`]: crate::auth::Chain
//! [`Permit`]: crate::auth::Permit

pub mod answer;
pub mod connection;
pub mod metrics;
pub mod process;
pub(crate) mod refuse;
mod serve;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Version};

use crate::auth::snapshot::Snapshot;
use crate::clock;
use crate::denial::dialect::Dialect;
use crate::denial::{Denial, Reason};
use crate::gateway::connection::ConnectionState;
use crate::panics::caught;
use crate::policy::route::Target;
use crate::record::trail::Trail;
use crate::record::{Decision, Record};
use crate::request::body::Body;
use crate::request::{Connection, Head, Inbound, cors};
use crate::streams::Streams;
use crate::tokens::Recent;
use crate::upstream::{self, Pools};
use answer::Answer;
use process::Process;

/// A year, as browsers and scanners expect it (RFC 6797, section 6.1).
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// One worker's gateway.
pub struct Gateway {
    process: Arc<Process>,
    pools: Pools,
    streams: Rc<Streams>,
    recent: Rc<Recent>,
    /// Records of requests that are over, until the requests at hand have been dealt with.
    #[allow(clippy::vec_box, reason = "moved as a pointer; a record is long")]
    ended: RefCell<Vec<Box<Record>>>,
    lines: RefCell<Vec<u8>>,
}

impl Gateway {
    /// The gateway of one worker out of `workers`.
    pub fn new(process: Arc<Process>, worker: usize, workers: usize) -> Rc<Self> {
        Rc::new(Self {
            streams: Streams::new(process.clone()),
            process,
            pools: Pools::new(worker, workers),
            recent: Rc::default(),
            ended: RefCell::default(),
            lines: RefCell::default(),
        })
    }

    /// Answers one request, whatever happens on the way. The request is boxed because a future carries its arguments along, and there is
    /// one future for every stream.
    pub async fn handle(
        self: Rc<Self>,
        request: Box<Request<Incoming>>,
        connection: Rc<ConnectionState>,
    ) -> Response<Answer> {
        let snapshot = self.process.snapshot();
        let mut trail = Trail::begin(
            self.clone(),
            connection,
            snapshot.clone(),
            request.method().clone(),
            request.version(),
        );
        trail.dialect = Dialect::of(request.headers());
        let origin = snapshot
            .cors()
            .and_then(|_| request.headers().get(header::ORIGIN).cloned());
        let outcome = {
            let judged = pin!(self.serve(request, snapshot.clone(), &mut trail));
            caught(judged)
                .await
                .unwrap_or_else(|panic| Err(Reason::Internal.because(panic)))
        };
        let mut response = outcome.unwrap_or_else(|denial| refuse::refuse(denial, &mut trail));
        self.finish_head(&mut response, origin.as_ref(), &snapshot, &mut trail);
        response.map(|answer| answer.followed_by(trail))
    }

    async fn serve(
        &self,
        request: Box<Request<Incoming>>,
        snapshot: Arc<Snapshot>,
        trail: &mut Trail,
    ) -> Result<Response<Answer>, Denial> {
        let (parts, body) = request.into_parts();
        let connection = trail.connection().clone();
        let body = Body::Streamed(body);
        let read = read(parts, Some(body), connection.facts(), &snapshot, trail)?;
        let Some(request) = read else {
            trail.decision = Decision::Preflight;
            return Ok(refuse::no_content());
        };
        let permit = snapshot.chain().authorize(request, trail).await?;
        trail.decision = Decision::Permit;
        match permit.target() {
            Target::Upstream(_) => {
                upstream::forward(&self.pools, &self.process, permit, trail).await
            }
            Target::Serve(what) => serve::serve(&self.process, permit, what).await,
        }
    }

    /// What every answer carries, ours or the upstream's.
    pub(crate) fn finish_head(
        &self,
        response: &mut Response<Answer>,
        origin: Option<&HeaderValue>,
        snapshot: &Snapshot,
        trail: &mut Trail,
    ) {
        let version = trail.version;
        let over_tls = trail.connection().facts().over_tls;
        let id = trail.id.clone();
        trail.note_answer();
        trail.status = Some(response.status());
        let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        // The upstream saw a token, for which no shared cache may keep an answer unless it is told to (RFC 9111, section 3.5). The
        // client sent a cookie, for which one might.
        if trail.by_cookie && !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        if over_tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        if let Some(cors) = snapshot.cors() {
            cors.write(headers, origin, trail.decision == Decision::Preflight);
        }
        // While draining, a kept connection would only be cut later; say so now. HTTP/2 has GOAWAY for this.
        if version < Version::HTTP_2 && !is_tunnel && self.process.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Called once per request, after its end. What follows from it is dealt with together with what other requests leave, once none of
    /// them waits: the code for it is then loaded once, and not between any two requests.
    pub(crate) fn finish(self: &Rc<Self>, record: Box<Record>) {
        const MANY: usize = 64;
        let waiting = {
            let mut ended = self.ended.borrow_mut();
            ended.push(record);
            ended.len()
        };
        if waiting >= MANY {
            self.settle();
        } else if waiting == 1 {
            let gateway = self.clone();
            tokio::task::spawn_local(async move { gateway.settle() });
        }
    }

    /// Counts what ended, tells the layers, and writes the lines.
    fn settle(self: &Rc<Self>) {
        let ended = self.ended.take();
        if ended.is_empty() {
            return;
        }
        self.settle_each(&ended);
        self.flush_many();
        // What it has room for is used again.
        let mut room = ended;
        room.clear();
        let mut waiting = self.ended.borrow_mut();
        if waiting.is_empty() {
            *waiting = room;
        }
    }

    fn settle_each(&self, ended: &[Box<Record>]) {
        let timestamp = clock::timestamp();
        for record in ended {
            self.settle_one(record, &timestamp);
        }
    }

    fn settle_one(&self, record: &Record, timestamp: &str) {
        use crate::record::End;
        let metrics = self.process.metrics();
        metrics.finish(record);
        match record.end {
            // What this gateway ended is counted with the streams.
            End::Complete | End::Ended => {}
            End::ClientGone => metrics.client_gone.inc(),
            End::UpstreamFailed => metrics.upstream_failed.inc(),
        }
        record.snapshot.chain().settle(record);
        record.write_line(timestamp, &mut self.lines.borrow_mut());
    }

    /// Lines go to the log in batches: at once when there are many, else when the worker looks around.
    fn flush_many(&self) {
        const BATCH: usize = 128 * 1024;
        if self.lines.borrow().len() >= BATCH {
            self.flush();
        }
    }

    /// Hands over what is written so far.
    pub(crate) fn flush(&self) {
        let room = self.lines.borrow().len();
        if room > 0 {
            // The next lines will be about as many, and should not be moved each time they have grown.
            let lines = self.lines.replace(Vec::with_capacity(room + room / 8));
            self.process.log().write(lines, self.process.metrics());
        }
    }

    /// What all workers share.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// This worker's live streams.
    pub(crate) fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }

    /// The tokens that were proven on this worker of late.
    pub(crate) fn recent(&self) -> &Rc<Recent> {
        &self.recent
    }

    /// This worker's upstream connections.
    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }
}

/// From bytes to a canonical request with its route, or to nothing for a CORS preflight, which no layer judges. Also what `foregate test` asks,
/// which has no connection.
pub(crate) fn read(
    parts: Parts,
    body: Option<Body>,
    connection: &Connection,
    snapshot: &Arc<Snapshot>,
    record: &mut Record,
) -> Result<Option<Inbound>, Denial> {
    let head = Head::read(parts, connection, snapshot, record)?;
    // Before a route is chosen, so that a preflight tells nothing about which paths exist.
    if cors::is_preflight(&head) {
        return Ok(None);
    }
    Inbound::route(head, body, snapshot.clone(), record).map(Some)
}

impl Drop for Gateway {
    /// Requests that were cut at the end write their lines last.
    fn drop(&mut self) {
        let ended = self.ended.take();
        self.settle_each(&ended);
        self.flush();
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway(…)")
    }
}
