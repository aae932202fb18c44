//! Conditional replacement of a record: two scripts, each of which runs atomically.
//!
//! While keys are rotated a name has several places, and replicas may disagree on which one is the
//! first. A version is the bytes under each place. A writer empties the other places in the same
//! step, so there is one record at most, and comparing all places compares that one.

use fred::types::Value;

use super::command::{Reply, script};
use super::{LONGEST_RECORD, Redis};
use crate::store::contract::{Kind, Stored, Swap, Unreachable, Version};
use crate::store::metrics::Command;

const READ: &str = concat!(include_str!("stored.lua"), include_str!("read.lua"));
const SWAP: &str = concat!(include_str!("stored.lua"), include_str!("swap.lua"));

/// Prefixes of the scripts' answers: `b` precedes the bytes of a string, `o` replaces a value of
/// another type, which no gateway wrote.
const BYTES: u8 = b'b';
const OTHER: &[u8] = b"o";

impl Redis {
    pub(super) async fn read_version(
        &self,
        kind: Kind,
        name: &[u8],
    ) -> Result<(Option<Vec<u8>>, Version), Unreachable> {
        let keys = self.seals.names(kind, name);
        let places: Vec<&str> = keys.iter().map(String::as_str).collect();
        let longest = vec![LONGEST_RECORD.to_string().into()];
        let call = || script(self.single(), READ, &places, longest);
        let Reply::Value(Value::Array(found)) = self.call(Command::Read, call).await? else {
            return Err(Unreachable::Answer);
        };
        let stored: Vec<Stored> = found.into_iter().map(stored).collect();
        if stored.len() != keys.len() {
            return Err(Unreachable::Answer);
        }
        let mut value = None;
        for (key, stored) in keys.iter().zip(&stored) {
            let Some(stored) = stored else { continue };
            match stored.split_first() {
                Some((&BYTES, record)) => value = self.open(kind, key, record)?,
                _ => self.tampered(kind),
            }
            if value.is_some() {
                break;
            }
        }
        Ok((value, Version(stored)))
    }

    pub(super) async fn swap_version(
        &self,
        kind: Kind,
        name: &[u8],
        version: &Version,
        value: &[u8],
        expires: i64,
    ) -> Result<Swap, Unreachable> {
        let keys = self.seals.names(kind, name);
        let places: Vec<&str> = keys.iter().map(String::as_str).collect();
        let first = keys.first().ok_or(Unreachable::UnknownKey)?;
        let seconds = expires.saturating_add(999).div_euclid(1000);
        let record = self.seals.seal(kind, first, 0, seconds, value)?;
        if i64::try_from(record.len()).is_ok_and(|length| length > LONGEST_RECORD) {
            return Err(Unreachable::Full);
        }
        let mut arguments: Vec<Value> = vec![
            LONGEST_RECORD.to_string().into(),
            Value::Bytes(record.clone().into()),
            expires.to_string().into(),
        ];
        let seen = version.0.iter().cloned();
        arguments.extend(seen.map(|stored| Value::Bytes(stored.unwrap_or_default().into())));
        let call = || script(self.single(), SWAP, &places, arguments);
        match self.call(Command::Swap, call).await? {
            Reply::Value(Value::Integer(1)) => {
                let mut now = vec![None; keys.len()];
                if let Some(first) = now.first_mut() {
                    *first = Some([&[BYTES], record.as_slice()].concat());
                }
                Ok(Swap::Done(Version(now)))
            }
            Reply::Value(Value::Integer(0)) => Ok(Swap::Conflict),
            Reply::Value(_) | Reply::Other => Err(Unreachable::Answer),
        }
    }
}

/// The content of one place, from a script's answer.
fn stored(answer: Value) -> Stored {
    let answer = answer.into_bytes().unwrap_or(OTHER.into());
    (!answer.is_empty()).then(|| answer.to_vec())
}
