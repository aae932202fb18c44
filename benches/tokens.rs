//! What a token costs: verified for the first time, by algorithm, and remembered; and asking
//! whether it was revoked.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use foregate::policy::resources::ParamType;
use foregate::policy::tokens::{KeySource, TokenIssuer};
use foregate::revocation::list::List;
use foregate::revocation::{CleanAt, Revocation, Target};
use foregate::secrets::secret::Secret;
use foregate::tokens::mint::{Claims, Signer};
use foregate::tokens::{KeyMetrics, KeySources, Presented, Tokens, VerifiedCache};
use jsonwebtoken::Algorithm;
use serde_json::json;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://project.supabase.co/auth/v1";
const SECRET: &str = "a secret of the length that HS256 asks for";

/// A token of the size that Supabase issues: about 810 bytes with HS256.
fn token(signer: &Signer) -> String {
    let claims = Claims::new(ISSUER, "0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69", NOW)
        .email("somebody@example.com")
        .roles(["editor"])
        .with("phone", "")
        .with("amr", json!([{ "method": "password", "timestamp": NOW }]))
        .with(
            "user_metadata",
            json!({ "email_verified": true, "phone_verified": false, "name": "Some Body", "avatar_url": "https://cdn.example.com/avatars/0198b5b0.png" }),
        );
    signer.sign(&claims).unwrap()
}

fn tokens(signer: &Signer) -> Tokens {
    let keys = match signer.public_jwks() {
        Ok(json) => KeySource::Set {
            json,
            file: PathBuf::from("keys.json"),
        },
        Err(_) => KeySource::Secret(Secret::new(SECRET)),
    };
    let entry = TokenIssuer {
        issuer: ISSUER.to_owned(),
        audience: vec!["authenticated".to_owned()],
        algorithms: vec![signer.algorithm()],
        keys,
        require: vec![("role".to_owned(), vec!["authenticated".to_owned()])],
        subject: ParamType::Uuid,
        leeway: Duration::from_secs(5),
        clients: Vec::new(),
        until: None,
    };
    let cache = VerifiedCache::new(NonZeroUsize::new(10_000).unwrap());
    Tokens::new(
        &[entry],
        Arc::new(cache),
        &KeySources::new(KeyMetrics::unexported().unwrap()),
    )
    .unwrap()
}

fn verify(criterion: &mut Criterion) {
    let secret = Signer::secret(SECRET.as_bytes(), Algorithm::HS256).unwrap();
    let es256 = Signer::generate(Algorithm::ES256).unwrap().with_kid("es");
    let rs256 = Signer::generate(Algorithm::RS256).unwrap().with_kid("rs");
    for (name, signer) in [("HS256", &secret), ("ES256", &es256), ("RS256", &rs256)] {
        let (tokens, token) = (tokens(signer), token(signer));
        println!("{name}: {} bytes", token.len());
        criterion.bench_function(&format!("cold {name}"), |bencher| {
            bencher.iter(|| tokens.verify_uncached(black_box(&token), NOW).unwrap());
        });
    }
    let (tokens, token) = (tokens(&secret), token(&secret));
    criterion.bench_function("warm", |bencher| {
        bencher.iter(|| tokens.verify(black_box(&token), NOW).unwrap());
    });
    criterion.bench_function("refused: malformed", |bencher| {
        bencher.iter(|| tokens.verify(black_box("a.b.c"), NOW).unwrap_err());
    });
}

fn revoked(criterion: &mut Criterion) {
    let secret = Signer::secret(SECRET.as_bytes(), Algorithm::HS256).unwrap();
    let (tokens, token) = (tokens(&secret), token(&secret));
    let Presented::User(verified) = tokens.verify(&token, NOW).unwrap() else {
        return;
    };
    let list = List::new();
    for session in 0..100_000 {
        let target = Target::Session {
            issuer: ISSUER.to_owned(),
            session: format!("somebody else's {session}"),
            subject: None,
        };
        list.insert(&Revocation::new(target, NOW * 1000, NOW + 3600));
    }
    let listed = verified.listed();
    criterion.bench_function("not revoked, and asked before", |bencher| {
        bencher.iter(|| list.find(black_box(verified.clean()), black_box(listed), NOW));
    });
    criterion.bench_function("not revoked, and the list has grown", |bencher| {
        bencher.iter(|| list.find(&CleanAt::default(), black_box(listed), NOW));
    });
}

criterion_group!(benches, verify, revoked);
criterion_main!(benches);
