//! Parsing of a token: JWS compact serialization (RFC 7515, section 7.1) and nothing that resembles
//! it. It refuses with `token_too_large`, `token_malformed` or `token_critical`. Nothing here is
//! verified yet, so it may only lead to a refusal, or name the key to try.
//!
//! A token has one spelling: base64url is canonical (no padding, no second alphabet, no white
//! space, unused bits zero), so nobody can make a second spelling that a cache or list would take
//! for another token.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::denial::{Denial, Reason};
use crate::json;
use crate::secrets::digest::{self, Digest};

/// The longest token that is parsed, and the largest `connections.max_token`. A choice.
pub(super) const MAX_LENGTH: usize = 64 * 1024;

/// The longest token that is accepted, unless the configuration says otherwise. Real ones have
/// about 1 KiB; the number is arbitrary.
pub(super) const DEFAULT_LENGTH: usize = 8 * 1024;

/// A well-formed token. Its signature has not been checked.
pub(super) struct Jws<'t> {
    /// The value of `alg`.
    pub(super) algorithm: Named,
    /// The value of `kid`.
    pub(super) kid: Option<String>,
    /// The decoded payload, not verified yet.
    pub(super) payload: Vec<u8>,
    /// Header and payload as they were sent: the signed text.
    pub(super) signed: &'t str,
    /// The signature, in canonical base64url.
    pub(super) signature: &'t str,
}

/// The value of `alg`.
pub(super) enum Named {
    /// An implemented algorithm. Whether it may be used is decided by the issuer entry and the key.
    Known(Algorithm),
    /// Anything else, `none` included; shortened to what a log line may hold.
    Unknown(String),
}

impl<'t> Jws<'t> {
    /// The digest of the signed text, by which a token is revoked (`revocation::token_digest`).
    pub(super) fn digest(&self) -> Digest {
        digest::of(self.signed.as_bytes())
    }

    /// Parses `token`.
    pub(super) fn parse(token: &'t str) -> Result<Self, Denial> {
        if token.len() > MAX_LENGTH {
            return Err(Reason::TokenTooLarge.into());
        }
        // A JWE has five parts (RFC 7516, section 7.1), a JWS in JSON serialization has none.
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("it does not have three parts"));
        };
        let signed_length = header.len() + 1 + payload.len();
        let header = decode(header)?;
        let payload = decode(payload)?;
        decode(signature)?;

        let header =
            json::object(&header).ok_or_else(|| malformed("the header is not one object"))?;
        check_header(&header)?;
        Ok(Self {
            algorithm: Named::read(&header)?,
            kid: text_member(&header, "kid")?.map(str::to_owned),
            payload,
            signed: token.get(..signed_length).unwrap_or_default(),
            signature,
        })
    }

    /// The payload as a claims set (RFC 7519, section 7.2, step 10).
    pub(super) fn claims(&self) -> Result<Map<String, Value>, Denial> {
        json::object(&self.payload).ok_or_else(|| malformed("the payload is not one object"))
    }
}

impl Named {
    fn read(header: &Map<String, Value>) -> Result<Self, Denial> {
        let name = text_member(header, "alg")?.ok_or_else(|| malformed("`alg` is missing"))?;
        Ok(Algorithm::from_str(name).map_or_else(|_| Self::Unknown(printable(name)), Self::Known))
    }
}

/// Refuses header members that would change how the token is to be read. `jwk`, `jku`, `x5c` and
/// `x5u` are ignored instead: they only offer a key, and no key is ever taken from a token.
fn check_header(header: &Map<String, Value>) -> Result<(), Denial> {
    // `jsonwebtoken` ignores `crit`. Its author demands that the listed extensions be understood.
    if header.contains_key("crit") {
        return Err(Reason::TokenCritical.into());
    }
    // `b64` (RFC 7797) changes what is signed and `zip` (RFC 7516) what is read. `b64` may not even
    // come without `crit`.
    if header.contains_key("b64") || header.contains_key("zip") {
        return Err(malformed("the header has `b64` or `zip`"));
    }
    match text_member(header, "typ")? {
        Some(kind) if !is_access_token(kind) => Err(malformed("`typ` names another kind of token")),
        Some(_) | None => Ok(()),
    }
}

/// Whether `typ` (RFC 7519, section 5.1; RFC 9068, section 2.1) may be that of an access token. A
/// media type ignores case, and `application/` may be omitted (RFC 7515, section 4.1.9).
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    matches!(kind, "jwt" | "at+jwt")
}

fn decode(part: &str) -> Result<Vec<u8>, Denial> {
    if part.is_empty() {
        return Err(malformed("a part is empty"));
    }
    // This engine refuses padding, white space, the other alphabet and trailing bits.
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| malformed("a part is not canonical base64url"))
}

fn text_member<'h>(
    header: &'h Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'h str>, Denial> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(malformed("a header member is not a string")),
    }
}

/// At most 16 letters, digits and `-` of `name`: enough to recognise a real algorithm, too little
/// to forge a log line.
fn printable(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(16)
        .collect()
}

fn malformed(why: &'static str) -> Denial {
    Reason::TokenMalformed.because(why)
}
