//! The annotated example and the demo: they load, they are complete, and the defaults they state
//! are the real ones.

use std::collections::BTreeSet;

use super::*;
use crate::config::decode::Decode;
use crate::config::file::File;

#[test]
fn the_annotated_example_loads_without_a_warning() {
    let dir = certificates();
    let loaded = load_in(dir.path(), &example("foregate.yaml"))
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    // Thirteen are written, and seventeen are made for `identity`.
    assert_eq!(loaded.config.routes.len(), 30);
    let ListenKind::Tls(tls) = &loaded.config.listen[0].kind else {
        panic!("not TLS")
    };
    assert_eq!(tls.certificates[0].names, ["api.example.com"]);
}

#[test]
fn the_annotated_example_has_every_key() {
    let text = example("foregate.yaml");
    let mut all = Vec::new();
    File::keys(&mut all);
    for (name, keys) in all {
        for key in keys {
            let pattern = format!("{key}:");
            let shown = text.match_indices(&pattern).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                before.is_none_or(|c| matches!(c, ' ' | '\n' | '{'))
            });
            assert!(shown, "`{key}` of {name} is not in config/foregate.yaml");
        }
    }
}

#[test]
fn every_wire_struct_is_reached_from_the_root() {
    fn declared(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                declared(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for block in text.split("\nwire! {\n").skip(1) {
                let block = block.split("\n}\n").next().unwrap();
                let structs = block
                    .lines()
                    .filter_map(|line| line.strip_prefix("    struct "));
                names.extend(structs.map(|name| name.trim_end_matches(" {").to_owned()));
            }
        }
    }
    let mut names = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    declared(&folder, &mut names);
    let mut all = Vec::new();
    File::keys(&mut all);
    let reached: BTreeSet<String> = all.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(reached, names);
    assert!(names.len() > 30, "{names:?}");
}

#[test]
fn every_default_the_annotated_example_states_is_the_real_one() {
    let dir = certificates();
    let whole = example("foregate.yaml");
    let stated: String = whole
        .lines()
        // Lines are emptied, not removed: a route remembers its line.
        .map(|line| {
            if line.contains("# default") && !line.trim_start().starts_with('#') {
                "\n".to_owned()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    assert!(stated.lines().filter(|line| line.is_empty()).count() > 40);
    let shown = |text: &str| {
        format!(
            "{:#?}",
            load_in(dir.path(), text)
                .unwrap_or_else(|problems| panic!("{problems}"))
                .config
        )
    };
    assert_eq!(shown(&stated), shown(&whole));
}

#[test]
fn the_commented_keys_of_the_annotated_example_are_read() {
    // What a key replaces is taken out where both cannot stand.
    let dir = certificates();
    let text = example("foregate.yaml");
    let mut all = text;
    for (from, to) in [
        ("# workers: 4", "workers: 4"),
        (
            "# - { address: 127.0.0.1:8081",
            "- { address: 127.0.0.1:8081",
        ),
        (
            "# - { id: k1, secret_file: keys/k1 }",
            "- { id: k1, secret_file: other-key }",
        ),
        ("# ca: tls/redis-ca.pem", "ca: tls/tls.crt"),
        ("# notify_url:", "notify_url:"),
        ("# ca: tls/database-ca.pem", "ca: tls/tls.crt"),
        ("# within: 0", "within: 0"),
        ("# parent: 0", "parent: 0"),
        ("# issuer: https://project", "issuer: https://project"),
        (
            "# secret_key_file: keys/supabase",
            "secret_key_file: secret",
        ),
        ("# list: {", "list: {"),
        ("# allow_headers:", "allow_headers:"),
        ("# expose_headers:", "expose_headers:"),
        ("# timeouts: {", "timeouts: {"),
        ("# action: read", "action: read"),
        ("# when: request", "when: request"),
        (
            "# layers:\n#   roles:\n#     mode",
            "layers:\n  roles:\n    mode",
        ),
        ("#     until: 2027-01-01", "    until: 2026-12-25"),
        ("#     reason: roles", "    reason: roles"),
        ("# client_ca: tls/clients.pem", "client_ca: tls/tls.crt"),
        ("# client_auth: required", "client_auth: required"),
        ("resumption: true", "resumption: false"),
        ("secret: ${SUPABASE_JWT_SECRET}", ""),
        ("# secret_file: keys/jwt", "secret_file: secret"),
        ("# hosts: [gateway", "hosts: [gateway"),
        ("# operators:", "operators:"),
        ("#   - name: alice", "  - name: alice"),
        ("#     token_sha256", "    token_sha256"),
        (
            "#   - { name: bob, token_file: keys/bob",
            "  - { name: bob, token_file: secret",
        ),
        (
            "#   - { name: carol, token: \"${CAROL_TOKEN}\"",
            "  - { name: carol, token: carol-0123456789abcdef0123456789abcdef",
        ),
        ("# webhook:", "webhook:"),
        ("#   issuer: https", "  issuer: https"),
        ("#   secret_file: [keys/webhook, keys/webhook-old]", "#"),
        (
            "#   secret: whsec_…",
            "  secret: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ),
    ] {
        assert!(all.contains(from), "{from}");
        all = all.replace(from, to);
    }
    let loaded = load_in(dir.path(), &all).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.config.workers.get(), 4);
    assert_eq!(loaded.config.routes[0].waived.len(), 1);
    assert_eq!(
        loaded.config.routes[2].waived.len(),
        0,
        "the route says `enforce`"
    );
}

#[test]
fn the_demo_loads() {
    let dir = certificates();
    let loaded =
        load_in(dir.path(), &example("demo.yaml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.config.listen[0].address.port(), 9009);
    assert_eq!(
        loaded.config.routes[0].target,
        Some(Target::Serve(Serve::Health))
    );
    assert_eq!(
        loaded.config.routes[3].name,
        "GET,DELETE /api/notes/{note_id:uuid}"
    );
    assert_eq!(loaded.inputs.len(), 3);
    let KeySource::Secret(secret) = &loaded.config.tokens[0].keys else {
        panic!("not a secret")
    };
    assert_eq!(secret.expose().len(), 32, "the newline at the end is cut");
}
