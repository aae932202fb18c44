//! Inputs and outputs of a replica.

use crate::metrics::labels;
use crate::revocation::target::{Name, Revocation};
use crate::store::{Logged, Position};

/// An input of a replica.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// A local revocation, or one that undoes another ([`Replica::undoing`](super::Replica::undoing)).
    Revoke(Revocation),
    /// The identity server confirmed the logouts of these revocations: from now on they need only
    /// last until the time that they have here.
    Shorten(Vec<Revocation>),
    /// A quarter of a second has passed.
    Poll,
    /// An entry was appended to the log, or the store is reachable again.
    Push,
    /// The position of the log, and the number of its entries that do not expire within
    /// [`MARGIN`](super::MARGIN).
    Position(Position, u64),
    /// A page of the log, and the number after which the next begins.
    Page(Vec<Logged>, Option<u64>),
    /// The append succeeded.
    Appended(Position),
    /// The store gave no usable answer.
    Unreachable,
}

/// An output of a replica.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Command {
    /// Add the entry to the list.
    Insert(Revocation, Source),
    /// Remove the entry from the list.
    Remove(Revocation),
    /// These are stored, and were read back: report it.
    Stored(Vec<Name>),
    /// These are not known to be stored yet: report it.
    Queued(Vec<Name>),
    /// Queued entries were replaced by a wider one; report them with it.
    Replaced {
        /// Their names.
        from: Vec<Name>,
        /// The name of the wider one.
        into: Name,
    },
    /// The list agreed with the log at the last poll.
    Confirmed,
    /// The log is read from the start.
    Reload(Cause),
    /// Coarsening saved this many entries.
    Coarsened(usize),
    /// Whether the list exceeds its capacity and nothing can be coarsened.
    Overfull(bool),
    /// The log keeps this many entries for a shorter time, since their logouts were confirmed.
    Shortened(usize),
    /// Whether the list is nearly full.
    NearlyFull(bool),
    /// An operator undid a revocation that this list has only as part of a wider entry, or with
    /// others merged into it.
    StillCovered(Name),
    /// This version cannot read an entry of the log. The list is not complete until a version that
    /// can replaces the entry.
    Foreign,
    /// This many entries were missing in the log and are written back.
    Missing(usize),
    /// Call for the position, and the number of entries that expire after this time.
    ReadPosition {
        /// Unix seconds.
        at: i64,
    },
    /// Read the entries after this number.
    ReadLog {
        /// The number.
        after: u64,
    },
    /// Append these to the log.
    Append(Vec<(Name, Revocation)>),
    /// Append these to the log, in place of entries with their names and later expiries.
    AppendShorter(Vec<(Name, Revocation)>),
}

/// The origin of an entry.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// A local revocation.
    Here,
    /// A new entry of another replica.
    News,
    /// It was in the log when the log was read from the start, or was restored.
    Reload,
    /// It replaces other entries.
    Coarsened,
}

labels! {
    /// Why the log is read from the start.
    pub enum Cause {
        /// The process started.
        Start = "start",
        /// The store is a different one, or was emptied.
        Epoch = "epoch",
        /// The store went back to an earlier state.
        Backwards = "backwards",
        /// The log has fewer entries than before. Only a check: the list stays complete.
        Count = "count",
    }
}
