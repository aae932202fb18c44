//! The target of a request as it is forwarded.

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

use super::query::Query;
use crate::denial::{Denial, Reason};
use crate::policy::path::{Canonical, Pattern, Segment};
use crate::policy::resources::ParamType;
use crate::policy::route::{Route, Tail};

/// The target to forward: the canonical path, and the query without credentials.
pub(super) fn forwarded_target(
    uri: &Uri,
    canonical: Canonical<'_>,
    route: &Route,
    pattern: &Pattern,
    query: &Query<'_>,
) -> Result<PathAndQuery, Denial> {
    let path = forwarded_path(uri.path(), canonical, route, pattern)?;
    match (path, query.is_unchanged()) {
        // The usual case copies nothing. A target that begins with its query is authorized as `/`,
        // and must be forwarded so.
        (None, true) if begins_with_slash(uri) => {
            Ok(uri.path_and_query().cloned().ok_or(Reason::TargetForm)?)
        }
        (path, _) => target(path.as_deref().unwrap_or(uri.path()), query.forwarded()),
    }
}

/// The path to forward, if it differs from the client's.
fn forwarded_path(
    raw: &str,
    canonical: Canonical<'_>,
    route: &Route,
    pattern: &Pattern,
) -> Result<Option<String>, Denial> {
    let fixed = pattern.segments().len().saturating_sub(1);
    let opaque = route.tail == Tail::Opaque && pattern.has_tail();
    if let Some((reason, segment)) = canonical.tail_only
        && !(opaque && segment >= fixed)
    {
        return Err(reason.into());
    }
    let path = if opaque {
        let tail = |path: &str| path.match_indices('/').nth(fixed).map(|(index, _)| index);
        match (tail(&canonical.text), tail(raw)) {
            (Some(head_end), Some(tail_start)) => {
                let head = canonical.text.get(..head_end).unwrap_or_default();
                format!("{head}{}", raw.get(tail_start..).unwrap_or_default())
            }
            _ => return Err(Reason::Internal.into()),
        }
    } else {
        canonical.text.into_owned()
    };
    let path = lower_case_uuids(path, pattern);
    Ok((path != raw).then_some(path))
}

/// Clients on some platforms write UUIDs in upper case; they are authorized and forwarded in lower
/// case (RFC 9562, section 4).
fn lower_case_uuids(path: String, pattern: &Pattern) -> String {
    if !pattern.is_typed() {
        return path;
    }
    let is_uuid = |index: usize| {
        matches!(
            pattern.segments().get(index),
            Some(Segment::Parameter {
                kind: ParamType::Uuid,
                ..
            })
        )
    };
    let has_upper = |text: &str| text.bytes().any(|byte| byte.is_ascii_uppercase());
    if !path
        .split('/')
        .skip(1)
        .enumerate()
        .any(|(index, text)| is_uuid(index) && has_upper(text))
    {
        return path;
    }
    path.split('/')
        .skip(1)
        .enumerate()
        .map(|(index, text)| {
            if is_uuid(index) && text.len() == 36 {
                format!("/{}", text.to_ascii_lowercase())
            } else {
                format!("/{text}")
            }
        })
        .collect()
}

fn begins_with_slash(uri: &Uri) -> bool {
    uri.path_and_query()
        .is_some_and(|target| target.as_str().starts_with('/'))
}

fn target(path: &str, query: Option<&str>) -> Result<PathAndQuery, Denial> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    // At this point the text has only bytes that a URI may hold.
    PathAndQuery::try_from(text)
        .map_err(|_| Reason::Internal.because("the canonical target is not a URI"))
}
