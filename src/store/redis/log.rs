//! The revocation log in Redis: three scripts, each of which runs atomically.
//!
//! The number of an entry is inside its seal, so that entries cannot be reordered. Therefore a
//! replica guesses the number before Redis assigns it, and the script says whether the guess was
//! right. In a quiet log it is, and an append is one round trip.

use std::sync::atomic::Ordering;

use aws_lc_rs::{digest, rand};
use fred::types::Value;

use super::Redis;
use super::command::{Reply, script};
use crate::store::contract::{Entry, Kind, Logged, Position, Unreachable};
use crate::store::metrics::Command;
use crate::store::seal::Broken;

const APPEND: &str = concat!(include_str!("prelude.lua"), include_str!("append.lua"));
const POSITION: &str = concat!(include_str!("prelude.lua"), include_str!("position.lua"));
const PAGE: &str = include_str!("page.lua");
const REMOVE: &str = "return redis.call('ZREM', KEYS[1], unpack(ARGV))";

/// The longest entry of the log. Its longest part comes from a token, which has at most 8 KiB.
const LONGEST_ENTRY: usize = 32 << 10;

/// The most entries in one page or one append.
const PAGE_SIZE: usize = 500;

/// How often an append is retried with a new number; after each failed attempt some other replica
/// made progress.
const ATTEMPTS: usize = 64;

/// Which expiry a name keeps if the log has one already.
#[derive(Clone, Copy)]
pub(super) enum KeptExpiry {
    Later,
    Earlier,
}

impl KeptExpiry {
    /// The word that `append.lua` knows.
    const fn word(self) -> &'static str {
        match self {
            Self::Later => "later",
            Self::Earlier => "earlier",
        }
    }
}

/// Names in Redis of the log. They reveal nothing and do not depend on a key, so that all replicas
/// use one log while keys are rotated.
pub(super) struct LogNames {
    position: String,
    entries: String,
    names: String,
    expiries: String,
    pub(super) channel: String,
}

impl LogNames {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |what| format!("{prefix}:{{revocations}}:{what}");
        Self {
            position: name("position"),
            entries: name("log"),
            names: name("names"),
            expiries: name("expiries"),
            channel: name("pushes"),
        }
    }

    fn keys(&self) -> [&str; 4] {
        [&self.position, &self.entries, &self.names, &self.expiries]
    }
}

impl Redis {
    pub(super) async fn append_all(
        &self,
        entries: &[Entry<'_>],
        kept: KeptExpiry,
    ) -> Result<Position, Unreachable> {
        let now = (self.now)();
        let entries: Vec<&Entry<'_>> = entries.iter().filter(|entry| entry.expires > now).collect();
        let mut position = None;
        for some in entries.chunks(PAGE_SIZE) {
            position = Some(self.append_some(some, kept, now).await?);
        }
        match position {
            Some(position) => Ok(position),
            None => self.log_position(now).await.map(|(position, _)| position),
        }
    }

    /// Appends with a guessed first number, and guesses again if another replica was faster.
    async fn append_some(
        &self,
        entries: &[&Entry<'_>],
        kept: KeptExpiry,
        now: i64,
    ) -> Result<Position, Unreachable> {
        for _ in 0..ATTEMPTS {
            let after = self.newest.load(Ordering::Relaxed);
            let arguments = self.append_arguments(entries, kept, after, now)?;
            let keys = self.log.keys();
            let call = || script(self.bulk(), APPEND, &keys, arguments);
            let answer = texts(self.call(Command::Append, call).await?)?;
            let [done, epoch, run, seq] = answer.as_slice() else {
                return Err(Unreachable::Answer);
            };
            let position = self.read_position(epoch, run, seq)?;
            if done == "1" {
                return Ok(position);
            }
        }
        Err(Unreachable::Timeout)
    }

    /// The arguments of `append.lua`, with the entries sealed for the numbers behind `after`.
    fn append_arguments(
        &self,
        entries: &[&Entry<'_>],
        kept: KeptExpiry,
        after: u64,
        now: i64,
    ) -> Result<Vec<Value>, Unreachable> {
        let names_per_entry = self.seals.names(Kind::Revocation, b"").len();
        let mut arguments: Vec<Value> = vec![
            new_epoch()?.into(),
            now.to_string().into(),
            after.to_string().into(),
            self.log.channel.as_str().into(),
            names_per_entry.to_string().into(),
            kept.word().into(),
        ];
        for (seq, entry) in (after + 1..).zip(entries) {
            let sealed = self.seals.seal(
                Kind::Revocation,
                &self.log.entries,
                seq,
                entry.expires,
                entry.record,
            )?;
            if sealed.len() > LONGEST_ENTRY {
                return Err(Unreachable::Full);
            }
            arguments.push(entry.expires.to_string().into());
            arguments.push(Value::Bytes(sealed.into()));
            let names = self.seals.names(Kind::Revocation, entry.name);
            arguments.extend(names.into_iter().map(Value::from));
        }
        Ok(arguments)
    }

    pub(super) async fn log_position(&self, at: i64) -> Result<(Position, u64), Unreachable> {
        let arguments = vec![new_epoch()?.into(), at.to_string().into()];
        let keys = self.log.keys();
        let call = || script(self.single(), POSITION, &keys, arguments);
        let answer = texts(self.call(Command::Position, call).await?)?;
        let [_, epoch, run, seq, entries] = answer.as_slice() else {
            return Err(Unreachable::Answer);
        };
        let entries = entries.parse().map_err(|_| Unreachable::Answer)?;
        Ok((self.read_position(epoch, run, seq)?, entries))
    }

    fn read_position(&self, epoch: &str, run: &str, seq: &str) -> Result<Position, Unreachable> {
        let seq = seq.parse().map_err(|_| Unreachable::Answer)?;
        self.newest.store(seq, Ordering::Relaxed);
        let both = format!("{epoch} {run}");
        let digest = digest::digest(&digest::SHA256, both.as_bytes());
        let epoch = digest.as_ref().first_chunk().ok_or(Unreachable::Answer)?;
        Ok(Position {
            epoch: u128::from_be_bytes(*epoch),
            seq,
        })
    }

    pub(super) async fn page(
        &self,
        seq: u64,
        limit: usize,
    ) -> Result<(Vec<Logged>, Option<u64>), Unreachable> {
        let limit = limit.clamp(1, PAGE_SIZE);
        let numbers = [seq, limit as u64, LONGEST_ENTRY as u64];
        let arguments = numbers.map(|number| number.to_string().into());
        let entries = [self.log.entries.as_str()];
        let call = || script(self.bulk(), PAGE, &entries, arguments.into());
        let Reply::Value(Value::Array(found)) = self.call(Command::Page, call).await? else {
            return Err(Unreachable::Answer);
        };
        let is_last = found.len() < limit * 2;
        let (page, next, foreign) = self.open_page(&found, seq)?;
        // Removed, so that replicas that hold the entry notice its absence and write it back.
        if !foreign.is_empty() {
            let call = || script(self.bulk(), REMOVE, &entries, foreign);
            self.call(Command::Page, call).await?;
        }
        Ok((page, (!is_last).then_some(next)))
    }

    /// Opens the entries of a page. Returns those that have not expired, the number of the newest
    /// one (at least `seq`), and the entries that are not authentic.
    fn open_page(
        &self,
        found: &[Value],
        seq: u64,
    ) -> Result<(Vec<Logged>, u64, Vec<Value>), Unreachable> {
        let now = (self.now)();
        let (mut page, mut foreign) = (Vec::with_capacity(found.len() / 2), Vec::new());
        let mut next = seq;
        for pair in found.chunks_exact(2) {
            let [entry, number] = pair else { continue };
            // Without the mark of `page.lua`.
            let entry = entry.as_bytes().unwrap_or_default();
            let entry = entry.get(1..).unwrap_or_default();
            let opened = self.seals.open(Kind::Revocation, &self.log.entries, entry);
            match opened {
                Ok(opened) if number.as_u64() == Some(opened.seq) => {
                    next = next.max(opened.seq);
                    if opened.expires > now {
                        page.push(Logged {
                            seq: opened.seq,
                            record: opened.value,
                            expires: opened.expires,
                        });
                    }
                }
                Err(Broken::UnknownKey) => return Err(self.unknown_key()),
                Ok(_) | Err(Broken::Tampered) => {
                    self.tampered(Kind::Revocation);
                    if !entry.is_empty() {
                        foreign.push(Value::Bytes(entry.to_vec().into()));
                    }
                }
            }
        }
        Ok((page, next, foreign))
    }
}

/// The strings of a script's answer.
pub(super) fn texts(found: Reply) -> Result<Vec<String>, Unreachable> {
    let Reply::Value(Value::Array(values)) = found else {
        return Err(Unreachable::Answer);
    };
    values
        .into_iter()
        .map(|value| value.into_string().ok_or(Unreachable::Answer))
        .collect()
}

/// A random epoch for a new log.
pub(super) fn new_epoch() -> Result<String, Unreachable> {
    let mut epoch = [0; 16];
    rand::fill(&mut epoch).map_err(|_| Unreachable::Answer)?;
    Ok(format!("{:032x}", u128::from_be_bytes(epoch)))
}
