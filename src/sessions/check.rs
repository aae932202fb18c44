//! Looks tokens up in the list of revocations, and exempts a session that began through the gateway
//! after its user was revoked.
//!
//! The list compares times of sign-in, which are the identity server's, with a leeway. Within it,
//! the record of a session says when it began here, by the clock of the replica where it began. Only
//! a token that would be refused otherwise costs a lookup.

use super::lookup::Sessions;
use super::record::{Carrier, Session, of_bearer};
use super::renew::no_store;
use crate::denial::Denial;
use crate::revocation::{CleanAt, Hit, Listed};
use crate::store::{Kind, Unreachable};

/// What the list of revocations says of an open stream, without a lookup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Recheck {
    /// Nothing refuses it.
    Passed,
    /// Only the record of its session can tell.
    NeedsLookup,
}

impl Sessions {
    /// Looks a verified token up in the list of revocations. Returns when its session began here,
    /// in Unix milliseconds, if that is why it passes.
    ///
    /// # Errors
    ///
    /// It is revoked; or only its record can tell, and the store is unreachable.
    pub async fn check(&self, clean: &CleanAt, listed: Listed<'_>) -> Result<Option<i64>, Denial> {
        let now = (self.clock)() / 1000;
        let Some((hit, session)) = self.conditional_hit(clean, listed, now)? else {
            return Ok(None);
        };
        let begun = self.begun_at(listed.issuer, session).await;
        let begun = begun.map_err(no_store)?.ok_or(hit)?;
        self.check_begun(clean, listed, begun, now)?;
        Ok(Some(begun))
    }

    /// The part of [`Self::check`] that needs no lookup.
    ///
    /// # Errors
    ///
    /// It is revoked.
    pub fn recheck(&self, clean: &CleanAt, listed: Listed<'_>) -> Result<Recheck, Denial> {
        let now = (self.clock)() / 1000;
        let Some((hit, session)) = self.conditional_hit(clean, listed, now)? else {
            return Ok(Recheck::Passed);
        };
        match self.begun.known(&of_bearer(listed.issuer, session)) {
            None => Ok(Recheck::NeedsLookup),
            Some(begun) => {
                self.check_begun(clean, listed, begun.ok_or(hit)?, now)?;
                Ok(Recheck::Passed)
            }
        }
    }

    /// The entry that refuses the token unless its session began here later, and that session;
    /// `None` if no entry refuses it.
    fn conditional_hit<'a>(
        &self,
        clean: &CleanAt,
        listed: Listed<'a>,
        now: i64,
    ) -> Result<Option<(Hit, &'a str)>, Denial> {
        let Some(hit) = self.revocations.find(clean, listed, now) else {
            return Ok(None);
        };
        match (hit.unless_begun_after, listed.session) {
            (Some(_), Some(session)) => Ok(Some((hit, session))),
            _ => Err(hit.into()),
        }
    }

    /// Checks a token whose session began here at `begun`, in Unix milliseconds.
    fn check_begun(
        &self,
        clean: &CleanAt,
        listed: Listed<'_>,
        begun: i64,
        now: i64,
    ) -> Result<(), Denial> {
        let begun = Some(begun);
        self.revocations
            .check(clean, Listed { begun, ..listed }, now)
    }

    async fn begun_at(&self, issuer: &str, session: &str) -> Result<Option<i64>, Unreachable> {
        let name = of_bearer(issuer, session);
        if let Some(begun) = self.begun.known(&name) {
            return Ok(begun);
        }
        let begun = match self.store.get(Kind::Session, &name).await? {
            None => None,
            Some(record) => {
                let record = Session::from_record(&record).ok_or(Unreachable::Answer)?;
                (record.carrier == Carrier::Bearer).then_some(record.created)
            }
        };
        self.begun.note(name, begun);
        Ok(begun)
    }
}
