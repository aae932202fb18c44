//! The listener that redirects to HTTPS.
//!
//! 308 for GET and HEAD, 403 `https_required` for everything else, so that no client gets used to
//! sending bodies and tokens in the clear. It redirects only to a host that this gateway serves,
//! and looks up no route.

use std::rc::Rc;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::denial::{Denial, Reason};
use crate::gateway::answer::Answer;
use crate::gateway::connection::ConnectionState;
use crate::gateway::{Gateway, refuse};
use crate::policy::in_force::InForce;
use crate::policy::path;
use crate::record::{Decision, Record};
use crate::request::client_body::ClientBody;
use crate::request::{Connection, Head};

/// Answers one request.
pub(super) fn answer(
    gateway: &Rc<Gateway>,
    connection: &Rc<ConnectionState>,
    request: Request<ClientBody>,
    port: u16,
) -> Response<Answer> {
    let snapshot = gateway.process().snapshot();
    let mut trail = connection.begin(&snapshot, request.method(), request.version());
    let mut response = location(
        request,
        connection.facts(),
        snapshot.in_force(),
        &mut trail,
        port,
    )
    .unwrap_or_else(|denial| refuse::refuse(denial, &mut trail));
    gateway.finish_head(&mut response, None, snapshot.cors(), connection, &mut trail);
    response.map(|answer| answer.with_trail(trail, connection))
}

fn location(
    request: Request<ClientBody>,
    connection: &Connection,
    in_force: &InForce,
    record: &mut Record,
    port: u16,
) -> Result<Response<Answer>, Denial> {
    let (parts, _) = request.into_parts();
    let head = Head::read(parts, connection, in_force, record)?;
    // WebSocket clients do not follow redirects.
    if head.handshake().is_some() {
        return Err(Reason::UpgradeRefused.into());
    }
    if !matches!(*head.method(), Method::GET | Method::HEAD) {
        return Err(Reason::HttpsRequired.into());
    }
    let canonical = path::canonicalise(head.uri().path())?;
    if let Some((reason, _)) = canonical.tail_only {
        return Err(reason.into());
    }
    let location = target(&head, &canonical.text, port);
    record.path.push_str(&canonical.text);
    record.decision = Decision::Redirect;
    let mut response = Response::new(Answer::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let value = HeaderValue::from_str(&location).map_err(|_| Reason::TargetForm)?;
    response.headers_mut().insert(header::LOCATION, value);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The URL of the same resource over HTTPS.
fn target(head: &Head, path: &str, port: u16) -> String {
    let query = head
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let port = if port == 443 {
        String::new()
    } else {
        format!(":{port}")
    };
    format!("https://{}{port}{path}{query}", head.host().name())
}
