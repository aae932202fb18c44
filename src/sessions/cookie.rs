//! The session cookie: its value, its attributes, and the CSRF token that belongs to it.
//!
//! A value is 32 random bytes and 16 bytes of an HMAC over them, in base64url. The random part
//! alone is unguessable (256 bits). The HMAC rejects forged cookies without a lookup in the store.
//! The random part is stored nowhere: a session is named by its SHA-256. The CSRF token is another
//! HMAC over the random part, with a key of its own, so that neither reveals the other.

use aws_lc_rs::{constant_time, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::HeaderValue;

use super::record::SessionName;
use crate::policy;
use crate::policy::sessions::{SameSite, is_secure_name};
use crate::secrets::derive::Derivation;
use crate::secrets::{MasterKey, digest};
use crate::store::Unreachable;

/// Bytes of the random part and of the HMAC behind it.
const RANDOM: usize = 32;
const TAG: usize = 16;

/// Characters of a value.
const LENGTH: usize = (RANDOM + TAG) / 3 * 4;

/// The derived keys of cookies and CSRF tokens.
pub struct CookieKeys {
    /// At least one. The first issues cookies; all of them verify.
    keys: Vec<CookieKey>,
}

struct CookieKey {
    tag: hmac::Key,
    csrf: hmac::Key,
}

/// A cookie that some replica issued. Its session may have ended.
pub struct Cookie {
    random: [u8; RANDOM],
    /// The index of the key that issued it.
    key: usize,
}

impl Cookie {
    /// The name of its session on all replicas.
    pub fn name(&self) -> SessionName {
        digest::of(&self.random)
    }
}

impl CookieKeys {
    /// Derives the keys. Without configured keys it makes one up, and sessions end with this
    /// process.
    ///
    /// # Errors
    ///
    /// The cryptographic library has no randomness, or refuses a key.
    pub fn new(keys: &[MasterKey]) -> anyhow::Result<Self> {
        let mut derivations: Vec<Derivation> = keys.iter().map(Derivation::of).collect();
        if derivations.is_empty() {
            let mut secret = [0; 32];
            rand::fill(&mut secret)?;
            derivations.push(Derivation::of_secret(&secret));
        }
        let key = |from: &Derivation, purpose: &str| {
            let bytes = from.expand::<32>(purpose)?;
            anyhow::Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        let both = |from: &Derivation| {
            anyhow::Ok(CookieKey {
                tag: key(from, "cookies of sessions")?,
                csrf: key(from, "CSRF tokens of sessions")?,
            })
        };
        Ok(Self {
            keys: derivations
                .iter()
                .map(both)
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// A new cookie, and its value.
    ///
    /// # Errors
    ///
    /// The cryptographic library has no randomness.
    pub fn make(&self) -> Result<(Cookie, String), Unreachable> {
        let mut random = [0; RANDOM];
        rand::fill(&mut random).map_err(|_| Unreachable::Answer)?;
        let key = self.keys.first().ok_or(Unreachable::UnknownKey)?;
        let value = URL_SAFE_NO_PAD.encode([&random[..], &key.tag_of(&random)].concat());
        Ok((Cookie { random, key: 0 }, value))
    }

    /// Verifies a cookie value; `None` if no replica issued it.
    pub fn read(&self, value: &str) -> Option<Cookie> {
        if value.len() != LENGTH {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (random, tag) = bytes.split_first_chunk()?;
        let made =
            |key: &CookieKey| constant_time::verify_slices_are_equal(&key.tag_of(random), tag);
        let key = self.keys.iter().position(|key| made(key).is_ok())?;
        Some(Cookie {
            random: *random,
            key,
        })
    }

    /// The value of `X-CSRF-Token` that a page must send with every request that changes state.
    pub fn csrf_token(&self, cookie: &Cookie) -> String {
        let tag = self
            .keys
            .get(cookie.key)
            .map(|key| hmac::sign(&key.csrf, &cookie.random));
        URL_SAFE_NO_PAD.encode(tag.as_ref().map_or(&[][..], AsRef::as_ref))
    }
}

impl CookieKey {
    fn tag_of(&self, random: &[u8; RANDOM]) -> [u8; TAG] {
        let whole = hmac::sign(&self.tag, random);
        let mut tag = [0; TAG];
        for (to, from) in tag.iter_mut().zip(whole.as_ref()) {
            *to = *from;
        }
        tag
    }
}

/// `Set-Cookie` for a new session. The browser drops the cookie when the session has ended at the
/// latest.
pub fn set(settings: &policy::sessions::Sessions, value: &str) -> HeaderValue {
    write(settings, value, settings.lifetime.as_secs())
}

/// `Set-Cookie` that deletes the cookie.
pub fn clear(settings: &policy::sessions::Sessions) -> HeaderValue {
    write(settings, "", 0)
}

fn write(settings: &policy::sessions::Sessions, value: &str, max_age: u64) -> HeaderValue {
    let same_site = match settings.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    };
    let secure = match is_secure_name(&settings.cookie) {
        true => "; Secure",
        false => "",
    };
    let text = format!(
        "{}={value}; Path=/; Max-Age={max_age}{secure}; HttpOnly; SameSite={same_site}",
        settings.cookie
    );
    // Every part was checked to be ASCII without control characters.
    let mut header = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

impl std::fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CookieKeys")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::secret::Secret;

    fn key(id: &str, secret: &str) -> MasterKey {
        MasterKey {
            id: id.to_owned(),
            secret: Secret::new(secret),
        }
    }

    #[test]
    fn only_configured_keys_verify_cookies() {
        let (old, new) = (key("k1", "one"), key("k2", "two"));
        let before = CookieKeys::new(std::slice::from_ref(&old)).expect("keys");
        let between = CookieKeys::new(&[new.clone(), old]).expect("keys");
        let after = CookieKeys::new(&[new]).expect("keys");
        let (cookie, value) = before.make().expect("randomness");
        assert_eq!(value.len(), LENGTH);
        let read = between.read(&value).expect("a cookie");
        assert_eq!(read.name(), cookie.name());
        assert_eq!(between.csrf_token(&read), before.csrf_token(&cookie));
        assert!(after.read(&value).is_none());
        for position in 0..value.len() {
            let change = |(place, letter): (usize, char)| match (place == position, letter) {
                (true, 'A') => 'B',
                (true, _) => 'A',
                (false, letter) => letter,
            };
            let other: String = value.chars().enumerate().map(change).collect();
            assert!(before.read(&other).is_none(), "{position}");
        }
        for bad in [
            "",
            &value[1..],
            &format!("{value}A"),
            &format!("{value}="),
            &"é".repeat(LENGTH / 2),
        ] {
            assert!(before.read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn without_configured_keys_only_this_process_verifies_its_cookies() {
        let (one, other) = (
            CookieKeys::new(&[]).expect("keys"),
            CookieKeys::new(&[]).expect("keys"),
        );
        let (_, value) = one.make().expect("randomness");
        assert!(one.read(&value).is_some() && other.read(&value).is_none());
    }

    #[test]
    fn cookies_and_csrf_tokens_are_unique() {
        let keys = CookieKeys::new(&[]).expect("keys");
        let made: Vec<_> = (0..100).map(|_| keys.make().expect("randomness")).collect();
        let mut all: Vec<String> = made
            .iter()
            .flat_map(|(cookie, value)| [value.clone(), keys.csrf_token(cookie)])
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
    }
}
