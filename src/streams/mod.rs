//! Live streams: answers that last as long as their request would still be authorized.
//!
//! Decides: how a stream's client is told that it ends. Trusts: [`crate::live`] for when one must
//! end. Not here: opening one; a stream begins as an ordinary request that passed every layer.
//!
//! This gateway ends a stream when its token or session expires, when a revocation names it, when
//! the configuration in force would refuse its request, when it reaches a time limit, or when the
//! process ends; and for no other reason. A newer token of the same session that was verified here
//! prolongs it. An outage ends no stream: while a dependency that must be asked is unavailable, the
//! last authorization stays.
//!
//! | stream | how the client is told | when |
//! |---|---|---|
//! | WebSocket | close code 4401, and the reason's public code | the proof is invalid: expired, revoked, its issuer or key removed |
//! | | close code 4403 | the configuration in force denies the request |
//! | | close codes 1002, 1009 | messages are inspected, and one is malformed or too long |
//! | | close code 1013 | messages are inspected, and a token cannot be verified now |
//! | | close code 1001 | the process ends, or a time limit was reached |
//! | SSE | `event: foregate` with `data: {"code":"…","status":…}` | the same; `status` is that of the refusal |
//! | gRPC | trailers with `grpc-status` 16, 7 or 14, and `grpc-message` | the same |
//! | any other answer, once it has lasted | it breaks off, and does not look complete | the proof is invalid, or the request is denied |
//!
//! A close frame or last event is inserted between two others, never inside one. If the current one
//! does not end within a second, the stream is aborted without a message. A compressed answer has
//! no room for an event, and is aborted, too.

mod answer;
mod events;
mod frames;
mod messages;
mod phoenix;
mod pipe;
mod scratch;
mod tunnel;

pub(crate) use answer::LiveStream;
pub(crate) use scratch::Scratch;
pub(crate) use tunnel::{Limits as TunnelLimits, PendingTunnel, Tunnel};
