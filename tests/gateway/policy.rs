//! `foregate test`: policy tests that an operator writes for a route map.

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::program;

const MAP: &str = r#"
listen: [{ address: "127.0.0.1:0", tls: off }]
hosts: [api.velro.test, other.velro.test]
trusted_proxies: { from: [10.0.0.0/8], hops: 1 }
cors: { origins: ["https://app.velro.test"], credentials: true }
tokens:
  - { issuer: "https://a.test", audience: api, subject: text, algorithms: ES256, jwks_url: "http://127.0.0.1:1/keys", require: { app_metadata.tenant: [velro] } }
  - { issuer: "https://b.test", audience: [b], subject: text, algorithms: HS256, secret: 0123456789abcdef0123456789abcdef }
roles: { from: app_metadata.velro.roles, grants: { user: [read, write], admin: ["*"] } }
upstreams: { kong: { servers: ["http://127.0.0.1:1"] }, other: { servers: ["http://127.0.0.1:1"] } }
defaults: { upstream: kong }
routes:
  - { name: health, path: /health, methods: [GET], access: public, serve: health }
  - { name: models, path: "/models/{*rest}", access: public }
  - { name: project, path: "/projects/{project_id:uuid}", access: user, resource: none }
  - { name: admin, path: "/admin/{*rest}", access: user, action: admin, upstream: other }
  - { name: office, path: /office, access: public, when: request.address.startsWith('198.51.100.') }
  - { name: strong, path: /strong, access: user, aal: aal2 }
  - { name: pro, path: /pro, access: user, when: caller.claims.app_metadata.plan == 'pro' }
  - { path: /internal, access: deny }
"#;

const GOOD: &str = r#"
cases:
  - name: health is answered here
    request: { path: /health }
    caller: nobody
    expect: { allow: true, route: health, serve: health }
  - name: a public route takes no notice of a token
    request: { method: POST, path: /models/flux, headers: { authorization: Bearer nonsense } }
    caller: nobody
    expect: { allow: true, route: models, upstream: kong }
  - name: a stranger has no project
    request: { path: /projects/0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69 }
    caller: nobody
    expect: { deny: token_missing, layer: identity, route: project }
  - name: a user has one
    request: { method: PUT, path: /projects/0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69?x=1 }
    caller: { subject: alice }
    expect: { allow: true, route: project, upstream: kong }
  - name: an id that cannot be
    request: { path: /projects/1 }
    caller: { subject: alice }
    expect: { deny: identifier_invalid, layer: identifiers }
  - name: a user of the other issuer
    request: { path: /projects/0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69 }
    caller: { subject: alice, issuer: "https://b.test", session: s1 }
    expect: { allow: true }
  - name: an issuer that is none of ours
    request: { path: /strong }
    caller: { subject: alice, issuer: "https://c.test" }
    expect: { deny: token_issuer, layer: identity }
  - name: a claim that the entry requires
    request: { path: /projects/0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69 }
    caller: { subject: alice, claims: { app_metadata: { tenant: other } } }
    expect: { deny: token_claims, layer: identity }
  - name: a token that is over
    request: { path: /strong }
    caller: { subject: alice, claims: { exp: 1000000000 } }
    expect: { deny: token_expired, layer: identity }
  - name: roles are where the map says
    request: { path: /admin/users }
    caller: { subject: alice, roles: [admin] }
    expect: { allow: true, upstream: other }
  - name: and nowhere else
    request: { path: /admin/users }
    caller: { subject: alice, claims: { app_metadata: { tenant: velro, roles: [admin] } } }
    expect: { deny: role_insufficient, layer: roles }
  - name: a banned admin
    request: { path: /admin/users }
    caller: { subject: alice, roles: [admin, banned] }
    expect: { deny: caller_banned, layer: roles }
  - name: a guest
    request: { path: /strong }
    caller: { subject: alice, anonymous: true, aal: aal2 }
    expect: { deny: anonymous_refused, layer: roles }
  - name: a second factor
    request: { path: /strong }
    caller: { subject: alice, aal: aal2 }
    expect: { allow: true, route: strong }
  - name: without one
    request: { path: /strong }
    caller: { subject: alice }
    expect: { deny: aal_insufficient, layer: roles }
  - name: from the office, behind a proxy
    request: { path: /office, address: 10.1.2.3, headers: { x-forwarded-for: "192.0.2.1, 198.51.100.7" } }
    caller: nobody
    expect: { allow: true }
  - name: from elsewhere, with a header that nobody trusts
    request: { path: /office, headers: { x-forwarded-for: 198.51.100.7 } }
    caller: nobody
    expect: { deny: when_refused, layer: when }
  - name: a claim that is there
    request: { path: /pro }
    caller: { subject: alice, claims: { app_metadata: { tenant: velro, plan: pro } } }
    expect: { allow: true }
  - name: a claim that is not
    request: { path: /pro }
    caller: { subject: alice }
    expect: { deny: when_failed, layer: when }
  - name: what is denied does not exist
    request: { path: /internal }
    caller: { subject: alice, roles: [admin] }
    expect: { deny: route_denied, layer: request }
  - name: nor does what no route owns
    request: { path: /nothing }
    caller: nobody
    expect: { deny: route_unknown, layer: request }
  - name: a path that can be read in two ways
    request: { path: "/models/..%2fadmin/users" }
    caller: nobody
    expect: { deny: path_slash_encoded, layer: request }
  - name: another host
    request: { path: /health, host: evil.test }
    caller: nobody
    expect: { deny: host_unknown, layer: request }
  - name: two tokens
    request: { path: /strong, headers: { authorization: [Bearer a, Bearer b] } }
    caller: nobody
    expect: { deny: authorization_repeated, layer: request }
"#;

struct Run {
    output: Output,
    _folder: TempDir,
}

impl Run {
    fn of(map: &str, cases: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("map.yaml"), map).unwrap();
        std::fs::write(folder.path().join("cases.yaml"), cases).unwrap();
        let output = Command::new(program())
            .args(["test", "--config", "map.yaml", "cases.yaml"])
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        Self {
            output,
            _folder: folder,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
            + &String::from_utf8_lossy(&self.output.stderr)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.output.stdout).unwrap_or_else(|_| panic!("{}", self.text()))
    }
}

#[test]
fn cases_run_through_the_route_map_and_every_layer_without_network() {
    let run = Run::of(MAP, GOOD, &[]);
    assert!(run.output.status.success(), "{}", run.text());
    assert!(
        run.text().ends_with("24 passed, 0 failed\n"),
        "{}",
        run.text()
    );
    let run = Run::of(MAP, GOOD, &["--format", "json", "--only", "a user"]);
    let json = run.json();
    assert_eq!((&json["passed"], &json["failed"]), (&2.into(), &0.into()));
    let steps = json["cases"][0]["was"]["steps"].as_array().unwrap();
    assert!(steps.contains(&"roles passed".into()), "{steps:?}");
    assert!(
        steps.contains(&"ownership had nothing to check".into()),
        "{steps:?}"
    );
}

#[test]
fn a_failed_case_is_reported_with_its_line_and_the_actual_result() {
    // Each case with the opposite or another expectation.
    for (from, to, told) in [
        (
            "{ allow: true, route: health, serve: health }",
            "{ deny: token_missing }",
            "verdict: expected `deny token_missing`, was `allow`",
        ),
        (
            "{ allow: true, route: strong }",
            "{ allow: true, route: project }",
            "route: expected `project`, was `strong`",
        ),
        (
            "{ allow: true, upstream: other }",
            "{ allow: true, upstream: kong }",
            "upstream: expected `kong`, was `other`",
        ),
        (
            "{ deny: caller_banned, layer: roles }",
            "{ allow: true }",
            "verdict: expected `allow`, was `deny caller_banned`",
        ),
        (
            "{ deny: route_denied, layer: request }",
            "{ deny: route_unknown }",
            "verdict: expected `deny route_unknown`, was `deny route_denied`",
        ),
        (
            "{ deny: token_expired, layer: identity }",
            "{ deny: token_expired, layer: roles }",
            "layer: expected `roles`, was `identity`",
        ),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let cases = GOOD.replace(from, to);
        let run = Run::of(MAP, &cases, &[]);
        let text = run.text();
        assert_eq!(run.output.status.code(), Some(1), "{text}");
        assert!(text.contains(told), "{told}\n{text}");
        assert!(text.ends_with("23 passed, 1 failed\n"), "{text}");
        let json = Run::of(MAP, &cases, &["--format", "json"]).json();
        let failed: Vec<&Value> = json["cases"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|case| case["passed"] == false)
            .collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0]["differences"][0], told);
        let at = cases
            .lines()
            .nth(usize::try_from(failed[0]["line"].as_u64().unwrap()).unwrap() - 1);
        assert!(at.unwrap().contains(failed[0]["name"].as_str().unwrap()));
    }
}

#[test]
fn invalid_cases_are_all_reported_with_their_lines_before_any_case_runs() {
    let bad = r#"
cases:
  - { name: a, request: { path: /health }, caller: nobody, expect: { allow: true, deny: token_missing } }
  - { name: a, request: { path: health }, caller: somebody, expect: { deny: token_mising } }
  - { name: b, request: { path: /x, methd: GET }, caller: { subjct: a }, expect: { allow: true, layer: roles } }
  - { name: c, caller: nobody, expect: { deny: token_missing, layer: role, upstream: kong } }
  - { name: d, request: { path: /x, method: "G T", address: here, headers: { "a b": c } }, caller: nobody, expect: { allow: false } }
"#;
    let json = Run::of(MAP, bad, &["--format", "json"]).json();
    let told: Vec<String> = json["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            format!(
                "{}: {}: {} {}",
                problem["line"],
                problem["key"].as_str().unwrap(),
                problem["problem"],
                problem["instead"]
            )
        })
        .collect();
    for expected in [
        "3: cases[0].expect: \"write either",
        "4: cases[1].name: \"is also the name",
        "4: cases[1].request.path: \"must begin",
        "4: cases[1].caller: \"needs `nobody`",
        "4: cases[1].expect.deny: \"`token_mising` is not a reason\" \"did you mean `token_missing`?\"",
        "5: cases[2].request.methd: \"is not a key\" \"did you mean `method`?\"",
        "5: cases[2].caller.subject: \"is missing",
        "5: cases[2].caller.subjct: \"is not a key\"",
        "5: cases[2].expect.layer: \"no layer refuses",
        "6: cases[3].request: \"is missing",
        "6: cases[3].expect.layer: \"`role` is not a layer\"",
        "7: cases[4].request.method: \"`G T` is not a method",
        "7: cases[4].request.address: \"`here` is not an address",
        "7: cases[4].request.headers.a b: \"is not the name",
        "7: cases[4].expect: \"write either",
    ] {
        assert!(
            told.iter().any(|told| told.starts_with(expected)),
            "{expected}\n{told:#?}"
        );
    }
    let run = Run::of(MAP, bad, &[]);
    assert_eq!(run.output.status.code(), Some(1));
    assert!(run.text().contains("--> cases.yaml:4:"), "{}", run.text());
    // An invalid route map is reported as by `check`, and a filter that matches no case is a
    // failure.
    let run = Run::of("routes: []\n", GOOD, &[]);
    assert!(
        !run.output.status.success() && run.text().contains("map.yaml"),
        "{}",
        run.text()
    );
    let run = Run::of(MAP, GOOD, &["--only", "no such name"]);
    assert!(
        !run.output.status.success() && run.text().contains("no case was run"),
        "{}",
        run.text()
    );
}

#[test]
fn the_route_map_of_velro_passes_its_cases() {
    let read = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let run = |cases: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("map.yaml"), read("velro.yaml")).unwrap();
        std::fs::write(folder.path().join("cases.yaml"), cases).unwrap();
        let output = Command::new(program())
            .args([
                "test",
                "--config",
                "map.yaml",
                "cases.yaml",
                "--format",
                "json",
            ])
            .current_dir(folder.path())
            .envs([
                ("FOREGATE_KEY", crate::support::config::KEY),
                ("FOREGATE_REDIS_URL", "redis://127.0.0.1:6379"),
                ("DATABASE_URL", "postgres://foregate@127.0.0.1/velro"),
                ("SUPABASE_URL", "https://velro.supabase.co"),
                (
                    "SUPABASE_JWT_SECRET",
                    "0123456789abcdef0123456789abcdef0123456789",
                ),
                (
                    "SUPABASE_PUBLISHABLE_KEY",
                    "sb_publishable_0123456789abcdef",
                ),
                ("SUPABASE_SECRET_KEY", "sb_secret_0123456789abcdef"),
            ])
            .output()
            .unwrap();
        Run {
            output,
            _folder: folder,
        }
    };
    let cases = read("velro.cases.yaml");
    let result = run(&cases);
    let json = result.json();
    assert_eq!(json["failed"], 0, "{}", result.text());
    assert!(json["passed"].as_u64().unwrap() >= 160);
    // Every layer refuses some case, so that leaving a layer out fails the test.
    let refused = |layer: &str| {
        json["cases"]
            .as_array()
            .unwrap()
            .iter()
            .any(|case| case["was"]["layer"] == layer)
    };
    for layer in [
        "request",
        "identity",
        "identifiers",
        "rest",
        "roles",
        "ownership",
        "lineage",
    ] {
        assert!(refused(layer), "{layer}");
    }
    // With other facts the results differ.
    let other = run(&cases.replace("visibility: public }", "visibility: private }")).json();
    let failed: Vec<&str> = other["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["passed"] == false)
        .filter_map(|case| case["name"].as_str())
        .collect();
    assert_eq!(
        failed,
        [
            "a public project is read by anybody",
            "media of a public one",
            "made from what is public"
        ]
    );
    let unknown = run(
        "facts: { resources: { projekt: { a: { owner: b } } } }\ncases: [{ name: a, request: { path: / }, caller: nobody, expect: { allow: true } }]\n",
    );
    assert!(
        unknown
            .text()
            .contains("the route map has no resource type `projekt`"),
        "{}",
        unknown.text()
    );
}
