//! Looks up the session of a cookie, and records that it is used.
//!
//! | the session is | where it is looked up |
//! |---|---|
//! | cached and valid | nowhere else |
//! | cached and idle | the store: it may have been used on another replica |
//! | not cached | the revocation list, then the store, once for all concurrent requests |
//! | known to be absent | nowhere, for ten seconds |

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::begun::BegunSessions;
use super::cookie::CookieKeys;
use super::live::{CachedSession, Validity, millis};
use super::metrics::{EndReason, Lookup, SessionMetrics, Touch};
use super::record::{Carrier, Session, SessionName};
use super::renew::Renewer;
use super::unstored::Unstored;
use crate::clock;
use crate::denial::Reason;
use crate::policy::{self, Config};
use crate::revocation::Revocations;
use crate::store::{Kind, Store, Swap, Unreachable, Version};

/// How long a session is remembered as absent. Ids are random, so an absent one will not appear.
const ABSENCE: Duration = Duration::from_secs(10);

/// How many absent sessions are remembered. A choice.
const ABSENT: usize = 10_000;

/// How long the record of an idle session stays in the store, in milliseconds, so that an expired
/// session can be told from one that never existed.
const AFTERLIFE: i64 = 60_000;

/// How many sessions that began elsewhere are added to lists at once (`observe`). More are not
/// added before their next token. A choice.
const MOST_OBSERVED: usize = 256;

/// How often a compare-and-set is tried while others change the record.
pub(super) const ATTEMPTS: usize = 16;

/// The sessions of all users, cached in this process and shared through the store.
pub struct Sessions {
    pub(super) store: Arc<dyn Store>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) cookies: CookieKeys,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) renewer: Option<Arc<dyn Renewer>>,
    pub(super) metrics: Arc<SessionMetrics>,
    pub(super) unstored: Unstored,
    /// Runs what must not wait for, or end with, a request.
    pub(super) background: Handle,
    /// Unix milliseconds.
    pub(super) clock: fn() -> i64,
    live: Cache<SessionName, Arc<CachedSession>>,
    absent: Cache<SessionName, Instant>,
    pub(super) begun: BegunSessions,
    /// Places of sessions that are being added to lists.
    pub(super) observing: Arc<Semaphore>,
}

/// The settings of sessions in the configuration in force.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) sessions: policy::sessions::Sessions,
    /// How long the revocation of a session is kept, in seconds.
    pub(super) remembers: i64,
    /// The same once the identity server has ended the session.
    pub(super) remembers_ended: i64,
    /// How long the identity server allows a session to be refreshed, in milliseconds.
    pub(super) session_lifetime: i64,
    /// The issuer whose sessions users list and end here: the identity server's.
    pub(super) listed_issuer: Option<String>,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            sessions: config.sessions.clone(),
            remembers: config.revocations.remembers_sessions(),
            remembers_ended: config.revocations.remembers_tokens(),
            session_lifetime: millis(config.revocations.session_lifetime),
            listed_issuer: config.identity.as_ref().map(|server| server.issuer.clone()),
        }
    }
}

/// The result of looking up a cookie.
#[derive(Debug)]
pub enum SessionLookup {
    /// A valid session, which may still be revoked.
    Live(Arc<CachedSession>),
    /// No session, for this reason.
    Ended(Reason),
    /// The store is unreachable.
    Unavailable(Unreachable),
}

/// Why a session could not be loaded.
enum NotLoaded {
    Absent,
    Unavailable(Unreachable),
}

impl Sessions {
    /// Starts with an empty cache. Must be called inside the background runtime. `clock` returns
    /// Unix milliseconds. Without a `renewer`, a session is unusable once its access token has
    /// expired.
    ///
    /// # Errors
    ///
    /// The keys cannot be derived.
    pub fn new(
        config: &Config,
        store: Arc<dyn Store>,
        revocations: Arc<Revocations>,
        renewer: Option<Arc<dyn Renewer>>,
        metrics: Arc<SessionMetrics>,
        clock: fn() -> i64,
    ) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            store,
            revocations,
            cookies: CookieKeys::new(&config.keys)?,
            settings: ArcSwap::from_pointee(Settings::of(config)),
            renewer,
            metrics,
            unstored: Unstored::default(),
            background: Handle::try_current()?,
            clock,
            live: Cache::new(config.sessions.cache.get()),
            absent: Cache::new(ABSENT),
            begun: BegunSessions::default(),
            observing: Arc::new(Semaphore::new(MOST_OBSERVED)),
        }))
    }

    /// Applies the settings of a configuration that comes into force. Cached sessions stay.
    pub fn configure(&self, config: &Config) {
        self.settings.store(Arc::new(Settings::of(config)));
    }

    /// The keys that issue and verify cookies.
    pub fn cookies(&self) -> &CookieKeys {
        &self.cookies
    }

    /// Counts a cookie that no replica issued.
    pub fn was_malformed(&self) {
        self.metrics.looked_up(Lookup::Malformed);
    }

    /// Looks up the session of this name.
    pub async fn find(&self, name: &SessionName) -> SessionLookup {
        let settings = self.settings.load();
        let now = (self.clock)();
        let Some(live) = self.live.get(name) else {
            return self.fetch(name, &settings.sessions).await;
        };
        match live.validity(&settings.sessions, now) {
            Validity::Valid => {
                self.metrics.looked_up(Lookup::Memory);
                SessionLookup::Live(live)
            }
            Validity::Ended => self.expire(&live, EndReason::Lifetime),
            Validity::Idle => self.reread(&live, &settings.sessions).await,
        }
    }

    /// Looks up a session that is not cached.
    async fn fetch(
        &self,
        name: &SessionName,
        settings: &policy::sessions::Sessions,
    ) -> SessionLookup {
        let is_absent = self
            .absent
            .get(name)
            .is_some_and(|since| clock::now().saturating_duration_since(since) < ABSENCE);
        if is_absent || self.is_replaced(name) {
            return self.ended(Reason::SessionUnknown);
        }
        match self.live.get_or_insert_async(name, self.load(name)).await {
            Ok(live) => {
                self.metrics.looked_up(Lookup::Store);
                self.note_size();
                match live.validity(settings, (self.clock)()) {
                    Validity::Valid => SessionLookup::Live(live),
                    Validity::Ended => self.expire(&live, EndReason::Lifetime),
                    Validity::Idle => self.expire(&live, EndReason::Idle),
                }
            }
            Err(NotLoaded::Absent) => {
                self.absent.insert(*name, clock::now());
                self.ended(Reason::SessionUnknown)
            }
            Err(NotLoaded::Unavailable(why)) => {
                self.metrics.looked_up(Lookup::Unavailable);
                SessionLookup::Unavailable(why)
            }
        }
    }

    async fn load(&self, name: &SessionName) -> Result<Arc<CachedSession>, NotLoaded> {
        match self.read(name).await {
            Ok(Some((session, version))) => {
                Ok(Arc::new(self.unstored.followed(*name, session, version)))
            }
            Ok(None) => Err(NotLoaded::Absent),
            Err(why) => {
                let waits = self.unstored.get(name);
                waits.ok_or(NotLoaded::Unavailable(why))
            }
        }
    }

    /// Re-reads a cached session that seems idle: another replica may have used it.
    async fn reread(
        &self,
        live: &Arc<CachedSession>,
        settings: &policy::sessions::Sessions,
    ) -> SessionLookup {
        match self.read(&live.name).await {
            Ok(Some((record, version))) => {
                let live = self.remember(live.followed_by(record, version));
                match live.validity(settings, (self.clock)()) {
                    Validity::Valid => {
                        self.metrics.looked_up(Lookup::Store);
                        SessionLookup::Live(live)
                    }
                    Validity::Ended => self.expire(&live, EndReason::Lifetime),
                    Validity::Idle => self.expire(&live, EndReason::Idle),
                }
            }
            Ok(None) => self.expire(live, EndReason::Idle),
            Err(why) => {
                self.metrics.looked_up(Lookup::Unavailable);
                SessionLookup::Unavailable(why)
            }
        }
    }

    /// Drops a session that has expired.
    fn expire(&self, live: &CachedSession, why: EndReason) -> SessionLookup {
        self.unstored.forget(&live.name);
        if self.forget(&live.name) {
            self.metrics.ended(live.session.carrier, why);
        }
        self.absent.insert(live.name, clock::now());
        self.ended(Reason::SessionExpired)
    }

    fn ended(&self, reason: Reason) -> SessionLookup {
        self.metrics.looked_up(Lookup::Unknown);
        SessionLookup::Ended(reason)
    }

    /// Whether a newer cookie may have replaced this one in the browser: it was revoked by its own
    /// name, not with its session or user, and not by expiry.
    pub fn is_replaced(&self, name: &SessionName) -> bool {
        self.revocations.names_token(name, (self.clock)() / 1000)
    }

    /// Reads a record with its version. A record of an unknown format is an error, not absent.
    pub(super) async fn read(
        &self,
        name: &SessionName,
    ) -> Result<Option<(Session, Version)>, Unreachable> {
        let (record, version) = self.store.read(Kind::Session, name).await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let session = Session::from_record(&record).ok_or(Unreachable::Answer)?;
        // Only cookie sessions are found by name: the name of a bearer session can be computed.
        Ok((session.carrier == Carrier::Cookie).then_some((session, version)))
    }

    /// Replaces a record, if its version is still this one.
    pub(super) async fn replace(
        &self,
        name: &SessionName,
        version: &Version,
        session: &Session,
    ) -> Result<Swap, Unreachable> {
        let expires = self.record_expires(session);
        let record = session.to_record();
        self.store
            .swap(Kind::Session, name, version, &record, expires)
            .await
    }

    /// When a record expires in the store, in Unix milliseconds.
    pub(super) fn record_expires(&self, session: &Session) -> i64 {
        let idle = match session.carrier {
            Carrier::Cookie => millis(self.settings.load().sessions.idle),
            // The use of a bearer token is not recorded.
            Carrier::Bearer => i64::MAX,
        };
        let idle = session.touched.saturating_add(idle);
        idle.min(session.ends).saturating_add(AFTERLIFE)
    }

    /// Caches a session, and replaces an older value.
    pub(super) fn remember(&self, live: CachedSession) -> Arc<CachedSession> {
        let live = Arc::new(live);
        self.live.insert(live.name, live.clone());
        self.note_size();
        live
    }

    /// The cached session of this name.
    pub(crate) fn remembered(&self, name: &SessionName) -> Option<Arc<CachedSession>> {
        self.live.get(name)
    }

    /// Removes a session from the cache. Returns whether it was there.
    pub(super) fn forget(&self, name: &SessionName) -> bool {
        let was_there = self.live.remove(name).is_some();
        self.note_size();
        was_there
    }

    fn note_size(&self) {
        let size = i64::try_from(self.live.len()).unwrap_or(i64::MAX);
        self.metrics.remembered.set(size);
    }

    /// Records that a session is used, at most once a minute: in memory, and in the store in the
    /// background.
    pub fn touch(self: &Arc<Self>, live: &Arc<CachedSession>) {
        let now = (self.clock)();
        if live.is_touch_due(&self.settings.load().sessions, now) {
            let (sessions, name) = (self.clone(), live.name);
            self.background
                .spawn(async move { sessions.write_touch(&name, now).await });
        }
    }

    async fn write_touch(&self, name: &SessionName, now: i64) {
        let result = self.try_touch(name, now).await;
        if result == Touch::Gone {
            self.forget(name);
        }
        self.metrics.touched(result);
    }

    async fn try_touch(&self, name: &SessionName, now: i64) -> Touch {
        let mut result = Touch::Stored;
        for _ in 0..ATTEMPTS {
            let Some(live) = self.remembered(name) else {
                return Touch::Gone;
            };
            let touched = Session {
                touched: live.session.touched.max(now),
                proof: live.proof(),
                ..live.session.clone()
            };
            match self.replace(name, &live.version, &touched).await {
                Ok(Swap::Done(version)) => {
                    self.remember(live.followed_by(touched, version));
                    return result;
                }
                Ok(Swap::Conflict) => result = Touch::Behind,
                // The session stays usable here, and its use is recorded again in a minute.
                Err(_) => return Touch::Unavailable,
            }
            match self.read(name).await {
                Ok(Some((record, version))) => {
                    self.remember(live.followed_by(record, version));
                }
                Ok(None) => return Touch::Gone,
                Err(_) => return Touch::Unavailable,
            }
        }
        Touch::Unavailable
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("remembered", &self.live.len())
            .finish_non_exhaustive()
    }
}
