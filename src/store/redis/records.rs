//! Sealed records: reading, writing and removing them under their hidden names.

use fred::interfaces::KeysInterface as _;
use fred::types::Expiration;

use super::command::Reply;
use super::{LONGEST_RECORD, Redis};
use crate::store::contract::{Kind, Unreachable};
use crate::store::metrics::Command;
use crate::store::seal::Broken;

impl Redis {
    /// Counts and logs a record that failed authentication.
    pub(super) fn tampered(&self, kind: Kind) {
        self.metrics.tampered(kind);
        if self.broken_records.may_log((self.now)()) {
            tracing::warn!(
                kind = kind.as_str(),
                "security: a record in Redis failed authentication; treating it as absent"
            );
        }
    }

    /// Counts and logs a record of a key that is not listed: it may be authentic.
    pub(super) fn unknown_key(&self) -> Unreachable {
        self.metrics.unreachable(Unreachable::UnknownKey);
        if self.broken_records.may_log((self.now)()) {
            tracing::error!(
                "a record in Redis is sealed with a key that is not in `keys`; list that key until its records have expired"
            );
        }
        Unreachable::UnknownKey
    }

    pub(super) async fn find(
        &self,
        kind: Kind,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, Unreachable> {
        for key in self.seals.names(kind, name) {
            let end = usize::try_from(LONGEST_RECORD).unwrap_or(0);
            let get = async || self.single().getrange(&key, 0, end).await;
            let record = match self.call(Command::Get, get).await? {
                Reply::Value(value) => value.into_bytes().unwrap_or_default(),
                Reply::Other => {
                    self.tampered(kind);
                    continue;
                }
            };
            if record.is_empty() {
                continue;
            }
            if let Some(value) = self.open(kind, &key, &record)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The value of a record; `None` if it has expired or is not authentic.
    pub(super) fn open(
        &self,
        kind: Kind,
        key: &str,
        record: &[u8],
    ) -> Result<Option<Vec<u8>>, Unreachable> {
        match self.seals.open(kind, key, record) {
            Ok(opened) if opened.expires > (self.now)() => Ok(Some(opened.value)),
            Ok(_) => Ok(None),
            Err(Broken::Tampered) => {
                self.tampered(kind);
                Ok(None)
            }
            Err(Broken::UnknownKey) => Err(self.unknown_key()),
        }
    }

    pub(super) async fn write(
        &self,
        kind: Kind,
        name: &[u8],
        value: &[u8],
        expires: i64,
    ) -> Result<(), Unreachable> {
        let mut names = self.seals.names(kind, name).into_iter();
        let name = names.next().ok_or(Unreachable::UnknownKey)?;
        let record = self.seals.seal(kind, &name, 0, expires, value)?;
        // A record left under the name of an older key would reappear when this one expires.
        let older: Vec<String> = names.collect();
        let expiration = Some(Expiration::EXAT(expires));
        let set = async || {
            let (single, record) = (self.single(), record.as_slice());
            single.set(&name, record, expiration, None, false).await
        };
        self.call(Command::Put, set).await?;
        self.delete(Command::Put, older).await
    }

    pub(super) async fn delete(
        &self,
        command: Command,
        names: Vec<String>,
    ) -> Result<(), Unreachable> {
        for name in names {
            let delete = async || self.single().del(name).await;
            self.call(command, delete).await?;
        }
        Ok(())
    }
}
