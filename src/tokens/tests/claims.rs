//! Claims of a token with a valid signature.

use serde_json::json;

use super::*;

fn accepted(claims: &Claims) -> Arc<Verified> {
    user(&[hs_entry()], &hs256().sign(claims).unwrap())
}

#[test]
fn an_issuer_is_one_configured_string() {
    for claims in [
        claims().without("iss"),
        claims().with("iss", json!([ISSUER])),
        claims().with("iss", 5),
        claims().with("iss", Value::Null),
        claims().with("iss", "https://other.test"),
        claims().with("iss", format!("{ISSUER}/")),
        claims().with("iss", ISSUER.to_uppercase()),
    ] {
        assert_eq!(refused_claims(&claims), Reason::TokenIssuer, "{claims:?}");
    }
}

#[test]
fn a_token_ends_at_exp_plus_leeway() {
    accepted(&claims().expiring(NOW - 4));
    assert_eq!(
        refused_claims(&claims().expiring(NOW - 5)),
        Reason::TokenExpired
    );
    assert_eq!(refused_claims(&claims().expiring(-1)), Reason::TokenExpired);
    // A fraction is rounded down, so it never prolongs.
    assert_eq!(
        accepted(&claims().with("exp", NOW as f64 + 10.9)).expires(),
        NOW + 10
    );
    assert_eq!(
        refused_claims(&claims().with("exp", NOW as f64 - 4.1)),
        Reason::TokenExpired
    );
}

#[test]
fn a_token_begins_at_nbf_minus_leeway() {
    accepted(&claims().with("nbf", NOW + 5));
    assert_eq!(
        refused_claims(&claims().with("nbf", NOW + 6)),
        Reason::TokenNotYetValid
    );
}

#[test]
fn a_token_that_was_issued_ahead_of_our_clock_is_refused() {
    let signed_in = |at: Value| json!([{ "method": "password", "timestamp": at }]);
    for (claims, reason) in [
        (claims().with("iat", NOW + 5), None),
        (claims().with("iat", NOW as f64 + 5.9), None),
        (claims().with("iat", -1), None),
        (claims().without("iat"), None),
        (
            claims().with("iat", NOW + 6),
            Some(Reason::TokenIssuedAhead),
        ),
        (
            claims().with("iat", NOW + 6).with("nbf", NOW - 1),
            Some(Reason::TokenIssuedAhead),
        ),
        // The sign-in is what a revocation compares, if the token says when it was.
        (claims().with("amr", signed_in(json!(NOW + 5))), None),
        (
            claims().with("amr", signed_in(json!(NOW + 6))),
            Some(Reason::TokenIssuedAhead),
        ),
        (
            claims().with(
                "amr",
                json!([{ "timestamp": NOW + 60 }, { "timestamp": NOW - 60 }]),
            ),
            None,
        ),
        (claims().with("amr", json!(["pwd", "otp"])), None),
        (claims().with("amr", signed_in(json!("soon"))), None),
    ] {
        match reason {
            None => drop(accepted(&claims)),
            Some(reason) => assert_eq!(refused_claims(&claims), reason, "{claims:?}"),
        }
    }
    // It is good once our clock is there.
    let (tokens, token) = (
        tokens(&[hs_entry()]),
        hs256().sign(&claims().with("iat", NOW + 60)).unwrap(),
    );
    for (now, is_good) in [(NOW, false), (NOW + 54, false), (NOW + 55, true)] {
        assert_eq!(tokens.verify(&token, now).is_ok(), is_good, "{now}");
    }
}

#[test]
fn a_subject_has_the_type_of_its_issuers_entry_and_one_spelling() {
    const LOWER: &str = "018f5b5e-0000-7000-8000-00000000000a";
    let verify = |kind: ParamType, subject: &str| {
        let mut entry = hs_entry();
        entry.subject = kind;
        let token = hs256().sign(&claims().with("sub", subject)).unwrap();
        let verified = tokens(&[entry]).verify(&token, NOW);
        verified.map(|presented| match presented {
            Presented::User(verified) => verified.subject().to_owned(),
            Presented::Nobody => panic!("no user"),
        })
    };
    let refused = |kind: ParamType, subject: &str| {
        let denial = verify(kind, subject).unwrap_err();
        assert_eq!(denial.reason, Reason::TokenClaims, "{subject:?}");
        denial.detail.unwrap().into_owned()
    };
    let upper = LOWER.to_uppercase();
    for (kind, subject, canonical) in [
        (ParamType::Uuid, LOWER, LOWER),
        (ParamType::Uuid, upper.as_str(), LOWER),
        (ParamType::Integer, "0", "0"),
        (
            ParamType::Integer,
            "9223372036854775807",
            "9223372036854775807",
        ),
        (ParamType::Text, "auth0|Ada Lovelace", "auth0|Ada Lovelace"),
        (ParamType::Text, upper.as_str(), upper.as_str()),
        (ParamType::Text, "é".repeat(128).as_str(), &"é".repeat(128)),
    ] {
        assert_eq!(verify(kind, subject).unwrap(), canonical);
    }
    for subject in [
        "alice",
        "7",
        "{018f5b5e-0000-7000-8000-00000000000a}",
        "018f5b5e00007000800000000000000a",
        "urn:uuid:018f5b5e-0000-7000-8000-00000000000a",
        "00000000-0000-0000-0000-000000000000",
        " 018f5b5e-0000-7000-8000-00000000000a",
        "018f5b5e-0000-7000-8000-00000000000a,018f5b5e-0000-7000-8000-00000000000b",
        "id=eq.018f5b5e-0000-7000-8000-00000000000a",
        "018f5b5e-0000-7000-8000-00000000000\u{ff41}",
    ] {
        assert!(refused(ParamType::Uuid, subject).contains("UUID"));
    }
    for subject in [
        "01",
        "+1",
        "-1",
        "1.0",
        "1e3",
        "0x1",
        " 1",
        "１",
        "9223372036854775808",
        LOWER,
    ] {
        assert!(refused(ParamType::Integer, subject).contains("integer"));
    }
    for subject in [" alice", "alice ", "alice\u{a0}"] {
        assert!(refused(ParamType::Text, subject).contains("white space"));
    }
    for kind in [ParamType::Uuid, ParamType::Text, ParamType::Integer] {
        for subject in [
            "",
            " ",
            "a\0b",
            "a\nb",
            "a\u{85}b",
            "x".repeat(257).as_str(),
        ] {
            refused(kind, subject);
        }
    }
}

#[test]
fn times_are_numbers_in_the_range_of_clocks() {
    assert_eq!(
        refused_claims(&claims().without("exp")),
        Reason::TokenClaims
    );
    for name in ["exp", "nbf", "iat"] {
        for value in [
            json!(NOW.to_string()),
            json!(null),
            json!([NOW]),
            json!(true),
            json!(1e300),
            json!(-1e300),
            json!(u64::MAX),
            json!(i64::MAX),
        ] {
            let claims = claims().with(name, value.clone());
            assert_eq!(
                refused_claims(&claims),
                Reason::TokenClaims,
                "{name} {value}"
            );
        }
    }
}

#[test]
fn the_audience_is_ours_alone_or_in_a_list() {
    accepted(&claims().with("aud", json!(["other", "authenticated"])));
    for value in [
        json!("other"),
        json!([]),
        json!(["other"]),
        json!(["authenticated", 5]),
        json!({ "authenticated": true }),
        json!(null),
        json!("Authenticated"),
    ] {
        let claims = claims().with("aud", value.clone());
        assert_eq!(refused_claims(&claims), Reason::TokenAudience, "{value}");
    }
    assert_eq!(
        refused_claims(&claims().without("aud")),
        Reason::TokenAudience
    );
}

#[test]
fn a_user_has_a_subject() {
    for claims in [
        claims().without("sub"),
        claims().with("sub", ""),
        claims().with("sub", 5),
        claims().with("sub", Value::Null),
    ] {
        assert_eq!(refused_claims(&claims), Reason::TokenClaims);
    }
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    for (name, value) in [
        ("session_id", json!(5)),
        ("session_id", json!(null)),
        ("role", json!(["authenticated"])),
        ("aal", json!(2)),
        ("aal", json!("aal3")),
        ("aal", json!("")),
        ("is_anonymous", json!("true")),
        ("is_anonymous", json!(1)),
    ] {
        let claims = claims().with(name, value.clone());
        assert_eq!(
            refused_claims(&claims),
            Reason::TokenClaims,
            "{name} {value}"
        );
    }
    let bare = [
        "session_id",
        "role",
        "aal",
        "is_anonymous",
        "iat",
        "app_metadata",
    ]
    .into_iter()
    .fold(claims(), Claims::without);
    let verified = accepted(&bare);
    assert_eq!((verified.aal(), verified.is_anonymous()), (1, false));
    assert_eq!((verified.session(), verified.role()), (None, None));
    let verified = accepted(&claims().aal(2).anonymous());
    assert_eq!((verified.aal(), verified.is_anonymous()), (2, true));
}

#[test]
fn a_required_claim_is_a_path_to_one_of_the_listed_values() {
    let mut entry = hs_entry();
    entry.require = vec![
        (
            "role".to_owned(),
            vec!["authenticated".to_owned(), "editor".to_owned()],
        ),
        ("app_metadata.roles".to_owned(), vec!["staff".to_owned()]),
    ];
    let entries = [entry];
    let token = |claims: Claims| hs256().sign(&claims).unwrap();
    user(&entries, &token(claims().roles(["guest", "staff"])));
    user(
        &entries,
        &token(
            claims()
                .role("editor")
                .with("app_metadata", json!({"roles": "staff"})),
        ),
    );
    for claims in [
        claims(),
        claims().roles(["guest"]),
        claims().roles(["staff"]).role("other"),
        claims().roles(["staff"]).without("role"),
        claims().with("app_metadata", json!("staff")),
        claims().with("app_metadata", json!({"roles": {"staff": true}})),
        claims().with("app_metadata", json!({"roles": ["staff", 5]})),
        claims().with("app_metadata.roles", "staff"),
    ] {
        assert_eq!(refused(&entries, &token(claims)), Reason::TokenClaims);
    }
}

#[test]
fn claims_are_checked_in_order() {
    // Everything is wrong with this token; each step repairs what was reported, and the next
    // problem is reported.
    let mut claims = claims()
        .with("iss", "https://other.test")
        .expiring(NOW - 100)
        .with("nbf", NOW + 100)
        .with("iat", NOW + 100)
        .audience("other")
        .without("sub");
    let wrong = Signer::secret(&[7; 64], Algorithm::HS512).unwrap();
    let verify =
        |signer: &Signer, claims: &Claims| refused(&[hs_entry()], &signer.sign(claims).unwrap());
    assert_eq!(verify(&wrong, &claims), Reason::TokenIssuer);
    claims = claims.with("iss", ISSUER);
    assert_eq!(verify(&wrong, &claims), Reason::TokenAlgorithm);
    let wrong = Signer::secret(&[7; 64], Algorithm::HS256).unwrap();
    assert_eq!(verify(&wrong, &claims), Reason::TokenSignature);
    assert_eq!(verify(&hs256(), &claims), Reason::TokenExpired);
    claims = claims.expiring(NOW + 1000);
    assert_eq!(verify(&hs256(), &claims), Reason::TokenNotYetValid);
    claims = claims.without("nbf");
    assert_eq!(verify(&hs256(), &claims), Reason::TokenIssuedAhead);
    claims = claims.with("iat", NOW);
    assert_eq!(verify(&hs256(), &claims), Reason::TokenAudience);
    claims = claims.audience("authenticated");
    assert_eq!(verify(&hs256(), &claims), Reason::TokenClaims);
    accepted(&claims.with("sub", "somebody"));
}
