//! What the fields of a request say to PostgREST.
//!
//! Decides: what `Prefer`, `Accept`, `Accept-Profile` and `Content-Profile` may say, and what that means for what is shown. Trusts: nothing. Not
//! here: whether it is granted (the layer).

use hyper::header::{self, HeaderMap, HeaderName};

use super::text::ParseError;

const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");
pub(super) const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");
const PROFILES: [HeaderName; 2] = [ACCEPT_PROFILE, CONTENT_PROFILE];

/// Preferences, each with its values; none for one with any value.
const PREFERENCES: &[(&str, &[&str])] = &[
    ("return", &["minimal", "headers-only", "representation"]),
    ("resolution", &["merge-duplicates", "ignore-duplicates"]),
    ("missing", &["default", "null"]),
    ("count", &["exact", "planned", "estimated"]),
    ("tx", &["commit", "rollback"]),
    ("handling", &["strict", "lenient"]),
    ("params", &["single-object", "multiple-objects"]),
    ("max-affected", &[]),
    ("timezone", &[]),
];

/// Types of an answer. `application/vnd.pgrst.plan`, the plan of the query, is not among them.
const TYPES: &[&str] = &[
    "*/*",
    "application/*",
    "application/json",
    "application/vnd.pgrst.object",
    "application/vnd.pgrst.object+json",
    "application/vnd.pgrst.array",
    "application/vnd.pgrst.array+json",
    "application/geo+json",
    "application/openapi+json",
    "application/octet-stream",
    "text/csv",
    "text/plain",
    "text/xml",
];

/// What the fields say that makes a difference.
#[derive(Debug, Default)]
pub(super) struct RestHeaders {
    /// Rows that are written come back.
    pub(super) returns_rows: bool,
    /// `Location` of a written row comes back.
    pub(super) returns_location: bool,
}

impl RestHeaders {
    pub(super) fn read(headers: &HeaderMap, schemas: &[String]) -> Result<Self, ParseError> {
        for name in PROFILES {
            let mut profiles = headers.get_all(name).iter();
            if let Some(profile) = profiles.next() {
                let is_granted = |schema: &String| profile.as_bytes() == schema.as_bytes();
                if profiles.next().is_some() || !schemas.iter().any(is_granted) {
                    return Err("the schema");
                }
            }
        }
        for kind in members(headers, &header::ACCEPT) {
            let kind = kind?.split(';').next().unwrap_or_default().trim();
            if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
                return Err("the type of the answer (`Accept`)");
            }
        }
        let mut read = Self::default();
        for preference in members(headers, &PREFER) {
            let (name, value) = preference?
                .split_once('=')
                .ok_or("a preference without a value")?;
            let is_known = PREFERENCES.iter().any(|(known, values)| {
                *known == name && (values.is_empty() || values.contains(&value))
            });
            if !is_known {
                return Err("a preference (`Prefer`) that is not known");
            }
            read.returns_rows |= (name, value) == ("return", "representation");
            read.returns_location |= (name, value) == ("return", "headers-only");
        }
        Ok(read)
    }
}

/// The members of a list, over all its lines.
fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Result<&'a str, ParseError>> {
    headers.get_all(name).into_iter().flat_map(|line| {
        let (text, error) = match line.to_str() {
            Ok(text) => (text, None),
            Err(_) => ("", Some(Err("a field that is no text"))),
        };
        let members = text.split(',').map(str::trim);
        let members = members.filter(|member| !member.is_empty());
        members.map(Ok).chain(error)
    })
}
