//! Which requests the rules grant, and that no spelling of a query reaches a column that they hide.

#![allow(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeSet;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

mod reading;

fn these(names: &[&str]) -> Columns {
    Columns::These(names.iter().map(|name| (*name).to_owned()).collect())
}

fn rules() -> RestRules {
    let table = |read, write, delete| Table {
        read,
        write,
        delete,
    };
    RestRules {
        tables: [
            (
                "projects".to_owned(),
                table(
                    these(&["id", "name", "data", "owner"]),
                    these(&["name", "id"]),
                    true,
                ),
            ),
            (
                "users".to_owned(),
                table(these(&["id", "name"]), Columns::None, false),
            ),
            ("notes".to_owned(), table(Columns::All, Columns::All, false)),
            (
                "inbox".to_owned(),
                table(Columns::None, these(&["text"]), false),
            ),
        ]
        .into(),
        embeds: Embeds::Tables,
        rpc: ["search".to_owned()].into(),
        schemas: vec!["public".to_owned()],
        openapi: false,
    }
}

const PROJECTS: Resource<'static> = Resource::Table("projects");

fn authorize(
    rules: &RestRules,
    method: &str,
    resource: Resource<'_>,
    query: &str,
    fields: &[(&'static str, &'static str)],
    body: Option<&str>,
) -> Result<(), Detail> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let parsed = query::read(query, Some("apikey"), resource)?;
    let headers = RestHeaders::read(&map, &rules.schemas)?;
    let body = body.map(|body| serde_json::from_str(body).expect("JSON"));
    let request = Request {
        rules,
        query: &parsed,
        headers: &headers,
        body: body.as_ref(),
    };
    request.authorize(
        &Method::from_bytes(method.as_bytes()).expect("a method"),
        resource,
    )
}

fn reads(query: &str) -> bool {
    authorize(&rules(), "GET", PROJECTS, query, &[], None).is_ok()
}

/// Queries as clients write them, with the escapes decoded for readability.
const GOOD: &[&str] = &[
    "select=id,name",
    "select=id,name&apikey=sb_publishable_x",
    "select=id, name",
    "select=%22id%22,label:name,data->a->>b,data->0,id::text",
    "select=count()",
    "select=id.count(),name",
    "select=id,users(id,name)",
    "select=id,owner:users!owner_fk!inner(name)&owner.name=eq.x&owner.order=name.desc&owner.limit=3",
    "select=id,...users(name)",
    "select=id,users(id,projects(id))&users.projects.id=gt.3",
    "select=id&id=eq.1&name=ilike.*a%2Cb*&offset=0&limit=10",
    "select=id&id=in.(1,2,3)&name=not.is.null&data->>a=eq.%22x%22",
    "select=id&or=(id.eq.1,and(name.like.a*,not.or(id.gt.3,id.in.(1,%22a,b%22))),data->>k.cs.{1,2})",
    "select=id&not.and=(id.gte.1,name.fts(english).cat)",
    "select=id,users(id)&users.or=(name.eq.a,name.eq.b)",
    "select=id&order=name.asc.nullsfirst,id.desc,data->>a",
    "select=id,users(id)&order=users(name).desc",
    "select=id&name=like(any).{a,b}",
    "select=id&name=eq.two%0Alines",
    "select=name:id&order=name",
];

#[test]
fn queries_of_real_clients_are_parsed() {
    for query in GOOD {
        assert_eq!(
            authorize(&rules(), "GET", PROJECTS, query, &[], None),
            Ok(()),
            "{query}"
        );
        assert!(reading::touched("projects", query).is_some(), "{query}");
    }
}

#[test]
fn a_hidden_column_is_neither_returned_nor_filtered_by() {
    for query in [
        "",
        "select=*",
        "select=id,secret",
        "select=x:secret",
        "select=secret->a",
        "select=secret.sum()",
        "select=id,users(secret)",
        "select=id,users(*)",
        "select=id,inbox(text)",
        "select=id,inbox()",
        "select=id,tokens(id)",
        "select=id,...tokens(id)",
        "select=id,name:tokens(id)",
        "select=id&secret=eq.1",
        "select=id&secret->>a=eq.1",
        "select=id&order=secret",
        "select=secret:id&order=secret",
        "select=id&order=id,secret.desc",
        "select=id&or=(id.eq.1,secret.eq.2)",
        "select=id&or=(id.eq.1,and(id.eq.1,secret.eq.2))",
        "select=id&or=(name.eq.%22a%22,secret.eq.2)",
        "select=id,users(id)&users.secret=eq.1",
        "select=id,users(id)&users.or=(secret.eq.1)",
        "select=id,users(id)&users.order=secret",
        "select=id,users(id)&order=users(secret)",
        "select=id&users.name=eq.1",
        "select=id,users(id),u:users(id)&users.id=eq.1",
        "select=id&columns=name",
    ] {
        assert!(!reads(query), "{query}");
    }
}

#[test]
fn a_query_that_cannot_be_parsed_is_refused() {
    for query in [
        "select=id&select=id,secret",
        "select=id;select=secret",
        "select=id&id",
        "select",
        "select=",
        "select=id,",
        "select=id&",
        "select=id&id=1",
        "select=id&id=foo.1",
        "select=id&%zz=eq.1",
        "select=id%2",
        "select=id%00",
        "select=%ff",
        "select=a b",
        "select=name-x",
        "select=\"na\"me\"",
        "select=id&or=(id.eq.1",
        "select=id&or=id.eq.1",
        "select=id&or=(id.eq.1))",
        "select=id&or=(name.eq.a(b)",
        "select=id&or=()",
        "select=id&not.limit=1",
        "select=id&limit=x",
        "select=id&%22order%22=secret",
        "select=id&\"or\"=(secret.eq.1)",
        "select=id,users(id",
        "select=id,users(id))",
        "select=ид",
    ] {
        assert!(!reads(query), "{query}");
    }
    let deep = format!("select={}id{}", "users(".repeat(20), ")".repeat(20));
    assert!(!reads(&deep));
    let deep = format!(
        "select=id&or=({}id.eq.1{})",
        "and(".repeat(20),
        ")".repeat(20)
    );
    assert!(!reads(&deep));
}

#[test]
fn only_granted_columns_are_written_and_returned() {
    let rules = rules();
    let ask = |method, query, fields: &[(&'static str, &'static str)], body| {
        authorize(&rules, method, PROJECTS, query, fields, Some(body)).is_ok()
    };
    for method in ["POST", "PATCH", "PUT"] {
        assert!(ask(method, "", &[], r#"{"name":"a"}"#));
        assert!(ask(
            method,
            "columns=%22name%22&on_conflict=id",
            &[],
            r#"[{"name":"a"},{"id":1}]"#
        ));
        assert!(ask(method, "", &[], "[]"));
        for body in [
            r#"{"owner":1}"#,
            r#"[{"name":"a"},{"name":"b","owner":1}]"#,
            r#"["name"]"#,
            "1",
            r#"{"name ":1}"#,
            r#"{"Name":1}"#,
            r#"[[{"name":1}]]"#,
        ] {
            assert!(!ask(method, "", &[], body), "{body}");
        }
        assert!(!ask(method, "columns=owner", &[], "{}"));
        assert!(!ask(method, "on_conflict=owner", &[], "{}"));
        assert!(!ask(method, "secret=eq.1", &[], "{}"));
        let back = [(
            "prefer",
            "return=representation,resolution=merge-duplicates",
        )];
        assert!(!ask(method, "", &back, "{}"));
        assert!(!ask(method, "select=secret", &back, "{}"));
        assert!(ask(method, "select=id", &back, "{}"));
        assert!(!ask(method, "", &[("prefer", "return=headers-only")], "{}"));
        assert!(!ask(
            method,
            "",
            &[
                ("prefer", "count=exact"),
                ("prefer", "return=representation")
            ],
            "{}"
        ));
    }
    let on = |table, method, query| {
        authorize(&rules, method, Resource::Table(table), query, &[], None).is_ok()
    };
    assert!(
        on("notes", "GET", "")
            && on("notes", "POST", "columns=any")
            && on("notes", "GET", "anything=eq.1")
    );
    assert!(
        !on("notes", "DELETE", "")
            && on("projects", "DELETE", "id=eq.1")
            && !on("projects", "DELETE", "secret=eq.1")
    );
    assert!(
        !on("users", "POST", "") && !on("users", "PATCH", "") && !on("inbox", "GET", "select=text")
    );
    assert!(
        !on("tokens", "GET", "")
            && !on("projects", "OPTIONS", "")
            && !on("projects", "PROPFIND", "select=id")
    );
}

#[test]
fn functions_schemas_and_the_root_are_granted_by_name() {
    let rules = rules();
    let call = |method, name, query| {
        authorize(&rules, method, Resource::Function(name), query, &[], None).is_ok()
    };
    assert!(
        call("GET", "search", "term=cat&limit=3") && call("POST", "search", "select=id,anything")
    );
    assert!(
        call("POST", "search", "select=id,users(name)")
            && !call("POST", "search", "select=id,users(secret)")
    );
    assert!(
        !call("POST", "search", "select=id,tokens(id)") && !call("POST", "add_user_credits", "")
    );
    assert!(!call("PATCH", "search", "") && !call("POST", "search", "columns=a"));
    let root = |rules: &RestRules, query| {
        authorize(rules, "GET", Resource::Root, query, &[], None).is_ok()
    };
    assert!(!root(&rules, ""));
    let open = RestRules {
        openapi: true,
        ..rules.clone()
    };
    assert!(root(&open, "") && root(&open, "apikey=k") && !root(&open, "select=a"));
    let with = |name, value| {
        authorize(&rules, "GET", PROJECTS, "select=id", &[(name, value)], None).is_ok()
    };
    assert!(
        with("accept-profile", "public")
            && !with("accept-profile", "auth")
            && !with("content-profile", "auth")
    );
    assert!(
        with("accept", "application/vnd.pgrst.object+json;nulls=stripped") && with("accept", "*/*")
    );
    assert!(
        !with(
            "accept",
            "application/vnd.pgrst.plan+json; for=\"application/json\""
        ) && !with("accept", "application/json, application/vnd.pgrst.plan")
    );
    assert!(
        with("prefer", "count=exact, timezone=Europe/Vienna")
            && !with("prefer", "plan=yes")
            && !with("prefer", "return")
    );
    let closed = RestRules {
        embeds: Embeds::Deny,
        ..rules
    };
    assert!(authorize(&closed, "GET", PROJECTS, "select=id,users(id)", &[], None).is_err());
}

/// Text that an attacker would insert into a valid query.
const PIECES: &[&str] = &[
    "secret",
    "tokens",
    "users",
    "name",
    "*",
    ",",
    ".",
    "(",
    ")",
    "!",
    ":",
    "::",
    "->",
    "->>",
    "\"",
    "...",
    "&",
    ";",
    "=",
    " ",
    "+",
    "%20",
    "%22",
    "%2C",
    "%28",
    "%29",
    "%2E",
    "%26",
    "%3B",
    "%3D",
    "%00",
    "\\",
    "{",
    "}",
    "-",
    "$",
    "not.",
    "and",
    "or",
    "and(",
    "or(",
    "order",
    "select",
    "limit",
    "columns",
    "eq.",
    "in.(",
    "is.null",
    "secret.eq.1",
    ",secret.eq.1",
    ",secret",
    "tokens(id)",
    ",tokens(id)",
    "secret=eq.1",
    "&secret=eq.1",
    ";secret=eq.1",
    ";order=secret",
    "%3Bsecret=eq.1",
    "secret:id",
    ",x:secret",
    "&order=secret",
    "&select=secret",
    "&or=(secret.eq.1)",
    "count()",
    ".sum()",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
    #[test]
    fn no_spelling_of_a_query_reaches_what_the_rules_hide(
        first in any::<Index>(),
        second in any::<Index>(),
        changes in prop::collection::vec((0_u8..5, any::<Index>(), any::<Index>()), 0..4),
    ) {
        let mut query = (*first.get(GOOD)).to_owned();
        if changes.len() % 2 == 1 {
            query.push('&');
            query.push_str(second.get::<&str>(GOOD));
        }
        for (change, place, piece) in changes {
            let places: Vec<usize> = query.char_indices().map(|(place, _)| place).collect();
            if places.is_empty() { break; }
            let place = *place.get(&places);
            let letter = query[place..].chars().next().expect("a letter");
            match change {
                0 | 1 => query.insert_str(place, piece.get::<&str>(PIECES)),
                2 => { query.remove(place); }
                3 => query.replace_range(place..place + letter.len_utf8(), piece.get::<&str>(PIECES)),
                _ if letter.is_ascii() => {
                    query.replace_range(place..=place, &format!("%{:02x}", u32::from(letter)));
                }
                _ => {}
            }
        }
        let rules = rules();
        if authorize(&rules, "GET", PROJECTS, &query, &[], None).is_ok() {
            let touched: BTreeSet<(String, String)> = reading::touched("projects", &query).unwrap_or_default();
            for (table, column) in touched {
                let readable = rules.tables.get(&table).map(|table| &table.read);
                let granted = readable.is_some_and(|read| column == "count()" || read.has(&column));
                prop_assert!(granted, "{query}: {table}.{column}");
            }
        }
    }
}
