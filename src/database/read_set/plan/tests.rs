//! What is found in plans.

use super::super::catalog::Function;
use super::*;
use serde_json::json;

fn walked(explained: &Value) -> Plan {
    Plan::of("", Some(explained))
}

fn table(name: &str) -> Table {
    Table {
        name: name.to_owned(),
        is_table: true,
        key: None,
        columns: Vec::new(),
        texts: Vec::new(),
        triggers: Vec::new(),
        rewriters: Vec::new(),
        scans: Vec::new(),
    }
}

#[test]
fn a_star_that_stands_for_columns_is_found() {
    for sql in ["select * from t", "SELECT t.* from t", "select a, * from t"] {
        assert!(has_column_star(sql), "{sql}");
    }
    for sql in ["select count(*) from t", "select a * 2 from t", "select a"] {
        assert!(!has_column_star(sql), "{sql}");
    }
}

#[test]
fn only_a_whole_function_name_is_a_call() {
    assert!(calls("x\npublic.lookup(t.id)", "lookup"));
    assert!(calls("\"Look\"(t.id)", "Look"));
    assert!(!calls("is_lookup(t.id)", "lookup"));
    assert!(!calls("t.lookup", "lookup"));
}

#[test]
fn a_clock_in_a_plan_or_a_statement_is_unstable() {
    let function = |name: &str, is_opaque| Function {
        name: name.to_owned(),
        is_opaque,
        is_folded: false,
    };
    let catalog = Catalog {
        functions: vec![function("now", false), function("lookup", true)],
        ..Catalog::default()
    };
    let unstable =
        |sql: &str, explained: &Value| Plan::of(sql, Some(explained)).read_set(&catalog).unstable;
    let filter = |text: &str| json!({ "Filter": text });
    for text in [
        "(t.lent_until > now())",
        "(t.lent_until > CURRENT_TIMESTAMP)",
        "(t.lent_until > LOCALTIMESTAMP(3))",
        "(t.lent_to = CURRENT_USER)",
        "(t.lent_until > ('now'::text)::date)",
        "((t.opens)::time with time zone > t.closes)",
    ] {
        assert!(!unstable("select 1", &filter(text)).is_empty(), "{text}");
    }
    let date = filter("(t.lent_until > '2026-01-01'::date)");
    let sql = "select owner from t where id = $1 and lent_until > 'Today'::date";
    assert_eq!(unstable(sql, &date), ["today"]);
    assert_eq!(unstable("select 1", &date), [""; 0]);
    let sample = json!({ "Sampling Method": "system" });
    assert_eq!(unstable("select 1", &sample), ["TABLESAMPLE"]);
    for text in [
        r#"("user".id = 'USER'::text)"#,
        r#"(t."CURRENT_DATE" = t.current_user)"#,
        "(unknown(t.id))",
        "(lookup(t.id))",
        "(t.until > '2026-01-01 00:00:00+00'::timestamp with time zone)",
    ] {
        assert_eq!(unstable("select 1", &filter(text)), [""; 0], "{text}");
    }
}

#[test]
fn a_clock_in_a_text_is_found_however_it_is_written() {
    let unstable = |sql: &str| {
        !Plan::of(sql, None)
            .read_set(&Catalog::default())
            .unstable
            .is_empty()
    };
    for sql in [
        "select 'now'::timestamptz",
        "select '_Today'::date",
        "select '04:05 tomorrow'::timestamptz",
        "select 'today12:00'::timestamp",
        "select u&'\\006eow'::timestamptz",
        "select 'no'\n'w'::timestamptz",
    ] {
        assert!(unstable(sql), "{sql}");
    }
    for sql in [
        "select valid_now from t",
        "select nowhere, todays from t",
        "select a\nfrom t where b = 'c' and d = 'e'",
    ] {
        assert!(!unstable(sql), "{sql}");
    }
}

#[test]
fn a_time_that_is_read_from_a_text_is_unstable() {
    let table = Table {
        texts: vec!["note".to_owned(), "Note 2".to_owned()],
        ..table("public.t")
    };
    let catalog = Catalog {
        tables: vec![table],
        ..Catalog::default()
    };
    let unstable = |filter: &str| {
        let plan = walked(&json!({ "Schema": "public", "Relation Name": "t", "Filter": filter }));
        !plan.read_set(&catalog).unstable.is_empty()
    };
    for filter in [
        "(t.until > (t.note)::timestamp with time zone)",
        "(t.until > (t.\"Note 2\")::date)",
        "(t.until > (concat('no', 'w'))::timestamp with time zone)",
        "(t.until > ((t.meta ->> 'until'::text))::timestamp without time zone)",
        "((t.opens)::time(0) with time zone > t.closes)",
    ] {
        assert!(unstable(filter), "{filter}");
    }
    for filter in [
        "((t.made)::date > '2026-01-01'::date)",
        "((t.note)::text = concat(t.a, t.b))",
        "((t.until)::timestamp(0) with time zone > '2026-01-01 00:00:00+00'::timestamp with time zone)",
        "((t.meta ->> 'kind'::text) = 'time'::text)",
    ] {
        assert!(!unstable(filter), "{filter}");
    }
}

#[test]
fn the_result_of_a_function_may_be_in_the_plan_in_place_of_its_call() {
    let function = |name: &str, is_folded| Function {
        name: name.to_owned(),
        is_opaque: true,
        is_folded,
    };
    let catalog = Catalog {
        functions: vec![function("cutoff", true), function("inlined", false)],
        ..Catalog::default()
    };
    let sql = "select owner from t where id = $1 and until > cutoff() and inlined(until)";
    let read_set = Plan::of(sql, None).read_set(&catalog);
    assert_eq!(read_set.unstable, ["cutoff()"]);
    assert_eq!(read_set.functions, [""; 0]);
    let explained = json!({ "Filter": "(t.until > cutoff())" });
    let read_set = Plan::of(sql, Some(&explained)).read_set(&catalog);
    assert_eq!(read_set.functions, ["cutoff"]);
}

#[test]
fn a_quotation_mark_in_a_name_hides_no_clock() {
    for alias in ["o'neil", "5\" screen", "'", "\"'"] {
        let filter = "(x.until > CURRENT_TIMESTAMP)";
        let plan = walked(&json!([{ "Alias": alias, "Filter": filter }]));
        let unstable = plan.read_set(&Catalog::default()).unstable;
        assert_eq!(unstable, ["CURRENT_TIMESTAMP"], "{alias}");
    }
}

#[test]
fn a_function_that_hides_a_clock_makes_every_query_unstable() {
    let catalog = Catalog {
        clock_functions: vec!["cutoff".to_owned()],
        ..Catalog::default()
    };
    let plan = walked(&json!({ "Filter": "(t.until > '2026-01-01'::date)" }));
    assert_eq!(plan.read_set(&catalog).unstable, ["cutoff()"]);
}

#[test]
fn a_plan_shows_tables_and_compared_columns_but_not_whole_rows_of_inner_nodes() {
    let plan = walked(&json!([{ "Plan": {
        "Node Type": "Nested Loop", "Output": ["a.owner"],
        "Plans": [{ "Parent Relationship": "Outer", "Schema": "public", "Relation Name": "a", "Output": ["a.owner", "a.secret"], "Filter": "a.shown" }]
    } }]));
    assert_eq!(Vec::from_iter(plan.tables), ["public.a"]);
    assert!(plan.words.contains("owner") && plan.words.contains("shown"));
    assert!(!plan.words.contains("secret"));
}

#[test]
fn the_output_of_a_subquery_or_a_member_is_read() {
    for relation in ["Subquery", "Member", "InitPlan", "SubPlan"] {
        let plan = walked(&json!([{ "Plan": {
            "Node Type": "Append",
            "Plans": [{ "Parent Relationship": relation, "Output": ["(CASE WHEN a.archived THEN a.owner END)"] }]
        } }]));
        assert!(plan.words.contains("archived"), "{relation}");
    }
}

#[test]
fn comparing_a_whole_row_reads_all_columns() {
    let plan = walked(&json!({ "Filter": "(p.* IS NOT NULL)" }));
    assert!(plan.reads_all_columns);
}

#[test]
fn a_column_name_of_several_words_is_found() {
    let plan = Plan::of(r#"select "Owner Id" from t"#, None);
    let read_set = plan.read_set(&Catalog::default());
    assert!(read_set.mentions("Owner Id") && !read_set.mentions("Other Id"));
}

#[test]
fn the_output_of_an_init_plan_is_not_taken_for_the_parameter() {
    for (outputs, is_parameter) in [("$0", true), ("$0,$1", false), ("$1", false), ("$10", true)] {
        let plan = walked(&json!([{ "Plan": {
            "Schema": "public", "Relation Name": "a", "Alias": "a", "Filter": "(a.id = $1)",
            "Plans": [{ "Node Type": "Result", "Subplan Name": format!("InitPlan 2 (returns {outputs})") }]
        } }]));
        assert_eq!(!plan.is_parameter_ambiguous, is_parameter, "{outputs}");
    }
}

#[test]
fn a_plan_without_tables_or_with_pruned_partitions_is_incomplete() {
    let catalog = Catalog {
        tables: vec![table("public.a")],
        ..Catalog::default()
    };
    for (removed, name, is_complete) in [(0, "a", true), (1, "a", false), (0, "dropped", false)] {
        let explained = json!([{ "Plan": {
            "Node Type": "Append", "Subplans Removed": removed,
            "Plans": [{ "Schema": "public", "Relation Name": name, "Alias": name }]
        } }]);
        let read_set = walked(&explained).read_set(&catalog);
        assert_eq!(read_set.is_complete, is_complete, "{explained}");
    }
    let plan = walked(&json!([{ "Plan": { "Node Type": "Result" } }]));
    assert!(!plan.read_set(&catalog).is_complete);
}
