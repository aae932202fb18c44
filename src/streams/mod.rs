//! StreamHandle streams: answers that go on for as long as their proof does.
//!
//! Decides: which answers are such streams, when one must end, and how its client is told. Trusts:
//! [`crate::auth::Chain`] to judge again. Not here: opening one; a stream begins as an ordinary
//! request that passed every layer.
//!
//! A stream ends when its proof is accepted no longer, when a revocation names it, or when the
//! configuration in force would refuse the request it began with; nothing else ends it from our
//! side but its time limits and the end of the process. A newer token of the same session that was
//! verified here prolongs it. While something that must be asked is away, nothing is known, and
//! nothing is ended.
//!
//! | stream | is told | what for |
//! |---|---|---|
//! | WebSocket | close code 4401, and the reason's public code | the proof is gone: expired, revoked, its issuer or key removed |
//! | | close code 4403 | the configuration in force denies it |
//! | | close codes 1002, 1009 | where messages are judged: one that cannot be read, or that is too long |
//! | | close code 1013 | where messages are judged: a token cannot be judged now |
//! | | close code 1001 | the process ends, or a time limit was reached |
//! | SSE | `event: foregate` with `data: {"code":"…","status":…}` | the same; `status` is that of the refusal |
//! | gRPC | trailers with `grpc-status` 16, 7 or 14, and `grpc-message` | the same |
//!
//! A last frame or event is sent between two others, never inside one. If the one that is under way
//! does not end within a second, the stream is broken off without a word. In an answer that is
//! compressed no event can be told, and it is broken off, too.

mod answer;
mod ending;
mod events;
mod frames;
mod messages;
mod metrics;
mod phoenix;
mod pipe;
mod registry;
mod scratch;
mod tunnel;

pub(crate) use answer::LiveStream;
pub use metrics::StreamMetrics;
pub(crate) use registry::Streams;
pub(crate) use tunnel::{Limits as TunnelLimits, PendingTunnel, Tunnel};
