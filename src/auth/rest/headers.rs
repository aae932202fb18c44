//! Parses the header fields that PostgREST reads: `Prefer`, `Accept`, `Accept-Profile` and
//! `Content-Profile`. Values that are not listed here are refused.

use hyper::header::{self, HeaderMap, HeaderName};

use super::text::ParseError;

const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");
pub(super) const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");
const PROFILES: [HeaderName; 2] = [ACCEPT_PROFILE, CONTENT_PROFILE];

/// Preferences, each with its allowed values; an empty list allows any value.
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

/// Media types of a response. `application/vnd.pgrst.plan`, the plan of the query, is not among
/// them.
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

/// The effects of the header fields that matter for authorization.
#[derive(Debug, Default)]
pub(super) struct RestHeaders {
    /// The response holds the rows that were written.
    pub(super) returns_rows: bool,
    /// The response holds the `Location` of a written row.
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
                return Err("the media type (`Accept`)");
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
                return Err("an unknown preference (`Prefer`)");
            }
            read.returns_rows |= (name, value) == ("return", "representation");
            read.returns_location |= (name, value) == ("return", "headers-only");
        }
        Ok(read)
    }
}

/// The members of a list field, over all its lines.
fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Result<&'a str, ParseError>> {
    headers.get_all(name).into_iter().flat_map(|line| {
        let (text, error) = match line.to_str() {
            Ok(text) => (text, None),
            Err(_) => ("", Some(Err("a header field that is not text"))),
        };
        let members = text.split(',').map(str::trim);
        let members = members.filter(|member| !member.is_empty());
        members.map(Ok).chain(error)
    })
}
