//! Facts and resources: what a good map means, and what a bad one is reported.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;
use crate::policy::resources::{DemandTarget, IdPlace, RowSource};

const FACTS: &str = "
database: { url: 'postgres://gate@db/velro' }
facts: { caller: 'select true as active where $1 is not null' }
resources:
  project: { query: 'select a as owner from p where id = $1' }
  generation: { query: 'select a as owner, b as within, c as parent from g where id = $1', within: project, parent: generation }
  job: { learned: true }
  file: { query: 'select a as owner from f where id = $1', id: text }
";

fn map(facts: &str, route: &str) -> String {
    format!("{facts}{}", with_route(route))
}

#[test]
fn a_resource_is_read_in_all_its_forms() {
    for (route, expected) in [
        (
            "path: '/p/{project_id:uuid}', access: user, resource: project",
            vec![(
                DemandTarget::Resource(0),
                IdPlace::Path("project_id".to_owned()),
            )],
        ),
        (
            "path: '/g/{id:uuid}', access: user, resource: generation",
            vec![(DemandTarget::Resource(1), IdPlace::Path("id".to_owned()))],
        ),
        (
            "path: '/p/{project_id:uuid}/g/{generation_id:uuid}', access: user, resource: [project, generation]",
            vec![
                (
                    DemandTarget::Resource(0),
                    IdPlace::Path("project_id".to_owned()),
                ),
                (
                    DemandTarget::Resource(1),
                    IdPlace::Path("generation_id".to_owned()),
                ),
            ],
        ),
        (
            "path: /f, access: user, resource: { kind: file, id: query.file, action: share }",
            vec![(DemandTarget::Resource(3), IdPlace::Query("file".to_owned()))],
        ),
        (
            "path: '/u/{user:uuid}', access: user, resource: { self: path.user }",
            vec![(DemandTarget::Caller, IdPlace::Path("user".to_owned()))],
        ),
        ("path: '/p/{x}', access: user, resource: none", vec![]),
    ] {
        let loaded = good(&map(FACTS, route));
        let found: Vec<_> = loaded.config.routes[0]
            .resources
            .iter()
            .map(|demand| (demand.of, demand.id.clone()))
            .collect();
        assert_eq!(found, expected, "{route}");
    }
    let kinds = good(&map(FACTS, "path: /a, access: user")).config.resources;
    assert!(kinds[1].has_parent && kinds[1].within == Some(0));
    assert!(matches!(kinds[2].rows, RowSource::Learned));
}

#[test]
fn an_ambiguous_resource_is_refused_with_what_to_write() {
    for (route, key, says) in [
        (
            "path: '/p/{project_id:uuid}', access: user",
            "resource",
            "is missing",
        ),
        (
            "path: '/p/{project_id:uuid}', access: user, resource: projet",
            "resource",
            "did you mean `project`?",
        ),
        (
            "path: '/p/{project_id}', access: user, resource: project",
            "resource",
            "{project_id:uuid}",
        ),
        (
            "path: '/p/{a:uuid}/{b:uuid}', access: user, resource: project",
            "resource",
            "{project_id}",
        ),
        (
            "path: ['/p/{id:uuid}', '/q/{other:uuid}'], access: user, resource: project",
            "resource",
            "has no parameter `id`",
        ),
        (
            "path: /p, access: user, resource: project",
            "resource",
            "does not say which parameter",
        ),
        (
            "path: /p, access: user, resource: { kind: project, id: header.x }",
            "resource.id",
            "is not a place for an id",
        ),
        (
            "path: '/p/{id:uuid}', access: user, resource: { id: path.id }",
            "resource.kind",
            "is missing",
        ),
        (
            "path: '/p/{id:uuid}', access: user, resource: { kind: project, id: path.id, within: path.id }",
            "resource.within",
            "have no container",
        ),
        (
            "path: '/p/{id:uuid}', access: user, resource: []",
            "resource",
            "empty list",
        ),
        (
            "path: '/u/{id:uuid}', access: optional, resource: { self: path.id }",
            "resource",
            "anonymous requests",
        ),
        (
            "path: '/u/{id:uuid}', access: user, resource: { self: path.id, kind: project }",
            "resource.kind",
            "is not a key",
        ),
        (
            "path: /j, access: user, learn: { kind: project, field: id }",
            "learn.kind",
            "known already",
        ),
        (
            "path: /j, access: public, learn: { kind: job, field: id }",
            "learn",
            "access: user",
        ),
        (
            "path: /j, access: user, learn: { kind: job, field: a..b }",
            "learn.field",
            "empty part",
        ),
        (
            "path: /j, access: user, learn: { kind: job }",
            "learn.field",
            "is missing",
        ),
        (
            "path: /j, access: user, serve: health, learn: { kind: job, field: id }",
            "learn",
            "nothing is learned",
        ),
        (
            "path: /j, access: user, body: { ids: [{ kind: project, field: 'a[0]' }] }",
            "body.ids[0].field",
            "not a path into a JSON body",
        ),
        (
            "path: /j, access: user, body: { ids: [] }",
            "body.ids",
            "empty list",
        ),
        (
            "path: /j, access: user, body: { limit: 20MiB, ids: [{ kind: project, field: id }] }",
            "body.limit",
            "inspected for `ids`",
        ),
    ] {
        let reported = reported(&map(FACTS, route));
        assert!(
            reported.len() == 1
                && reported[0].starts_with(&format!("routes[0].{key}"))
                && reported[0].contains(says),
            "{route}: {reported:#?}"
        );
    }
}

#[test]
fn invalid_resource_types_and_queries_are_reported_with_their_key() {
    let database = "database: { url: 'postgres://gate@db/velro' }\n";
    let query = "query: 'select a as owner from p where id = $1'";
    for (facts, key, says) in [
        (format!("resources: {{ project: {{ {query} }} }}\n"), "resources.project.query", "no `database`"),
        (format!("{database}resources: {{ project: {{}} }}\n"), "resources.project", "where its rows are"),
        (format!("{database}resources: {{ project: {{ query: 'delete from p' }} }}\n"), "resources.project.query", "not a query"),
        (format!("{database}resources: {{ project: {{ query: 'select 1' }} }}\n"), "resources.project.query", "`$1`"),
        (format!("{database}resources: {{ project: {{ {query}, learned: true }} }}\n"), "resources.project.query", "cannot be combined with"),
        (format!("{database}resources: {{ project: {{ {query}, parent: x }} }}\n"), "resources.project.parent", "no resource type `x`"),
        (format!("{database}resources: {{ a: {{ {query}, parent: b }}, b: {{ {query} }} }}\n"), "resources.a.parent", "same type"),
        (format!("{database}resources: {{ a: {{ {query}, within: b }}, b: {{ {query}, within: c }}, c: {{ {query} }} }}\n"), "resources.a.within", "outermost"),
        (format!("{database}resources: {{ none: {{ {query} }} }}\n"), "resources.none", "is a reserved word"),
        (format!("{database}resources: {{ 'A b': {{ {query} }} }}\n"), "resources.A b", "not the name of a resource type"),
        ("static_facts: { resources: { note: { n: { owner: a } } } }\n".to_owned(), "static_facts.resources.note", "no type `note`"),
        ("resources: { note: {} }\nstatic_facts: { resources: { note: { n: { visibility: secret } } } }\n".to_owned(), "static_facts.resources.note.n.visibility", "not a visibility"),
        ("static_facts: { memberships: { a: { t: boss } } }\n".to_owned(), "static_facts.memberships.a.t", "not a team role"),
        ("budget: 1ms\n".to_owned(), "budget", "out of range"),
        ("database: { url: 'postgres://gate@db/velro?sslmode=prefer' }\n".to_owned(), "database.url", "checks no certificate"),
        ("database: {}\n".to_owned(), "database.url", "is missing"),
    ] {
        let reported = reported(&map(&facts, "path: /a, access: public"));
        assert!(
            reported.len() == 1 && reported[0].starts_with(key) && reported[0].contains(says),
            "{facts}: {reported:#?}"
        );
    }
}

#[test]
fn facts_need_a_single_issuer() {
    let text = map(FACTS, "path: /a, access: user");
    let one = "tokens: [{ issuer: https://i,";
    assert!(text.contains(one));
    let other = "tokens: [{ issuer: other, audience: a, algorithms: HS256, secret: 0123456789abcdef0123456789abcdef }, { issuer: https://i,";
    let text = text.replace(one, other);
    let reported = reported(&text);
    assert!(
        reported.len() == 1 && reported[0].contains("several issuers"),
        "{reported:#?}"
    );
}
