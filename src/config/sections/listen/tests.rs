//! Listeners and their certificates.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use crate::config::tests::*;

#[test]
fn a_listener_has_exactly_one_kind_and_readable_files() {
    let dir = certificates();
    let tls = |tls: &str| with_route("path: /a, access: public").replace("tls: off", tls);
    let ca = "certificates: [{ cert: cert.pem, key: key.pem }], client_ca: cert.pem";
    for (text, key, word) in [
        (
            "tls: off, redirect_to_https: true",
            "listen[0].redirect_to_https",
            "combined with `tls`",
        ),
        ("tls: on", "listen[0].tls", "needs `off`"),
        (
            "redirect_to_https: 0",
            "listen[0].redirect_to_https",
            "not a port",
        ),
        (
            "redirect_to_https: false",
            "listen[0].redirect_to_https",
            "needs `true` or a port",
        ),
        (
            "tls: { certificates: [] }",
            "listen[0].tls.certificates",
            "empty list",
        ),
        (
            "tls: { certificates: [{ cert: cert.pem, key: tls/other.key }] }",
            "listen[0].tls.certificates[0].key",
            "not the key",
        ),
        (
            "tls: { certificates: [{ cert: key.pem, key: key.pem }] }",
            "listen[0].tls.certificates[0].cert",
            "no certificate",
        ),
        (
            "tls: { certificates: [{ cert: cert.pem, key: cert.pem }] }",
            "listen[0].tls.certificates[0].key",
            "no private key",
        ),
        (
            "tls: { certificates: [{ cert: none.pem, key: key.pem }] }",
            "listen[0].tls.certificates[0].cert",
            "no such file",
        ),
        (
            &format!("tls: {{ {ca}, resumption: true }}"),
            "listen[0].tls.resumption",
            "resumed connection",
        ),
        (
            "tls: { certificates: [{ cert: cert.pem, key: key.pem }], client_auth: required }",
            "listen[0].tls.client_auth",
            "no effect",
        ),
    ] {
        let reported = reported_in(dir.path(), &tls(text));
        assert_eq!(reported.len(), 1, "{text} {reported:#?}");
        assert!(
            reported[0].starts_with(&format!("{key}: ")) && reported[0].contains(word),
            "{text} {reported:#?}"
        );
    }
    let nothing = reported(&with_route("path: /a, access: public").replace(", tls: off", ""));
    assert!(
        nothing[0].contains("does not say what happens"),
        "{nothing:#?}"
    );

    let loaded = load_in(dir.path(), &tls(&format!("tls: {{ {ca} }}"))).unwrap();
    let ListenKind::Tls(tls) = &loaded.config.listen[0].kind else {
        panic!("not TLS")
    };
    assert!(!tls.resumption && tls.client.as_ref().unwrap().required);
}

#[test]
fn an_address_that_other_machines_reach_is_a_warning() {
    let text = with_route("path: /a, access: public").replace("127.0.0.1:8080", "0.0.0.0:8080")
        + "admin: { address: 0.0.0.0:9901 }\ntrusted_proxies: { from: [0.0.0.0/0] }\n";
    let warnings = good(&text).warnings;
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    each_refused(
        &with_route("path: /a, access: public"),
        &[(
            "admin: { address: 127.0.0.1:8080 }\n",
            "listen[0].address",
            "also the address of `admin`",
        )],
    );
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let dir = certificates();
    let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(
        dir.path().join("cert.pem"),
        params.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    let text = with_route("path: /a, access: public").replace(
        "tls: off",
        "tls: { certificates: [{ cert: cert.pem, key: key.pem }] }",
    );
    let warnings = load_in(dir.path(), &text).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("expired"), "{warnings:#?}");
}
