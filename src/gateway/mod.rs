//! What happens to a request, one line per step: accept, authorize, forward.
//!
//! Decides: in which order the steps run, and which fields every answer carries (id, HSTS,
//! CORS). Trusts: [`Inbound`] to be canonical, the [`Chain`] to
//! decide whether the request may go on, and `upstream` and `serve` to require a [`Permit`]. Not
//! here: every rule by which a request is refused.
//!
//! There is one [`Gateway`] per worker thread, with its own upstream connections and log lines; the
//! state that workers share is in [`Process`].
//!
//! [`Chain`]: crate::auth::Chain
//! [`Permit`]: crate::auth::Permit

pub(crate) mod accept;
pub mod answer;
pub mod connection;
pub(crate) mod content;
pub(crate) mod ended;
mod finished;
mod forward;
mod held;
pub mod metrics;
pub(crate) mod overload;
pub mod process;
pub(crate) mod refuse;
mod serve;
pub(crate) mod size;

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Version};

use crate::auth::snapshot::Snapshot;
use crate::denial::format::ErrorFormat;
use crate::denial::{Denial, Reason};
use crate::gateway::connection::ConnectionState;
use crate::live::Streams;
use crate::panics::catch_panic;
use crate::policy::in_force::InForce;
use crate::policy::route::Target;
use crate::record::{Decision, Record};
use crate::request::body::Body;
use crate::request::client_body::ClientBody;
use crate::request::cors::{self, Cors};
use crate::request::{Connection, Head, Inbound};
use crate::streams::Scratch;
use crate::tokens::WorkerCache;
use crate::upstream::{ForwardContext, Pools};
use answer::Answer;
use finished::FinishedRecords;
use held::Held;
use overload::Overload;
use process::Process;
use size::at_most;

/// A year, as browsers and scanners expect it (RFC 6797, section 6.1).
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The most bytes that the future of a request may have. There is one per open request.
const REQUEST_SIZE: usize = 1360;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The gateway of one worker.
pub struct Gateway {
    process: Arc<Process>,
    pools: Pools,
    streams: Rc<Streams>,
    scratch: Rc<Scratch>,
    worker_cache: Rc<WorkerCache>,
    finished: Rc<FinishedRecords>,
    held: Held,
    overload: Overload,
}

impl Gateway {
    /// Creates the gateway of one worker out of `workers`.
    pub fn new(process: Arc<Process>, worker: usize, workers: usize) -> Rc<Self> {
        Rc::new(Self {
            streams: Streams::new(
                process.current().clone(),
                process.shared().revocations.clone(),
                process.metrics().streams.clone(),
            ),
            scratch: Rc::default(),
            pools: Pools::new(worker, workers, process.metrics().upstreams.clone()),
            worker_cache: Rc::default(),
            finished: FinishedRecords::new(process.clone()),
            held: Held::default(),
            overload: Overload::default(),
            process,
        })
    }

    /// Answers one request, also when a step refuses it or panics. The request is boxed because a
    /// future contains its arguments, and there is one future per open request.
    pub fn handle(
        self: Rc<Self>,
        request: Box<Request<ClientBody>>,
        connection: Rc<ConnectionState>,
    ) -> impl Future<Output = Response<Answer>> {
        at_most::<REQUEST_SIZE, _>(self.answer(request, connection))
    }

    async fn answer(
        self: Rc<Self>,
        request: Box<Request<ClientBody>>,
        connection: Rc<ConnectionState>,
    ) -> Response<Answer> {
        let snapshot = self.process.snapshot();
        let mut trail = connection.begin(&snapshot, request.method(), request.version());
        trail.error_format = ErrorFormat::of(request.headers());
        let origin = snapshot
            .cors()
            .and_then(|_| request.headers().get(header::ORIGIN).cloned());
        let outcome = {
            let serving = pin!(self.serve(request, &snapshot, connection.facts(), &mut trail));
            catch_panic(serving)
                .await
                .unwrap_or_else(|panic| Err(Reason::Internal.because(panic)))
        };
        let mut response = outcome.unwrap_or_else(|denial| refuse::refuse(denial, &mut trail));
        self.finish_head(
            &mut response,
            origin.as_ref(),
            snapshot.cors(),
            &connection,
            &mut trail,
        );
        response.map(|answer| answer.with_trail(trail, &connection))
    }

    async fn serve(
        &self,
        request: Box<Request<ClientBody>>,
        snapshot: &Snapshot,
        connection: &Connection,
        record: &mut Record,
    ) -> Result<Response<Answer>, Denial> {
        let (parts, body) = request.into_parts();
        let body = Some(Body::Streamed(body));
        let Some(request) = self.accept(parts, body, connection, snapshot, record)? else {
            return Ok(refuse::preflight(record));
        };
        let permit = snapshot.chain().authorize(request, record).await?;
        record.decision = Decision::Permit;
        match permit.target() {
            Target::Upstream(_) => {
                let context = ForwardContext {
                    pools: &self.pools,
                    facts: snapshot.chain().facts(),
                    streams: &self.streams,
                };
                forward::forward(&context, permit, record).await
            }
            Target::Serve(what) => serve::serve(&self.process, snapshot, permit, what).await,
        }
    }

    /// Accepts a request, unless its client holds most of what is short. A function of its own:
    /// the future of a request would keep a place for one that it lends.
    fn accept(
        &self,
        parts: Parts,
        body: Option<Body>,
        connection: &Connection,
        snapshot: &Snapshot,
        record: &mut Record,
    ) -> Result<Option<Inbound>, Denial> {
        let accepted = accept(parts, body, connection, snapshot.in_force(), record)?;
        if let Some(request) = &accepted {
            self.overload.check(request)?;
        }
        Ok(accepted)
    }

    /// Refuses a request whose head could not be read.
    pub(crate) fn refuse_head(
        &self,
        denial: Denial,
        method: Option<Method>,
        version: Version,
        connection: &Rc<ConnectionState>,
    ) -> Response<Answer> {
        let snapshot = self.process.snapshot();
        let mut trail = connection.begin(&snapshot, &method.unwrap_or_default(), version);
        trail.client = Some(connection.facts().text().clone());
        let mut response = refuse::refuse(denial, &mut trail);
        self.finish_head(&mut response, None, snapshot.cors(), connection, &mut trail);
        response.map(|answer| answer.with_trail(trail, connection))
    }

    /// Adds the fields that every answer carries, whether this gateway or an upstream made it.
    pub(crate) fn finish_head(
        &self,
        response: &mut Response<Answer>,
        origin: Option<&HeaderValue>,
        cors: Option<&Cors>,
        connection: &ConnectionState,
        record: &mut Record,
    ) {
        let over_tls = connection.facts().over_tls;
        let id = record.id.clone();
        record.note_answer();
        record.status = Some(response.status());
        content::declare_none(response);
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        // A shared cache keeps no answer to a request with `Authorization` unless it is allowed to
        // (RFC 9111, section 3.5). This client sent a cookie in its place, and the cache would not
        // know.
        if record.by_cookie && !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        if over_tls {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        if let Some(cors) = cors {
            cors.write(headers, origin, record.decision == Decision::Preflight);
        }
    }

    /// Takes the record of a finished request. Called once per request.
    pub(crate) fn finish(&self, record: Box<Record>) {
        self.finished.add(record);
    }

    /// Hands the log lines that are written so far to the log.
    pub(crate) fn flush(&self) {
        self.finished.flush();
    }

    /// The state that all workers share.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    pub(crate) fn streams(&self) -> &Rc<Streams> {
        &self.streams
    }

    /// The buffer into which the tunnels of this worker read.
    pub(crate) fn scratch(&self) -> &Rc<Scratch> {
        &self.scratch
    }

    /// The tokens that this worker verified recently.
    pub(crate) fn worker_cache(&self) -> &Rc<WorkerCache> {
        &self.worker_cache
    }

    /// What the clients of this worker have open and have not taken.
    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// Who holds most of what is short.
    pub(crate) fn overload(&self) -> &Overload {
        &self.overload
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }
}

/// Turns a request head into a canonical request with its route, or into nothing for a CORS
/// preflight, which no layer checks. `foregate test` calls it, too, and has no connection.
pub(crate) fn accept(
    parts: Parts,
    body: Option<Body>,
    connection: &Connection,
    in_force: &Arc<InForce>,
    record: &mut Record,
) -> Result<Option<Inbound>, Denial> {
    let head = Head::read(parts, connection, in_force, record)?;
    // Before a route is chosen, so that a preflight does not reveal which paths exist.
    if cors::is_preflight(&head) {
        return Ok(None);
    }
    Inbound::route(head, body, in_force.clone(), record).map(Some)
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway(…)")
    }
}
