//! One verification key, and the algorithms that it may be used with.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};

use crate::denial::{Denial, Reason};
use crate::secrets::digest::{self, Digest};
use crate::tokens::jws::Jws;

/// One key that checks signatures.
pub(super) struct Key {
    /// Digest of the material, `kid` and binding: keys with equal ids accept the same tokens. Not
    /// the thumbprint of RFC 7638, which is the same for a key that is published again for another
    /// algorithm.
    pub(super) id: Digest,
    /// Digest of the material alone.
    pub(super) material: Digest,
    pub(super) kid: Option<String>,
    pub(super) bound: Bound,
    pub(super) decoding: DecodingKey,
}

/// The algorithms that a key may be used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// This algorithm only.
    Only(Algorithm),
    /// Any of the family that the issuer entry lists: an RSA key published without `alg`, or a
    /// secret.
    Family(AlgorithmFamily),
}

impl Bound {
    pub(super) fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Only(only) => only == algorithm,
            Self::Family(family) => family == algorithm.family(),
        }
    }

    /// Whether there is an algorithm that fits both.
    pub(super) fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Only(one), other) => other.fits(one),
            (one, Self::Only(other)) => one.fits(other),
            (Self::Family(one), Self::Family(other)) => one == other,
        }
    }
}

impl Key {
    /// A key, with the material that identifies it.
    pub(super) fn new(
        kid: Option<&str>,
        bound: Bound,
        decoding: DecodingKey,
        material: &[&[u8]],
    ) -> Self {
        let binding = format!("{bound:?}");
        let name = [
            binding.as_bytes(),
            kid.map_or(b"-", |_| b"+"),
            kid.unwrap_or("").as_bytes(),
        ];
        let id = digest::of_parts(name.into_iter().chain(material.iter().copied()));
        Self {
            id,
            material: digest::of_parts(material.iter().copied()),
            kid: kid.map(str::to_owned),
            bound,
            decoding,
        }
    }

    /// An HMAC key for `algorithms`. It must be at least as long as the longest hash (RFC 7518,
    /// section 3.2).
    pub(super) fn secret(
        kid: Option<&str>,
        secret: &[u8],
        algorithms: &[Algorithm],
    ) -> Result<Self, String> {
        let mut least = 0;
        for algorithm in algorithms {
            let length = hash_length(*algorithm)
                .ok_or_else(|| format!("{algorithm:?} does not sign with a secret"))?;
            least = least.max(length);
        }
        if secret.len() < least {
            return Err(format!("the secret is shorter than {least} bytes"));
        }
        let bound = match algorithms {
            [only] => Bound::Only(*only),
            [] | [_, ..] => Bound::Family(AlgorithmFamily::Hmac),
        };
        Ok(Self::new(
            kid,
            bound,
            DecodingKey::from_secret(secret),
            &[secret],
        ))
    }

    /// Identifies key, `kid` and binding together.
    pub(super) fn id(&self) -> &Digest {
        &self.id
    }

    /// Checks the signature with the algorithm that the token names, if the key is bound to it.
    pub(super) fn check(&self, jws: &Jws<'_>, algorithm: Algorithm) -> Result<(), Denial> {
        if !self.bound.fits(algorithm) {
            return Err(Reason::TokenAlgorithm.because(format!("no key for {algorithm:?}")));
        }
        match crypto::verify(
            jws.signature,
            jws.signed.as_bytes(),
            &self.decoding,
            algorithm,
        ) {
            Ok(true) => Ok(()),
            // An error is a malformed signature, or a key that the library cannot use: no proof
            // either way.
            Ok(false) | Err(_) => Err(Reason::TokenSignature.into()),
        }
    }
}

fn hash_length(algorithm: Algorithm) -> Option<usize> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "Algorithm is non-exhaustive"
    )]
    match algorithm {
        Algorithm::HS256 => Some(32),
        Algorithm::HS384 => Some(48),
        Algorithm::HS512 => Some(64),
        _ => None,
    }
}
