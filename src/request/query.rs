//! The query: forwarded as it came, except for keys that carry a credential.
//!
//! Decides:  400 `query_repeated` for a credential key that occurs twice, or is spelled with
//!           escapes, in another case, or behind a `;`; 400 `path_non_ascii` for raw bytes outside
//!           ASCII. Trusts: nothing. Not here: what the credential is worth.
//!
//! A key that some route reads as a credential is removed from every request, so that it reaches no
//! upstream and no upstream's log.

use std::borrow::Cow;

use crate::denial::{Denial, Reason};

/// A query with its credentials set apart.
pub struct Query<'a> {
    raw: Option<&'a str>,
    /// What is left, if anything was removed.
    rest: Option<String>,
    found: Vec<(&'a str, &'a str)>,
}

impl std::fmt::Debug for Query<'_> {
    /// Values may be secrets, and what is no value may be meant as one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query(…)")
    }
}

impl<'a> Query<'a> {
    /// Reads a query; `names` are the keys that any route reads as a credential.
    ///
    /// # Errors
    ///
    /// See the module.
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

    /// Whether the query is forwarded as it came.
    pub fn is_unchanged(&self) -> bool {
        self.found.is_empty()
    }

    /// What is forwarded.
    pub fn forwarded(&self) -> Option<&str> {
        match &self.rest {
            Some(rest) => Some(rest.as_str()).filter(|rest| !rest.is_empty()),
            None => self.raw,
        }
    }

    /// The credentials under the keys that the route reads.
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

/// Some servers take `;` for `&`, and would find a credential that nobody has judged.
fn hides_credential(pair: &str, names: &[String]) -> bool {
    pair.split(';').skip(1).any(|piece| {
        let key = piece.split('=').next().unwrap_or_default();
        is_credential(&decoded(key), names)
    })
}

/// A key or a value as a server would read it. A malformed escape is kept as it is.
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
    fn no_debug_text_shows_a_value() {
        let names = ["access_token".to_owned()];
        let query = Query::read(Some("email=alice&access_token=x.y.z"), &names).expect("one token");
        assert_eq!(format!("{query:?} {query:#?}"), "Query(…) Query(…)");
    }

    #[test]
    fn a_credential_key_is_taken_out_and_never_read_twice() {
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
