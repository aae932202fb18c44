//! The query, which is forwarded unchanged except for keys that carry a credential. Refuses with
//! 400 `query_repeated` a credential key that occurs twice, or is spelled with escapes, in another
//! case, or behind a `;`, and with 400 `path_non_ascii` raw bytes outside ASCII.
//!
//! A key that any route reads as a credential is removed from every request, so that it reaches no
//! upstream and no upstream's log.

use std::borrow::Cow;

use crate::denial::{Denial, Reason};

/// A query, separated from its credentials.
pub struct Query<'a> {
    raw: Option<&'a str>,
    /// The rest of the query, if a credential was removed.
    rest: Option<String>,
    found: Vec<(&'a str, &'a str)>,
}

impl std::fmt::Debug for Query<'_> {
    /// Omits everything: values may be secrets, and a key may be a misplaced value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query(…)")
    }
}

impl<'a> Query<'a> {
    /// Parses a query; `names` are the keys that any route reads as a credential.
    ///
    /// # Errors
    ///
    /// The reasons that the header of this module lists.
    pub fn read(raw: Option<&'a str>, names: &[String]) -> Result<Self, Denial> {
        let mut query = Self {
            raw,
            rest: None,
            found: Vec::new(),
        };
        let Some(text) = raw else { return Ok(query) };
        if !text.is_ascii() {
            return Err(Reason::PathNonAscii.into());
        }
        if names.is_empty() {
            return Ok(query);
        }
        let mut rest = Vec::new();
        for pair in text.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(key);
            if !is_credential(&name, names) && !hides_credential(pair, names) {
                rest.push(pair);
            } else if !names.iter().any(|known| known == key)
                || query.found.iter().any(|(found, _)| *found == key)
            {
                return Err(Reason::QueryRepeated.because(format!("`{name}`")));
            } else {
                query.found.push((key, value));
            }
        }
        if !query.found.is_empty() {
            query.rest = Some(rest.join("&"));
        }
        Ok(query)
    }

    /// Whether the query is forwarded unchanged.
    pub fn is_unchanged(&self) -> bool {
        self.found.is_empty()
    }

    /// The query to forward, without credentials.
    pub fn forwarded(&self) -> Option<&str> {
        match &self.rest {
            Some(rest) => Some(rest.as_str()).filter(|rest| !rest.is_empty()),
            None => self.raw,
        }
    }

    /// The credentials with the keys that the route reads.
    pub fn into_credentials(self, reads: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        self.found
            .into_iter()
            .filter(|(key, _)| reads(key))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

fn is_credential(name: &str, names: &[String]) -> bool {
    names
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name.trim()))
}

/// Whether a credential is hidden behind a `;`. Some servers split there, and would find a
/// credential that was never verified.
fn hides_credential(pair: &str, names: &[String]) -> bool {
    pair.split(';').skip(1).any(|piece| {
        let key = piece.split('=').next().unwrap_or_default();
        is_credential(&decoded(key), names)
    })
}

/// A key or a value, decoded as a server would. A malformed escape is kept.
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = tail
            .get(if escaped.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_value() {
        let names = ["access_token".to_owned()];
        let query = Query::read(Some("email=alice&access_token=x.y.z"), &names).expect("one token");
        assert_eq!(format!("{query:?} {query:#?}"), "Query(…) Query(…)");
    }

    #[test]
    fn a_credential_key_is_removed_and_must_be_unique() {
        let names = ["access_token".to_owned()];
        let query = Query::read(Some("a=1&access_token=x.y.z&b=%2F"), &names).expect("one token");
        assert_eq!(query.forwarded(), Some("a=1&b=%2F"));
        assert_eq!(
            query.into_credentials(|_| true),
            [("access_token".to_owned(), "x.y.z".to_owned())]
        );
        assert_eq!(
            Query::read(Some("access_token=x"), &names)
                .expect("one token")
                .forwarded(),
            None
        );
        for text in [
            "access_token=x&access_token=y",
            "access%5ftoken=x",
            "%61ccess_token=x",
        ] {
            assert_eq!(
                Query::read(Some(text), &names).expect_err(text).reason,
                Reason::QueryRepeated
            );
        }
        assert!(
            Query::read(Some("q=100%&c=[1]"), &names)
                .expect("nothing to read")
                .is_unchanged()
        );
    }
}
