//! Tests of `tokens`: which tokens are refused, for which reason, and that caching changes no
//! result.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise"
)]

mod cache;
mod claims;
mod fetch;
mod keys;
mod proof;
mod structure;
mod waiting;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::mint::{Claims, Signer};
use super::{KeyMetrics, KeySources, Presented, Tokens, Verified, VerifiedCache};
use crate::denial::{Denial, Reason};
use crate::policy::outbound_url::OutboundUrl;
use crate::policy::resources::ParamType;
use crate::policy::tokens::{KeySource, Publication, TokenIssuer};
use crate::secrets::secret::Secret;

/// The time in every test that does not name another.
const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.test/auth/v1";
const SECRET: &str = "a secret of the length that HS512 asks for, which is 64 bytes or more";

/// A secret's signer.
fn hs256() -> Signer {
    Signer::secret(SECRET.as_bytes(), Algorithm::HS256).unwrap()
}

/// One fresh key per algorithm for the whole run: RSA keys take long to make.
fn signer(algorithm: Algorithm) -> Signer {
    static ES: OnceLock<Signer> = OnceLock::new();
    static RS: OnceLock<Signer> = OnceLock::new();
    static ED: OnceLock<Signer> = OnceLock::new();
    let (cell, kid) = match algorithm {
        Algorithm::ES256 => (&ES, "es"),
        Algorithm::RS256 => (&RS, "rs"),
        Algorithm::EdDSA => (&ED, "ed"),
        other => panic!("no key for {other:?}"),
    };
    cell.get_or_init(|| Signer::generate(algorithm).unwrap().with_kid(kid))
        .clone()
}

fn secret_source() -> KeySource {
    KeySource::Secret(Secret::new(SECRET))
}

fn set_source(jwks: impl Into<String>) -> KeySource {
    KeySource::Set {
        json: jwks.into(),
        file: PathBuf::from("keys.json"),
    }
}

fn published_at(url: &str) -> Publication {
    Publication::Jwks(OutboundUrl::parse(url).unwrap())
}

fn set_of(jwks: &[Value]) -> String {
    serde_json::json!({ "keys": jwks }).to_string()
}

/// A typical entry: one audience, no more rules, 5 s of leeway.
fn entry(algorithms: &[Algorithm], keys: KeySource) -> TokenIssuer {
    TokenIssuer {
        issuer: ISSUER.to_owned(),
        audience: vec!["authenticated".to_owned()],
        algorithms: algorithms.to_vec(),
        keys,
        require: Vec::new(),
        subject: ParamType::Text,
        leeway: Duration::from_secs(5),
        clients: Vec::new(),
        until: None,
    }
}

fn hs_entry() -> TokenIssuer {
    entry(&[Algorithm::HS256], secret_source())
}

/// An entry with the public key of a signer.
fn published(signer: &Signer) -> TokenIssuer {
    entry(
        &[signer.algorithm()],
        set_source(signer.public_jwks().unwrap()),
    )
}

fn new_cache() -> Arc<VerifiedCache> {
    Arc::new(VerifiedCache::new(NonZeroUsize::new(64).unwrap()))
}

fn tokens(entries: &[TokenIssuer]) -> Tokens {
    Tokens::new(entries, new_cache(), &key_sources()).unwrap()
}

fn key_sources() -> KeySources {
    KeySources::new(KeyMetrics::unexported().unwrap())
}

fn claims() -> Claims {
    Claims::new(ISSUER, "subject-1", NOW)
}

/// The user that a token proves under these entries, now.
fn user(entries: &[TokenIssuer], token: &str) -> Arc<Verified> {
    expect_user(tokens(entries).verify(token, NOW))
}

fn expect_user(outcome: Result<Presented, Denial>) -> Arc<Verified> {
    match outcome.unwrap() {
        Presented::User(verified) => verified,
        Presented::Nobody => panic!("no user"),
    }
}

/// The reason for which a token is refused under these entries, now. The detail for the operator
/// must not contain the token.
fn refused(entries: &[TokenIssuer], token: &str) -> Reason {
    let denial = tokens(entries).verify(token, NOW).unwrap_err();
    if let Some(detail) = &denial.detail {
        assert!(detail.len() < 200, "{detail}");
        assert!(token.is_empty() || !detail.contains(token), "{detail}");
    }
    denial.reason
}

/// The reason for which these claims are refused, with a valid signature.
fn refused_claims(claims: &Claims) -> Reason {
    refused(&[hs_entry()], &hs256().sign(claims).unwrap())
}

/// The reason for which a token with this header is refused, with good claims and a valid
/// signature.
fn refused_header(header: &str) -> Reason {
    refused(&[hs_entry()], &with_header(header))
}

fn with_header(header: &str) -> String {
    hs256()
        .sign_raw(
            header,
            &Value::Object(claims().as_object().clone()).to_string(),
        )
        .unwrap()
}
