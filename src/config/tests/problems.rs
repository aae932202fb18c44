//! How problems are reported: all at once, with their places, and without secrets.

use super::*;

#[test]
fn all_problems_are_reported_at_once_with_their_places() {
    let text = "\
environment: prod
listn: []
listen: [{ address: nowhere, tls: off }]
workers: many
drain: 5
upstreams: { kong: { servers: [http://a] } }
routes:
  - path: /a
    access: usr
    upstream: kogn
    timeouts: { totl: 5s }
  - path: /b
    access: ${NOT_SET}
assertion: { header: a }
";
    let problems = load_in(Path::new("."), text).unwrap_err();
    let places: Vec<_> = problems
        .iter()
        .map(|p| format!("{}:{} {}", p.line, p.column, p.key))
        .collect();
    let expected = [
        "1:14 environment",
        "2:1 listn",
        "3:21 listen[0].address",
        "4:10 workers",
        "5:8 drain",
        "9:13 routes[0].access",
        "10:15 routes[0].upstream",
        "11:17 routes[0].timeouts.totl",
        "13:13 routes[1].access",
        "14:1 assertion",
    ];
    // The second route has no target either.
    assert_eq!(
        places
            .iter()
            .filter(|place| !place.ends_with("routes[1]"))
            .collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    let reported = reported(text).join("\n");
    for words in [
        "did you mean `production`?",
        "did you mean `listen`?",
        "needs a whole number, not text",
        "needs a duration",
        "did you mean `user`?",
        "did you mean `kong`?",
        "did you mean `total`?",
        "`NOT_SET` is not set",
        "`assertion` does not work yet in this version; remove it",
    ] {
        assert!(reported.contains(words), "{words}\n{reported}");
    }
}

#[test]
fn problems_are_rendered_with_their_line_and_as_json() {
    let problems = load_in(Path::new("."), &with_route("path: /a, access: usr")).unwrap_err();
    let text = problems.to_string();
    assert!(
        text.contains("error: routes[0].access: `usr` is not one of"),
        "{text}"
    );
    assert!(
        text.contains("foregate.yaml:6:25")
            && text.contains("^^^")
            && text.contains("help: did you mean `user`?"),
        "{text}"
    );
    assert!(text.ends_with("foregate.yaml: 1 problem"), "{text}");
    let json = problems.to_json();
    assert_eq!(json[0]["file"], "foregate.yaml");
    assert_eq!(json[0]["line"], 6);
    assert_eq!(json[0]["column"], 25);
    assert_eq!(json[0]["key"], "routes[0].access");
    assert_eq!(json[0]["instead"], "did you mean `user`?");
}

#[test]
fn neither_a_secret_nor_the_value_of_a_variable_is_ever_shown() {
    let text = "\
environment: ${BAD}
workers: ${BAD}
listen: [{ address: '${BAD}', tls: '${BAD}' }]
drain: ${BAD}
hosts: ['${BAD}']
trusted_proxies: { from: ['${BAD}'] }
connections: { max_head: '${BAD}' }
tokens:
  - { issuer: i, audience: a, algorithms: '${BAD}', secret: hunter2, secrt: hunter2 }
  - issuer: i
    audience: a
    algorithms: HS256
    secret: [hunter2]
  - { issuer: i, audience: a, algorithms: ES256, jwks_url: '${BAD}', until: '${BAD}' }
  - { issuer: i, audience: a, algorithms: ES256, jwks_file: '${BAD}' }
  - { issuer: i, audience: a, algorithms: ES256, jwks_url: 'https://a:hunter2@b/' }
roles: { from: '${BAD}..', grants: { a: '${BAD} ' } }
upstreams: { a: { servers: ['${BAD}'], host: '${BAD}' } }
cors: { origins: ['${BAD}'], allow_headers: ['${BAD}'] }
routes:
  - { path: '${BAD}', access: '${BAD}', upstream: '${BAD}', methods: '${BAD}', hosts: ['${BAD}'], resource: '${BAD}' }
  - { path: /a, access: user, credentials: ['${BAD}'], serve: '${BAD}', layers: { roles: { mode: '${BAD}' } } }
";
    let problems = load_in(Path::new("."), text).unwrap_err();
    assert!(problems.len() > 25, "{problems}");
    assert!(!problems.to_string().contains("hunter2"), "{problems}");
    assert!(
        !problems.to_json().to_string().contains("hunter2"),
        "{problems}"
    );

    let strayed = load_in(Path::new("."), "tokens: [{ issuer: i, secret:\nhunter2 }]").unwrap_err();
    assert!(!strayed.to_string().contains("hunter2"), "{strayed}");
    let broken = load_in(
        Path::new("."),
        "tokens:\n  - secret: |\n      hunter2\n     : {\n",
    )
    .unwrap_err();
    assert!(!broken.to_string().contains("hunter2"), "{broken}");
    let loaded = good(&with_route("path: /a, access: user"));
    assert!(!format!("{:?}", loaded.config).contains("0123456789abcdef"));
}

#[test]
fn an_unreadable_file_is_one_problem() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foregate.yaml");
    assert!(
        load(&path)
            .unwrap_err()
            .to_string()
            .contains("there is no such file")
    );
    std::fs::write(&path, [0xff]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("not UTF-8"));
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(
        load(&path)
            .unwrap_err()
            .to_string()
            .contains("larger than 1 MiB")
    );
    std::fs::write(&path, "").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("is empty"));
}

#[test]
fn a_key_that_is_repeated_empty_or_of_the_wrong_type_is_refused() {
    let rest = with_route("path: /a, access: public");
    each_refused(
        &rest,
        &[
            (
                "drain: 5s\ndrain: 6s\n",
                "drain",
                "written twice; the first is at line 7",
            ),
            ("cors:\n", "cors", "is empty"),
            ("hosts: a\n", "hosts", "needs a list, not text"),
            ("hosts: a, b\n", "hosts", "write `[a, b]`"),
            ("hosts: []\n", "hosts", "empty list"),
            (
                "workers: 1.5\n",
                "workers",
                "whole number, not a number with a fraction",
            ),
            ("workers: '4'\n", "workers", "whole number, not text"),
            ("workers: 0\n", "workers", "from 1 to"),
            ("token_cache: 0\n", "token_cache", "from 1 to"),
            (
                "admin: 127.0.0.1:1\n",
                "admin",
                "needs a mapping of keys, not text",
            ),
            ("drain: 0.5s\n", "drain", "`0.5s` is not a duration"),
            (
                "connections: { max_head: 4KiB }\n",
                "connections.max_head",
                "from 8KiB to 1MiB",
            ),
            (
                "connections: { head: 0s }\n",
                "connections.head",
                "from 1ms to 5m",
            ),
            (
                "connections: { max_head: 8KiB, max_uri: 16KiB }\n",
                "connections.max_uri",
                "larger than `max_head`",
            ),
            (
                "roles: { grants: { a: read, a: write } }\n",
                "roles.grants.a",
                "written twice",
            ),
            (
                "trusted_proxies: { from: [10.0.0.1/8] }\n",
                "trusted_proxies.from[0]",
                "first address of the network",
            ),
            (
                "trusted_proxies: { hops: 1 }\n",
                "trusted_proxies.from",
                "is missing",
            ),
        ],
    );
}

#[test]
fn planned_keys_are_refused_by_name() {
    let rest = with_route("path: /a, access: public");
    for key in ["assertion", "limits"] {
        each_refused(
            &rest,
            &[(
                &format!("{key}: 1\n"),
                key,
                "does not work yet in this version; remove it",
            )],
        );
    }
    for layer in ["context", "media", "emergency", "abuse", "audit"] {
        let text = format!("layers: {{ {layer}: {{ mode: off }} }}\n");
        each_refused(
            &rest,
            &[(&text, &format!("layers.{layer}"), "does not work yet")],
        );
    }
    let reported = reported(&with_route("path: /a, access: user, limits: [a]"));
    assert_eq!(reported.len(), 1, "{reported:#?}");
    assert!(
        reported[0].starts_with("routes[0].limits: ") && reported[0].contains("not work yet"),
        "{reported:#?}"
    );
    each_refused(
        &rest.replace("servers: [http://127.0.0.1:8000]", "servers: [https://a]"),
        &[("", "upstreams.kong.servers[0]", "not work yet")],
    );
    each_refused(
        &rest.replace("defaults: {", "defaults: { access: user,"),
        &[("", "defaults.access", "every route writes its own")],
    );
    each_refused(
        &rest,
        &[(
            "layers: { identity: { mode: off } }\n",
            "layers.identity",
            "always enforced",
        )],
    );
    each_refused(
        &rest,
        &[(
            "layers: { when: { mode: off } }\n",
            "layers.when",
            "always enforced",
        )],
    );
    each_refused(
        &with_route("path: /a, access: signed"),
        &[("", "routes[0].access", "does not work yet")],
    );
}

#[test]
fn a_variable_may_be_a_number_a_boolean_or_a_port() {
    let text = with_route("path: /a, access: user, anonymous: ${OFF}").replace(
        "127.0.0.1:8080, tls: off",
        "'127.0.0.1:${PORT}', tls: ${OFF}",
    ) + "workers: ${LIMIT}\ndrain: ${LIMIT}s\n";
    let config = good(&text).config;
    assert_eq!(config.listen[0].address.port(), 8088);
    assert_eq!(config.workers.get(), 7);
    assert_eq!(config.drain, Duration::from_secs(7));
}

#[test]
fn the_digest_changes_with_every_input_and_with_nothing_else() {
    let dir = certificates();
    let text = with_route("path: /a, access: user").replace(
        "secret: 0123456789abcdef0123456789abcdef",
        "secret_file: secret",
    );
    let digest = |text: &str, secret: &str| {
        std::fs::write(dir.path().join("secret"), secret).unwrap();
        load_in(dir.path(), text).unwrap().digest
    };
    let secret = "0123456789abcdef0123456789abcdef";
    let first = digest(&text, secret);
    assert_eq!(digest(&text, secret), first);
    assert_ne!(digest(&text, &format!("{secret}0")), first);
    assert_ne!(digest(&format!("{text}#"), secret), first);

    let with_port = text.replace("127.0.0.1:8080", "'127.0.0.1:${P}'");
    let at = |port: &str| {
        load_at("f", &with_port, dir.path(), &|_| Some(port.to_owned()), NOW)
            .unwrap()
            .digest
    };
    assert_ne!(at("1"), at("2"));
}

#[test]
fn a_file_truncated_anywhere_never_panics() {
    let dir = certificates();
    let text = example("demo.yaml");
    for (end, _) in text.char_indices() {
        if let Err(problems) = load_in(dir.path(), &text[..end]) {
            assert!(
                !problems.to_string().contains("the reason was lost"),
                "{}",
                &text[..end]
            );
        }
    }
}

#[test]
fn a_loaded_file_is_the_first_of_its_inputs() {
    let dir = certificates();
    let path = dir.path().join("foregate.yaml");
    let text = with_route("path: /a, access: user").replace(
        "secret: 0123456789abcdef0123456789abcdef",
        "secret_file: secret",
    );
    std::fs::write(&path, text).unwrap();
    assert_eq!(
        load(&path).unwrap().inputs,
        [path, dir.path().join("secret")]
    );
}
