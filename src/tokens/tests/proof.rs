//! Tokens verified by another replica: accepted without a check of the signature, and never where
//! verifying would refuse.

use super::*;
use crate::tokens::Proof;

/// The proof of one replica, as the next one reads it from a record.
fn proof(entries: &[TokenIssuer], token: &str) -> Proof {
    let proof = Proof::of(&user(entries, token), token);
    let written = serde_json::to_string(&proof).unwrap();
    serde_json::from_str(&written).unwrap()
}

#[test]
fn a_proven_token_is_accepted_without_a_signature_check() {
    let es = signer(Algorithm::ES256);
    for (entry, token) in [
        (
            hs_entry(),
            hs256().sign(&claims().roles(["staff"])).unwrap(),
        ),
        (published(&es), es.sign(&claims().session("s")).unwrap()),
    ] {
        let entries = [entry];
        let (proof, verified) = (proof(&entries, &token), user(&entries, &token));
        let cache = new_cache();
        let other = Tokens::new(&entries, cache.clone(), &key_sources()).unwrap();
        let recalled = other.recall(&token, &proof, NOW).unwrap();
        assert_eq!(recalled.claims(), verified.claims());
        assert_eq!(recalled.subject(), verified.subject());
        assert_eq!(recalled.accepted_until(), verified.accepted_until());
        assert_eq!(Proof::of(&recalled, &token), proof);
        // It is cached like any other.
        let again = expect_user(other.verify(&token, NOW));
        assert!(Arc::ptr_eq(&recalled, &again));
    }
}

#[test]
fn a_proof_applies_to_one_token() {
    let entries = [hs_entry()];
    let token = hs256().sign(&claims()).unwrap();
    let other = hs256()
        .sign(&claims().with("sub", "somebody-else"))
        .unwrap();
    let proof = proof(&entries, &token);
    let tokens = tokens(&entries);
    let forged = format!("{}x", token);
    for wrong in [&other, &forged, "a.b.c", ""] {
        assert!(tokens.recall(wrong, &proof, NOW).is_none(), "{wrong}");
    }
}

#[test]
fn a_proof_ends_with_its_entry_its_key_and_its_token() {
    let token = hs256().sign(&claims().roles(["staff"])).unwrap();
    let before = proof(&[hs_entry()], &token);
    let changes: [fn(&mut TokenIssuer); 6] = [
        |entry| entry.issuer.push('x'),
        |entry| entry.audience = vec!["other".to_owned()],
        |entry| entry.algorithms = vec![Algorithm::HS384],
        |entry| entry.require = vec![("role".to_owned(), vec!["other".to_owned()])],
        |entry| entry.until = Some(NOW - 1),
        |entry| entry.keys = KeySource::Secret(Secret::new("b".repeat(64))),
    ];
    for change in changes {
        let mut entry = hs_entry();
        change(&mut entry);
        assert!(tokens(&[entry]).recall(&token, &before, NOW).is_none());
    }
    let late = tokens(&[hs_entry()]);
    assert!(late.recall(&token, &before, NOW + 100_000).is_none());
    // The key set has changed: the same key is still accepted, another one with its `kid` is not.
    let (es, rs) = (signer(Algorithm::ES256), signer(Algorithm::RS256));
    let with = |keys: &[&Signer]| {
        let jwks: Vec<Value> = keys
            .iter()
            .map(|signer| serde_json::from_str::<Value>(&signer.public_jwks().unwrap()).unwrap())
            .map(|set| set["keys"][0].clone())
            .collect();
        entry(
            &[Algorithm::ES256, Algorithm::RS256],
            set_source(set_of(&jwks)),
        )
    };
    let token = es.sign(&claims()).unwrap();
    let before = proof(&[with(&[&es])], &token);
    assert!(
        tokens(&[with(&[&rs, &es])])
            .recall(&token, &before, NOW)
            .is_some()
    );
    assert!(
        tokens(&[with(&[&rs])])
            .recall(&token, &before, NOW)
            .is_none()
    );
    let other = Signer::generate(Algorithm::ES256).unwrap().with_kid("es");
    assert!(
        tokens(&[with(&[&other])])
            .recall(&token, &before, NOW)
            .is_none()
    );
}
