//! Which key a token selects, and which keys are never used.

use serde_json::json;

use super::super::verify_signature;
use super::*;
use crate::tokens::KeySet;

fn changed(signer: &Signer, changes: Value) -> Value {
    let mut jwk = signer.public_jwk().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            jwk.as_object_mut().unwrap().remove(name);
        } else {
            jwk[name] = value.clone();
        }
    }
    jwk
}

fn dropped(jwk: Value) -> String {
    KeySet::parse(set_of(&[jwk]).as_bytes()).unwrap_err()
}

#[test]
fn a_key_of_any_type_verifies_its_own_tokens_only() {
    let kinds = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];
    for one in kinds {
        for other in kinds {
            let (one, other) = (signer(one), signer(other).with_kid("same"));
            let token = one.clone().with_kid("same").sign(&claims()).unwrap();
            let entries = [published(&other)];
            if one.algorithm() == other.algorithm() {
                user(&entries, &token);
            } else {
                assert_eq!(refused(&entries, &token), Reason::TokenAlgorithm);
            }
        }
    }
    for algorithm in [Algorithm::ES384, Algorithm::HS384, Algorithm::HS512] {
        let signer = Signer::generate(algorithm).unwrap();
        assert_eq!(signer.algorithm(), algorithm);
    }
}

#[test]
fn another_key_of_the_same_kind_does_not_verify() {
    let stranger = Signer::generate(Algorithm::ES256).unwrap().with_kid("es");
    let token = stranger.sign(&claims()).unwrap();
    assert_eq!(
        refused(&[published(&signer(Algorithm::ES256))], &token),
        Reason::TokenSignature
    );
}

#[test]
fn no_key_is_taken_from_the_token() {
    let stranger = Signer::generate(Algorithm::ES256).unwrap();
    let header = json!({
        "alg": "ES256", "kid": "es", "jwk": stranger.public_jwk().unwrap(),
        "jku": "https://evil.test/", "x5u": "https://evil.test/", "x5c": ["AAAA"],
    });
    let payload = Value::Object(claims().as_object().clone()).to_string();
    let token = stranger.sign_raw(&header.to_string(), &payload).unwrap();
    assert_eq!(
        refused(&[published(&signer(Algorithm::ES256))], &token),
        Reason::TokenSignature
    );
}

#[test]
fn a_published_key_is_never_a_secret() {
    for algorithm in [Algorithm::ES256, Algorithm::RS256] {
        let signer = signer(algorithm);
        let jwk = signer.public_jwk().unwrap();
        let kid = jwk["kid"].as_str().unwrap().to_owned();
        // The material in the spellings an attacker would try, and an entry that lists both kinds
        // under one issuer.
        let entries = [published(&signer), hs_entry()];
        for member in ["x", "y", "n", "e"] {
            let Some(text) = jwk.get(member).and_then(Value::as_str) else {
                continue;
            };
            for secret in [
                text.to_owned(),
                jwk.to_string(),
                signer.public_jwks().unwrap(),
            ] {
                let forger = Signer::secret(secret.as_bytes(), Algorithm::HS256).unwrap();
                let token = forger.with_kid(kid.clone()).sign(&claims()).unwrap();
                assert_eq!(refused(&entries[..1], &token), Reason::TokenAlgorithm);
                assert_eq!(refused(&entries, &token), Reason::TokenSignature);
            }
        }
    }
}

#[test]
fn alg_none_is_refused_in_any_spelling() {
    for name in [
        "none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "ES512", "ES256K",
    ] {
        let header = json!({ "alg": name }).to_string();
        assert_eq!(refused_header(&header), Reason::TokenAlgorithm, "{name}");
        let payload = Value::Object(claims().as_object().clone()).to_string();
        let token = hs256().sign_raw(&header, &payload).unwrap();
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert_eq!(
            refused(&[hs_entry()], &format!("{unsigned}.")),
            Reason::TokenMalformed
        );
    }
}

#[test]
fn an_algorithm_name_is_shortened_before_it_is_reported() {
    let header = json!({ "alg": "<script>\n alert('a long and evil name')" }).to_string();
    let denial = tokens(&[hs_entry()])
        .verify(&with_header(&header), NOW)
        .unwrap_err();
    assert_eq!(denial.reason, Reason::TokenAlgorithm);
    let detail = denial.detail.unwrap();
    assert!(
        detail.ends_with("does not use `scriptalertalong`"),
        "{detail}"
    );
}

#[test]
fn a_kid_selects_its_key_and_no_other() {
    let (es, ed) = (signer(Algorithm::ES256), signer(Algorithm::EdDSA));
    let set = set_of(&[es.public_jwk().unwrap(), ed.public_jwk().unwrap()]);
    let entries = [entry(
        &[Algorithm::ES256, Algorithm::EdDSA],
        set_source(set),
    )];
    user(&entries, &es.sign(&claims()).unwrap());
    user(&entries, &ed.sign(&claims()).unwrap());
    let unknown = es.clone().with_kid("other").sign(&claims()).unwrap();
    assert_eq!(refused(&entries, &unknown), Reason::TokenKeyUnknown);
    let swapped = es.with_kid("ed").sign(&claims()).unwrap();
    assert_eq!(refused(&entries, &swapped), Reason::TokenAlgorithm);
}

#[test]
fn without_kid_the_only_fitting_key_is_used_and_two_are_ambiguous() {
    let one = Signer::generate(Algorithm::ES256).unwrap();
    let other = Signer::generate(Algorithm::ES256).unwrap();
    let token = one.sign(&claims()).unwrap();
    let (one, other) = (one.with_kid("1"), other.with_kid("2"));
    let ed = signer(Algorithm::EdDSA).public_jwk().unwrap();
    let verify = |jwks: &[Value]| {
        let entries = [entry(&[Algorithm::ES256], set_source(set_of(jwks)))];
        tokens(&entries)
            .verify(&token, NOW)
            .map_err(|denial| denial.reason)
    };
    assert!(verify(&[one.public_jwk().unwrap(), ed]).is_ok());
    let both = verify(&[one.public_jwk().unwrap(), other.public_jwk().unwrap()]);
    assert_eq!(both.unwrap_err(), Reason::TokenKeyUnknown);
}

#[test]
fn an_rsa_key_without_alg_allows_the_algorithms_of_the_entry() {
    let rs = signer(Algorithm::RS256);
    let jwks = set_of(&[changed(&rs, json!({ "alg": null }))]);
    let token = rs.sign(&claims()).unwrap();
    user(
        &[entry(
            &[Algorithm::PS256, Algorithm::RS256],
            set_source(jwks.clone()),
        )],
        &token,
    );
    let only_pss = [entry(&[Algorithm::PS256], set_source(jwks))];
    assert_eq!(refused(&only_pss, &token), Reason::TokenAlgorithm);
}

#[test]
fn a_migration_separates_by_algorithm_and_ends_on_its_day() {
    let es = signer(Algorithm::ES256);
    let mut old = hs_entry();
    old.until = Some(NOW + 10);
    let migrating = tokens(&[published(&es), old]);
    let (new_token, old_token) = (
        es.sign(&claims()).unwrap(),
        hs256().sign(&claims()).unwrap(),
    );
    for now in [NOW, NOW + 10, NOW + 11, NOW + 20] {
        expect_user(migrating.verify(&new_token, now));
        let old = migrating.verify(&old_token, now);
        if now <= NOW + 10 {
            expect_user(old);
        } else {
            // The entry is gone but the issuer is not, so the algorithm is what is refused.
            assert_eq!(old.unwrap_err().reason, Reason::TokenAlgorithm);
        }
    }
}

#[test]
fn an_issuer_whose_entries_have_ended_is_unknown() {
    let mut old = hs_entry();
    old.until = Some(NOW - 1);
    assert_eq!(
        refused(&[old], &hs256().sign(&claims()).unwrap()),
        Reason::TokenIssuer
    );
}

#[test]
fn entries_of_one_issuer_and_algorithm_are_tried_in_turn() {
    let other = KeySource::Secret(Secret::new("another secret of at least thirty-two bytes"));
    let mut strict = hs_entry();
    strict.audience = vec!["staff".to_owned()];
    let entries = [entry(&[Algorithm::HS256], other), strict, hs_entry()];
    user(&entries, &hs256().sign(&claims()).unwrap());
    user(
        &entries,
        &hs256().sign(&claims().audience("staff")).unwrap(),
    );
    // Two do not know the key, one knows it and has another audience: the last says most.
    let token = hs256().sign(&claims().audience("nobody")).unwrap();
    assert_eq!(refused(&entries, &token), Reason::TokenAudience);
}

#[test]
fn keys_that_may_not_check_signatures_are_dropped_with_a_reason() {
    let (es, rs, ed) = (
        signer(Algorithm::ES256),
        signer(Algorithm::RS256),
        signer(Algorithm::EdDSA),
    );
    let zeros = "A".repeat(43);
    for (jwk, why) in [
        (
            json!({ "kty": "oct", "k": zeros, "alg": "HS256" }),
            "symmetric",
        ),
        (json!({ "kty": "XYZ" }), "`kty`"),
        (json!({ "kid": "x" }), "`kty` is missing"),
        (changed(&es, json!({ "use": "enc" })), "`use`"),
        (changed(&es, json!({ "use": 5 })), "`use`"),
        (changed(&es, json!({ "key_ops": ["sign"] })), "`key_ops`"),
        (changed(&es, json!({ "key_ops": "verify" })), "`key_ops`"),
        (changed(&es, json!({ "d": zeros })), "private"),
        (changed(&es, json!({ "alg": "ES384" })), "`alg`"),
        (changed(&es, json!({ "alg": "HS256" })), "`alg`"),
        (changed(&es, json!({ "crv": "P-384" })), "`alg`"),
        (
            changed(&es, json!({ "crv": "P-384", "alg": null })),
            "length",
        ),
        (changed(&es, json!({ "crv": "P-521" })), "`crv`"),
        (changed(&es, json!({ "crv": "secp256k1" })), "`crv`"),
        (changed(&es, json!({ "x": zeros })), "not a point"),
        (changed(&es, json!({ "x": "AAAA" })), "length"),
        (changed(&es, json!({ "x": "not base64!" })), "base64url"),
        (changed(&ed, json!({ "crv": "X25519" })), "`crv`"),
        (changed(&ed, json!({ "x": "AAAA" })), "Ed25519"),
        (changed(&rs, json!({ "alg": "RSA-OAEP" })), "`alg`"),
        (changed(&rs, json!({ "alg": "ES256" })), "`alg`"),
        (changed(&rs, json!({ "e": "AQ" })), "exponent"),
        (changed(&rs, json!({ "e": "AAAB" })), "exponent"),
        (changed(&rs, json!({ "e": "BA" })), "exponent"),
        (changed(&rs, json!({ "e": "AQAAAAAB" })), "exponent"),
        (changed(&rs, json!({ "n": "_".repeat(172) })), "modulus"),
        (changed(&rs, json!({ "n": "_".repeat(1400) })), "modulus"),
        (changed(&rs, json!({ "p": zeros })), "private"),
    ] {
        let error = dropped(jwk.clone());
        assert!(error.contains(why), "{error} for {jwk}");
    }
}

#[test]
fn a_bad_key_beside_a_good_one_is_dropped() {
    let es = signer(Algorithm::ES256);
    let oct = json!({ "kty": "oct", "kid": "oct", "k": "A".repeat(43), "alg": "HS256" });
    let jwks = set_of(&[oct, es.public_jwk().unwrap()]);
    let set = KeySet::parse(jwks.as_bytes()).unwrap();
    assert_eq!((set.len(), set.dropped().len()), (1, 1));
    let entries = [entry(&[Algorithm::ES256], set_source(jwks))];
    assert_eq!(tokens(&entries).dropped_keys().len(), 1);
    user(&entries, &es.sign(&claims()).unwrap());
}

#[test]
fn a_kid_may_occur_again_for_a_key_of_another_type_use_or_algorithm() {
    let kid = |signer: Signer| signer.with_kid("one");
    let (es, rs, ed) = (
        kid(signer(Algorithm::ES256)),
        kid(signer(Algorithm::RS256)),
        kid(signer(Algorithm::EdDSA)),
    );
    let es384 = kid(Signer::generate(Algorithm::ES384).unwrap());
    let other_rs = kid(Signer::generate(Algorithm::PS256).unwrap());
    let encrypting = changed(&other_rs, json!({ "use": "enc", "alg": "RSA-OAEP" }));
    let wrapping = changed(
        &other_rs,
        json!({ "use": null, "alg": null, "key_ops": ["wrapKey"] }),
    );
    let oct = json!({ "kty": "oct", "kid": "one", "k": "AAAA" });
    let good: Vec<Value> = [&es, &rs, &ed, &es384, &other_rs]
        .iter()
        .map(|signer| signer.public_jwk().unwrap())
        .collect();
    // Before and behind the good ones.
    let bad = [encrypting, wrapping, oct, json!("?"), json!({})];
    let all = [&bad[..], &good[..], &bad[..]].concat();
    let set = KeySet::parse(set_of(&all).as_bytes()).unwrap();
    assert_eq!((set.len(), set.dropped().len()), (5, 10));
    assert_eq!(set.ambiguous(), [] as [String; 0]);
    let algorithms = [
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
        Algorithm::RS256,
        Algorithm::PS256,
    ];
    let entries = [entry(&algorithms, set_source(set_of(&all)))];
    for signer in [&es, &rs, &ed, &es384, &other_rs] {
        user(&entries, &signer.sign(&claims()).unwrap());
        let stranger = Signer::generate(signer.algorithm()).unwrap();
        let forged = kid(stranger).sign(&claims()).unwrap();
        assert_eq!(refused(&entries, &forged), Reason::TokenSignature);
    }
}

#[test]
fn keys_that_a_token_cannot_tell_apart_cost_their_own_tokens_only() {
    let twin = || Signer::generate(Algorithm::ES256).unwrap().with_kid("twin");
    let (one, other, good) = (twin(), twin(), signer(Algorithm::ES256));
    let rs = signer(Algorithm::RS256).with_kid("twin");
    let jwk = |signer: &Signer| signer.public_jwk().unwrap();
    let jwks = set_of(&[jwk(&one), jwk(&good), jwk(&other), jwk(&rs)]);
    let set = KeySet::parse(jwks.as_bytes()).unwrap();
    let [pair] = set.ambiguous() else {
        panic!("{:?}", set.ambiguous())
    };
    assert!(pair.contains("key 1 (`twin`) and key 3 (`twin`)"), "{pair}");
    let algorithms = [Algorithm::ES256, Algorithm::RS256];
    let entries = [entry(&algorithms, set_source(jwks))];
    assert_eq!(tokens(&entries).dropped_keys().len(), 1);
    for signer in [&one, &other] {
        let token = signer.sign(&claims()).unwrap();
        assert_eq!(refused(&entries, &token), Reason::TokenKeyUnknown);
    }
    for signer in [&good, &rs] {
        user(&entries, &signer.sign(&claims()).unwrap());
    }
    // An RSA key without `alg` could be meant by every RSA algorithm.
    let general = changed(
        &Signer::generate(Algorithm::RS256).unwrap().with_kid("twin"),
        json!({ "alg": null }),
    );
    let jwks = set_of(&[jwk(&rs), general]);
    let set = KeySet::parse(jwks.as_bytes()).unwrap();
    assert_eq!((set.len(), set.ambiguous().len()), (2, 1));
    let entries = [entry(&[Algorithm::RS256], set_source(jwks))];
    let token = rs.sign(&claims()).unwrap();
    assert_eq!(refused(&entries, &token), Reason::TokenKeyUnknown);
}

#[test]
fn the_same_key_twice_is_one_key() {
    let rs = signer(Algorithm::RS256);
    let jwk = rs.public_jwk().unwrap();
    let general = changed(&rs, json!({ "alg": null }));
    let jwks = set_of(&[jwk.clone(), jwk, general]);
    let set = KeySet::parse(jwks.as_bytes()).unwrap();
    assert_eq!((set.len(), set.dropped().len()), (2, 1));
    assert_eq!(set.ambiguous(), [] as [String; 0]);
    let entries = [entry(&[Algorithm::RS256], set_source(jwks))];
    user(&entries, &rs.sign(&claims()).unwrap());
}

#[test]
fn a_null_member_is_an_absent_member() {
    for algorithm in [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA] {
        let signer = signer(algorithm);
        let mut jwk = signer.public_jwk().unwrap();
        for name in ["d", "p", "k", "key_ops", "x5c", "x5t", "alg", "use", "ext"] {
            jwk[name] = Value::Null;
        }
        let entries = [entry(&[algorithm], set_source(set_of(&[jwk])))];
        user(&entries, &signer.sign(&claims()).unwrap());
    }
    let es = signer(Algorithm::ES256);
    let mut jwk = es.public_jwk().unwrap();
    jwk["kid"] = Value::Null;
    let entries = [entry(&[Algorithm::ES256], set_source(set_of(&[jwk])))];
    let token = es.sign(&claims()).unwrap();
    assert_eq!(refused(&entries, &token), Reason::TokenKeyUnknown);
    for (member, why) in [("kty", "`kty` is missing"), ("x", "`x` is missing")] {
        let mut jwk = es.public_jwk().unwrap();
        jwk[member] = Value::Null;
        assert!(dropped(jwk).contains(why), "{member}");
    }
}

#[test]
fn a_malformed_key_costs_no_other() {
    let es = signer(Algorithm::ES256);
    let good = es.public_jwk().unwrap();
    let deep = "[".repeat(70) + &"]".repeat(70);
    for bad in [
        r#"{"kty":"EC","kty":"EC"}"#,
        &format!(r#"{{"kty":"EC","x":{deep}}}"#),
        r#"{"kid":"\ud800"}"#,
        "null",
        "[]",
    ] {
        let set = format!(r#"{{"keys":[{bad},{good}],"x":1,"x":2}}"#);
        let set = KeySet::parse(set.as_bytes()).unwrap();
        assert_eq!((set.len(), set.dropped().len()), (1, 1), "{bad}");
    }
}

#[test]
fn a_set_that_cannot_be_read_is_refused_with_its_cause() {
    let jwk = signer(Algorithm::ES256).public_jwk().unwrap();
    let refused = |text: &str| KeySet::parse(text.as_bytes()).unwrap_err();
    for count in [65, 60_000] {
        let many = vec![
            if count == 65 {
                jwk.to_string()
            } else {
                "1".to_owned()
            };
            count
        ];
        let why = refused(&format!(r#"{{"keys":[{}]}}"#, many.join(",")));
        assert!(
            why.contains(&format!("{count} keys")) && why.contains("64"),
            "{why}"
        );
    }
    let good = set_of(std::slice::from_ref(&jwk));
    assert!(refused(&format!("\u{feff}{good}")).contains("byte order mark"));
    let utf16: Vec<u8> = "\u{feff}{}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(
        KeySet::parse(&utf16)
            .unwrap_err()
            .contains("byte order mark")
    );
    for text in ["", "<html>", "[]", "1", &good.replace("keys", "keys\" :\"")] {
        assert!(refused(text).contains("not one JSON object"), "{text}");
    }
    assert!(refused(&format!("{good}x")).contains("not one JSON object (line 1, column"));
    assert!(refused(r#"{"keys":null}"#).contains("`keys`"));
    assert!(refused(&" ".repeat(256 * 1024 + 1)).contains("longer"));
    assert!(refused("{}").contains("`keys`"));
    assert!(refused(r#"{"keys":{}}"#).contains("`keys`"));
    assert!(refused(r#"{"keys":[]}"#).contains("no usable key"));
    assert!(refused(r#"{"keys":[5]}"#).contains("not an object"));
    assert!(refused(r#"{"keys":[],"keys":[]}"#).contains("repeats"));
}

#[test]
fn an_entry_with_unusable_keys_is_named_in_the_error() {
    let es = signer(Algorithm::ES256);
    let error =
        |entry: TokenIssuer| Tokens::new(&[entry], new_cache(), &key_sources()).unwrap_err();
    let jwks = es.public_jwks().unwrap();
    let unfit = error(entry(&[Algorithm::RS256], set_source(jwks)));
    assert!(
        unfit.contains(ISSUER) && unfit.contains("no key fits"),
        "{unfit}"
    );
    let empty = error(entry(&[Algorithm::ES256], set_source(r#"{"keys":[]}"#)));
    assert!(empty.contains("keys.json"), "{empty}");
    let short = KeySource::Secret(Secret::new("thirty-one bytes are one short."));
    assert!(error(entry(&[Algorithm::HS256], short)).contains("32 bytes"));
    assert!(error(entry(&[Algorithm::ES256], secret_source())).contains("ES256"));
}

#[test]
fn a_pem_key_signs_with_its_usual_algorithm() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let signer = Signer::pem(pair.serialize_pem().as_bytes(), &[])
        .unwrap()
        .with_kid("pem");
    assert_eq!(signer.algorithm(), Algorithm::ES384);
    user(&[published(&signer)], &signer.sign(&claims()).unwrap());
    assert!(Signer::pem(pair.serialize_pem().as_bytes(), &[Algorithm::RS256]).is_err());
    let nonsense = format!("-----BEGIN PRIVATE KEY-----\n{}\n", STANDARD.encode("x"));
    assert!(Signer::pem(nonsense.as_bytes(), &[]).is_err());
}

#[test]
fn a_symmetric_set_is_parsed_for_test_vectors_only() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let jwk = json!({ "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    let token = hs256().sign(&claims()).unwrap();
    assert!(verify_signature(jwk.to_string().as_bytes(), &token).is_ok());
    assert!(KeySet::parse(set_of(&[jwk]).as_bytes()).is_err());
}
