//! How accepting goes on after a failure.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::ended::CountedLine;
use super::metrics::Metrics;

/// How long to wait before the next attempt when the system is out of descriptors or memory: only
/// a connection that ends gives one back. A tenth of a second is a choice.
const PAUSE: Duration = Duration::from_millis(100);

static FAILED: CountedLine = CountedLine::new();

/// Counts a failure of `accept`, logs it at a limited rate, and returns how long to wait before the
/// next attempt; `None` if only the connection at the head of the queue had failed.
pub(crate) fn accept_failed(error: &io::Error, metrics: &Metrics) -> Option<Duration> {
    metrics.accept_failed();
    let is_exhausted = match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => true,
        Some(_) | None => false,
    };
    if let Some(times) = FAILED.count() {
        tracing::warn!(
            %error,
            times,
            "cannot accept connections; if too few file descriptors are left, raise `LimitNOFILE=` (systemd) or `ulimit -n`"
        );
    }
    is_exhausted.then_some(PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exhaustion_makes_accepting_wait() {
        let metrics = Metrics::new().expect("names are free");
        let waits = |errno: Errno| accept_failed(&errno.into(), &metrics).is_some();
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(waits(errno), "{errno}");
        }
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO] {
            assert!(!waits(errno), "{errno}");
        }
    }
}
