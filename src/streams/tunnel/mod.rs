//! A WebSocket between a client and an upstream.
//!
//! Decides: when a tunnel ends, and which side gets a close frame. Trusts: the handshake, which
//! both sides have finished. Not here: the content of messages; they are forwarded byte for byte,
//! on a route that inspects them (`messages`) only once that is done.

mod duplex;
mod limits;
mod linger;

use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::messages::Messages;
use super::pipe::Pipe;
use super::scratch::Scratch;
use crate::live::{AnswerAuthorization, StreamHandle, Streams};
use crate::record::RequestEnd;
use crate::record::stream::{StreamEnd, StreamKind};
use crate::record::trail::Trail;
use crate::upstream::UpgradedConnection;
use duplex::Duplex;
use limits::GRACE;
pub(crate) use limits::Limits;
use linger::leave;

/// A tunnel whose 101 is on its way to the client.
#[derive(Debug)]
pub(crate) struct PendingTunnel {
    /// The connection to the upstream.
    pub(crate) upstream: UpgradedConnection,
    /// The authorization of its request.
    pub(crate) authorization: AnswerAuthorization,
    pub(crate) limits: Limits,
    /// If messages are inspected: the longest one that is held.
    pub(crate) inspect: Option<usize>,
}

/// A tunnel. Its record ends with it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    upstream: UpgradedConnection,
    limits: Limits,
    inspect: Option<usize>,
    stream: StreamHandle,
    scratch: Rc<Scratch>,
    trail: Trail,
}

impl Tunnel {
    /// Registers the tunnel as a live stream.
    pub(crate) fn begin(
        pending: PendingTunnel,
        streams: &Rc<Streams>,
        scratch: &Rc<Scratch>,
        trail: Trail,
    ) -> Box<Self> {
        let PendingTunnel {
            upstream,
            authorization,
            limits,
            inspect,
        } = pending;
        Box::new(Self {
            upstream,
            limits,
            inspect,
            stream: authorization.begin(StreamKind::Websocket, streams),
            scratch: scratch.clone(),
            trail,
        })
    }

    /// Forwards messages until the tunnel ends. `unread` are bytes that the client sent after its
    /// handshake.
    pub(crate) async fn run<C>(self: Box<Self>, mut client: C, unread: Bytes)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            mut upstream,
            limits,
            inspect,
            stream,
            scratch,
            mut trail,
        } = *self;
        let up = match inspect {
            None => Pipe::new(unread),
            Some(limit) => {
                let messages = Messages::new(limit, stream.authorization().needs_token());
                Pipe::inspected(&unread, messages)
            }
        };
        let mut duplex = Duplex::new(up, std::mem::take(&mut upstream.unread));
        let cause = duplex
            .run(
                &mut upstream.stream,
                &mut client,
                &stream,
                &scratch,
                &limits,
                &mut trail,
            )
            .await;
        stream.ends_by(cause);
        trail.end = match cause {
            StreamEnd::Finished => RequestEnd::Complete,
            StreamEnd::ClientGone => RequestEnd::ClientGone,
            StreamEnd::UpstreamGone => RequestEnd::UpstreamFailed,
            StreamEnd::Idle
            | StreamEnd::TimeLimit
            | StreamEnd::Stalled
            | StreamEnd::Drained
            | StreamEnd::Expired
            | StreamEnd::Revoked
            | StreamEnd::Denied => RequestEnd::Ended,
        };
        trail.stream = Some((stream.kind(), cause));
        drop((upstream, stream, trail));
        if !matches!(cause, StreamEnd::ClientGone | StreamEnd::Stalled) {
            let awaits_answer = duplex.ending.is_some();
            let _ = timeout(GRACE, leave(&mut client, awaits_answer, &mut duplex.up)).await;
        }
    }
}
