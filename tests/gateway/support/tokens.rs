//! The issuer of a test's tokens.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use foregate::tokens::mint::{Claims, Signer};
use jsonwebtoken::Algorithm;
use uuid::Uuid;

/// `iss` of every valid token.
pub const ISSUER: &str = "https://issuer.test/auth/v1";

/// An issuer with an ES256 key in a JWK set, and an HS256 secret, like a Supabase project that
/// migrates from one to the other.
#[derive(Clone, Debug)]
pub struct Issuer {
    current: Signer,
    legacy: Signer,
    secret: String,
}

impl Issuer {
    /// Fresh keys.
    pub fn new() -> Self {
        let secret = format!("{}{}", Uuid::now_v7(), Uuid::now_v7());
        Self {
            current: Signer::generate(Algorithm::ES256)
                .unwrap()
                .with_kid("current"),
            legacy: Signer::secret(secret.as_bytes(), Algorithm::HS256).unwrap(),
            secret,
        }
    }

    /// Writes `jwks.json` and `secret` into a folder.
    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("jwks.json"), self.public_jwks()).unwrap();
        std::fs::write(folder.join("secret"), &self.secret).unwrap();
    }

    /// The public key as a JWK set.
    pub fn public_jwks(&self) -> String {
        self.current.public_jwks().unwrap()
    }

    /// Claims of a fresh user, to be changed and signed.
    pub fn claims(&self) -> Claims {
        Claims::new(ISSUER, &Uuid::now_v7().to_string(), now())
    }

    /// Signs with the current key (ES256).
    pub fn sign(&self, claims: &Claims) -> String {
        self.current.sign(claims).unwrap()
    }

    /// Signs with the shared secret (HS256).
    pub fn sign_legacy(&self, claims: &Claims) -> String {
        self.legacy.sign(claims).unwrap()
    }

    /// A valid token of a fresh user.
    pub fn token(&self) -> String {
        self.sign(&self.claims())
    }

    /// A valid token of this user.
    pub fn token_of(&self, subject: &str) -> String {
        self.sign(&self.claims().with("sub", subject))
    }

    /// A token that expired an hour ago.
    pub fn expired(&self) -> String {
        self.sign(&self.claims().expiring(now() - 3600))
    }

    /// The key, for tokens that are invalid in special ways.
    pub fn signer(&self) -> &Signer {
        &self.current
    }

    /// The key that signs with the secret.
    pub fn legacy_signer(&self) -> &Signer {
        &self.legacy
    }
}

/// The subject of a user by this name, the same every time; at most 16 bytes count.
pub fn subject(name: &str) -> String {
    let mut bytes = [0; 16];
    for (byte, letter) in bytes.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    Uuid::from_bytes(bytes).to_string()
}

/// Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
