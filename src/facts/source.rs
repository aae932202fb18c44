//! Where one kind of fact comes from: the statement that asks for it, and how its rows are read.
//!
//! Decides: the SQL around the operator's queries. Trusts: `template` for where an id may stand in one. Not here: when it is asked
//! (`shelf`).
//!
//! A thing, what it lies in and all its parents are one statement, so that depth costs no round trip.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::fact::{DEEPEST, Fact, Lineage, Unreadable, walked};
use crate::database::{Rows, Statement};
use crate::policy::Config;
use crate::policy::relations::Level;
use crate::policy::resources::{ParamType, ResourceKind, RowSource, StaticFacts};
use crate::policy::sql_template::Template;

/// What a fact is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum About {
    /// Whether a caller is active.
    Caller,
    /// A caller's teams.
    Memberships,
    /// A thing.
    Thing,
}

/// Where one kind of fact comes from.
#[derive(Debug)]
pub(super) struct Source {
    /// What it is about.
    pub about: About,
    /// Its name in the route map, and in what is said between replicas.
    pub name: Arc<str>,
    /// What notifications call these facts; the same for what is looked up in the place of another source's.
    pub kind: Arc<str>,
    /// Differs between sources that ask something else, so that a fact of an older configuration is not taken for one of this.
    pub mark: u64,
    /// The type of ids.
    pub id: ParamType,
    /// Where what it lies in comes from.
    pub within: Option<Outer>,
    from: From,
}

/// Where what a thing lies in comes from.
#[derive(Clone, Debug)]
pub(super) struct Outer {
    /// The kind it lies in.
    pub real: Arc<Source>,
    /// What is looked up in its place for a thing that is not there, so that it takes as many lookups. Facts of this are about nothing: an id
    /// of one kind that somebody asks for as another must not say that it is absent there.
    pub stand_in: Arc<Source>,
}

#[derive(Debug)]
enum From {
    Database(Arc<str>),
    Written(Arc<StaticFacts>),
}

/// What a statement gave: the fact, and the one about what the thing lies in.
#[derive(Debug)]
pub(super) struct Read {
    pub fact: Fact,
    pub within: Option<(Arc<Source>, String, Fact)>,
}

impl Source {
    /// The sources of a configuration: callers, memberships, and one for each kind of thing that has rows.
    pub(super) fn all(config: &Config, written: &Arc<StaticFacts>) -> Sources {
        let subject = config.facts.subject;
        let limited = |sql: &Template, limit: usize| {
            format!(
                "select to_json(f)::text from ({}) as f limit {limit}",
                sql.fill("$1")
            )
        };
        let callers = match &config.facts.caller {
            Some(query) => Some(From::database(limited(&query.sql, 2))),
            None if !written.inactive.is_empty() => Some(From::Written(written.clone())),
            None => None,
        };
        let memberships = match &config.facts.memberships {
            Some(query) => Some(From::database(limited(
                &query.sql,
                super::fact::MEMBERSHIPS + 1,
            ))),
            None if !written.memberships.is_empty() => Some(From::Written(written.clone())),
            None => None,
        };
        let thing = |kind: &ResourceKind, name: &str, within: Option<Outer>| {
            let from = match &kind.rows {
                RowSource::Query(query) => {
                    let outer = kind
                        .within
                        .and_then(|index| config.resources.get(index))
                        .and_then(|outer| match &outer.rows {
                            RowSource::Query(query) => Some((&query.sql, outer.id)),
                            RowSource::Static | RowSource::Learned => None,
                        });
                    From::database(thing_sql(kind, &query.sql, outer))
                }
                RowSource::Static => From::Written(written.clone()),
                RowSource::Learned => return None,
            };
            Some(Arc::new(Self::new(
                About::Thing,
                name,
                &kind.name,
                kind.id,
                within,
                from,
            )))
        };
        let things = config
            .resources
            .iter()
            .map(|kind| {
                let outer = kind.within.and_then(|index| config.resources.get(index));
                let outer = outer.and_then(|outer| {
                    Some(Outer {
                        real: thing(outer, &outer.name, None)?,
                        // No kind has such a name.
                        stand_in: thing(outer, &format!("in place of {}", outer.name), None)?,
                    })
                });
                thing(kind, &kind.name, outer)
            })
            .collect();
        let of_callers = |about: About, name: &str, from: Option<From>| {
            from.map(|from| Arc::new(Self::new(about, name, name, subject, None, from)))
        };
        Sources {
            callers: of_callers(About::Caller, "caller", callers),
            memberships: of_callers(About::Memberships, "memberships", memberships),
            things,
        }
    }

    fn new(
        about: About,
        name: &str,
        kind: &str,
        id: ParamType,
        within: Option<Outer>,
        from: From,
    ) -> Self {
        let said = match &from {
            From::Database(sql) => format!("{name}\0{}\0{sql}", id.as_str()),
            // What is written down is never remembered.
            From::Written(_) => name.to_owned(),
        };
        let digest = digest(&SHA256, said.as_bytes());
        let mark = digest
            .as_ref()
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Self {
            about,
            name: name.into(),
            kind: kind.into(),
            mark,
            id,
            within,
            from,
        }
    }

    /// A source in tests, which has no facts.
    #[cfg(test)]
    pub(super) fn of_nothing(name: &str, kind: &str, id: ParamType) -> Self {
        let from = From::database(String::new());
        Self::new(About::Thing, name, kind, id, None, from)
    }

    /// The fact, if it is written down; `None` if it must be looked up.
    pub(super) fn written(&self, id: &str) -> Option<Fact> {
        let From::Written(facts) = &self.from else {
            return None;
        };
        Some(match self.about {
            About::Caller => Fact::Caller(!facts.inactive.contains(id)),
            About::Memberships => Fact::Memberships(
                facts
                    .memberships
                    .get(id)
                    .into_iter()
                    .flatten()
                    .map(|(team, role)| (team.clone(), Level::of_member(role)))
                    .collect(),
            ),
            About::Thing => {
                let row = |id: &str| facts.rows.get(&(self.name.to_string(), id.to_owned()));
                match row(id) {
                    None => Fact::Row(None),
                    Some(found) => {
                        let mut steps = Vec::new();
                        let mut next = Some(id.to_owned());
                        while let Some(id) = next.filter(|_| steps.len() < DEEPEST + 2) {
                            let step = row(&id);
                            next = step.and_then(|row| row.parent.clone());
                            steps.push((id, step.is_some()));
                        }
                        let steps = steps.iter().map(|(id, is_there)| (id.as_str(), *is_there));
                        Fact::written(found, walked(steps))
                    }
                }
            }
        })
    }

    /// The statement that asks for it, or the fact that follows from what the id is: what cannot be an id has no row.
    pub(super) fn statement(&self, id: &str) -> Result<Statement, Fact> {
        let absent = match self.about {
            About::Caller => Fact::Caller(false),
            About::Memberships => Fact::Memberships(Vec::new()),
            About::Thing => Fact::Row(None),
        };
        match (&self.from, self.id.param(id)) {
            (From::Database(sql), Some(param)) => Ok(Statement {
                sql: sql.clone(),
                params: vec![param],
            }),
            (From::Database(_), None) => Err(absent),
            (From::Written(_), _) => Err(self.written(id).unwrap_or(absent)),
        }
    }

    /// Reads what the statement gave.
    pub(super) fn read(&self, id: &str, rows: &Rows) -> Result<Read, Unreadable> {
        let first: Vec<Option<&str>> = (0..rows.len()).map(|row| rows.text(row, 0)).collect();
        match self.about {
            About::Caller => Fact::caller(&first).map(Read::alone),
            About::Memberships => Fact::memberships(&first).map(Read::alone),
            About::Thing => self.read_thing(id, rows),
        }
    }

    /// Columns: depth, id, the row, and the row of what it lies in.
    fn read_thing(&self, id: &str, rows: &Rows) -> Result<Read, Unreadable> {
        let mut steps = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            // One row for each depth, or the query gives several for one id.
            let depth: usize = rows
                .text(row, 0)
                .and_then(|text| text.parse().ok())
                .ok_or(Unreadable)?;
            if depth != row {
                return Err(Unreadable);
            }
            steps.push((
                rows.text(row, 1).ok_or(Unreadable)?,
                rows.text(row, 2).is_some(),
            ));
        }
        let lineage = walked(steps);
        let fact = Fact::row(rows.text(0, 2), lineage)?;
        let within = match (&self.within, &fact) {
            (None, _) => None,
            // So that an absent thing is looked up as often as one that is there.
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
            (Some(_), Fact::Caller(_) | Fact::Memberships(_)) => None,
        };
        Ok(Read { fact, within })
    }
}

impl From {
    fn database(sql: String) -> Self {
        Self::Database(sql.into())
    }
}

impl Read {
    const fn alone(fact: Fact) -> Self {
        Self { fact, within: None }
    }
}

/// All sources of a configuration.
#[derive(Debug)]
pub(super) struct Sources {
    /// Whether callers are active, if anybody says.
    pub callers: Option<Arc<Source>>,
    /// Their teams, if there are any.
    pub memberships: Option<Arc<Source>>,
    /// By kind of thing; `None` for what is only learned.
    pub things: Vec<Option<Arc<Source>>>,
}

fn thing_sql(kind: &ResourceKind, sql: &Template, outer: Option<(&Template, ParamType)>) -> String {
    let id = kind.id.as_str();
    let outer_join = match outer {
        None => String::new(),
        Some((outer, outer_id)) => format!(
            " left join lateral ({}) as w on true",
            outer.fill(&format!(
                "case when chain.depth = 0 then (chain.fact->>'within')::{} end",
                outer_id.as_str()
            ))
        ),
    };
    let outer_row = if outer.is_some() {
        "to_json(w)::text"
    } else {
        "null::text"
    };
    let parent = if kind.has_parent {
        format!("f.\"parent\"::{id}")
    } else {
        format!("null::{id}")
    };
    let first = format!(
        "select 0, $1::{id}, to_json(f), {parent} from (select 1) as one left join lateral ({}) as f on true",
        sql.fill("$1")
    );
    let rest = if kind.has_parent {
        format!(
            " union all select chain.depth + 1, chain.parent, to_json(f), {parent} from chain left join lateral ({}) as f on true where chain.depth <= {DEEPEST} and chain.parent is not null",
            sql.fill("chain.parent")
        )
    } else {
        String::new()
    };
    format!(
        "with recursive chain(depth, id, fact, parent) as ({first}{rest}) select chain.depth::text, chain.id::text, chain.fact::text, {outer_row} from chain{outer_join} order by chain.depth limit {}",
        // With a row too many at some depth there are more than these, or a depth twice among them.
        DEEPEST + 3
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Param;
    use crate::policy::sql_template::Template;

    fn kind(has_parent: bool, within: Option<usize>) -> ResourceKind {
        ResourceKind {
            name: "generation".to_owned(),
            id: ParamType::Uuid,
            rows: RowSource::Learned,
            within,
            has_parent,
        }
    }

    #[test]
    fn an_id_is_a_parameter_and_never_text() {
        let template = Template::parse("select user_id as owner from g where id = $1")
            .unwrap_or_else(|why| unreachable!("{why}"));
        let sql = thing_sql(
            &kind(true, None),
            &template,
            Some((&template, ParamType::Uuid)),
        );
        assert_eq!(sql.matches("$1").count(), 2, "{sql}");
        assert!(sql.contains("id = (chain.parent)"), "{sql}");
        let plain = thing_sql(&kind(false, None), &template, None);
        assert!(!plain.contains("union all"), "{plain}");
        let source = Source::new(
            About::Thing,
            "generation",
            "generation",
            ParamType::Uuid,
            None,
            From::database(sql),
        );
        assert!(matches!(
            source.statement("' or true --"),
            Err(Fact::Row(None))
        ));
        let id = "018f5b5e-0000-7000-8000-000000000001";
        assert!(matches!(
            source.statement(id).map(|statement| statement.params),
            Ok(params) if matches!(&params[..], [Param::Uuid(_)])
        ));
    }
}
