//! Signing tokens, for `foregate token`, the demo, tests and benchmarks. A gateway in production
//! only verifies.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, crypto, encode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A signing key with its algorithm and `kid`.
#[derive(Clone, Debug)]
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Signer {
    /// Signs with a shared secret: `HS256`, `HS384` or `HS512`.
    pub fn secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, String> {
        Self::new(EncodingKey::from_secret(secret), algorithm)
    }

    /// Signs with a private key in PEM: PKCS#8, or PKCS#1 for RSA. Takes the first of `algorithms`
    /// that the key can sign with; if there are none, the usual one of the key: `RS256`, `ES256`,
    /// `ES384` or `EdDSA`.
    pub fn pem(pem: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let key = EncodingKey::from_rsa_pem(pem)
            .or_else(|_| EncodingKey::from_ec_pem(pem))
            .or_else(|_| EncodingKey::from_ed_pem(pem))
            .map_err(|_| "not a private key in PEM (PKCS#8, or PKCS#1 for RSA)".to_owned())?;
        let family = key.family();
        let candidates = match algorithms {
            [] => family.algorithms(),
            wanted => wanted,
        };
        // Only an attempt to sign shows the curve of an EC key.
        candidates
            .iter()
            .find_map(|algorithm| Self::new(key.clone(), *algorithm).ok())
            .ok_or_else(|| "the key cannot sign with any of the algorithms".to_owned())
    }

    /// A new key, which is not stored. RSA keys have 2048 bits.
    pub fn generate(algorithm: Algorithm) -> Result<Self, String> {
        let key = match algorithm.family() {
            AlgorithmFamily::Hmac => {
                let mut secret = [0; 64];
                aws_lc_rs::rand::fill(&mut secret).map_err(cannot_generate)?;
                EncodingKey::from_secret(&secret)
            }
            AlgorithmFamily::Rsa => {
                let pair = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(cannot_generate)?;
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(cannot_generate)?;
                // The library wants PKCS#1 for RSA, and accepts PKCS#8 only as PEM.
                let pem = format!(
                    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                    STANDARD.encode(der.as_ref())
                );
                EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(cannot_generate)?
            }
            AlgorithmFamily::Ec => {
                let curve = if algorithm == Algorithm::ES384 {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                } else {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                };
                let pair = EcdsaKeyPair::generate(curve).map_err(cannot_generate)?;
                EncodingKey::from_ec_der(pair.to_pkcs8v1().map_err(cannot_generate)?.as_ref())
            }
            AlgorithmFamily::Ed => {
                let pair = Ed25519KeyPair::generate().map_err(cannot_generate)?;
                EncodingKey::from_ed_der(pair.to_pkcs8v1().map_err(cannot_generate)?.as_ref())
            }
        };
        Self::new(key, algorithm)
    }

    fn new(key: EncodingKey, algorithm: Algorithm) -> Result<Self, String> {
        // A trial: a key of another family or curve cannot sign, and that should fail now.
        crypto::sign(b"", &key, algorithm)
            .map_err(|_| format!("the key cannot sign with {algorithm:?}"))?;
        Ok(Self {
            key,
            algorithm,
            kid: None,
        })
    }

    /// Sets the `kid`.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs `claims`.
    pub fn sign(&self, claims: &Claims) -> Result<String, String> {
        let header = Header {
            kid: self.kid.clone(),
            ..Header::new(self.algorithm)
        };
        encode(&header, &claims.0, &self.key).map_err(|error| error.to_string())
    }

    /// Signs any text as `header.payload`, well-formed or not, for tests of refusals.
    #[doc(hidden)]
    pub fn sign_raw(&self, header: &str, payload: &str) -> Result<String, String> {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        self.sign_text(&signed)
    }

    /// Appends a signature to a text.
    #[doc(hidden)]
    pub fn sign_text(&self, signed: &str) -> Result<String, String> {
        let signature = crypto::sign(signed.as_bytes(), &self.key, self.algorithm)
            .map_err(|error| error.to_string())?;
        Ok(format!("{signed}.{signature}"))
    }

    /// The public key as one JWK, with `alg`, `use` and `kid`. A secret has none.
    pub fn public_jwk(&self) -> Result<Value, String> {
        if self.algorithm.family() == AlgorithmFamily::Hmac {
            return Err("a secret has no public half".to_owned());
        }
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm)
            .and_then(|jwk| serde_json::to_value(jwk).map_err(Into::into));
        let mut jwk = jwk.map_err(|error| error.to_string())?;
        if let Some(members) = jwk.as_object_mut() {
            members.insert("use".to_owned(), json!("sig"));
            if let Some(kid) = &self.kid {
                members.insert("kid".to_owned(), json!(kid));
            }
        }
        Ok(jwk)
    }

    /// The public key as a JWK set.
    pub fn public_jwks(&self) -> Result<String, String> {
        Ok(json!({ "keys": [self.public_jwk()?] }).to_string())
    }
}

fn cannot_generate(_: impl std::fmt::Debug) -> String {
    "the key could not be generated".to_owned()
}

/// The claims of an access token, in the shape that Supabase Auth gives them.
#[derive(Clone, Debug)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// A signed-in user: audience and role `authenticated`, level `aal1`, a fresh session, valid
    /// for an hour from `now` (Unix seconds).
    pub fn new(issuer: &str, subject: &str, now: i64) -> Self {
        let mut claims = Self(Map::new())
            .with("iss", issuer)
            .with("sub", subject)
            .with("aud", "authenticated")
            .with("iat", now)
            .with("role", "authenticated")
            .with("aal", "aal1")
            .with("session_id", Uuid::now_v7().to_string())
            .with("is_anonymous", false);
        claims = claims.lasting(Duration::from_secs(3600));
        claims.with("app_metadata", json!({ "provider": "email" }))
    }

    /// Valid for this long from `iat`.
    #[must_use]
    pub fn lasting(self, lifetime: Duration) -> Self {
        let issued = self
            .0
            .get("iat")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        self.expiring(issued.saturating_add(seconds))
    }

    /// Valid until this instant, in Unix seconds.
    #[must_use]
    pub fn expiring(self, at: i64) -> Self {
        self.with("exp", at)
    }

    /// For another audience.
    #[must_use]
    pub fn audience(self, audience: &str) -> Self {
        self.with("aud", audience)
    }

    /// In this session.
    #[must_use]
    pub fn session(self, id: &str) -> Self {
        self.with("session_id", id)
    }

    /// With another database role.
    #[must_use]
    pub fn role(self, role: &str) -> Self {
        self.with("role", role)
    }

    /// With a second factor (2) or without (1).
    #[must_use]
    pub fn aal(self, level: u8) -> Self {
        self.with("aal", format!("aal{level}"))
    }

    /// An anonymous user.
    #[must_use]
    pub fn anonymous(self) -> Self {
        self.with("is_anonymous", true)
    }

    /// With roles of the gateway, in `app_metadata.roles`.
    #[must_use]
    pub fn roles<S: AsRef<str>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        let roles: Value = roles
            .into_iter()
            .map(|role| role.as_ref().to_owned())
            .collect();
        let metadata = self.0.entry("app_metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("roles".to_owned(), roles);
        }
        self
    }

    /// With an e-mail address.
    #[must_use]
    pub fn email(self, address: &str) -> Self {
        self.with("email", address)
    }

    /// With any other claim, or another value of one.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Without a claim.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// The claims as the object that is signed.
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }
}
