//! Authorization facts: who is active, who is in which team, whose a thing is, and what it was made from.
//!
//! Decides:  which facts a request needs, and in how many round trips they come: none if they are remembered, and one for what a thing
//!           lies in besides one for the thing.
//! Trusts:   the operator's queries. Never what a request or a token says about a thing.
//! Not here: what facts allow (`auth::ownership`, `auth::lineage`); where they are kept (`shelf`) and come from (`source`).
//!
//! What is kept are facts, never verdicts: a request is judged again on every hit. A thing that is not there and a thing that is not the
//! caller's take the same lookups, so that the time of an answer does not tell them apart.

mod cache;
pub mod fact;
mod invalidation;
pub mod learned;
pub mod metrics;
pub mod notify;
pub mod schema;
mod source;
pub mod trigger_coverage;
mod versions;

use std::sync::Arc;
use std::time::Instant;

pub use self::cache::Shelf;
pub use self::fact::{Fact, Lineage, Row};
pub use self::invalidation::Touched;
pub use self::metrics::FactMetrics;

use self::cache::{Age, Entry, Lost, Wanted};
use self::learned::Binding;
pub use self::learned::Unbound;
use self::source::{Source, Sources};
use crate::denial::{Denial, Reason};
use crate::policy::Config;
use crate::policy::outage::{self, AccessClass};
use crate::policy::relations::Level;
use crate::policy::resources::DemandOf;

/// Facts by the queries of one configuration.
#[derive(Debug)]
pub struct Facts {
    shelf: Arc<Shelf>,
    sources: Sources,
    /// The names of kinds, by index.
    kinds: Vec<Arc<str>>,
}

/// A thing that a request names.
#[derive(Clone, Eq, PartialEq)]
pub struct Named {
    /// What kind of thing.
    pub of: DemandOf,
    /// Its id.
    pub id: String,
    /// The id of what it must lie in.
    pub within: Option<String>,
    /// What is done to it.
    pub action: String,
}

impl std::fmt::Debug for Named {
    /// An id may be a value of the query.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Named")
            .field("of", &self.of)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// What is known for one request.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Whether the caller may do anything; `None` if there is no caller, or nobody says.
    pub is_active: Option<bool>,
    memberships: Option<Arc<Entry>>,
    /// The things of the request, in order.
    pub things: Vec<Thing>,
    /// Whether some of it is older than it should be, because it could not be looked up.
    pub is_old: bool,
    /// How many round trips it took.
    pub trips: u8,
}

/// What is known of one thing.
#[derive(Clone, Debug)]
pub struct Thing {
    /// What the request says.
    pub named: Named,
    found: Found,
}

#[derive(Clone, Debug)]
enum Found {
    Caller,
    Row {
        row: Arc<Entry>,
        within: Option<Arc<Entry>>,
    },
    Learned(Option<Binding>),
}

/// What a thing is, for judging.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// It is the caller of that id.
    Caller,
    /// It is not there.
    Absent,
    /// Its row, and that of what it lies in, if that is there.
    Row(&'a Row, Option<&'a Row>),
    /// An answer told whose it is.
    Learned(&'a Binding),
}

impl Known {
    /// The teams of the caller, with the level in each.
    pub fn memberships(&self) -> &[(String, Level)] {
        match self.memberships.as_deref().map(|entry| &entry.fact) {
            Some(Fact::Memberships(memberships)) => memberships,
            Some(Fact::Caller(_) | Fact::Row(_)) | None => &[],
        }
    }
}

impl Thing {
    /// What it is.
    pub fn seen(&self) -> Seen<'_> {
        match &self.found {
            Found::Caller => Seen::Caller,
            Found::Learned(None) => Seen::Absent,
            Found::Learned(Some(binding)) => Seen::Learned(binding),
            Found::Row { row, within } => match row_of(row) {
                None => Seen::Absent,
                Some(row) => Seen::Row(row, within.as_deref().and_then(row_of)),
            },
        }
    }
}

fn row_of(entry: &Entry) -> Option<&Row> {
    match &entry.fact {
        Fact::Row(row) => row.as_ref(),
        Fact::Caller(_) | Fact::Memberships(_) => None,
    }
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The caller's issuer and subject, if there is a caller.
    pub caller: Option<(&'a str, &'a str)>,
    /// What the request wants.
    pub class: AccessClass,
    /// Until when there must be a verdict.
    pub deadline: Instant,
}

impl Facts {
    /// Facts by this configuration, on the shelf of this process.
    pub fn new(config: &Config, shelf: Arc<Shelf>) -> Self {
        Self {
            shelf,
            sources: Source::all(config, &config.static_facts),
            kinds: config
                .resources
                .iter()
                .map(|kind| kind.name.as_str().into())
                .collect(),
        }
    }

    /// The name of a kind.
    pub fn kind(&self, index: usize) -> &str {
        self.kinds.get(index).map_or("", |name| name)
    }

    /// Whether anything must be known to judge a request that names these things.
    pub fn are_needed(&self, has_caller: bool, named: &[Named]) -> bool {
        !named.is_empty() || has_caller && self.know_callers()
    }

    /// Whether every caller is looked up.
    pub fn know_callers(&self) -> bool {
        self.sources.callers.is_some()
    }

    /// All that is needed to judge a request that names these things.
    ///
    /// # Errors
    ///
    /// Some of it could not be found out in time, and the failure matrix allows nothing else.
    pub async fn gather(&self, asking: Asking<'_>, named: Vec<Named>) -> Result<Known, Denial> {
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
        let caller = subject.and_then(|subject| want(self.sources.callers.as_ref(), subject));
        // Whether a thing is shared is not known yet; asking for it later would cost a round trip, and tell that it is.
        let memberships = subject
            .filter(|_| has_rows)
            .and_then(|subject| want(self.sources.memberships.as_ref(), subject));
        let rows: Vec<Option<usize>> = named
            .iter()
            .map(|named| want(self.source(named), &named.id))
            .collect();
        let needs_any = !wanted.is_empty() || !named.is_empty();
        let mut known = Known::default();
        let found = match self.find(wanted, asking, &mut known).await {
            Ok(found) => found,
            // What the matrix allows without facts: to sign in, or out.
            Err(denial)
                if named.is_empty()
                    && denial.reason == Reason::FactsUnavailable
                    && outage::State::FactsAway.answer(asking.class) == outage::Answer::Allow =>
            {
                return Ok(known);
            }
            Err(denial) => return Err(denial),
        };
        let mut found: Vec<Option<Arc<Entry>>> = found.into_iter().map(Some).collect();
        let outer = named
            .iter()
            .zip(&rows)
            .map(|(named, row)| {
                let outer = self.source(named)?.within.as_ref()?;
                let entry = found.get((*row)?)?.as_ref()?;
                let (source, id) = match row_of(entry) {
                    // So that what is absent takes as many lookups.
                    None => (&outer.stand_in, named.id.clone()),
                    Some(row) => (&outer.real, row.within.clone()?),
                };
                let source = source.clone();
                Some(Wanted { source, id })
            })
            .collect::<Vec<_>>();
        let within = self
            .find(
                outer.iter().flatten().cloned().collect(),
                asking,
                &mut known,
            )
            .await?;
        let mut within = within.into_iter();
        let mut take = |index: usize| found.get_mut(index).and_then(Option::take);
        known.memberships = memberships.and_then(&mut take);
        known.is_active = caller.and_then(&mut take).map(|entry| match &entry.fact {
            Fact::Caller(active) => *active,
            Fact::Memberships(_) | Fact::Row(_) => false,
        });
        for ((named, row), outer) in named.into_iter().zip(rows).zip(outer) {
            let within = outer.and_then(|_| within.next());
            let found = match (named.of, row.and_then(&mut take)) {
                (DemandOf::Caller, _) => Found::Caller,
                (DemandOf::Kind(_), Some(row)) => Found::Row { row, within },
                (DemandOf::Kind(kind), None) => {
                    let binding = self.learned(kind, &named.id, asking).await?;
                    known.trips = known.trips.saturating_add(u8::from(binding.1));
                    Found::Learned(binding.0)
                }
            };
            known.things.push(Thing { named, found });
        }
        if needs_any {
            self.shelf.metrics().trips(known.trips);
        }
        Ok(known)
    }

    fn source(&self, named: &Named) -> Option<&Arc<Source>> {
        match named.of {
            DemandOf::Caller => None,
            DemandOf::Kind(kind) => self.sources.things.get(kind)?.as_ref(),
        }
    }

    /// Facts that are young enough, or what the failure matrix says.
    async fn find(
        &self,
        wanted: Vec<Wanted>,
        asking: Asking<'_>,
        known: &mut Known,
    ) -> Result<Vec<Arc<Entry>>, Denial> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let age = Age::of(asking.class);
        let lost = match self.shelf.fetch(&wanted, age, asking.deadline).await {
            Ok((entries, trips)) => {
                known.trips = known.trips.saturating_add(trips);
                return Ok(entries);
            }
            Err(lost) => lost,
        };
        let old = match outage::State::FactsAway.answer(asking.class) {
            outage::Answer::Degrade => self.shelf.old(&wanted),
            outage::Answer::Allow | outage::Answer::Refuse(_) => None,
        };
        match (old, lost) {
            (Some(entries), _) => {
                known.is_old = true;
                Ok(entries)
            }
            (None, Lost::Late) => Err(Reason::BudgetSpent.because(Lost::Late.as_str())),
            (None, lost) => Err(Reason::FactsUnavailable.because(lost.as_str())),
        }
    }

    /// What a write to these things makes worthless, by the names that replicas share.
    pub fn touched(&self, known: &Known, caller: Option<&str>) -> Vec<(Arc<str>, String)> {
        let mut touched = Vec::new();
        for thing in &known.things {
            let Some(source) = self.source(&thing.named) else {
                continue;
            };
            touched.push((source.name.clone(), thing.named.id.clone()));
            if let (Seen::Row(row, _), Some(outer)) = (thing.seen(), &source.within)
                && let Some(id) = &row.within
            {
                touched.push((outer.real.name.clone(), id.clone()));
            }
        }
        for source in [&self.sources.callers, &self.sources.memberships]
            .into_iter()
            .flatten()
        {
            if let Some(subject) = caller {
                touched.push((source.name.clone(), subject.to_owned()));
            }
        }
        touched
    }

    /// The shelf.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }
}
