//! What is open: live streams, and other requests that last. Each is authorized again for as long
//! as it is open.
//!
//! Decides: when an open stream is authorized again, and that it ends if its request would be
//! refused now. Trusts: [`crate::auth::Chain`] for the authorization. Not here: how a client is
//! told of the end (`streams`).
//!
//! WebSockets, server-sent events and gRPC calls are registered when they begin. Any other request
//! of a proven user is registered once it has lasted for [`LASTING`], be it that the head of its
//! answer has not arrived, or that its answer has not ended. So a short request costs nothing here. A request that lasts before it is sent, because it
//! waits for its body or for a connection, is authorized again by the whole chain before anything of
//! it is sent: no write uses facts that are older than those of a new request.
//! A request without a user has no proof that could end.
//!
//! An event is followed in two steps. The first needs no lookup, and is done at once for all
//! streams that the event concerns: the route, the time and the key of the credential, the list of
//! revocations. The second is the whole chain with its lookups. It runs for a few streams at a
//! time, one of each caller ([`queue`]), so that no caller's old facts delay another one's end.
//!
//! | event | which streams | first step | whole chain |
//! |---|---|---|---|
//! | a token or session expires | its stream | at that second | then, too |
//! | the list of revocations has grown | every stream with a token or session | at once | if it needs lookups; every five seconds at most |
//! | another configuration is in force | every stream | spread over a second, so that a reload causes no burst | then, too |
//! | a stream is registered | that stream | at once | if another configuration is in force, or a fact was invalidated, since its request was authorized |
//! | the whole chain could not decide, because a dependency is unavailable | that stream | after a second, and after twice as long each time, up to 16 s | then, too |

mod ending;
mod handle;
mod metrics;
mod queue;
mod registry;
mod waiting;
mod watch;

use std::time::Duration;

pub(crate) use ending::Ending;
pub(crate) use handle::StreamHandle;
pub(crate) use metrics::StreamMetrics;
pub(crate) use registry::Streams;
pub(crate) use waiting::{AnswerAuthorization, Waiting};

/// How long a request may last before it is authorized again like a live stream. A choice: most
/// answers are complete long before, and a client that signs out should not receive data for much
/// longer.
pub(crate) const LASTING: Duration = Duration::from_secs(5);
