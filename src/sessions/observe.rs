//! Sessions of bearer tokens that did not begin through the gateway: by a link in a message, by a
//! redirect that gives a page its tokens, or at the identity server itself. Each is added to its
//! user's list in the background of the first request that proves it.
//!
//! Such a session is exempt from no revocation: its record says that it began at no time, since
//! when it began is known by the identity server's clock alone ([`super::check`]).

use std::sync::Arc;

use super::lookup::Sessions;
use super::record::{Carrier, ClientInfo, Session, SessionName, of_bearer};
use crate::revocation::signed_in;
use crate::store::{Kind, Swap, Unreachable};
use crate::tokens::Verified;

/// What a record says of when its session began, if it did not begin through the gateway.
const ELSEWHERE: i64 = 0;

impl Sessions {
    /// Adds the session of a token that is presented for the first time to its user's list, unless
    /// it is there. The oldest sessions end if there are more than `sessions.max_per_user`.
    pub fn observe(self: &Arc<Self>, verified: &Arc<Verified>, client: ClientInfo) {
        // The sessions of an application are not its user's, and must not end theirs.
        if verified.client().is_some() {
            return;
        }
        let Some(session) = verified.session() else {
            return;
        };
        let settings = self.settings.load();
        if settings.listed_issuer.as_deref() != Some(verified.issuer()) {
            return;
        }
        let name = of_bearer(verified.issuer(), session);
        if matches!(self.begun.known(&name), Some(Some(_))) {
            return;
        }
        let Ok(place) = self.observing.clone().try_acquire_owned() else {
            return;
        };
        let (sessions, verified) = (self.clone(), verified.clone());
        self.background.spawn(async move {
            // An outage loses nothing but the entry.
            let _ = sessions.add_observed(&verified, name, &client).await;
            drop(place);
        });
    }

    async fn add_observed(
        &self,
        verified: &Verified,
        name: SessionName,
        client: &ClientInfo,
    ) -> Result<(), Unreachable> {
        let checked = self.check(verified.clean(), verified.listed()).await;
        if checked.is_err() {
            return Ok(());
        }
        let (record, version) = self.store.read(Kind::Session, &name).await?;
        if let Some(record) = record {
            let begun = Session::from_record(&record).map(|session| session.created);
            self.begun.note(name, begun);
            return Ok(());
        }
        let (issuer, subject) = (verified.issuer(), verified.subject());
        let (index, _) = self.read_index(issuer, subject).await?;
        let is_listed = |session: &Option<String>| session.as_deref() == verified.session();
        // The session behind a cookie has a token, too.
        if index.0.iter().any(|entry| is_listed(&entry.session)) {
            return Ok(());
        }
        let listed = self.observed(verified, client);
        let record = Session {
            created: ELSEWHERE,
            ..listed.clone()
        };
        match self.replace(&name, &version, &record).await? {
            Swap::Done(_) => {}
            // It is being added elsewhere.
            Swap::Conflict => return Ok(()),
        }
        self.begun.note(name, Some(ELSEWHERE));
        self.enlist(name, &listed, None).await?;
        self.metrics.began(Carrier::Bearer);
        Ok(())
    }

    /// The session of a token, as its user sees it.
    fn observed(&self, verified: &Verified, client: &ClientInfo) -> Session {
        let now = (self.clock)();
        let began = signed_in(verified.claims()).map_or(now, |seconds| {
            seconds.saturating_mul(1000).clamp(ELSEWHERE, now)
        });
        Session {
            issuer: verified.issuer().to_owned(),
            subject: verified.subject().to_owned(),
            session: verified.session().map(str::to_owned),
            carrier: Carrier::Bearer,
            created: began,
            touched: now,
            ends: now.saturating_add(self.settings.load().session_lifetime),
            renewed: now,
            tokens: None,
            proof: None,
            origin: client.origin(),
        }
    }
}
