//! The log: standard output (for `demo` standard error), one JSON object per line, written by a
//! thread of its own.
//!
//! A slow reader loses lines, which are counted, and never slows requests down. `record` writes the
//! lines of requests, `tracing` all others; both must keep secrets out of them.

use std::io::{self, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How many batches may wait. With batches of up to 128 KiB this bounds the memory at 32 MiB.
const QUEUE: usize = 256;

/// How long shutdown waits for the reader. A reader that does not read must not keep the process
/// alive; one second is a choice.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Seconds between two log lines of one [`LogThrottle`].
const INTERVAL: i64 = 10;

/// The rate limit of one kind of log line, so that clients, whoever can write to the store, or a
/// server that is away for hours cannot flood the log. The events themselves are counted in
/// metrics, or logged elsewhere.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    /// When the line was last written, in Unix seconds.
    last: AtomicI64,
}

impl LogThrottle {
    /// A limit whose first line may be written at once.
    pub(crate) const fn new() -> Self {
        Self {
            last: AtomicI64::new(0),
        }
    }

    /// Whether the line may be written at `now`, in Unix seconds. Of several threads that ask at
    /// once, one gets true.
    pub(crate) fn may_log(&self, now: i64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        // A clock that was set back must not silence the line until it has caught up.
        let is_due = now >= last.saturating_add(INTERVAL) || now < last;
        is_due
            && self
                .last
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// A handle on the log.
#[derive(Clone, Debug)]
pub struct Log {
    queue: SyncSender<Entry>,
}

#[derive(Debug)]
enum Entry {
    Lines(Vec<u8>),
    /// Acknowledged when everything before it is written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// The operating system refuses to start a thread.
    pub fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, entries) = sync_channel::<Entry>(QUEUE);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                for entry in entries {
                    match entry {
                        // If the output is closed, there is nowhere to report it.
                        Entry::Lines(lines) => {
                            drop(out.write_all(&lines).and_then(|()| out.flush()))
                        }
                        Entry::Flush(done) => drop(done.send(())),
                    }
                }
            })?;
        Ok(Self { queue })
    }

    /// Queues lines for writing. If the queue is full, drops them and counts them in `dropped`.
    pub fn write(&self, lines: Vec<u8>, dropped: &IntCounter) {
        if let Err(error) = self.queue.try_send(Entry::Lines(lines)) {
            let count = match error {
                std::sync::mpsc::TrySendError::Full(Entry::Lines(lines))
                | std::sync::mpsc::TrySendError::Disconnected(Entry::Lines(lines)) => {
                    lines.iter().filter(|&&byte| byte == b'\n').count()
                }
                std::sync::mpsc::TrySendError::Full(Entry::Flush(_))
                | std::sync::mpsc::TrySendError::Disconnected(Entry::Flush(_)) => 0,
            };
            dropped.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }

    /// Waits until everything queued so far is written, for at most a second. For shutdown.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let queue = self.queue.clone();
        // The queue may stay full, and sending to it has no timeout.
        let sending = thread::Builder::new().spawn(move || queue.send(Entry::Flush(done)));
        if sending.is_ok() {
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    /// Sends `tracing` events to this log, too. `RUST_LOG` filters them; `info` is the default.
    pub fn subscribe(&self) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let _ = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_env_filter(filter)
            .with_timer(Now)
            .with_writer(self.clone())
            .try_init();
    }
}

/// The time format of request lines.
struct Now;

impl tracing_subscriber::fmt::time::FormatTime for Now {
    fn format_time(
        &self,
        writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
    ) -> std::fmt::Result {
        write!(writer, "{}", crate::clock::timestamp())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = EventWriter;

    fn make_writer(&'a self) -> EventWriter {
        EventWriter {
            queue: self.queue.clone(),
            line: Vec::new(),
        }
    }
}

/// Collects the bytes of one event.
#[derive(Debug)]
pub struct EventWriter {
    queue: SyncSender<Entry>,
    line: Vec<u8>,
}

impl Write for EventWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        let _ = self
            .queue
            .try_send(Entry::Lines(std::mem::take(&mut self.line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_line_is_written_at_once_and_then_every_ten_seconds() {
        let limit = LogThrottle::new();
        let may_write = |now: i64| limit.may_log(1_800_000_000 + now);
        assert_eq!(
            [0, 0, 9, 10, 11, 19, 20].map(may_write),
            [true, false, false, true, false, false, true]
        );
    }
}
