//! Listing the sessions of a user, and changing the index of them by compare-and-set.

use serde::Serialize;

use super::end::OwnSession;
use crate::policy::tokens::LARGEST_LEEWAY;
use crate::revocation::{CleanAt, Kind, Listed};
use crate::secrets::hex;
use crate::sessions::index::{Entry, Index};
use crate::sessions::lookup::{ATTEMPTS, Sessions};
use crate::sessions::record::{Carrier, InnerTokens, Origin, Session, SessionName};
use crate::store::{Kind as Record, Swap, Unreachable, Version};
use crate::tokens::claims_of;

/// A session as shown to its user. Times are in Unix milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct SessionInfo {
    /// Its name for [`SessionSelection::One`](super::SessionSelection::One): 64 hexadecimal digits,
    /// useless to anybody else.
    pub id: String,
    /// Whether a cookie or a bearer token carries it.
    pub carrier: Carrier,
    /// When it began.
    pub created: i64,
    /// When it was last used, to within a minute; `None` where that is not recorded.
    pub touched: Option<i64>,
    /// When it ends at the latest.
    pub ends: i64,
    /// Where it began.
    #[serde(flatten)]
    pub origin: Origin,
    /// Whether it is the caller's own.
    pub current: bool,
}

/// Parses a [`SessionInfo::id`]; `None` if it is not 64 hexadecimal digits.
pub fn name_of_id(id: &str) -> Option<SessionName> {
    hex::decode(id)
}

impl Sessions {
    /// The sessions of a user, newest first.
    ///
    /// # Errors
    ///
    /// The store is unreachable.
    pub async fn list(
        &self,
        issuer: &str,
        subject: &str,
        own: &OwnSession,
    ) -> Result<Vec<SessionInfo>, Unreachable> {
        let (index, _) = self.read_index(issuer, subject).await?;
        let mut list = Vec::with_capacity(index.0.len());
        for entry in index.0.iter().rev() {
            let record = self.store.get(Record::Session, &entry.name).await?;
            let Some(session) = record.as_deref().and_then(Session::from_record) else {
                continue;
            };
            if self.is_revoked(&entry.name, &session) {
                continue;
            }
            let used = session.carrier == Carrier::Cookie;
            list.push(SessionInfo {
                id: hex::encode(&entry.name),
                carrier: entry.carrier,
                created: entry.created,
                touched: used.then_some(session.touched),
                ends: entry.ends,
                origin: entry.origin.clone(),
                current: own.is(entry),
            });
        }
        Ok(list)
    }

    /// The tokens behind a session's cookie; `None` if it has none, or cannot be looked up.
    pub async fn inner_tokens(&self, name: &SessionName) -> Option<InnerTokens> {
        let waits = self.unstored.get(name);
        match waits {
            Some(newest) => newest.tokens().cloned(),
            None => self.read(name).await.ok()??.0.tokens,
        }
    }

    /// Whether a session that is still in the list was ended by a revocation: of its own, or of
    /// tokens such as it has. The tokens of a bearer session are not known here.
    fn is_revoked(&self, name: &SessionName, session: &Session) -> bool {
        let claims = session.tokens.as_ref();
        let claims = claims.and_then(|tokens| claims_of(tokens.access()));
        let is_bearer = claims.is_none();
        let listed = Listed {
            token: name,
            issuer: &session.issuer,
            subject: &session.subject,
            session: session.session.as_deref(),
            claims: &claims.unwrap_or_default(),
            begun: Some(session.created),
            leeway: LARGEST_LEEWAY.as_secs().cast_signed(),
        };
        let now = (self.clock)() / 1000;
        let hit = self.revocations.find(&CleanAt::default(), listed, now);
        hit.is_some_and(|hit| match hit.kind {
            Kind::Session => true,
            Kind::Subject | Kind::Issuer | Kind::Bucket => !is_bearer,
            // Of a token that is renewed.
            Kind::Token => false,
        })
    }

    /// Removes the selected entries from a user's index, and returns them.
    pub(in crate::sessions) async fn take_entries(
        &self,
        issuer: &str,
        subject: &str,
        is_selected: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Entry>, Unreachable> {
        for _ in 0..ATTEMPTS {
            let (mut index, version) = self.read_index(issuer, subject).await?;
            let taken = index.take(&is_selected);
            if taken.is_empty() || self.write_index(issuer, subject, &version, &index).await? {
                return Ok(taken);
            }
        }
        Err(Unreachable::Timeout)
    }

    pub(in crate::sessions) async fn read_index(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<(Index, Version), Unreachable> {
        let name = Index::name(issuer, subject);
        let (record, version) = self.store.read(Record::SessionIndex, &name).await?;
        let mut index = match record {
            None => Index::default(),
            Some(record) => Index::from_record(&record).ok_or(Unreachable::Answer)?,
        };
        index.remove_ended((self.clock)());
        Ok((index, version))
    }

    /// Writes an index, and returns whether nobody else has changed it since that version.
    pub(super) async fn write_index(
        &self,
        issuer: &str,
        subject: &str,
        version: &Version,
        index: &Index,
    ) -> Result<bool, Unreachable> {
        let name = Index::name(issuer, subject);
        let (record, expires) = (index.to_record(), index.ends().max((self.clock)() + 1));
        let swap = self
            .store
            .swap(Record::SessionIndex, &name, version, &record, expires)
            .await?;
        Ok(matches!(swap, Swap::Done(_)))
    }
}
