//! Proof of an earlier verification, kept so that another replica need not check the signature
//! again. Whoever can write a proof can forge tokens, so it must be kept sealed
//! (`sessions::record`).

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

use super::Tokens;
use super::jws::{Jws, Named};
use super::verified::{Origin, Verified};
use crate::secrets::digest::{self, Digest};
use crate::secrets::hex;

/// That a token was verified, by which entry of `tokens`, and with which key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Proof {
    #[serde(with = "hex")]
    token: Digest,
    #[serde(with = "hex")]
    entry: Digest,
    #[serde(with = "hex")]
    key: Digest,
    #[serde(with = "hex")]
    set: Digest,
    kid: Option<String>,
    algorithm: Algorithm,
}

impl Proof {
    /// The proof for `verified`, whose text is `token`.
    pub fn of(verified: &Verified, token: &str) -> Self {
        let Origin {
            entry,
            key,
            set,
            kid,
            algorithm,
        } = &verified.origin;
        Self {
            token: digest::of(token.as_bytes()),
            entry: *entry,
            key: *key,
            set: *set,
            kid: kid.clone(),
            algorithm: *algorithm,
        }
    }

    fn origin(&self) -> Origin {
        Origin {
            entry: self.entry,
            key: self.key,
            set: self.set,
            kid: self.kid.clone(),
            algorithm: self.algorithm,
        }
    }
}

impl Tokens {
    /// The user of a token that was verified before, perhaps by another replica, if the entry and
    /// the key are in force here and the claims are valid at `now`. `None` says nothing about the
    /// token; it must be verified.
    pub fn recall(&self, token: &str, proof: &Proof, now: i64) -> Option<Arc<Verified>> {
        let digest = digest::of(token.as_bytes());
        if digest != proof.token {
            return None;
        }
        let jws = Jws::parse(token).ok()?;
        let is_known =
            matches!(jws.algorithm, Named::Known(algorithm) if algorithm == proof.algorithm);
        if !is_known || jws.kid != proof.kid {
            return None;
        }
        let verified = self
            .issuers
            .iter()
            .find_map(|issuer| issuer.recall(&jws, proof.origin(), now))?;
        let verified = Arc::new(verified);
        self.cache.insert(digest, &verified);
        Some(verified)
    }
}
