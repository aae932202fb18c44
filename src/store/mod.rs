//! The store: what replicas share, and what a process would like to find again after a restart.
//!
//! Decides:  what a store promises: the difference between "absent" and "unreachable", what a log of revocations is, and what an outage is.
//! Trusts:   nobody who can write the store; see `seal` for what such a person can and cannot do.
//! Not here: what records mean (whoever writes them), and what a request is answered during an outage (`outage`).

pub mod buckets;
pub mod limit;
pub mod memory;
pub mod metrics;
mod redis;
mod seal;

use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

pub use buckets::Buckets;
pub use limit::{Bucket, Draw, Level};
pub use memory::Memory;
pub use metrics::StoreMetrics;
pub use redis::Redis;

use crate::breaker::Outage;
use crate::clock;
use crate::metrics::labels;
use crate::policy::Config;
use crate::policy::storage::StoreChoice;

/// An answer of the store, in time. Boxed, because the store is chosen by the configuration; nothing on a request's warm path asks it.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unreachable>> + Send + 'a>>;

labels! {
    /// The store gave no usable answer. Never means "absent".
    pub enum Unreachable {
        /// There is no connection, or it broke during the command, which may have taken effect.
        Disconnected = "disconnected",
        /// No answer before the deadline. The command may have taken effect.
        Timeout = "timeout",
        /// No call was made, because recent ones were not answered.
        BreakerOpen = "breaker_open",
        /// A record is sealed with a key that this gateway does not list.
        UnknownKey = "unknown_key",
        /// Redis is out of memory. Nothing was written.
        Full = "full",
        /// Redis may evict records when it is full, so it is not trusted with any.
        Evicting = "evicting",
        /// Redis refused the command, or its answer is not understood.
        Answer = "answer",
    }

    /// The type of a record. It is part of the record's name and of what the seal covers, so that a record of one type is
    /// never taken for another. Its word never changes: existing records could not be opened any more.
    pub enum Kind {
        /// A key set as it was fetched, and when.
        KeySet = "key_set",
        /// An entry of the revocation log.
        Revocation = "revocation",
        /// A session.
        Session = "session",
        /// The sessions of one user.
        SessionIndex = "session_index",
        /// The refresh of one refresh token.
        Refresh = "refresh",
        /// A fact about a caller or a resource.
        Fact = "fact",
        /// The owner of a resource, learned from an upstream's answer and from nowhere else.
        Learned = "learned",
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Unreachable {}

/// What was under a name when it was read. [`Store::swap`] changes it only if it still is there.
#[derive(Clone, Eq, PartialEq)]
pub struct Version(Vec<Stored>);

/// What a store has under one of the places of a name, as it stands there: also what is expired, or not ours, is replaced and not just lost.
type Stored = Option<Vec<u8>>;

/// Tells nothing of what was there.
impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_absent = self.0.iter().all(Option::is_none);
        f.debug_struct("Version")
            .field("is_absent", &is_absent)
            .finish_non_exhaustive()
    }
}

/// What became of [`Store::swap`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Swap {
    /// It was written, and is of this version now.
    Done(Version),
    /// It had changed since it was read, or is gone. Nothing was written.
    Lost,
}

/// What [`Store::told`] gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// What somebody said.
    Message(Vec<u8>),
    /// From here on everything is heard, and nothing was before: what this process knows may be worthless, while the store was told.
    Began,
    /// The connection was lost, or there was too much to keep up with. The store may have lost what it was told, too.
    Missed,
}

/// Where the log of revocations stands. An epoch that differs, or a `seq` that went back, means that the store lost data or may have:
/// whoever followed the log reads all of it again, and writes back what it remembers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Position {
    /// Changes when the store was emptied, restarted, or replaced by another.
    pub epoch: u128,
    /// Number of the newest entry; 0 before the first.
    pub seq: u64,
}

/// What is appended to the log of revocations.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Identifies the revocation: two entries of one name are one revocation, and the one that expires later stays.
    pub name: &'a [u8],
    /// What it says.
    pub record: &'a [u8],
    /// Unix time in seconds from which on it means nothing any more.
    pub expires: i64,
}

/// One entry of the log, opened.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Logged {
    /// Its number. Numbers rise, with gaps: an entry that was written again has a new one, one that expired is gone.
    pub seq: u64,
    /// What [`Entry::record`] was.
    pub record: Vec<u8>,
    /// What [`Entry::expires`] was.
    pub expires: i64,
}

/// The store that the configuration chose. To be called inside the background runtime, where what looks after it will run.
///
/// # Errors
///
/// Keys, certificates or addresses that cannot be used. A server that is not there is no error: it is waited for.
pub fn open(config: &Config, metrics: &Arc<StoreMetrics>) -> anyhow::Result<Arc<dyn Store>> {
    match &config.store {
        StoreChoice::Memory => {
            metrics.is_up(true);
            tracing::info!(
                store = "this process",
                "store: for one replica, and until it ends"
            );
            Ok(Arc::new(Memory::new(memory::CAPACITY, clock::unix_now)))
        }
        StoreChoice::Redis(redis) => {
            tracing::info!(store = %redis.shown(), "store");
            let store: Arc<Redis> = Redis::start(redis, &config.keys, metrics.clone())?;
            Ok(store)
        }
    }
}

/// What replicas share. Every answer comes within a deadline of the store's own.
pub trait Store: Debug + Send + Sync {
    /// The value under a name, or `None` if there is none, it has expired, or what is there is not a record of ours.
    ///
    /// # Errors
    ///
    /// It could not be found out.
    fn get<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, Option<Vec<u8>>>;

    /// Puts a value under a name, until `expires` (Unix time in seconds).
    ///
    /// # Errors
    ///
    /// It is not known to be stored.
    fn put<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, ()>;

    /// What [`Store::get`] gives, and the version it has: of what is absent, too.
    ///
    /// # Errors
    ///
    /// It could not be found out.
    fn read<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, (Option<Vec<u8>>, Version)>;

    /// Puts a value under a name if it still has this version: of writers that read the same, one wins. `expires` is in Unix
    /// *milliseconds*; the record may be seen for a second longer. A record that somebody else removed stays removed, unless the version is
    /// of an absent one.
    ///
    /// # Errors
    ///
    /// It is not known to be stored, and may be: read again to find out.
    fn swap<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        version: &'a Version,
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, Swap>;

    /// Removes what is under a name, if there is anything.
    ///
    /// # Errors
    ///
    /// It is not known to be gone.
    fn remove<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, ()>;

    /// Asks buckets for places, exactly: what replicas take together is never more than a rate allows. Where one bucket says no, none is
    /// changed, and [`Level::is_admitted`] tells which. The levels come in the order of the buckets, whose names should all differ.
    ///
    /// # Errors
    ///
    /// It is not known whether the places were taken.
    fn admit<'a>(&'a self, buckets: &'a [Bucket<'a>]) -> Answer<'a, Vec<Level>>;

    /// Appends revocations to the log, in this order, tells whoever follows the log, and says where it stands now. An entry whose name is
    /// there already with no earlier expiry, and an entry that has expired, change nothing: so replicas may all write back what they
    /// remember. No reader sees a later entry before an earlier one.
    ///
    /// # Errors
    ///
    /// Not all of them are known to be stored. Some may be; append all of them again.
    fn append<'a>(&'a self, entries: &'a [Entry<'a>]) -> Answer<'a, Position>;

    /// Where the log stands, and how many of its entries expire later than `at` (Unix time in seconds). Who knows more than that many
    /// such entries knows of one that somebody deleted.
    ///
    /// # Errors
    ///
    /// It could not be found out.
    fn position(&self, at: i64) -> Answer<'_, (Position, u64)>;

    /// The entries after number `seq`, oldest first, at most `limit` of them, so that `log_after(0, …)` in pages is the whole log. What
    /// has expired is left out, and so is what is not ours (counted as a security event). The second value is the number to go on with;
    /// `None` after the last page. A page may be empty and not the last.
    ///
    /// # Errors
    ///
    /// It could not be read, or an entry was sealed with a key that this gateway does not list.
    fn log_after(&self, seq: u64, limit: usize) -> Answer<'_, (Vec<Logged>, Option<u64>)>;

    /// Woken by every `seq` that somebody appended, and whenever the connection is made again. Messages may be lost, and numbers may be
    /// wrong: who waits here also asks for the position.
    fn pushes(&self) -> watch::Receiver<u64>;

    /// Says something to every process that has this store, this one included. It is not sealed, and may be lost on the way: it may only ever
    /// make somebody look again. A store of one process has nobody to tell.
    ///
    /// # Errors
    ///
    /// Nobody may have heard of it.
    fn tell<'a>(&'a self, _message: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// What is told from now on. Ends at once for a store of one process.
    fn told(&self) -> broadcast::Receiver<Heard> {
        broadcast::Sender::new(1).subscribe()
    }

    /// Whether it answers, and if not, since when.
    fn outage(&self) -> Outage;
}
