//! The API key that Supabase's clients send beside the token, in a header field or in the query.
//! Refuses with 400 `apikey_repeated` a request in which servers could find different keys. Whether
//! a key is required is up to `auth::identity` and `sign_in::passthrough`.
//!
//! A key that passes equals one of the configured keys byte for byte and occurs in exactly one
//! place, so the upstream gets that key and no other.

use hyper::header::{HeaderMap, HeaderName};

use super::query::decoded;
use crate::denial::{Denial, Reason};
use crate::policy::in_force::InForce;

/// The name of the header field and of the query key.
pub const APIKEY: HeaderName = HeaderName::from_static("apikey");

/// The keys that the most lenient server could find in a query, decoded.
pub fn in_query(query: &str) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
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

fn is_apikey(name: &str) -> bool {
    decoded(name).trim().eq_ignore_ascii_case(APIKEY.as_str())
}

/// The key of a request, if there is one.
///
/// # Errors
///
/// There are several keys, or one in a spelling that not every server would find.
pub fn find<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Result<Option<&'a str>, Denial> {
    let ambiguous = |why: &'static str| Reason::ApikeyRepeated.because(why);
    let mut found = None;
    for value in headers.get_all(APIKEY) {
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

/// Requires that a key is one of the configured publishable keys.
///
/// # Errors
///
/// 401 `apikey_unknown` for any other key.
pub fn require_listed(in_force: &InForce, key: impl AsRef<[u8]>) -> Result<(), Denial> {
    match is_listed(in_force, key) {
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

    #[test]
    fn a_request_has_at_most_one_key_which_every_server_finds() {
        let none = HeaderMap::new();
        let mut one = HeaderMap::new();
        one.append(APIKEY, HeaderValue::from_static("a"));
        let mut two = one.clone();
        two.append(APIKEY, HeaderValue::from_static("a"));
        let find = |headers, query| find(headers, query).map_err(|denial| denial.reason);
        assert_eq!(find(&none, None), Ok(None));
        assert_eq!(find(&one, Some("a=1")), Ok(Some("a")));
        assert_eq!(find(&none, Some("vsn=1&apikey=k.-_9")), Ok(Some("k.-_9")));
        assert!(find(&two, None).is_err());
        assert!(find(&one, Some("apikey=a")).is_err());
        for query in [
            "apikey=a&apikey=a",
            "APIKEY=a",
            "%61pikey=a",
            "apikey",
            "apikey=%61",
            "apikey=a;b=c",
            "b=c;apikey=a",
            "apikey+=a",
        ] {
            assert!(find(&none, Some(query)).is_err(), "{query}");
        }
    }
}
