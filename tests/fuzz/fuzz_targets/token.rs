//! Bytes as a token, for entries of every kind: no panic, no user, and one judgement.
//!
//! The input is used as it comes, and again as the header and payload of a token, so that the
//! fuzzer need not learn base64url. No input can hold a right signature, so a user would be a
//! forgery.

#![no_main]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use foregate::policy::resources::ParamType;
use foregate::policy::tokens::{KeySource, TokenIssuer};
use foregate::secrets::secret::Secret;
use foregate::tokens::mint::Signer;
use foregate::tokens::{
    KeyMetrics, KeySources, Presented, Tokens, VerifiedCache, verify_signature,
};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_800_000_000;

static KEYS: LazyLock<(Tokens, String)> = LazyLock::new(|| {
    let signer = Signer::generate("ES256".parse().expect("known"))
        .expect("a key")
        .with_kid("k");
    let json = signer.public_jwks().expect("a public half");
    // Known, but a fuzzer cannot compute an HMAC with it.
    let secret = "a secret of at least thirty-two bytes";
    let entry = |algorithm: &str, keys| TokenIssuer {
        issuer: "i".to_owned(),
        audience: vec!["a".to_owned()],
        algorithms: vec![algorithm.parse().expect("known")],
        keys,
        require: vec![("x.y".to_owned(), vec!["z".to_owned()])],
        subject: ParamType::Text,
        leeway: Duration::from_secs(5),
        clients: Vec::new(),
        until: None,
    };
    let file = PathBuf::from("keys.json");
    let entries = [
        entry(
            "ES256",
            KeySource::Set {
                json: json.clone(),
                file,
            },
        ),
        entry("HS256", KeySource::Secret(Secret::new(secret))),
    ];
    let cache = VerifiedCache::new(NonZeroUsize::MIN);
    let sources = KeySources::new(KeyMetrics::unexported().expect("names are good"));
    let tokens = Tokens::new(&entries, Arc::new(cache), &sources).expect("usable");
    (tokens, json)
});

fn judge(token: &str) {
    let (tokens, jwks) = &*KEYS;
    let first = tokens.verify(token, NOW);
    assert!(
        !matches!(first, Ok(Presented::User(_))),
        "a forgery: {token}"
    );
    let again = tokens.verify(token, NOW);
    assert_eq!(
        first.err().map(|denial| denial.reason),
        again.err().map(|denial| denial.reason)
    );
    assert!(
        verify_signature(jwks.as_bytes(), token).is_err(),
        "a forgery: {token}"
    );
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        judge(text);
    }
    // A published document is somebody else's bytes, too.
    let _ = foregate::tokens::KeySet::parse(bytes);
    let cut = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len() / 2);
    let (header, payload) = bytes.split_at(cut);
    judge(&format!(
        "{}.{}.{}",
        base64url(header),
        base64url(payload),
        "A".repeat(86)
    ));
    judge(&format!(
        "{}.{}.{}",
        base64url(header),
        base64url(payload),
        "A".repeat(43)
    ));
});

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(
                ALPHABET[(number >> (18 - 6 * place)) as usize & 63],
            ));
        }
    }
    text
}
