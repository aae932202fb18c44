//! The source of one kind of fact: its statement, and how the rows of that are parsed.
//!
//! A resource, the resource that contains it and all its parents are one statement, so that depth
//! costs no round trip; and all ids of a type are one statement, so that many ids cost the database
//! little more than one.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::fact::{DEEPEST, Fact, InvalidRows, Lineage, lineage_of};
use crate::database::{Param, Rows, Statement};
use crate::policy::relations::Level;
use crate::policy::resources::{ParamType, StaticFacts};

/// The kind of a fact.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FactKind {
    /// Whether a caller is active.
    Caller,
    /// A caller's teams.
    Memberships,
    /// The row of a resource.
    Row,
}

/// The source of one kind of fact.
#[derive(Debug)]
pub(super) struct Source {
    /// What kind of fact it gives.
    pub about: FactKind,
    /// Its name in the route map, and in messages between replicas.
    pub name: Arc<str>,
    /// The name in notifications. A stand-in has the one of the source that it stands in for.
    pub resource_type: Arc<str>,
    /// A hash of the statement, so that a fact of another configuration is not mistaken for one of
    /// this.
    pub fingerprint: u64,
    /// The type of ids.
    pub id: ParamType,
    /// The source of the containing resource.
    pub within: Option<Outer>,
    origin: Origin,
}

/// The source of the resource that contains another one.
#[derive(Clone, Debug)]
pub(super) struct Outer {
    /// The source of existing ones.
    pub real: Arc<Source>,
    /// Looked up in its place for a resource that does not exist, so that an absent resource takes
    /// as many lookups as a present one. It has a name of its own: a lookup with the id of another
    /// resource type must not cache that the id is absent there.
    pub stand_in: Arc<Source>,
}

#[derive(Debug)]
pub(super) enum Origin {
    Database(Arc<str>),
    Configuration(Arc<StaticFacts>),
}

/// What the rows of a statement say: the fact, and the one about the containing resource.
#[derive(Debug)]
pub(super) struct Parsed {
    pub fact: Fact,
    pub within: Option<(Arc<Source>, String, Fact)>,
}

impl Source {
    pub(super) fn new(
        about: FactKind,
        name: &str,
        resource_type: &str,
        id: ParamType,
        within: Option<Outer>,
        origin: Origin,
    ) -> Self {
        let identity = match &origin {
            Origin::Database(sql) => format!("{name}\0{}\0{sql}", id.as_str()),
            // Facts of the configuration are never cached.
            Origin::Configuration(_) => name.to_owned(),
        };
        let digest = digest(&SHA256, identity.as_bytes());
        let fingerprint = digest
            .as_ref()
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self {
            about,
            name: name.into(),
            resource_type: resource_type.into(),
            fingerprint,
            id,
            within,
            origin,
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(name: &str, resource_type: &str, id: ParamType) -> Self {
        let origin = Origin::database(String::new());
        Self::new(FactKind::Row, name, resource_type, id, None, origin)
    }

    /// The fact, if the configuration has it; `None` if it must be looked up.
    pub(super) fn configured(&self, id: &str) -> Option<Fact> {
        let Origin::Configuration(facts) = &self.origin else {
            return None;
        };
        Some(match self.about {
            FactKind::Caller => Fact::Caller(!facts.inactive.contains(id)),
            FactKind::Memberships => Fact::Memberships(
                facts
                    .memberships
                    .get(id)
                    .into_iter()
                    .flatten()
                    .map(|(team, role)| (team.clone(), Level::of_member(role)))
                    .collect(),
            ),
            FactKind::Row => self.configured_row(facts, id),
        })
    }

    fn configured_row(&self, facts: &StaticFacts, id: &str) -> Fact {
        let row = |id: &str| facts.rows.get(&(self.name.to_string(), id.to_owned()));
        let Some(found) = row(id) else {
            return Fact::Row(None);
        };
        let mut steps = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(id) = next.filter(|_| steps.len() < DEEPEST + 2) {
            let step = row(&id);
            next = step.and_then(|row| row.parent.clone());
            steps.push((id, step.is_some()));
        }
        let steps = steps.iter().map(|(id, exists)| (id.as_str(), *exists));
        Fact::configured(found, lineage_of(steps))
    }

    /// An id as a parameter, or the fact that follows from the id alone: what cannot be an id has
    /// no row.
    pub(super) fn param(&self, id: &str) -> Result<Param, Fact> {
        let absent = match self.about {
            FactKind::Caller => Fact::CallerAbsent,
            FactKind::Memberships => Fact::Memberships(Vec::new()),
            FactKind::Row => Fact::Row(None),
        };
        match &self.origin {
            Origin::Database(_) => self.id.param(id).ok_or(absent),
            Origin::Configuration(_) => Err(self.configured(id).unwrap_or(absent)),
        }
    }

    /// The one statement for all these ids. The first column of its rows is the number of the id,
    /// from 1. `None` for facts of the configuration.
    pub(super) fn statement(&self, ids: Vec<Param>) -> Option<Statement> {
        match &self.origin {
            Origin::Database(sql) => Some(Statement {
                sql: sql.clone(),
                params: vec![Param::Array(self.id, ids)],
            }),
            Origin::Configuration(_) => None,
        }
    }

    /// Parses the rows of one id, without the number of the id.
    pub(super) fn parse(&self, id: &str, rows: &Rows) -> Result<Parsed, InvalidRows> {
        let first: Vec<Option<&str>> = (0..rows.len()).map(|row| rows.text(row, 0)).collect();
        match self.about {
            FactKind::Caller => Fact::caller(&first).map(Parsed::alone),
            FactKind::Memberships => Fact::memberships(&first).map(Parsed::alone),
            FactKind::Row => self.parse_row(id, rows),
        }
    }

    /// The columns are depth, id, the row, and the row of the containing resource.
    fn parse_row(&self, id: &str, rows: &Rows) -> Result<Parsed, InvalidRows> {
        let mut steps = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            // One row for each depth, or the query returned several for one id.
            let depth: usize = rows
                .text(row, 0)
                .and_then(|text| text.parse().ok())
                .ok_or(InvalidRows)?;
            if depth != row {
                return Err(InvalidRows);
            }
            steps.push((
                rows.text(row, 1).ok_or(InvalidRows)?,
                rows.text(row, 2).is_some(),
            ));
        }
        let lineage = lineage_of(steps);
        let fact = Fact::row(rows.text(0, 2), lineage)?;
        let within = match (&self.within, &fact) {
            (None, _) => None,
            // So that an absent resource takes as many lookups as a present one.
            (Some(outer), Fact::Row(None)) => {
                Some((outer.stand_in.clone(), id.to_owned(), Fact::Row(None)))
            }
            (Some(outer), Fact::Row(Some(row))) => match &row.within {
                None => None,
                Some(within) => Some((
                    outer.real.clone(),
                    within.clone(),
                    Fact::row(rows.text(0, 3), Lineage::Whole)?,
                )),
            },
            (Some(_), Fact::Caller(_) | Fact::CallerAbsent | Fact::Memberships(_)) => None,
        };
        Ok(Parsed { fact, within })
    }
}

impl Origin {
    pub(super) fn database(sql: String) -> Self {
        Self::Database(sql.into())
    }
}

impl Parsed {
    const fn alone(fact: Fact) -> Self {
        Self { fact, within: None }
    }
}
