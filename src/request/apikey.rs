//! The API key that Supabase's clients send beside the token, in header fields or in the query.
//! Refuses with 400 `apikey_repeated` a request in which servers could find different keys. Whether
//! a key is required is up to `auth::identity` and `sign_in::passthrough`.
//!
//! A key that passes equals one of the configured keys byte for byte and occurs in exactly one
//! place, so the upstream gets that key and no other.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::query::decoded;
use crate::denial::{Denial, Reason};
use crate::policy::in_force::InForce;
use crate::tokens::is_public_api_key;

/// The name of the header field and of the query key that Supabase's edge reads, and the REST API
/// of Realtime.
const APIKEY: HeaderName = HeaderName::from_static("apikey");

/// The field that the sockets of Realtime read first; they take a user's token there, too.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The field that functions read. Only an edge sets it, so a client's is never forwarded
/// (`request::headers`).
const SB_API_KEY: HeaderName = HeaderName::from_static("sb-api-key");

/// Whether a field of this name carries a key.
pub(super) fn is_key_field(name: &str) -> bool {
    matches!(name, "apikey" | "x-api-key" | "sb-api-key")
}

/// The keys in the header fields of a request.
#[derive(Clone, Default)]
pub struct KeyFields {
    forwarded: Vec<HeaderValue>,
    removed: Vec<HeaderValue>,
}

impl KeyFields {
    /// The fields that are removed before a request is forwarded. To be called before that.
    pub(super) fn removed_of(headers: &HeaderMap) -> Self {
        Self {
            forwarded: Vec::new(),
            removed: headers.get_all(SB_API_KEY).iter().cloned().collect(),
        }
    }

    /// Adds the fields that are forwarded.
    pub(super) fn add_forwarded(&mut self, headers: &HeaderMap) {
        for name in [APIKEY, X_API_KEY] {
            self.forwarded.extend(headers.get_all(name).iter().cloned());
        }
    }

    fn all(&self) -> impl Iterator<Item = &HeaderValue> {
        self.forwarded.iter().chain(&self.removed)
    }
}

impl std::fmt::Debug for KeyFields {
    /// A misplaced value may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyFields(…)")
    }
}

/// Every key of a request that some server could find, in fields and in the query, decoded.
pub fn every<'a>(
    fields: Option<&'a KeyFields>,
    query: &'a str,
) -> impl Iterator<Item = std::borrow::Cow<'a, str>> {
    let fields = fields.into_iter().flat_map(KeyFields::all);
    let fields = fields.filter_map(|value| value.to_str().ok().map(Into::into));
    fields.chain(in_query(query))
}

/// The keys that the most lenient server could find in a query, decoded.
fn in_query(query: &str) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    // Every spelling of the name has a `k` or an escape; most queries have neither.
    let may_name = |byte: u8| matches!(byte, b'k' | b'K' | b'%');
    let query = match query.bytes().any(may_name) {
        true => query,
        false => "",
    };
    query
        .split(['&', ';'])
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| is_apikey(name))
        .map(|(_, value)| decoded(value))
}

/// Whether some server reads this query key as the name: in any case, or as an item of a list.
fn is_apikey(name: &str) -> bool {
    let name = decoded(name);
    let name = name.split('[').next().unwrap_or_default();
    name.trim().eq_ignore_ascii_case(APIKEY.as_str())
}

/// The key of a request, if there is one that is forwarded.
///
/// # Errors
///
/// There are several keys, or one in a spelling that not every server would find.
pub fn find<'a>(
    fields: Option<&'a KeyFields>,
    query: Option<&'a str>,
) -> Result<Option<&'a str>, Denial> {
    let ambiguous = |why: &'static str| Reason::ApikeyRepeated.because(why);
    let mut found = None;
    for value in fields.into_iter().flat_map(|fields| &fields.forwarded) {
        let key = value.to_str().map_err(|_| ambiguous("not text"))?;
        if found.replace(key).is_some() {
            return Err(ambiguous("two fields"));
        }
    }
    for pair in query.unwrap_or_default().split('&') {
        let is_one = |piece: &str| is_apikey(piece.split('=').next().unwrap_or_default());
        if !pair.split(';').any(is_one) {
            continue;
        }
        let key = pair
            .strip_prefix("apikey=")
            .filter(|key| !key.contains([';', '%', '+']))
            .ok_or_else(|| ambiguous("another spelling in the query"))?;
        if found.replace(key).is_some() {
            return Err(ambiguous("another in the query"));
        }
    }
    Ok(found)
}

/// Finds the key of a request, and requires that every key in it is one that its clients may have.
///
/// # Errors
///
/// Those of [`find`] and of [`require_listed`].
pub fn judged<'a>(
    in_force: &InForce,
    fields: Option<&'a KeyFields>,
    query: Option<&'a str>,
) -> Result<Option<&'a str>, Denial> {
    let found = find(fields, query)?;
    let removed = fields.into_iter().flat_map(|fields| &fields.removed);
    for key in removed.map(HeaderValue::as_bytes) {
        require_listed(in_force, key)?;
    }
    if let Some(key) = found {
        require_listed(in_force, key)?;
    }
    Ok(found)
}

/// Requires that a key is one of the configured publishable keys; or without an identity server,
/// that anybody may have it.
///
/// # Errors
///
/// 401 `apikey_unknown` for any other key.
pub fn require_listed(in_force: &InForce, key: impl AsRef<[u8]>) -> Result<(), Denial> {
    let key = key.as_ref();
    let is_known = match in_force.config().identity {
        Some(_) => is_listed(in_force, key),
        None => std::str::from_utf8(key).is_ok_and(is_public_api_key),
    };
    match is_known {
        true => Ok(()),
        false => Err(Reason::ApikeyUnknown.into()),
    }
}

/// Whether a key is one of the configured publishable keys, none of which is a service key.
pub fn is_listed(in_force: &InForce, key: impl AsRef<[u8]>) -> bool {
    let identity = in_force.config().identity.as_ref();
    let mut listed = identity
        .into_iter()
        .flat_map(|supabase| &supabase.publishable_keys);
    listed.any(|listed| listed.expose() == key.as_ref())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_key_in_the_query_is_found_in_every_spelling() {
        for query in [
            "apikey=a",
            "APIKEY=a",
            "apiKey=a&b=c",
            "b=c;apikey=a",
            "%61pi%6bey=a",
            "api%4bey=%61",
            "+apikey+=a",
        ] {
            assert_eq!(in_query(query).collect::<Vec<_>>(), ["a"], "{query}");
        }
        for query in ["", "apiey=a", "key=apikey", "select=id", "apikey"] {
            assert_eq!(in_query(query).count(), 0, "{query}");
        }
    }

    fn fields(fields: &[(HeaderName, &'static str)]) -> KeyFields {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut keys = KeyFields::removed_of(&headers);
        keys.add_forwarded(&headers);
        keys
    }

    #[test]
    fn a_request_has_at_most_one_key_which_every_server_finds() {
        let none = fields(&[]);
        let one = fields(&[(APIKEY, "a")]);
        let other = fields(&[(X_API_KEY, "b")]);
        let removed = fields(&[(SB_API_KEY, "c")]);
        let find = |fields, query| find(Some(fields), query).map_err(|denial| denial.reason);
        assert_eq!(find(&none, None), Ok(None));
        assert_eq!(find(&one, Some("a=1")), Ok(Some("a")));
        assert_eq!(find(&other, None), Ok(Some("b")));
        assert_eq!(find(&removed, None), Ok(None));
        assert_eq!(find(&none, Some("vsn=1&apikey=k.-_9")), Ok(Some("k.-_9")));
        for name in [APIKEY, X_API_KEY] {
            let two = fields(&[(APIKEY, "a"), (name, "a")]);
            assert!(super::find(Some(&two), None).is_err());
        }
        assert!(find(&one, Some("apikey=a")).is_err());
        assert!(find(&other, Some("apikey=a")).is_err());
        for query in [
            "apikey=a&apikey=a",
            "APIKEY=a",
            "%61pikey=a",
            "apikey",
            "apikey[]=a",
            "apikey%5B0%5D=a",
            "apikey=%61",
            "apikey=a;b=c",
            "b=c;apikey=a",
            "apikey+=a",
        ] {
            assert!(find(&none, Some(query)).is_err(), "{query}");
        }
        let keys = fields(&[(APIKEY, "a"), (X_API_KEY, "b"), (SB_API_KEY, "c")]);
        let every: Vec<_> = every(Some(&keys), "apikey[]=d").collect();
        assert_eq!(every, ["a", "b", "c", "d"]);
    }
}
