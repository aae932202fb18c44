//! A WebSocket between client and upstream.
//!
//! Decides: when a tunnel ends, and what is told to whom. Trusts: the handshake, which both sides
//! have finished. Not here: what is said inside; messages are passed on byte for byte, and on a
//! route that judges them (`messages`) only once that is done.

mod duplex;
mod limits;
mod linger;

use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::messages::Messages;
use super::pipe::Pipe;
use super::registry::{StreamHandle, Streams};
use crate::auth::StreamAuthorization;
use crate::record::End;
use crate::record::stream::{Cause, Kind};
use crate::record::trail::Trail;
use crate::upstream::UpgradedConnection;
use duplex::Duplex;
use limits::GRACE;
pub(crate) use limits::Limits;
use linger::leave;

/// A tunnel whose 101 is on its way to the client.
#[derive(Debug)]
pub(crate) struct PendingTunnel {
    /// The upstream's end.
    pub(crate) upstream: UpgradedConnection,
    /// What is judged again while it is open.
    pub(crate) authorization: StreamAuthorization,
    /// Its limits.
    pub(crate) limits: Limits,
    /// Up to how many bytes of a message are held to be judged, if messages are.
    pub(crate) inspect: Option<usize>,
}

/// A tunnel. Its record ends with it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    upstream: UpgradedConnection,
    limits: Limits,
    inspect: Option<usize>,
    stream: StreamHandle,
    trail: Trail,
}

impl Tunnel {
    /// Enters the tunnel among the live streams.
    pub(crate) fn begin(pending: PendingTunnel, streams: &Rc<Streams>, trail: Trail) -> Box<Self> {
        let PendingTunnel {
            upstream,
            authorization,
            limits,
            inspect,
        } = pending;
        let stream = streams.begin(Kind::Websocket, authorization);
        Box::new(Self {
            upstream,
            limits,
            inspect,
            stream,
            trail,
        })
    }

    /// Passes messages on to the end. `unread` is what the client has said already.
    pub(crate) async fn run<C>(self: Box<Self>, mut client: C, unread: Bytes)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            mut upstream,
            limits,
            inspect,
            stream,
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
                &limits,
                &mut trail,
            )
            .await;
        stream.ends_by(cause);
        trail.end = match cause {
            Cause::Finished => End::Complete,
            Cause::ClientGone => End::ClientGone,
            Cause::UpstreamGone => End::UpstreamFailed,
            Cause::Idle
            | Cause::TimeLimit
            | Cause::Stalled
            | Cause::Drained
            | Cause::Expired
            | Cause::Revoked
            | Cause::Denied => End::Ended,
        };
        trail.stream = Some((stream.kind(), cause));
        drop((upstream, stream, trail));
        if !matches!(cause, Cause::ClientGone | Cause::Stalled) {
            let awaits_answer = duplex.ending.is_some();
            let _ = timeout(GRACE, leave(&mut client, awaits_answer, &mut duplex.up)).await;
        }
    }
}
