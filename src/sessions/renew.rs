//! The tokens behind a cookie, renewed before they expire.
//!
//! Decides:  when they are renewed, and that a session ends if the identity server says that it may not go on.
//! Trusts:   the [`Renewer`] to tell a definite refusal from an outage, and to renew one token once however many ask.
//! Not here: how a refresh token is used (`identity`), and whether the new access token is good (`auth`).
//!
//! Replicas share the result through the record: whoever is about to renew reads it first, and takes over what another one got. What the store
//! does not take waits in this process (`unstored`).

use std::fmt::Debug;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::index::Entry;
use super::live::Live;
use super::lookup::Sessions;
use super::metrics::{Renewal, Why};
use super::record::{InnerTokens, Session};
use super::unstored::{LONGEST, Storing};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::secrets::secret::Secret;
use crate::store::Unreachable;
use crate::tokens::Verified;

/// How long before its end an access token is renewed, in seconds; sooner before the end of one that does not live twice as long.
const AHEAD: i64 = 60;

/// Between two tries that nobody waits for, if the first failed, in milliseconds.
const AGAIN: i64 = 5000;

/// For how long a new token that is not accepted is not renewed again, in milliseconds: the identity server is not asked with every request.
const FRESH: i64 = 1000;

/// For how long a newer token is waited for in the record, if the identity server says that somebody used this one: whoever did may have been
/// unable to store what it got, and tries again at least every [`LONGEST`].
const GRACE: Duration = LONGEST.saturating_mul(3);

/// Between two looks for it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Gets new tokens for a refresh token.
pub trait Renewer: Debug + Send + Sync {
    /// Uses up a refresh token of a session whose client is at this address.
    fn renew<'a>(&'a self, refresh: &'a Secret, client: IpAddr) -> Renewing<'a>;
}

/// The answer of a [`Renewer`], in time. An error says that it cannot be known.
pub type Renewing<'a> = Pin<Box<dyn Future<Output = Result<Renewed, Denial>> + Send + 'a>>;

/// What the identity server said.
#[derive(Debug)]
pub enum Renewed {
    /// New tokens.
    Granted(InnerTokens),
    /// The session may not go on.
    Refused(Refusal),
}

/// What the identity server refused a refresh token for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Somebody used it before. It may have been another replica, which has its successor.
    Used,
    /// The session is over there.
    Over,
}

/// What became of a session whose tokens were to be renewed.
#[derive(Debug)]
pub enum Renewable {
    /// It goes on with these.
    Live(Arc<Live>),
    /// It has ended, here and everywhere.
    Ended,
    /// It cannot be known.
    Unavailable(Denial),
}

impl Sessions {
    /// Whether the tokens of a session are to be renewed at `now` (Unix seconds), while its access token still is good.
    pub fn is_renewal_due(&self, live: &Live, verified: &Verified, now: i64) -> bool {
        let came = live.session.renewed / 1000;
        let half = (verified.expires() - came) / 2;
        now >= verified.expires() - AHEAD.min(half)
    }

    /// Renews the tokens of a session behind the answer. Of those who ask within some seconds the first does it.
    pub fn renew_behind(self: &Arc<Self>, live: &Arc<Live>, client: IpAddr) {
        let now = (self.clock)();
        let tried = &live.known.tried;
        let last = tried.load(Ordering::Relaxed);
        let is_first = now >= last.saturating_add(AGAIN)
            && tried
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_first {
            let (sessions, live) = (self.clone(), live.clone());
            self.background
                .spawn(async move { sessions.renew_once(&live, client).await });
        }
    }

    /// Renews the tokens of a session, and waits for it. What is under way goes on if nobody waits any more.
    pub async fn renew(self: &Arc<Self>, live: &Arc<Live>, client: IpAddr) -> Renewable {
        if (self.clock)() < live.session.renewed.saturating_add(FRESH) {
            let why = "the identity server's new token is not accepted";
            return Renewable::Unavailable(Reason::SessionUnavailable.because(why));
        }
        let (sessions, live) = (self.clone(), live.clone());
        let renewing = self
            .background
            .spawn(async move { sessions.renew_once(&live, client).await });
        renewing.await.unwrap_or_else(|_| {
            Renewable::Unavailable(Reason::Internal.because("a renewal did not end"))
        })
    }

    async fn renew_once(self: &Arc<Self>, before: &Arc<Live>, client: IpAddr) -> Renewable {
        let _turn = before.known.renewing.lock().await;
        let live = self
            .remembered(&before.name)
            .unwrap_or_else(|| before.clone());
        // Whoever had the turn before us may have done it.
        if live.session.renewed > before.session.renewed {
            return Renewable::Live(live);
        }
        let (renewable, result) = self.renew_in_turn(live, client).await;
        self.metrics.renewed(result);
        if let Renewable::Live(live) = &renewable {
            // The next token is another matter.
            live.known.tried.store(0, Ordering::Relaxed);
        }
        renewable
    }

    async fn renew_in_turn(
        self: &Arc<Self>,
        live: Arc<Live>,
        client: IpAddr,
    ) -> (Renewable, Renewal) {
        let unavailable = |denial| (Renewable::Unavailable(denial), Renewal::Unavailable);
        let before = live.session.renewed;
        let live = match self.read(&live.name).await {
            Ok(Some((record, version))) => self.remember(live.followed_by(record, version)),
            Ok(None) => return self.gone(&live),
            Err(why) => return unavailable(no_store(why)),
        };
        if live.session.renewed > before {
            return (Renewable::Live(live), Renewal::Adopted);
        }
        let (Some(renewer), Some(tokens)) = (&self.renewer, live.tokens()) else {
            let why = "no identity server renews its tokens";
            return unavailable(Reason::SessionUnavailable.because(why));
        };
        match renewer.renew(&tokens.refresh, client).await {
            Ok(Renewed::Granted(tokens)) => self.take_over(&live, tokens).await,
            Ok(Renewed::Refused(refusal)) => {
                let refused = tokens.refresh.clone();
                self.refused(live, &refused, refusal).await
            }
            Err(denial) => unavailable(denial),
        }
    }

    /// The identity server refused a refresh token. The session ends only if the store says that there is no newer one: the memory of this process
    /// may be behind, and so may the record be for a moment.
    async fn refused(
        &self,
        mut live: Arc<Live>,
        refused: &Secret,
        refusal: Refusal,
    ) -> (Renewable, Renewal) {
        let until = clock::now() + GRACE;
        loop {
            live = match self.read(&live.name).await {
                Ok(Some((record, version))) => self.remember(live.followed_by(record, version)),
                Ok(None) => return self.gone(&live),
                // Nobody is logged out by an outage.
                Err(why) => return (Renewable::Unavailable(no_store(why)), Renewal::Unavailable),
            };
            let is_newer = |tokens: &InnerTokens| tokens.refresh.expose() != refused.expose();
            if live.tokens().is_some_and(is_newer) {
                return (Renewable::Live(live), Renewal::Adopted);
            }
            if refusal == Refusal::Over || clock::now() >= until {
                self.end_refused(&live).await;
                return (Renewable::Ended, Renewal::Refused);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn gone(&self, live: &Live) -> (Renewable, Renewal) {
        self.forget(&live.name);
        self.unstored.forget(&live.name);
        (Renewable::Ended, Renewal::Gone)
    }

    /// Writes down what the identity server gave. It is used here even if that fails, and stored later.
    async fn take_over(self: &Arc<Self>, live: &Live, tokens: InnerTokens) -> (Renewable, Renewal) {
        let renewed = Session {
            tokens: Some(tokens),
            proof: None,
            renewed: (self.clock)().max(live.session.renewed + 1),
            ..live.session.clone()
        };
        let live = self.remember(live.followed_by(renewed, live.version.clone()));
        match self.store_tokens(&live).await {
            Storing::Done(live) => (Renewable::Live(live), Renewal::Granted),
            Storing::Gone => self.gone(&live),
            Storing::Not => {
                self.store_later(live.clone());
                (Renewable::Live(live), Renewal::Granted)
            }
        }
    }

    async fn end_refused(&self, live: &Live) {
        let Session {
            issuer, subject, ..
        } = &live.session;
        // What stays in the list of a store that does not answer is taken out when somebody asks for it.
        let is_meant = |entry: &Entry| entry.name == live.name;
        let _ = self.take_entries(issuer, subject, is_meant).await;
        let entry = Entry::of(live.name, &live.session);
        self.end_entry(issuer, subject, &entry, Why::Refused).await;
    }
}

/// The denial for a store that does not answer.
pub fn no_store(why: Unreachable) -> Denial {
    Reason::SessionUnavailable.because(why.as_str())
}
