//! From an upstream's reply to the client's answer: a plain body, a live stream, or a tunnel.

use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use tokio::time::Instant;

use super::answer::Answer;
use crate::auth::Permit;
use crate::denial::{Denial, Reason};
use crate::live::AnswerAuthorization;
use crate::record::Record;
use crate::streams::{LiveStream, PendingTunnel, TunnelLimits};
use crate::upstream::{self, ForwardContext, Reply, ReplyBody, UpgradedConnection};

/// Forwards a permitted request.
///
/// # Errors
///
/// The refusals of `upstream::forward`, and a 101 to a request that asked for no upgrade.
pub(super) async fn forward(
    context: &ForwardContext<'_>,
    permit: Permit,
    record: &mut Record,
) -> Result<Response<Answer>, Denial> {
    let started = Instant::from_std(record.lap());
    let Reply {
        status,
        mut headers,
        body,
        authorization,
        stream,
    } = upstream::forward(context, permit, record).await?;
    let answer = match body {
        ReplyBody::Read(bytes) => {
            authorization.finish();
            Answer::full(bytes)
        }
        ReplyBody::Upgraded(upstream) => {
            open_tunnel(upstream, &mut headers, authorization, started)?
        }
        ReplyBody::Streamed(body) => match stream {
            None => Answer::upstream(body, authorization),
            Some(kind) => Answer::stream(body, LiveStream::new(kind, &headers, authorization)),
        },
    };
    Ok(response(status, headers, answer))
}

fn response(status: StatusCode, headers: HeaderMap, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The tunnel after an upstream's 101, if the client asked for one and the handshake is valid.
fn open_tunnel(
    upstream: UpgradedConnection,
    headers: &mut HeaderMap,
    authorization: AnswerAuthorization,
    started: Instant,
) -> Result<Answer, Denial> {
    let request = authorization.authorization().request();
    let Some(handshake) = request.handshake() else {
        return Err(Reason::UpstreamProtocol.because("a 101 to a request without an upgrade"));
    };
    let config = request.in_force().config();
    handshake
        .finish(headers, &config.sessions.cookie)
        .map_err(|why| Reason::UpstreamProtocol.because(format!("{}: {why}", upstream.server())))?;
    let rule = request.rule();
    let inspect = rule
        .realtime
        .then(|| usize::try_from(rule.body_limit).unwrap_or(usize::MAX));
    let limits = TunnelLimits {
        idle: rule.timeouts.stream_idle,
        keepalive: config.stream_keepalive,
        deadline: rule.timeouts.total.map(|total| started + total),
        first_token: config.connections.first_token,
        stalled: config.connections.body_idle,
    };
    Ok(Answer::tunnel(PendingTunnel {
        inspect,
        upstream,
        authorization,
        limits,
    }))
}
