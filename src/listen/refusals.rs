//! Counts and logs the connections that were ended in favour of others.

use std::net::IpAddr;

use crate::gateway::ended::{CountedLine, EndCause};
use crate::gateway::metrics::Metrics;

static OVER_SHARE: CountedLine = CountedLine::new();
static OVER_RATE: CountedLine = CountedLine::new();
static SHED: CountedLine = CountedLine::new();
static SHARE_SHED: CountedLine = CountedLine::new();
static UNSENT: CountedLine = CountedLine::new();

/// Counts a connection that was ended, and logs it at a limited rate with the last client's
/// address.
pub(super) fn note(cause: EndCause, address: Option<IpAddr>, metrics: &Metrics) {
    metrics.ended(cause);
    let (line, message) = match cause {
        EndCause::AddressShare | EndCause::NetworkShare => (
            &OVER_SHARE,
            "a client has its share of the connections, so a further one was closed; if it is an HTTP proxy that sets `X-Forwarded-For`, add it to `trusted_proxies.from`; if it passes on connections of many clients, raise `connections.max_per_address`",
        ),
        EndCause::HandshakeRate => (
            &OVER_RATE,
            "a client begins TLS handshakes too fast, so a connection was closed; if it is an HTTP proxy that sets `X-Forwarded-For`, add it to `trusted_proxies.from`; if it passes on connections of many clients, raise `connections.handshakes_per_address`",
        ),
        EndCause::IdleShed => (
            &SHED,
            "all connections are taken, so an idle one was ended; see `connections.max`",
        ),
        EndCause::ShareShed => (
            &SHARE_SHED,
            "all connections are taken and none is idle, so one of the client that has most was ended; see `connections.max` and `connections.max_per_address`",
        ),
        EndCause::Unsent => (
            &UNSENT,
            "clients do not take their answers, so the connection that held most was ended; see `connections.unsent_total`",
        ),
        EndCause::AdminFull | EndCause::AdminSlow => return,
    };
    if let Some(times) = line.count() {
        let address = address.map(|address| address.to_canonical().to_string());
        tracing::warn!(
            cause = cause.as_str(),
            address = address.as_deref(),
            times,
            "{message}"
        );
    }
}
