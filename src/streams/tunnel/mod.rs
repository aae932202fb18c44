//! A WebSocket between client and upstream.
//!
//! Decides: when a tunnel ends, and what is told to whom. Trusts: the handshake, which both sides have finished. Not here: what is said
//! inside; messages are passed on byte for byte, and on a route that judges them (`messages`) only once that is done.

mod limits;
mod linger;
mod talk;

use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::messages::Messages;
use super::pipe::Pipe;
use super::registry::{Live, Streams};
use crate::auth::StreamAuthorization;
use crate::record::End;
use crate::record::stream::{Cause, Kind};
use crate::record::trail::Trail;
use crate::upstream::Switched;
use limits::GRACE;
pub(crate) use limits::Limits;
use linger::leave;
use talk::Talk;

/// A tunnel whose 101 is on its way to the client.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The upstream's end.
    pub(crate) upstream: Switched,
    /// What is judged again while it is open.
    pub(crate) standing: StreamAuthorization,
    /// Its limits.
    pub(crate) limits: Limits,
    /// Up to how many bytes of a message are held to be judged, if messages are.
    pub(crate) judged: Option<usize>,
}

/// A tunnel. Its record ends with it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    upstream: Switched,
    limits: Limits,
    judged: Option<usize>,
    live: Live,
    trail: Trail,
}

impl Tunnel {
    /// Enters the tunnel among the live streams.
    pub(crate) fn begin(opening: Opening, streams: &Rc<Streams>, trail: Trail) -> Box<Self> {
        let Opening {
            upstream,
            standing,
            limits,
            judged,
        } = opening;
        let live = streams.begin(Kind::Websocket, standing);
        Box::new(Self {
            upstream,
            limits,
            judged,
            live,
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
            judged,
            live,
            mut trail,
        } = *self;
        let up = match judged {
            None => Pipe::new(unread),
            Some(limit) => {
                let messages = Messages::new(limit, live.standing().needs_token());
                Pipe::judged(&unread, messages)
            }
        };
        let mut talk = Talk::new(up, std::mem::take(&mut upstream.unread));
        let cause = talk
            .run(
                &mut upstream.stream,
                &mut client,
                &live,
                &limits,
                &mut trail,
            )
            .await;
        live.ends_by(cause);
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
        trail.stream = Some((live.kind(), cause));
        drop((upstream, live, trail));
        if !matches!(cause, Cause::ClientGone | Cause::Stalled) {
            let awaits_answer = talk.ending.is_some();
            let _ = timeout(GRACE, leave(&mut client, awaits_answer, &mut talk.up)).await;
        }
    }
}
