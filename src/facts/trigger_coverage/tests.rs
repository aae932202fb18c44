//! Coverage of one table by its triggers.

use super::*;
use crate::database::Rewriter;

fn asked(has_parent: bool) -> WatchedQuery {
    WatchedQuery {
        kind: "project".to_owned(),
        key: "resources.project.query".to_owned(),
        sql: "select owner from t where id = $1".into(),
        id: ParamType::Uuid,
        has_parent,
    }
}

fn trigger(function: &str, argument: &str, columns: &[&str]) -> Trigger {
    Trigger {
        function: function.to_owned(),
        argument: argument.to_owned(),
        key: "id".to_owned(),
        inserts: true,
        updates: true,
        deletes: true,
        truncates: false,
        is_always: true,
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn on_truncate() -> Trigger {
    Trigger {
        inserts: false,
        updates: false,
        deletes: false,
        truncates: true,
        ..trigger("foregate_tell_everything", "", &[])
    }
}

fn missing_in(
    asked: &WatchedQuery,
    triggers: Vec<Trigger>,
    reads_all_columns: bool,
) -> Option<Missing> {
    missing_by(asked, triggers, reads_all_columns, &[&["id"]])
}

fn missing_by(
    asked: &WatchedQuery,
    triggers: Vec<Trigger>,
    reads_all_columns: bool,
    scans: &[&[&str]],
) -> Option<Missing> {
    let names = |names: &&[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let read_set = ReadSet {
        tables: vec![Table {
            name: "public.t".to_owned(),
            is_table: true,
            key: Some("id".to_owned()),
            columns: ["id", "owner", "title"].map(str::to_owned).into(),
            texts: Vec::new(),
            triggers,
            rewriters: Vec::new(),
            scans: scans.iter().map(names).collect(),
        }],
        is_complete: true,
        words: ["select", "owner", "id"].map(str::to_owned).into(),
        reads_all_columns,
        ..ReadSet::default()
    };
    let [table] =
        <[TableCoverage; 1]>::try_from(coverage(std::slice::from_ref(asked), &[read_set]))
            .unwrap_or_else(|all| unreachable!("{all:?}"));
    table.missing
}

#[test]
fn a_table_is_covered_only_by_triggers_for_its_type_on_every_event_and_column() {
    let project = asked(false);
    let whole = trigger("foregate_tell", "project", &[]);
    let all = |one: Trigger| vec![one, on_truncate()];
    assert_eq!(missing_in(&project, all(whole.clone()), true), None);
    assert_eq!(
        missing_in(&project, Vec::new(), false),
        Some(Missing::Triggers)
    );
    assert_eq!(
        missing_in(&project, all(trigger("foregate_tell", "file", &[])), false),
        Some(Missing::Triggers)
    );
    assert_eq!(
        missing_in(&project, all(trigger("audit", "project", &[])), false),
        Some(Missing::Triggers)
    );
    assert_eq!(
        missing_in(&project, vec![whole.clone()], false),
        Some(Missing::Events(vec!["TRUNCATE"]))
    );
    let owner = trigger("foregate_tell", "project", &["owner"]);
    assert_eq!(missing_in(&project, all(owner.clone()), false), None);
    assert_eq!(
        missing_in(&project, all(owner), true),
        Some(Missing::Columns(vec!["title".to_owned()]))
    );
    let title = trigger("foregate_tell", "project", &["title"]);
    assert_eq!(
        missing_in(&project, all(title), false),
        Some(Missing::Columns(vec!["owner".to_owned()]))
    );
    let only_new = Trigger {
        updates: false,
        deletes: false,
        ..whole.clone()
    };
    assert_eq!(
        missing_in(&project, all(only_new), false),
        Some(Missing::Events(vec!["UPDATE", "DELETE"]))
    );
    let parents = asked(true);
    assert_eq!(
        missing_in(&parents, all(whole.clone()), false),
        Some(Missing::Children)
    );
    for (children, missing) in [
        (trigger(CHILDREN, "project", &["owner"]), None),
        (trigger(CHILDREN, "file", &[]), Some(Missing::Children)),
        (
            trigger(CHILDREN, "project", &["parent"]),
            Some(Missing::Children),
        ),
        (
            trigger("foregate_tell_children_of", "project", &[]),
            Some(Missing::Children),
        ),
        (
            Trigger {
                deletes: false,
                ..trigger(CHILDREN, "project", &[])
            },
            Some(Missing::Children),
        ),
    ] {
        let all = vec![whole.clone(), children, on_truncate()];
        assert_eq!(missing_in(&parents, all, false), missing);
    }
    // It reports the descendants of a row, not the row.
    let all = vec![trigger(CHILDREN, "project", &[]), on_truncate()];
    assert_eq!(missing_in(&parents, all, false), Some(Missing::Triggers));
}

#[test]
fn a_trigger_must_report_the_ids_by_which_rows_are_found() {
    let project = asked(false);
    let direct = trigger(FUNCTION, "project", &[]);
    let searching = trigger("foregate_tell_members", "project", &[]);
    let missing_with = |triggers: &[&Trigger], scans: &[&[&str]]| {
        let mut all: Vec<Trigger> = triggers.iter().map(|one| (*one).clone()).collect();
        all.push(on_truncate());
        missing_by(&project, all, false, scans)
    };
    let ids = |columns: &[&str]| {
        let columns = columns.iter().map(|name| (*name).to_owned());
        Some(Missing::Ids(columns.collect()))
    };
    assert_eq!(missing_with(&[&direct], &[&["id"]]), None);
    assert_eq!(missing_with(&[&direct], &[&["owner"]]), ids(&["owner"]));
    assert_eq!(missing_with(&[&direct], &[&[]]), ids(&[]));
    assert_eq!(missing_with(&[&searching], &[&[]]), None);
    assert_eq!(missing_with(&[&searching], &[&["id"]]), ids(&["id"]));
    assert_eq!(missing_with(&[&searching], &[&["id"], &[]]), ids(&["id"]));
    assert_eq!(missing_with(&[&searching, &direct], &[&["id"], &[]]), None);
    // A key that is not the parameter may change like any other column.
    let narrow = trigger("foregate_tell_members", "project", &["owner"]);
    let id = Some(Missing::Columns(vec!["id".to_owned()]));
    assert_eq!(missing_with(&[&narrow], &[&[]]), id);
}

#[test]
fn a_column_that_a_before_trigger_may_change_needs_a_trigger_on_every_update() {
    let query = asked(false);
    let read_set = |rewriter: Option<&str>, columns: &[&str]| ReadSet {
        tables: vec![Table {
            name: "public.t".to_owned(),
            is_table: true,
            key: Some("id".to_owned()),
            columns: ["id", "owner", "title"].map(str::to_owned).into(),
            texts: Vec::new(),
            triggers: vec![trigger("foregate_tell", "project", columns), on_truncate()],
            rewriters: vec![Rewriter::new(rewriter.map(str::to_owned))],
            scans: vec![BTreeSet::from(["id".to_owned()])],
        }],
        is_complete: true,
        words: ["select", "owner", "id"].map(str::to_owned).into(),
        ..ReadSet::default()
    };
    let missing = |rewriter, columns: &[&str]| {
        let all = coverage(std::slice::from_ref(&query), &[read_set(rewriter, columns)]);
        all.into_iter().find_map(|table| table.missing)
    };
    let rewritten = Some(Missing::Rewritten(vec!["owner".to_owned()]));
    for harmless in [
        "begin new.updated_at = now(); return new; end",
        "BEGIN IF NEW.title <> OLD.title THEN NEW.renamed := true; END IF; RETURN NEW; END",
    ] {
        assert_eq!(missing(Some(harmless), &["owner"]), None, "{harmless}");
    }
    for changing in [
        Some("begin new.\"owner\" := null; return new; end"),
        Some("BEGIN NEW.OWNER = current_user; RETURN NEW; END"),
        Some("begin new := jsonb_populate_record(new, '{}'); return new; end"),
        Some("begin select * into new from t; return new; end"),
        None,
    ] {
        assert_eq!(missing(changing, &["owner"]), rewritten, "{changing:?}");
        assert_eq!(missing(changing, &[]), None, "{changing:?}");
    }
}
