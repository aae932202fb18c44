//! The tokens behind a cookie, renewed before they expire.
//!
//! Decides:  when they are renewed, and that a session ends if the identity server says that it may not go on.
//! Trusts:   the [`Renewer`] to tell a definite refusal from an outage, and to renew one token once however many ask.
//! Not here: how a refresh token is used (`identity`), and whether the new access token is good (`auth`).
//!
//! Replicas share the result through the record: whoever is about to renew reads it first, and takes over what another one got.

use std::fmt::Debug;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::counts::{Renewal, Why};
use super::index::Entry;
use super::live::Live;
use super::lookup::{ATTEMPTS, Sessions};
use super::record::{InnerTokens, Session};
use crate::config::secret::Secret;
use crate::denial::{Denial, Reason};
use crate::store::{Swap, Unreachable};
use crate::tokens::Verified;

/// How long before its end an access token is renewed, in seconds; sooner before the end of one that does not live twice as long.
const AHEAD: i64 = 60;

/// Between two tries that nobody waits for, if the first failed, in milliseconds.
const AGAIN: i64 = 5000;

/// For how long a new token that is not accepted is not renewed again, in milliseconds: the identity server is not asked with every request.
const FRESH: i64 = 1000;

/// Between two tries to store what was renewed: lost, it would take the session along.
const STORE_AGAIN: Duration = Duration::from_millis(250);

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
    Refused,
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

    async fn renew_once(&self, before: &Arc<Live>, client: IpAddr) -> Renewable {
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

    async fn renew_in_turn(&self, live: Arc<Live>, client: IpAddr) -> (Renewable, Renewal) {
        let unavailable = |denial| (Renewable::Unavailable(denial), Renewal::Unavailable);
        let before = live.session.renewed;
        let live = match self.read(&live.name).await {
            Ok(Some((record, version))) => self.remember(live.followed_by(record, version)),
            Ok(None) => {
                self.forget(&live.name);
                return (Renewable::Ended, Renewal::Gone);
            }
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
            Ok(Renewed::Refused) => {
                self.end_refused(&live).await;
                (Renewable::Ended, Renewal::Refused)
            }
            Err(denial) => unavailable(denial),
        }
    }

    /// Writes down what the identity server gave. It is used here even if that fails, which the next touch makes good.
    async fn take_over(&self, live: &Live, tokens: InnerTokens) -> (Renewable, Renewal) {
        let renewed = Session {
            tokens: Some(tokens),
            proof: None,
            renewed: (self.clock)().max(live.session.renewed + 1),
            ..live.session.clone()
        };
        let mut live = self.remember(live.followed_by(renewed, live.version.clone()));
        for _ in 0..ATTEMPTS {
            match self.replace(&live.name, &live.version, &live.session).await {
                Ok(Swap::Done(version)) => {
                    let stored = live.session.clone();
                    let live = self.remember(live.followed_by(stored, version));
                    return (Renewable::Live(live), Renewal::Granted);
                }
                Ok(Swap::Lost) => match self.read(&live.name).await {
                    Ok(Some((record, version))) => {
                        live = self.remember(live.followed_by(record, version));
                    }
                    Ok(None) => {
                        self.forget(&live.name);
                        return (Renewable::Ended, Renewal::Gone);
                    }
                    Err(_) => tokio::time::sleep(STORE_AGAIN).await,
                },
                Err(_) => tokio::time::sleep(STORE_AGAIN).await,
            }
        }
        (Renewable::Live(live), Renewal::Granted)
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
