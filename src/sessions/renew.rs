//! Renews the tokens of a cookie session before they expire, and ends the session if the identity
//! server refuses.
//!
//! The [`Renewer`] must tell a definite refusal from an outage, and use one refresh token only once
//! for concurrent calls. Replicas share the result through the record: each reads it before
//! renewing, and adopts what another replica got. Tokens that cannot be stored wait in this process
//! (`unstored`).

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::index::Entry;
use super::live::CachedSession;
use super::lookup::Sessions;
use super::metrics::{EndReason, Renewal};
use super::record::{ClientInfo, InnerTokens, Session};
use super::unstored::{LONGEST, Storing};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::secrets::secret::Secret;
use crate::store::Unreachable;
use crate::tokens::Verified;

/// How long before its expiry an access token is renewed, in seconds; half its lifetime if that is
/// less.
const AHEAD: i64 = 60;

/// Pause between two attempts in the background, in milliseconds.
const RETRY: i64 = 5000;

/// How long a new token is not renewed again even if it is not accepted, in milliseconds, so that
/// not every request calls the identity server.
const FRESH: i64 = 1000;

/// How long to wait for a newer token in the record after the identity server reported this one as
/// used. The replica that used it may have failed to store the result, and retries at least every
/// [`LONGEST`].
const GRACE: Duration = LONGEST.saturating_mul(3);

/// Pause between two polls of the record meanwhile.
const POLL: Duration = Duration::from_millis(100);

/// Exchanges a refresh token for new tokens.
pub trait Renewer: Debug + Send + Sync {
    /// Consumes a refresh token. `client` is the session's, as of the request that needs new tokens.
    fn renew<'a>(&'a self, refresh: &'a Secret, client: ClientInfo) -> Renewing<'a>;
}

/// The future of a [`Renewer`]. An error means that the outcome is not known.
pub type Renewing<'a> = Pin<Box<dyn Future<Output = Result<Renewed, Denial>> + Send + 'a>>;

/// The answer of the identity server.
#[derive(Debug)]
pub enum Renewed {
    /// New tokens.
    Granted(InnerTokens),
    /// The session must not continue.
    Refused(Refusal),
}

/// Why the identity server refused a refresh token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It was already used, perhaps by another replica that has its successor.
    Used,
    /// The session has ended there.
    Over,
}

/// The outcome of renewing the tokens of a session.
#[derive(Debug)]
pub enum RenewalOutcome {
    /// The session, with new tokens.
    Live(Arc<CachedSession>),
    /// The session has ended on all replicas.
    Ended,
    /// The outcome is not known.
    Unavailable(Denial),
}

impl Sessions {
    /// Whether the tokens of a session should be renewed at `now`, in Unix seconds, although its
    /// access token is still valid.
    pub fn is_renewal_due(&self, live: &CachedSession, verified: &Verified, now: i64) -> bool {
        let issued = live.session.renewed / 1000;
        let half = (verified.expires() - issued) / 2;
        now >= verified.expires() - AHEAD.min(half)
    }

    /// Renews the tokens of a session in the background, at most once within some seconds.
    pub fn renew_behind(self: &Arc<Self>, live: &Arc<CachedSession>, client: ClientInfo) {
        let now = (self.clock)();
        let tried = &live.local.tried;
        let last = tried.load(Ordering::Relaxed);
        // The clock may have been set back meanwhile.
        let is_first = now.abs_diff(last) >= RETRY.unsigned_abs()
            && tried
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_first {
            let (sessions, live) = (self.clone(), live.clone());
            self.background
                .spawn(async move { sessions.renew_once(&live, client).await });
        }
    }

    /// Renews the tokens of a session and waits for it. The renewal completes even if the caller
    /// leaves.
    pub async fn renew(
        self: &Arc<Self>,
        live: &Arc<CachedSession>,
        client: ClientInfo,
    ) -> RenewalOutcome {
        // Another replica's clock may be ahead.
        let since = (self.clock)().abs_diff(live.session.renewed);
        if since < FRESH.unsigned_abs() {
            let why = "the new token of the identity server is not accepted";
            return RenewalOutcome::Unavailable(Reason::SessionUnavailable.because(why));
        }
        let (sessions, live) = (self.clone(), live.clone());
        let renewing = self
            .background
            .spawn(async move { sessions.renew_once(&live, client).await });
        renewing.await.unwrap_or_else(|_| {
            RenewalOutcome::Unavailable(Reason::Internal.because("a renewal panicked"))
        })
    }

    /// The same at once, however new its tokens are: they say what is no longer true.
    pub async fn renew_stale(self: &Arc<Self>, live: &Arc<CachedSession>, client: ClientInfo) {
        let (sessions, live) = (self.clone(), live.clone());
        let renewing = self
            .background
            .spawn(async move { sessions.renew_once(&live, client).await });
        // If it failed, the next request renews them.
        drop(renewing.await);
    }

    /// Takes over tokens that the identity server gave this session for another reason than a
    /// renewal, such as a proven second factor. The caller holds [`CachedSession::renewal_turn`].
    /// Other replicas use them as soon as the access token before is refused.
    ///
    /// # Errors
    ///
    /// The session has ended.
    pub async fn adopt(
        self: &Arc<Self>,
        live: &Arc<CachedSession>,
        tokens: InnerTokens,
    ) -> Result<(), Denial> {
        let newest = self.remembered(&live.name).unwrap_or_else(|| live.clone());
        match self.take_over(&newest, tokens).await.0 {
            RenewalOutcome::Live(_) => Ok(()),
            RenewalOutcome::Ended => Err(Reason::SessionUnknown.into()),
            RenewalOutcome::Unavailable(denial) => Err(denial),
        }
    }

    async fn renew_once(
        self: &Arc<Self>,
        before: &Arc<CachedSession>,
        client: ClientInfo,
    ) -> RenewalOutcome {
        let _turn = before.local.renewing.lock().await;
        let live = self
            .remembered(&before.name)
            .unwrap_or_else(|| before.clone());
        // The previous holder of the lock may have renewed them.
        if live.session.renewed > before.session.renewed {
            return RenewalOutcome::Live(live);
        }
        let (renewable, result) = self.renew_in_turn(live, client).await;
        self.metrics.renewed(result);
        if let RenewalOutcome::Live(live) = &renewable {
            // The new token has not been tried yet.
            live.local.tried.store(0, Ordering::Relaxed);
        }
        renewable
    }

    async fn renew_in_turn(
        self: &Arc<Self>,
        live: Arc<CachedSession>,
        client: ClientInfo,
    ) -> (RenewalOutcome, Renewal) {
        let unavailable = |denial| (RenewalOutcome::Unavailable(denial), Renewal::Unavailable);
        let before = live.session.renewed;
        let live = match self.read(&live.name).await {
            Ok(Some((record, version))) => self.remember(live.followed_by(record, version)),
            Ok(None) => return self.gone(&live),
            Err(why) => return unavailable(no_store(why)),
        };
        if live.session.renewed > before {
            return (RenewalOutcome::Live(live), Renewal::Adopted);
        }
        let (Some(renewer), Some(tokens)) = (&self.renewer, live.tokens()) else {
            let why = "no identity server to renew its tokens";
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

    /// Handles a refused refresh token. The session ends only if the store has no newer one: the
    /// cache of this process may be outdated, and for a moment the record may be, too.
    async fn refused(
        &self,
        mut live: Arc<CachedSession>,
        refused: &Secret,
        refusal: Refusal,
    ) -> (RenewalOutcome, Renewal) {
        let until = clock::now() + GRACE;
        loop {
            live = match self.read(&live.name).await {
                Ok(Some((record, version))) => self.remember(live.followed_by(record, version)),
                Ok(None) => return self.gone(&live),
                // An outage ends no session.
                Err(why) => {
                    return (
                        RenewalOutcome::Unavailable(no_store(why)),
                        Renewal::Unavailable,
                    );
                }
            };
            let is_newer = |tokens: &InnerTokens| tokens.refresh.expose() != refused.expose();
            if live.tokens().is_some_and(is_newer) {
                return (RenewalOutcome::Live(live), Renewal::Adopted);
            }
            if refusal == Refusal::Over || clock::now() >= until {
                self.end_refused(&live, refusal).await;
                return (RenewalOutcome::Ended, Renewal::Refused);
            }
            sleep(POLL).await;
        }
    }

    fn gone(&self, live: &CachedSession) -> (RenewalOutcome, Renewal) {
        self.forget(&live.name);
        self.unstored.forget(&live.name);
        (RenewalOutcome::Ended, Renewal::Gone)
    }

    /// Stores new tokens. If that fails, this process uses them all the same, and stores them
    /// later.
    async fn take_over(
        self: &Arc<Self>,
        live: &CachedSession,
        tokens: InnerTokens,
    ) -> (RenewalOutcome, Renewal) {
        let renewed = Session {
            tokens: Some(tokens),
            proof: None,
            renewed: (self.clock)().max(live.session.renewed + 1),
            ..live.session.clone()
        };
        let live = self.remember(live.followed_by(renewed, live.version.clone()));
        match self.store_tokens(&live).await {
            Storing::Done(live) => (RenewalOutcome::Live(live), Renewal::Granted),
            Storing::Gone => self.gone(&live),
            Storing::Failed => {
                self.store_later(live.clone());
                (RenewalOutcome::Live(live), Renewal::Granted)
            }
        }
    }

    async fn end_refused(&self, live: &CachedSession, refusal: Refusal) {
        let Session {
            issuer, subject, ..
        } = &live.session;
        // If the store does not answer, the entry stays in the index until the next listing.
        let is_selected = |entry: &Entry| entry.name == live.name;
        let _ = self.take_entries(issuer, subject, is_selected).await;
        let entry = Entry::of(live.name, &live.session);
        let revocation = self.entry_revocation(issuer, subject, &entry, EndReason::Refused);
        self.end_with(&entry, revocation.clone(), EndReason::Refused)
            .await;
        if refusal == Refusal::Over {
            self.confirm_logout(revocation.into_iter().collect());
        }
    }
}

/// The denial for an unreachable store.
pub fn no_store(why: Unreachable) -> Denial {
    Reason::SessionUnavailable.because(why.as_str())
}
