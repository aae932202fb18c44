//! Authorization facts: which callers are active, their teams, the owner of a resource, and its
//! parents.
//!
//! Decides:  which facts a request needs, and how many round trips they take: none from the cache,
//!           one for a resource, one more for the resource that contains it.
//! Trusts:   the operator's queries. Never what a request or a token says about a resource.
//! Not here: what facts allow (`auth::ownership`, `auth::lineage`); caching (`cache`) and loading
//!           (`source`) them.
//!
//! Facts are cached, decisions are not: every request is authorized again. A resource that does not
//! exist and one that is not the caller's take the same lookups, so that response times do not tell
//! them apart.

mod cache;
pub mod fact;
mod invalidation;
pub mod learned;
mod lookup;
pub mod metrics;
pub mod notify;
pub mod schema;
mod source;
mod sources;
pub mod trigger_coverage;
mod versions;
mod writer;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

pub use self::cache::FactCache;
pub use self::fact::{Fact, Lineage, Row};
pub use self::invalidation::{Invalidation, invalidate_caller};
pub use self::lookup::LookupContext;
pub use self::metrics::FactMetrics;
pub use self::writer::WriterKey;

use self::cache::{CachedFact, LookupError, Wanted};
pub use self::learned::BindError;
use self::learned::Binding;
use self::source::Source;
use self::sources::Sources;
use crate::denial::{Denial, Extra, Reason};
use crate::policy::Config;
use crate::policy::outage;
use crate::policy::relations::Level;
use crate::policy::resources::DemandTarget;

/// Looks up facts with the queries of one configuration.
#[derive(Debug)]
pub struct Facts {
    cache: Arc<FactCache>,
    sources: Sources,
    /// Whether anonymous users have a row.
    anonymous: bool,
    /// The names of resource types, by index.
    kinds: Vec<Arc<str>>,
}

/// A resource that a request names.
#[derive(Clone, Eq, PartialEq)]
pub struct NamedResource {
    /// Its type, or the caller.
    pub of: DemandTarget,
    /// Its id.
    pub id: String,
    /// The id of the resource that must contain it.
    pub within: Option<String>,
    /// The action on it.
    pub action: String,
}

impl std::fmt::Debug for NamedResource {
    /// Omits the ids, which may come from the query string.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamedResource")
            .field("of", &self.of)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// The facts for one request.
#[derive(Clone, Debug, Default)]
pub struct KnownFacts {
    /// The state of the caller; `None` without a caller, if the configuration has no such query, or
    /// if it does not ask about anonymous users.
    pub caller: Option<CallerState>,
    memberships: Option<Arc<CachedFact>>,
    /// The resources of the request, in order.
    pub resources: Vec<Resource>,
    /// Whether some facts are past their lifetime, because they could not be looked up.
    pub is_stale: bool,
    /// How many round trips the lookups took.
    pub trips: u8,
}

/// What the database says of a caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallerState {
    /// The caller has a row and is active.
    Active,
    /// The caller has a row and is not active.
    Inactive,
    /// The caller has no row.
    Absent,
}

/// The facts about one resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// How the request names it.
    pub named: NamedResource,
    facts: ResourceFacts,
}

#[derive(Clone, Debug)]
enum ResourceFacts {
    Caller,
    Row {
        row: Arc<CachedFact>,
        within: Option<Arc<CachedFact>>,
    },
    Learned(Option<Binding>),
}

/// What is known about a resource, for authorization.
#[derive(Clone, Copy, Debug)]
pub enum ResourceState<'a> {
    /// It is the caller.
    Caller,
    /// It does not exist.
    Absent,
    /// Its row, and the row of the resource that contains it, if that exists.
    Row(&'a Row, Option<&'a Row>),
    /// Its owner, learned from an upstream response.
    Learned(&'a Binding),
}

impl KnownFacts {
    /// The teams of the caller, with the level in each.
    pub fn memberships(&self) -> &[(String, Level)] {
        match self.memberships.as_deref().map(|entry| &entry.fact) {
            Some(Fact::Memberships(memberships)) => memberships,
            Some(Fact::Caller(_) | Fact::CallerAbsent | Fact::Row(_)) | None => &[],
        }
    }
}

impl Resource {
    /// What is known about it.
    pub fn state(&self) -> ResourceState<'_> {
        match &self.facts {
            ResourceFacts::Caller => ResourceState::Caller,
            ResourceFacts::Learned(None) => ResourceState::Absent,
            ResourceFacts::Learned(Some(binding)) => ResourceState::Learned(binding),
            ResourceFacts::Row { row, within } => match row_of(row) {
                None => ResourceState::Absent,
                Some(row) => ResourceState::Row(row, within.as_deref().and_then(row_of)),
            },
        }
    }
}

fn row_of(entry: &CachedFact) -> Option<&Row> {
    match &entry.fact {
        Fact::Row(row) => row.as_ref(),
        Fact::Caller(_) | Fact::CallerAbsent | Fact::Memberships(_) => None,
    }
}

/// Which invalidations had been made when facts were looked up: how many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FactsVersion(NonZeroU64);

/// What to look up first, and where each result belongs.
struct LookupPlan {
    wanted: Vec<Wanted>,
    /// Indexes into `wanted`.
    caller: Option<usize>,
    memberships: Option<usize>,
    rows: Vec<Option<usize>>,
}

impl Facts {
    /// Looks up facts by this configuration, through the cache of this process.
    pub fn new(config: &Config, cache: Arc<FactCache>) -> Self {
        Self {
            cache,
            sources: Sources::of(config),
            anonymous: config.facts.anonymous,
            kinds: config
                .resources
                .iter()
                .map(|kind| kind.name.as_str().into())
                .collect(),
        }
    }

    /// The invalidations so far. Must be taken before facts are looked up.
    pub fn version(&self) -> FactsVersion {
        FactsVersion(self.cache.version().count())
    }

    /// The name of the resource type with this index.
    pub fn kind(&self, index: usize) -> &str {
        self.kinds.get(index).map_or("", |name| name)
    }

    /// Whether authorizing a request that names these resources needs any facts. `has_row`: there
    /// is a caller who should have a row; see [`Self::has_row`].
    pub fn are_needed(&self, has_row: bool, named: &[NamedResource]) -> bool {
        !named.is_empty() || has_row && self.know_callers()
    }

    /// Whether a user should have a row. No row is made for Supabase's anonymous users, unless the
    /// configuration says so.
    pub fn has_row(&self, is_anonymous: bool) -> bool {
        !is_anonymous || self.anonymous
    }

    /// Whether the configuration looks up every caller.
    pub fn know_callers(&self) -> bool {
        self.sources.callers.is_some()
    }

    /// All facts that authorizing a request with these resources needs.
    ///
    /// # Errors
    ///
    /// Some fact could not be looked up in time, and the failure matrix refuses requests without
    /// it.
    pub async fn gather(
        &self,
        asking: LookupContext<'_>,
        named: Vec<NamedResource>,
    ) -> Result<KnownFacts, Denial> {
        let plan = self.plan(asking, &named);
        let needs_any = !plan.wanted.is_empty() || !named.is_empty();
        let mut known = KnownFacts::default();
        let found = match self.find(&plan.wanted, asking, &mut known).await {
            Ok(found) => found,
            // The failure matrix allows signing in and out without facts.
            Err(denial)
                if named.is_empty()
                    && denial.reason == Reason::FactsUnavailable
                    && outage::State::FactsAway.effect(asking.class) == outage::Effect::Allow =>
            {
                return Ok(known);
            }
            Err(denial) => return Err(denial),
        };
        let get = |index: Option<usize>| found.get(index?).cloned();
        let rows: Vec<Option<Arc<CachedFact>>> = plan.rows.iter().copied().map(get).collect();
        known.memberships = get(plan.memberships);
        known.caller = get(plan.caller).map(|entry| match &entry.fact {
            Fact::Caller(true) => CallerState::Active,
            Fact::CallerAbsent => CallerState::Absent,
            Fact::Caller(false) | Fact::Memberships(_) | Fact::Row(_) => CallerState::Inactive,
        });
        let outer: Vec<Option<Wanted>> = named
            .iter()
            .zip(&rows)
            .map(|(named, row)| self.outer(named, row.as_deref()?))
            .collect();
        let wanted: Vec<Wanted> = outer.iter().flatten().cloned().collect();
        let mut within = self.find(&wanted, asking, &mut known).await?.into_iter();
        for ((named, row), outer) in named.into_iter().zip(rows).zip(outer) {
            let within = outer.and_then(|_| within.next());
            let facts = match (named.of, row) {
                (DemandTarget::Caller, _) => ResourceFacts::Caller,
                (DemandTarget::Resource(_), Some(row)) => ResourceFacts::Row { row, within },
                (DemandTarget::Resource(index), None) => {
                    let (binding, asked_store) = self.learned(index, &named.id, asking).await?;
                    known.trips = known.trips.saturating_add(u8::from(asked_store));
                    ResourceFacts::Learned(binding)
                }
            };
            known.resources.push(Resource { named, facts });
        }
        if needs_any {
            self.cache.metrics().trips(known.trips);
        }
        Ok(known)
    }

    /// The facts of the first lookup: the caller's, and the rows of the resources.
    fn plan(&self, asking: LookupContext<'_>, named: &[NamedResource]) -> LookupPlan {
        let subject = asking.caller.map(|(_, subject)| subject);
        let has_rows = named.iter().any(|named| self.source(named).is_some());
        let mut wanted = Vec::with_capacity(named.len() + 2);
        let mut want = |source: Option<&Arc<Source>>, id: &str| {
            let source = source?.clone();
            wanted.push(Wanted {
                source,
                id: id.to_owned(),
            });
            Some(wanted.len() - 1)
        };
        let caller = subject
            .filter(|_| asking.row_since.is_some())
            .and_then(|subject| want(self.sources.callers.as_ref(), subject));
        // Whether a resource is shared is not known yet. Looking up memberships only then would
        // cost a round trip, and its time would tell that the resource is shared.
        let memberships = subject
            .filter(|_| has_rows)
            .and_then(|subject| want(self.sources.memberships.as_ref(), subject));
        let rows = named
            .iter()
            .map(|named| want(self.source(named), &named.id))
            .collect();
        LookupPlan {
            wanted,
            caller,
            memberships,
            rows,
        }
    }

    /// The fact about the resource that contains this one.
    fn outer(&self, named: &NamedResource, row: &CachedFact) -> Option<Wanted> {
        let outer = self.source(named)?.within.as_ref()?;
        let (source, id) = match row_of(row) {
            // So that an absent resource takes as many lookups as a present one.
            None => (&outer.stand_in, named.id.clone()),
            Some(row) => (&outer.real, row.within.clone()?),
        };
        let source = source.clone();
        Some(Wanted { source, id })
    }

    fn source(&self, named: &NamedResource) -> Option<&Arc<Source>> {
        match named.of {
            DemandTarget::Caller => None,
            DemandTarget::Resource(index) => self.sources.rows.get(index)?.as_ref(),
        }
    }

    /// Facts that are young enough, or else what the failure matrix allows.
    async fn find(
        &self,
        wanted: &[Wanted],
        asking: LookupContext<'_>,
        known: &mut KnownFacts,
    ) -> Result<Vec<Arc<CachedFact>>, Denial> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let error = match self.cache.get(wanted, asking).await {
            Ok((entries, trips)) => {
                known.trips = known.trips.saturating_add(trips);
                return Ok(entries);
            }
            Err(error) => error,
        };
        let stale = match outage::State::FactsAway.effect(asking.class) {
            outage::Effect::Degrade => self.cache.stale(wanted, asking.caller),
            outage::Effect::Allow | outage::Effect::Refuse(_) => None,
        };
        match (stale, error) {
            (Some(entries), _) => {
                known.is_stale = true;
                Ok(entries)
            }
            (None, LookupError::Late | LookupError::Busy) => {
                Err(Reason::BudgetSpent.because(error.as_str()))
            }
            (None, LookupError::Crowded) => Err(Denial {
                extra: Extra::RetryAfter(Duration::from_secs(1)),
                ..Reason::LookupsTooMany.into()
            }),
            (None, LookupError::Away | LookupError::Unreadable) => {
                Err(Reason::FactsUnavailable.because(error.as_str()))
            }
        }
    }

    /// The facts that a write to these resources may change, by the names that replicas share.
    pub fn touched(&self, known: &KnownFacts, caller: Option<&str>) -> Vec<(Arc<str>, String)> {
        let mut affected = Vec::new();
        for resource in &known.resources {
            let Some(source) = self.source(&resource.named) else {
                continue;
            };
            affected.push((source.name.clone(), resource.named.id.clone()));
            if let (ResourceState::Row(row, _), Some(outer)) = (resource.state(), &source.within)
                && let Some(id) = &row.within
            {
                affected.push((outer.real.name.clone(), id.clone()));
            }
        }
        for source in [&self.sources.callers, &self.sources.memberships]
            .into_iter()
            .flatten()
        {
            if let Some(subject) = caller {
                affected.push((source.name.clone(), subject.to_owned()));
            }
        }
        affected
    }

    /// The cache that all workers share.
    pub fn cache(&self) -> &Arc<FactCache> {
        &self.cache
    }
}
