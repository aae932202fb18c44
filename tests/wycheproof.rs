//! The JSON Web Signature and Key vectors of the Wycheproof project, against the code that reads
//! every token.
//!
//! `FOREGATE_WYCHEPROOF` names the folder; by default it is `shared/wycheproof` beside the
//! checkout. Every vector runs. The few that are judged otherwise than the vectors say are listed
//! by number with the reason, and must be judged exactly that way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::path::PathBuf;

use foregate::tokens::verify_signature;
use serde_json::Value;

const EMPTY: &str = "an empty payload: a token without claims is nobody's";
const SPELLING: &str = "a character outside base64url: a token has one spelling";
const OTHER_ALG: &str = "PS384 under a key published for PS256: a key is bound to its `alg`";
const P521: &str = "P-521 is not supported";

/// Valid signatures that are refused all the same.
const STRICTER: [(u64, &str); 12] = [
    (259, EMPTY),
    (264, EMPTY),
    (268, EMPTY),
    (272, EMPTY),
    (320, EMPTY),
    (325, EMPTY),
    (346, OTHER_ALG),
    (347, P521),
    (350, OTHER_ALG),
    (351, P521),
    (372, SPELLING),
    (373, SPELLING),
];

/// Vectors called invalid whose text is, byte for byte, that of another one called valid: the
/// padding they are named after is not in them. No reader can satisfy both. That padding is refused
/// is tested in `tokens`.
const SAME_TEXT: [(u64, u64); 2] = [(367, 357), (370, 357)];

#[test]
fn signatures_are_judged_as_the_vectors_say() {
    run("json_web_signature_test.json", &STRICTER, &SAME_TEXT);
}

#[test]
fn keys_are_judged_as_the_vectors_say() {
    run("json_web_key_test.json", &[], &[]);
}

fn run(name: &str, stricter: &[(u64, &str)], same_text: &[(u64, u64)]) {
    let folder = std::env::var_os("FOREGATE_WYCHEPROOF").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/wycheproof"),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(folder.join(name)) else {
        println!("skipped: vectors not there");
        return;
    };
    let document: Value = serde_json::from_str(&text).unwrap();
    let (mut count, mut exceptions, mut wrong) = (0, 0, Vec::new());
    for group in document["testGroups"].as_array().unwrap() {
        // Symmetric groups have no public half.
        let jwks = group.get("public").unwrap_or(&group["private"]).to_string();
        let vectors = group["tests"].as_array().unwrap();
        let (mut accepted, mut refused) = (0, 0);
        for vector in vectors {
            let id = vector["tcId"].as_u64().unwrap();
            let mut expected = says_valid(vector);
            if let Some((_, reason)) = stricter.iter().find(|(number, _)| *number == id) {
                println!("  {id}: refused, though valid: {reason}");
                assert!(expected, "{id} needs no exception");
                expected = false;
                exceptions += 1;
            }
            if let Some((_, twin)) = same_text.iter().find(|(number, _)| *number == id) {
                println!("  {id}: accepted, though invalid: the same text as {twin}");
                let twin = vectors.iter().find(|other| other["tcId"] == *twin).unwrap();
                assert!(
                    !expected && says_valid(twin) && twin["jws"] == vector["jws"],
                    "{id}"
                );
                expected = true;
                exceptions += 1;
            }
            let outcome = judge(&jwks, &vector["jws"]);
            if outcome.is_ok() != expected {
                wrong.push(format!("{id} ({}): {outcome:?}", vector["comment"]));
            }
            *(if outcome.is_ok() {
                &mut accepted
            } else {
                &mut refused
            }) += 1;
            count += 1;
        }
        println!(
            "{}: {accepted} accepted, {refused} refused",
            group["comment"]
        );
    }
    println!("{name}: {count} vectors, {exceptions} exceptions");
    assert_eq!(document["numberOfTests"].as_u64(), Some(count));
    assert_eq!(exceptions, stricter.len() + same_text.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn says_valid(vector: &Value) -> bool {
    match vector["result"].as_str().unwrap() {
        "valid" => true,
        "invalid" => false,
        other => panic!("unknown result {other}"),
    }
}

/// Some vectors are JSON serializations, as text or as an object; they must be refused like any
/// other text.
fn judge(jwks: &str, jws: &Value) -> Result<Vec<u8>, String> {
    let token = jws.as_str().map_or_else(|| jws.to_string(), str::to_owned);
    verify_signature(jwks.as_bytes(), &token).map_err(|denial| format!("{denial:?}"))
}
