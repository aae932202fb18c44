//! What every store does, and what it answers.

use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;

use tokio::sync::{broadcast, watch};

use crate::breaker::Outage;
use crate::fault::Fault;
use crate::metrics::labels;
use crate::store::limit::{Bucket, Level};

/// The store's answer, within its deadline. Boxed, because the configuration chooses the store;
/// nothing on a request's warm path calls it.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unreachable>> + Send + 'a>>;

/// The content of a record when it was read. [`Store::swap`] replaces the record only if this is
/// still its content.
#[derive(Clone, Eq, PartialEq)]
pub struct Version(pub(super) Vec<Stored>);

/// The raw content of one of the places of a name. It includes expired and foreign content, so that
/// a swap replaces that deliberately and not by accident.
pub(super) type Stored = Option<Vec<u8>>;

/// Shows nothing of the content.
impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_absent = self.0.iter().all(Option::is_none);
        f.debug_struct("Version")
            .field("is_absent", &is_absent)
            .finish_non_exhaustive()
    }
}

/// Result of [`Store::swap`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Swap {
    /// It was written; this is its new version.
    Done(Version),
    /// The record changed after it was read, or is gone. Nothing was written.
    Conflict,
}

/// A notice from [`Store::notices`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// A message of another process, or of this one.
    Message(Vec<u8>),
    /// The first connection for notices is up, or its subscription was refused. Earlier notices
    /// were not received, so what this process has cached may be stale.
    Began,
    /// The connection was lost, or the receiver is too slow. Messages of this process may be lost,
    /// too.
    Missed,
}

/// The position of the revocation log. A different epoch, or a lower `seq`, means that the store
/// lost data or may have: every follower reads the whole log again, and writes back what it holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Position {
    /// Changes when the store is emptied, restarted, or replaced by another.
    pub epoch: u128,
    /// Number of the newest entry; 0 before the first.
    pub seq: u64,
}

/// An entry for the revocation log.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Identifies the revocation: two entries with one name are one revocation, and the later
    /// expiry is kept.
    pub name: &'a [u8],
    /// The revocation, encoded.
    pub record: &'a [u8],
    /// Unix time in seconds from which the entry has no effect.
    pub expires: i64,
}

/// An entry of the log, decrypted.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Logged {
    /// Its number. Numbers increase, with gaps: an entry that is written again gets a new number,
    /// and an expired one is removed.
    pub seq: u64,
    /// See [`Entry::record`].
    pub record: Vec<u8>,
    /// See [`Entry::expires`].
    pub expires: i64,
}

/// State shared by replicas. Every answer arrives within the store's own deadline.
pub trait Store: Debug + Send + Sync {
    /// The value stored under a name, or `None` if there is none, it has expired, or the record is
    /// not authentic.
    ///
    /// # Errors
    ///
    /// The store gave no usable answer.
    fn get<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, Option<Vec<u8>>>;

    /// Stores a value under a name until `expires` (Unix time in seconds).
    ///
    /// # Errors
    ///
    /// The value may not be stored.
    fn put<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, ()>;

    /// The same as [`Store::get`], with the record's version. An absent record has a version, too.
    ///
    /// # Errors
    ///
    /// The store gave no usable answer.
    fn read<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, (Option<Vec<u8>>, Version)>;

    /// Stores a value under a name if the record still has this version: of several writers that
    /// read the same version, one wins. `expires` is in Unix *milliseconds*; the record may stay
    /// visible for a second longer. A record that another writer removed stays removed, unless the
    /// version is that of an absent record.
    ///
    /// # Errors
    ///
    /// The value may or may not be stored: read again to find out.
    fn swap<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        version: &'a Version,
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, Swap>;

    /// Removes the record of a name, if there is one.
    ///
    /// # Errors
    ///
    /// The record may still be there.
    fn remove<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, ()>;

    /// Applies draws to rate-limit buckets, exactly: all replicas together never take more than a
    /// rate allows. If one bucket refuses, no bucket is changed, and [`Level::is_admitted`] says
    /// which one it was. The levels come in the order of the buckets, whose names should all
    /// differ.
    ///
    /// # Errors
    ///
    /// The draws may or may not have been applied.
    fn admit<'a>(&'a self, buckets: &'a [Bucket<'a>]) -> Answer<'a, Vec<Level>>;

    /// Appends revocations to the log, in this order, notifies the followers of the log, and
    /// returns its new position. An entry whose name is there already with the same or a later
    /// expiry, and an expired entry, change nothing: so all replicas may write back what they hold.
    /// No reader sees a later entry before an earlier one.
    ///
    /// # Errors
    ///
    /// Not all of them may be stored. Append all of them again.
    fn append<'a>(&'a self, entries: &'a [Entry<'a>]) -> Answer<'a, Position>;

    /// The same as [`Store::append`], but an entry whose name is there with a *later* expiry
    /// replaces it, and one whose name is there with the same or an earlier expiry changes nothing.
    /// A store that cannot do this keeps the later expiry, which refuses no less.
    ///
    /// # Errors
    ///
    /// Not all of them may be stored. Append all of them again.
    fn shorten<'a>(&'a self, entries: &'a [Entry<'a>]) -> Answer<'a, Position> {
        self.append(entries)
    }

    /// The position of the log, and how many of its entries expire later than `at` (Unix time in
    /// seconds). A replica that knows more such entries than that knows one that was deleted.
    ///
    /// # Errors
    ///
    /// The store gave no usable answer.
    fn position(&self, at: i64) -> Answer<'_, (Position, u64)>;

    /// The entries after number `seq`, oldest first, at most `limit` of them: from 0, page by page,
    /// that is the whole log. Expired entries are left out, and so are entries that are not
    /// authentic (counted as a security event). The second value is the number to continue from;
    /// `None` after the last page. A page may be empty without being the last.
    ///
    /// # Errors
    ///
    /// The log could not be read, or an entry is sealed with a key that this gateway does not list.
    fn log_after(&self, seq: u64, limit: usize) -> Answer<'_, (Vec<Logged>, Option<u64>)>;

    /// Changes with every `seq` that is appended, and whenever the connection is restored. Messages
    /// may be lost, and numbers may be wrong: whoever waits here also polls the position.
    fn pushes(&self) -> watch::Receiver<u64>;

    /// Publishes a message to every process with this store, this one included. It is not sealed,
    /// and may be lost: it may only ever cause a fresh look-up. A store of one process has no other
    /// process to notify.
    ///
    /// # Errors
    ///
    /// The message may have reached no process.
    fn publish<'a>(&'a self, _message: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Notices from now on. Ends at once for a store of one process.
    fn notices(&self) -> broadcast::Receiver<Notice> {
        broadcast::Sender::new(1).subscribe()
    }

    /// Whether the store is reachable, and if not, since when.
    fn outage(&self) -> Outage;

    /// When this machine was started, by the store's clock: Unix time in microseconds. `None` if
    /// the store has no clock of its own, or has not told the time within the last seconds.
    fn boot_time(&self) -> Option<i64> {
        None
    }

    /// Why the store cannot be used, as far as that is known; `None` while it can.
    fn fault(&self) -> Option<Fault> {
        None
    }
}

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

    /// The type of a record. It is part of the record's name and of what the seal covers, so that a
    /// record of one type is never taken for another. Its word never changes: existing records
    /// could not be opened any more.
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
