//! The edge: the proxy of a Supabase project in front of its identity server, or any other one. It
//! answers in forms of its own, which say nothing of a user.

use hyper::StatusCode;

use super::call::Reply;
use super::grant::AuthError;
use super::operation::Operation;

/// How much of a body is searched.
const SEARCHED: usize = 4096;

/// What proxies write when they had no server to send a request to: Kong, Envoy, HAProxy. Each says
/// something else when a server broke off after it had got the request.
const NO_SERVER: [&str; 6] = [
    "name resolution failed",
    "failure to get a peer from the ring-balancer",
    "no healthy upstream",
    "connection failure",
    "connection timeout",
    "No server is available to handle this request",
];

/// Whether the edge refused the gateway's key, or whatever else it lets callers in by.
pub(super) fn refuses_key(reply: &Reply) -> bool {
    let is_refusal = matches!(
        reply.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    );
    is_refusal && !AuthError::is_own(reply)
}

/// Whether the edge got no answer of the identity server. That an operation which waits for others
/// takes too long says nothing of the server.
pub(super) fn lost_server(reply: &Reply, operation: Operation) -> bool {
    let is_lost = match reply.status.as_u16() {
        502 | 503 | 520..=530 => true,
        504 => !operation.waits_for_others(),
        _ => false,
    };
    is_lost && !AuthError::is_own(reply)
}

/// Whether the edge says that it had no server to send the request to, so that nothing was done.
pub(super) fn has_no_server(reply: &Reply) -> bool {
    if AuthError::is_own(reply) {
        return false;
    }
    match reply.status.as_u16() {
        // Cloudflare: refused, unreachable, or no TLS.
        521 | 523 | 525 | 526 => true,
        502 | 503 => {
            let body = reply.body.get(..SEARCHED).unwrap_or(&reply.body);
            let text = String::from_utf8_lossy(body);
            NO_SERVER.iter().any(|phrase| text.contains(phrase))
        }
        _ => false,
    }
}
