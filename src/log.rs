//! Where log lines go: standard output (of `demo`: standard error), one JSON object per line, written by a thread of its own.
//!
//! Decides: that a slow reader loses lines, counted, rather than slowing requests down. Trusts: whoever writes a line to have kept secrets out of it.
//! Not here: what a line says (`record`, and `tracing` for everything that is not a request).

use std::io::{self, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Batches that may wait. With batches of up to 128 KiB this bounds the memory at 32 MiB.
const QUEUE: usize = 256;

/// How long the end of the process waits for the reader. A reader that is gone must not keep it alive; one second is a choice.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Seconds between two log lines of one kind that is [told sparingly](Sparing).
const TELLING: i64 = 10;

/// A kind of log line that must not fill the log, which strangers, whoever can write the store, or a server that is away for hours could do
/// otherwise. What it is about is counted each time, or written elsewhere.
#[derive(Debug)]
pub(crate) struct Sparing {
    /// When it was written last, in Unix seconds.
    last: AtomicI64,
}

impl Sparing {
    /// One that was never written.
    pub(crate) const fn new() -> Self {
        Self {
            last: AtomicI64::new(0),
        }
    }

    /// Whether it may be written at `now`, in Unix seconds. Of several that ask at once one may.
    pub(crate) fn may_tell(&self, now: i64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let is_due = now >= last.saturating_add(TELLING);
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
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts the writer.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread.
    pub fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, entries) = sync_channel::<Entry>(QUEUE);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                for entry in entries {
                    match entry {
                        // A closed output leaves nowhere to complain.
                        Entry::Lines(lines) => {
                            drop(out.write_all(&lines).and_then(|()| out.flush()))
                        }
                        Entry::Flush(done) => drop(done.send(())),
                    }
                }
            })?;
        Ok(Self { queue })
    }

    /// Hands lines over; where the writer is too far behind, drops them and counts them in `dropped`.
    pub fn write(&self, lines: Vec<u8>, dropped: &IntCounter) {
        if let Err(error) = self.queue.try_send(Entry::Lines(lines)) {
            let lost = match error {
                std::sync::mpsc::TrySendError::Full(Entry::Lines(lines))
                | std::sync::mpsc::TrySendError::Disconnected(Entry::Lines(lines)) => {
                    lines.iter().filter(|&&byte| byte == b'\n').count()
                }
                std::sync::mpsc::TrySendError::Full(Entry::Flush(_))
                | std::sync::mpsc::TrySendError::Disconnected(Entry::Flush(_)) => 0,
            };
            dropped.inc_by(u64::try_from(lost).unwrap_or(u64::MAX));
        }
    }

    /// Waits until everything handed over so far is written, or the reader has had its second. For the end of the process.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let queue = self.queue.clone();
        // The queue may be full for good, and waiting for a place in it knows no deadline.
        let asking = thread::Builder::new().spawn(move || queue.send(Entry::Flush(done)));
        if asking.is_ok() {
            let _ = wait.recv_timeout(LAST_WORDS);
        }
    }

    /// Sends `tracing` events, too, to this log. `RUST_LOG` chooses; `info` is the default.
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

/// The same time format as request lines.
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

/// Collects one event.
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
    fn what_is_told_sparingly_is_told_at_once_and_then_every_ten_seconds() {
        let sparing = Sparing::new();
        let told = |now: i64| sparing.may_tell(1_800_000_000 + now);
        assert_eq!(
            [0, 0, 9, 10, 11, 19, 20].map(told),
            [true, false, false, true, false, false, true]
        );
    }
}
