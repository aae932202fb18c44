//! One JSON Web Key (RFC 7517): whether it may check signatures, and with which algorithm. The
//! document comes from the issuer, but not everything in it need be a signing key, or a good one.
//!
//! `jsonwebtoken` would accept an encryption key as a signing key, and a published `oct` key as an
//! HMAC secret.

use std::str::FromStr;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};

use super::key::{Bound, Key};
use super::roca;

/// Members that only a private or symmetric key has (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Parses one public signing key. The error says why it is not one, and reveals nothing of the key.
pub(super) fn public_key(jwk: &Map<String, Value>) -> Result<Key, String> {
    let kind = text(jwk, "kty")?.ok_or("`kty` is missing")?;
    if kind == "oct" {
        return Err("a symmetric key does not belong into a published set".to_owned());
    }
    if PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
        return Err("it has a private member: the key is no secret any more".to_owned());
    }
    check_purpose(jwk)?;
    let kid = text(jwk, "kid")?;
    let alg = text(jwk, "alg")?;
    match kind {
        "EC" => curve_key(jwk, kid, alg),
        "OKP" => edwards_key(jwk, kid, alg),
        "RSA" => rsa_key(jwk, kid, alg),
        _ => Err("`kty` is not EC, OKP or RSA".to_owned()),
    }
}

/// Parses an HMAC key. Only for test vectors: a gateway's secret is never in a set.
pub(super) fn symmetric_key(jwk: &Map<String, Value>) -> Result<Key, String> {
    check_purpose(jwk)?;
    let k = text(jwk, "k")?.ok_or("`k` is missing")?;
    // Vectors have keys whose last character has bits that belong to no byte.
    let lenient = NO_PAD.with_decode_allow_trailing_bits(true);
    let secret = GeneralPurpose::new(&URL_SAFE, lenient)
        .decode(k)
        .map_err(|_| "`k` is not base64url")?;
    let algorithm = Algorithm::from_str(text(jwk, "alg")?.ok_or("`alg` is missing")?)
        .map_err(|_| "`alg` is not known")?;
    Key::secret(text(jwk, "kid")?, &secret, &[algorithm])
}

/// `use` and `key_ops` (RFC 7517, sections 4.2 and 4.3), where present, must allow checking
/// signatures.
fn check_purpose(jwk: &Map<String, Value>) -> Result<(), String> {
    if text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err("`use` is not `sig`".to_owned());
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|one| one == "verify") => Ok(()),
        Some(_) => Err("`key_ops` has no `verify`".to_owned()),
    }
}

fn curve_key(
    jwk: &Map<String, Value>,
    kid: Option<&str>,
    alg: Option<&str>,
) -> Result<Key, String> {
    let (algorithm, size, check): (_, _, &'static dyn VerificationAlgorithm) =
        match text(jwk, "crv")? {
            Some("P-256") => (Algorithm::ES256, 32, &ECDSA_P256_SHA256_FIXED),
            Some("P-384") => (Algorithm::ES384, 48, &ECDSA_P384_SHA384_FIXED),
            Some(_) | None => return Err("`crv` is not P-256 or P-384".to_owned()),
        };
    let bound = bind(alg, algorithm)?;
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != size || y.len() != size {
        return Err("a coordinate does not have the length of `crv`".to_owned());
    }
    // SEC 1, section 2.3.3: 4 marks an uncompressed point.
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    if ParsedPublicKey::new(check, &point).is_err() {
        return Err("it is not a point of `crv`".to_owned());
    }
    Ok(Key::new(
        kid,
        bound,
        DecodingKey::from_ec_der(&point),
        &[&point],
    ))
}

fn edwards_key(
    jwk: &Map<String, Value>,
    kid: Option<&str>,
    alg: Option<&str>,
) -> Result<Key, String> {
    if text(jwk, "crv")? != Some("Ed25519") {
        return Err("`crv` is not Ed25519".to_owned());
    }
    // RFC 9864 names this curve `Ed25519`; the older name is `EdDSA`.
    let alg = alg.filter(|name| *name != "Ed25519");
    let bound = bind(alg, Algorithm::EdDSA)?;
    let x = bytes(jwk, "x")?;
    if ParsedPublicKey::new(&ED25519, &x).is_err() {
        return Err("it is not an Ed25519 key".to_owned());
    }
    Ok(Key::new(kid, bound, DecodingKey::from_ed_der(&x), &[&x]))
}

fn rsa_key(jwk: &Map<String, Value>, kid: Option<&str>, alg: Option<&str>) -> Result<Key, String> {
    let bound = match alg {
        None => Bound::Family(AlgorithmFamily::Rsa),
        Some(name) => match Algorithm::from_str(name) {
            Ok(algorithm) if algorithm.family() == AlgorithmFamily::Rsa => Bound::Only(algorithm),
            Ok(_) | Err(_) => return Err("`alg` does not sign with RSA".to_owned()),
        },
    };
    let (modulus, exponent) = (number(jwk, "n")?, number(jwk, "e")?);
    check_modulus(&modulus)?;
    // Four bytes hold every exponent in use (65537), and aws-lc takes no more than 33 bits.
    let usable = exponent.len() <= 4 && exponent.last().is_some_and(|last| last % 2 == 1);
    if !usable || exponent == [1] {
        return Err("the exponent is 1, even or too large".to_owned());
    }
    let decoding = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    Ok(Key::new(kid, bound, decoding, &[&modulus, &exponent]))
}

fn check_modulus(modulus: &[u8]) -> Result<(), String> {
    let bits = modulus.first().map_or(0, |first| {
        modulus.len() * 8 - first.leading_zeros() as usize
    });
    if !(2048..=8192).contains(&bits) {
        return Err("the modulus does not have 2048 to 8192 bits".to_owned());
    }
    if modulus.last().is_none_or(|last| last % 2 == 0) {
        return Err("the modulus is even".to_owned());
    }
    if roca::is_weak(modulus) {
        return Err("the key was made by a broken generator (CVE-2017-15361)".to_owned());
    }
    Ok(())
}

/// For a key type with one algorithm: `alg` may be absent, but may not name another.
fn bind(alg: Option<&str>, only: Algorithm) -> Result<Bound, String> {
    match alg.map(Algorithm::from_str) {
        None => Ok(Bound::Only(only)),
        Some(Ok(named)) if named == only => Ok(Bound::Only(only)),
        Some(Ok(_) | Err(_)) => Err("`alg` does not fit the kind of key".to_owned()),
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<Option<&'j str>, String> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a string")),
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = text(jwk, name)?.ok_or_else(|| format!("`{name}` is missing"))?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| format!("`{name}` is not base64url"))
}

/// A Base64urlUInt without leading zeros. RFC 7518, section 2, forbids them, but issuers that
/// encode signed numbers add one.
fn number(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    Ok(bytes(jwk, name)?
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .collect())
}
