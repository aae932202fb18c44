//! How hyper is configured for HTTP/2.

use hyper::server::conn::http2;

use crate::policy::listen::Connections;
use crate::upstream::http2::channel::LocalExecutor;

/// How many malformed requests a connection may send before it is ended with all its streams.
/// Behind a proxy that multiplexes they are those of many clients, over days. A choice.
const MALFORMED: usize = 1000;

pub(super) fn h2_builder(limits: &Connections) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    // No HTTP/2 pings: the kernel probes a silent peer, or whichever proxy terminates its TCP, and
    // no frame has to note when the peer was last active.
    builder
        .max_concurrent_streams(limits.h2_streams)
        .max_pending_accept_reset_streams(limits.h2_resets)
        .max_local_error_reset_streams(MALFORMED)
        .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
        // The windows of an ordinary upload; memory per connection stays below a few of them.
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024);
    builder
}
