//! The sessions of this process: finding the one of a cookie, and noting that it is used.
//!
//! Decides:  `session_unknown`, `session_expired`, and when the store is asked instead of the memory.
//! Trusts:   the store for what replicas share; the list of revocations to say which session in memory was ended elsewhere.
//! Not here: whether its user may do something (`auth`), its tokens (`renew`), beginning and ending one (`sign_in`).
//!
//! | the session is | asked |
//! |---|---|
//! | in memory, in its time | nobody |
//! | in memory, idle | the store: it may have been used elsewhere |
//! | not in memory | the list of revocations, then the store, once for all who ask at the same time |
//! | known not to be there | nobody, for ten seconds |

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;

use super::cookie::CookieKeys;
use super::live::{Life, Live, millis};
use super::metrics::{Lookup, SessionMetrics, Touch, Why};
use super::record::{Carrier, Session, SessionName};
use super::renew::Renewer;
use super::unstored::Unstored;
use crate::clock;
use crate::denial::Reason;
use crate::policy::{self, Config};
use crate::revocation::Revocations;
use crate::store::{Kind, Store, Swap, Unreachable, Version};

/// How long a session that is not there counts as that. Ids are random, so one that is not there will not be.
const ABSENCE: Duration = Duration::from_secs(10);

/// How many absent sessions are remembered. A choice.
const ABSENT: usize = 10_000;

/// How long the record of a session that went idle stays, so that its end can be told from one that never was, in milliseconds.
const AFTERLIFE: i64 = 60_000;

/// How often a record is tried to be replaced that others replace, too.
pub(super) const ATTEMPTS: usize = 16;

/// All sessions, as this process knows them.
pub struct Sessions {
    pub(super) store: Arc<dyn Store>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) cookies: CookieKeys,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) renewer: Option<Arc<dyn Renewer>>,
    pub(super) metrics: Arc<SessionMetrics>,
    pub(super) unstored: Unstored,
    /// Where goes on what nobody waits for, and what must not end because nobody waits any more.
    pub(super) background: Handle,
    /// Unix milliseconds.
    pub(super) clock: fn() -> i64,
    live: Cache<SessionName, Arc<Live>>,
    absent: Cache<SessionName, Instant>,
}

/// What the configuration in force says of sessions.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) sessions: policy::sessions::Sessions,
    /// How long a revoked session is remembered, in seconds.
    pub(super) remembers: i64,
    /// How long the identity server lets a session be refreshed, in milliseconds.
    pub(super) session_lifetime: i64,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            sessions: config.sessions.clone(),
            remembers: config.revocations.remembers_sessions(),
            session_lifetime: millis(config.revocations.session_lifetime),
        }
    }
}

/// What a cookie leads to.
#[derive(Debug)]
pub enum Found {
    /// A session in its time. Whether it was revoked is for the list to say.
    Live(Arc<Live>),
    /// None any more.
    Ended(Reason),
    /// It cannot be known.
    Unavailable(Unreachable),
}

/// Why a session did not come into memory.
enum NotLoaded {
    Absent,
    Unavailable(Unreachable),
}

impl Sessions {
    /// None in memory. To be called inside the background runtime. `clock` gives Unix milliseconds; without a `renewer`, a session ends for
    /// its user when its access token does.
    ///
    /// # Errors
    ///
    /// Keys that cannot be used.
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
        }))
    }

    /// Follows a configuration that is in force from now on.
    pub fn configure(&self, config: &Config) {
        self.settings.store(Arc::new(Settings::of(config)));
    }

    /// The keys of cookies.
    pub fn cookies(&self) -> &CookieKeys {
        &self.cookies
    }

    /// Counts a cookie that nobody of us gave.
    pub fn was_malformed(&self) {
        self.metrics.looked_up(Lookup::Malformed);
    }

    /// Finds the session of this name.
    pub async fn find(&self, name: &SessionName) -> Found {
        let settings = self.settings.load();
        let now = (self.clock)();
        let Some(live) = self.live.get(name) else {
            return self.fetch(name, &settings.sessions).await;
        };
        match live.life(&settings.sessions, now) {
            Life::Within => {
                self.metrics.looked_up(Lookup::Memory);
                Found::Live(live)
            }
            Life::Over => self.expire(&live, Why::Lifetime),
            Life::Idle => self.ask_again(&live, &settings.sessions).await,
        }
    }

    /// One that is not in memory.
    async fn fetch(&self, name: &SessionName, settings: &policy::sessions::Sessions) -> Found {
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
                match live.life(settings, (self.clock)()) {
                    Life::Within => Found::Live(live),
                    Life::Over => self.expire(&live, Why::Lifetime),
                    Life::Idle => self.expire(&live, Why::Idle),
                }
            }
            Err(NotLoaded::Absent) => {
                self.absent.insert(*name, clock::now());
                self.ended(Reason::SessionUnknown)
            }
            Err(NotLoaded::Unavailable(why)) => {
                self.metrics.looked_up(Lookup::Unavailable);
                Found::Unavailable(why)
            }
        }
    }

    async fn load(&self, name: &SessionName) -> Result<Arc<Live>, NotLoaded> {
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

    /// One that went idle here may have been used elsewhere.
    async fn ask_again(&self, live: &Arc<Live>, settings: &policy::sessions::Sessions) -> Found {
        match self.read(&live.name).await {
            Ok(Some((record, version))) => {
                let live = self.remember(live.followed_by(record, version));
                match live.life(settings, (self.clock)()) {
                    Life::Within => {
                        self.metrics.looked_up(Lookup::Store);
                        Found::Live(live)
                    }
                    Life::Over => self.expire(&live, Why::Lifetime),
                    Life::Idle => self.expire(&live, Why::Idle),
                }
            }
            Ok(None) => self.expire(live, Why::Idle),
            Err(why) => {
                self.metrics.looked_up(Lookup::Unavailable);
                Found::Unavailable(why)
            }
        }
    }

    /// Ends what ended by itself.
    fn expire(&self, live: &Live, why: Why) -> Found {
        self.unstored.forget(&live.name);
        if self.forget(&live.name) {
            self.metrics.ended(live.session.carrier, why);
        }
        self.absent.insert(live.name, clock::now());
        self.ended(Reason::SessionExpired)
    }

    fn ended(&self, reason: Reason) -> Found {
        self.metrics.looked_up(Lookup::Unknown);
        Found::Ended(reason)
    }

    /// Whether another cookie may have taken the place of this one in the browser, which has both under one name: it was refused by its own name,
    /// and not with its session, its user or by time.
    pub fn is_replaced(&self, name: &SessionName) -> bool {
        self.revocations.names_token(name, (self.clock)() / 1000)
    }

    /// Reads a record with its version. One that this version of the program cannot read is not absent.
    pub(super) async fn read(
        &self,
        name: &SessionName,
    ) -> Result<Option<(Session, Version)>, Unreachable> {
        let (record, version) = self.store.read(Kind::Session, name).await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let session = Session::from_record(&record).ok_or(Unreachable::Answer)?;
        // Only a cookie leads to a session with tokens; the name of the other kind can be worked out.
        Ok((session.carrier == Carrier::Cookie).then_some((session, version)))
    }

    /// Writes a record, if it still is of this version.
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

    /// Until when a record is kept, in Unix milliseconds.
    pub(super) fn record_expires(&self, session: &Session) -> i64 {
        let idle = match session.carrier {
            Carrier::Cookie => millis(self.settings.load().sessions.idle),
            // Nobody notes the use of a bearer token.
            Carrier::Bearer => i64::MAX,
        };
        let idle = session.touched.saturating_add(idle);
        idle.min(session.ends).saturating_add(AFTERLIFE)
    }

    /// Puts a session into memory, in the place of an older one.
    pub(super) fn remember(&self, live: Live) -> Arc<Live> {
        let live = Arc::new(live);
        self.live.insert(live.name, live.clone());
        self.note_size();
        live
    }

    /// The one in memory.
    pub(super) fn remembered(&self, name: &SessionName) -> Option<Arc<Live>> {
        self.live.get(name)
    }

    /// Takes a session out of memory. Whether it was there.
    pub(super) fn forget(&self, name: &SessionName) -> bool {
        let was_there = self.live.remove(name).is_some();
        self.note_size();
        was_there
    }

    fn note_size(&self) {
        let size = i64::try_from(self.live.len()).unwrap_or(i64::MAX);
        self.metrics.remembered.set(size);
    }

    /// Notes that a session is used: in memory, and in the store behind the answer, both at most once a minute.
    pub fn touch(self: &Arc<Self>, live: &Arc<Live>) {
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
                Ok(Swap::Lost) => result = Touch::Behind,
                // It is used here all the same, and noted again in a minute.
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
