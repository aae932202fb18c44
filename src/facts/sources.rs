//! All sources of a configuration, and the SQL around the operator's queries.

use std::sync::Arc;

use super::fact::{DEEPEST, MEMBERSHIPS};
use super::source::{FactKind, Origin, Outer, Source};
use crate::policy::Config;
use crate::policy::resources::{ParamType, ResourceType, RowSource};
use crate::policy::sql_template::Template;

/// All sources of a configuration.
#[derive(Debug)]
pub(super) struct Sources {
    /// Whether callers are active, if the configuration says how to know.
    pub callers: Option<Arc<Source>>,
    /// The teams of callers, if there are any.
    pub memberships: Option<Arc<Source>>,
    /// By index of the resource type; `None` for types that are only learned.
    pub rows: Vec<Option<Arc<Source>>>,
}

/// The names of the facts about callers, which replicas share.
pub(super) const CALLER: &str = "caller";
pub(super) const MEMBERSHIPS_OF_CALLER: &str = "memberships";

impl Sources {
    pub(super) fn of(config: &Config) -> Self {
        let subject = config.facts.subject;
        let facts = &config.static_facts;
        let configured = |has_some: bool| has_some.then(|| Origin::Configuration(facts.clone()));
        let callers = match &config.facts.caller {
            Some(query) => Some(Origin::database(limited(&query.sql, subject, 2))),
            None => configured(!facts.inactive.is_empty()),
        };
        let memberships = match &config.facts.memberships {
            Some(query) => Some(Origin::database(limited(
                &query.sql,
                subject,
                MEMBERSHIPS + 1,
            ))),
            None => configured(!facts.memberships.is_empty()),
        };
        let of_callers = |about: FactKind, name: &str, origin: Option<Origin>| {
            origin.map(|origin| Arc::new(Source::new(about, name, name, subject, None, origin)))
        };
        Self {
            callers: of_callers(FactKind::Caller, CALLER, callers),
            memberships: of_callers(FactKind::Memberships, MEMBERSHIPS_OF_CALLER, memberships),
            rows: config
                .resources
                .iter()
                .map(|resource| {
                    let within = outer_type(config, resource).and_then(|outer| {
                        Some(Outer {
                            real: row_source(config, outer, &outer.name, None)?,
                            // No resource type has such a name.
                            stand_in: {
                                let name = format!("in place of {}", outer.name);
                                row_source(config, outer, &name, None)?
                            },
                        })
                    });
                    row_source(config, resource, &resource.name, within)
                })
                .collect(),
        }
    }
}

/// The type of the resources that contain those of this type.
fn outer_type<'a>(config: &'a Config, resource: &ResourceType) -> Option<&'a ResourceType> {
    config.resources.get(resource.within?)
}

fn row_source(
    config: &Config,
    resource: &ResourceType,
    name: &str,
    within: Option<Outer>,
) -> Option<Arc<Source>> {
    let origin = match &resource.rows {
        RowSource::Query(query) => {
            let outer = outer_type(config, resource).and_then(|outer| match &outer.rows {
                RowSource::Query(query) => Some((&query.sql, outer.id)),
                RowSource::Static | RowSource::Learned => None,
            });
            Origin::database(row_sql(resource, &query.sql, outer))
        }
        RowSource::Static => Origin::Configuration(config.static_facts.clone()),
        RowSource::Learned => return None,
    };
    Some(Arc::new(Source::new(
        FactKind::Row,
        name,
        &resource.name,
        resource.id,
        within,
        origin,
    )))
}

/// The relation of all ids of a statement, and of the parents that it walks. No table of the
/// operator has such a name, which the operator's query would mean instead.
const ASKED: &str = "foregate_asked";
const CHAIN: &str = "foregate_chain";

/// One statement for all ids in the array `$1`: `per_id`, which uses `foregate_asked.id` and
/// returns `columns`, after the number of the id.
fn batch(id: ParamType, columns: &str, per_id: &str, order: &str) -> String {
    let id = id.as_str();
    format!(
        "select {ASKED}.n::text, {columns} from unnest($1::{id}[]) with ordinality as {ASKED}(id, n) cross join lateral ({per_id}) as found order by {ASKED}.n{order}"
    )
}

/// One row more than may be used, so that too many are noticed.
fn limited(sql: &Template, id: ParamType, limit: usize) -> String {
    let sql = sql.fill(&format!("{ASKED}.id"));
    let per_id = format!("select to_json(f)::text as fact from ({sql}) as f limit {limit}");
    batch(id, "found.fact", &per_id, "")
}

fn row_sql(
    resource: &ResourceType,
    sql: &Template,
    outer: Option<(&Template, ParamType)>,
) -> String {
    let id = resource.id.as_str();
    let outer_join = match outer {
        None => String::new(),
        Some((outer, outer_id)) => format!(
            " left join lateral ({}) as w on true",
            outer.fill(&format!(
                "case when {CHAIN}.depth = 0 then ({CHAIN}.fact->>'within')::{} end",
                outer_id.as_str()
            ))
        ),
    };
    let outer_row = if outer.is_some() {
        "to_json(w)::text"
    } else {
        "null::text"
    };
    let parent = if resource.has_parent {
        format!("f.\"parent\"::{id}")
    } else {
        format!("null::{id}")
    };
    let first = format!(
        "select 0, {ASKED}.id, to_json(f), {parent} from (select 1) as one left join lateral ({}) as f on true",
        sql.fill(&format!("{ASKED}.id"))
    );
    let rest = if resource.has_parent {
        format!(
            " union all select {CHAIN}.depth + 1, {CHAIN}.parent, to_json(f), {parent} from {CHAIN} left join lateral ({}) as f on true where {CHAIN}.depth <= {DEEPEST} and {CHAIN}.parent is not null",
            sql.fill(&format!("{CHAIN}.parent"))
        )
    } else {
        String::new()
    };
    let per_id = format!(
        "with recursive {CHAIN}(depth, id, fact, parent) as ({first}{rest}) select {CHAIN}.depth as depth, {CHAIN}.id::text as id, {CHAIN}.fact::text as fact, {outer_row} as outer_fact from {CHAIN}{outer_join} order by {CHAIN}.depth limit {}",
        // If some depth has a row too many, there are more rows than this, or a depth appears
        // twice.
        DEEPEST + 3
    );
    let columns = "found.depth::text, found.id, found.fact, found.outer_fact";
    batch(resource.id, columns, &per_id, ", found.depth")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Param;
    use crate::facts::fact::Fact;

    fn kind(has_parent: bool, within: Option<usize>) -> ResourceType {
        ResourceType {
            name: "generation".to_owned(),
            id: ParamType::Uuid,
            rows: RowSource::Learned,
            within,
            has_parent,
        }
    }

    #[test]
    fn an_id_is_a_parameter_and_never_part_of_the_statement() {
        let template = Template::parse("select user_id as owner from g where id = $1")
            .unwrap_or_else(|why| unreachable!("{why}"));
        let sql = row_sql(
            &kind(true, None),
            &template,
            Some((&template, ParamType::Uuid)),
        );
        // Only as the array of all ids.
        assert_eq!(sql.matches("$1").count(), 1, "{sql}");
        assert!(sql.contains("unnest($1::uuid[])"), "{sql}");
        assert!(sql.contains("id = (foregate_asked.id)"), "{sql}");
        assert!(sql.contains("id = (foregate_chain.parent)"), "{sql}");
        let plain = row_sql(&kind(false, None), &template, None);
        assert!(!plain.contains("union all"), "{plain}");
        let source = Source::new(
            FactKind::Row,
            "generation",
            "generation",
            ParamType::Uuid,
            None,
            Origin::database(sql),
        );
        assert_eq!(source.param("' or true --"), Err(Fact::Row(None)));
        let id = "018f5b5e-0000-7000-8000-000000000001";
        assert!(matches!(source.param(id), Ok(Param::Uuid(_))));
    }
}
