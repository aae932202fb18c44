//! Identifiers: every typed path parameter has its type, and the request names every resource of
//! the route exactly once.
//!
//! Decides:  400 `identifier_invalid` for an identifier that does not have its type, for the nil
//!           UUID, for one longer than [`LONGEST`], for a query key that must name a resource and
//!           is missing, repeated or in another spelling, and for such a member of a body.
//! Trusts:   the canonical path.
//! Not here: whether the resource exists, and who owns it.

use std::borrow::Cow;

use serde_json::Value;

use super::caller::Caller;
use super::layer::{Check, Layer};
use crate::denial::{Denial, Reason};
use crate::facts::NamedResource;
use crate::policy::path::Pattern;
use crate::policy::resources::{BodyStep, DemandTarget, IdPlace, ParamType};
use crate::request::Inbound;
use crate::request::query::decoded;

/// The longest text id of a resource, in bytes. A choice: ids that servers generate are far
/// shorter.
pub const LONGEST: usize = 256;

/// The layer.
#[derive(Debug)]
pub struct Identifiers;

/// A caller, and the resources that its request names by valid identifiers.
#[derive(Clone, Debug)]
pub struct ValidIdentifiers {
    caller: Caller,
    named: Vec<NamedResource>,
}

impl ValidIdentifiers {
    /// The caller, and the resources that the request names.
    pub fn into_parts(self) -> (Caller, Vec<NamedResource>) {
        (self.caller, self.named)
    }
}

impl Layer for Identifiers {
    type Proof = ValidIdentifiers;

    fn concerns(&self, request: &Inbound) -> bool {
        request.rule().names_resources() || request.pattern().is_some_and(Pattern::is_typed)
    }
}

impl Check for Identifiers {
    type Input<'a> = Caller;

    fn check(&self, request: &Inbound, caller: Caller) -> Result<ValidIdentifiers, Denial> {
        for (name, kind, text) in request.typed_parameters() {
            if !kind.accepts(text) {
                return Err(Reason::IdentifierInvalid.because(format!("`{name}`")));
            }
        }
        let rule = request.rule();
        let mut named = Vec::with_capacity(rule.resources.len());
        for demand in &rule.resources {
            let config = request.in_force().config();
            let kinds = &config.resources;
            let (id, outer) = match demand.of {
                DemandTarget::Caller => (config.facts.subject, None),
                DemandTarget::Resource(index) => {
                    let kind = kinds.get(index).ok_or(Reason::Internal)?;
                    (kind.id, kind.within.and_then(|outer| kinds.get(outer)))
                }
            };
            let within = match (&demand.within, outer) {
                (Some(place), Some(outer)) => Some(identifier(request, place, outer.id)?),
                (None, _) | (_, None) => None,
            };
            let action = match &demand.action {
                Some(action) => action.as_str(),
                None => rule.action_of(request.method()),
            };
            named.push(NamedResource {
                of: demand.of,
                id: identifier(request, &demand.id, id)?,
                within,
                action: action.to_owned(),
            });
        }
        named_by_body(request, &mut named)?;
        Ok(ValidIdentifiers { caller, named })
    }
}

/// Adds the resources that the body names, if the route has `body.ids`. A request that is
/// re-authorized has no body any more.
fn named_by_body(request: &Inbound, named: &mut Vec<NamedResource>) -> Result<(), Denial> {
    let rule = request.rule();
    if rule.body_ids.is_empty() {
        return Ok(());
    }
    if request.has_unread_body() {
        // Unreachable: the chain reads it first. Kept as defence in depth.
        return Err(Reason::Internal.because("the body was not read"));
    }
    let Some(body) = request.inspected_body() else {
        return Ok(());
    };
    for ids in &rule.body_ids {
        let wrong =
            |why: &str| Reason::IdentifierInvalid.because(format!("`{}` {why}", ids.written));
        let kinds = &request.in_force().config().resources;
        let kind = kinds.get(ids.kind).ok_or(Reason::Internal)?.id;
        let values = values_at(body, &ids.steps).map_err(wrong)?;
        if values.len() > ids.max {
            return Err(wrong("names too many resources"));
        }
        let action = match &ids.action {
            Some(action) => action.as_str(),
            None => rule.action_of(request.method()),
        };
        for value in values {
            let id = kind
                .spelled(value)
                .filter(|id| id.len() <= LONGEST)
                .ok_or_else(|| wrong("is not an id of this resource type"))?;
            named.push(NamedResource {
                of: DemandTarget::Resource(ids.kind),
                id,
                within: None,
                action: action.to_owned(),
            });
        }
    }
    Ok(())
}

/// The values at the end of these steps into a document, without `null`.
fn values_at<'b>(body: &'b Value, steps: &[BodyStep]) -> Result<Vec<&'b Value>, &'static str> {
    let mut values = vec![body];
    for step in steps {
        let mut next = Vec::new();
        for value in values {
            match (step, value) {
                // `null` names no resource.
                (_, Value::Null) => {}
                (BodyStep::Member(name), Value::Object(object)) => {
                    // Some servers ignore the case of a member's name, and would read an id that
                    // was never authorized.
                    let differs = |other: &String| other != name && is_spelling(other, name);
                    if object.keys().any(differs) {
                        return Err("occurs in another spelling");
                    }
                    next.extend(object.get(name));
                }
                (BodyStep::Items, Value::Array(items)) => next.extend(items),
                (BodyStep::Member(_) | BodyStep::Items, _) => {
                    return Err("is not at its place in the document");
                }
            }
        }
        values = next;
    }
    values.retain(|value| !value.is_null());
    Ok(values)
}

/// The id at one place of the request, in its canonical spelling.
fn identifier(request: &Inbound, place: &IdPlace, kind: ParamType) -> Result<String, Denial> {
    let (name, text) = match place {
        IdPlace::Path(name) => {
            let text = request.parameter(name).ok_or(Reason::Internal)?;
            // Decoded, because facts hold ids without percent-encoding.
            (name, decoded_path(text))
        }
        IdPlace::Query(name) => {
            let wrong = |why: &str| Reason::IdentifierInvalid.because(format!("`{name}` {why}"));
            let query = request.target().query().unwrap_or_default();
            let mut found = None;
            // Read as the most lenient server would: a key in another spelling would name another
            // resource there.
            for pair in query.split(['&', ';']) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                if !is_spelling(&decoded(key), name) {
                    continue;
                }
                if key != name || found.replace(value).is_some() {
                    return Err(wrong("occurs twice, or in another spelling"));
                }
            }
            let value = found.ok_or_else(|| wrong("is missing"))?;
            (name, decoded(value))
        }
    };
    match kind.canonical(&text) {
        // In lower case, as facts are keyed; the request is forwarded as it is spelled.
        Some(id) if id.len() <= LONGEST => Ok(id.into_owned()),
        Some(_) | None => Err(Reason::IdentifierInvalid.because(format!("`{name}`"))),
    }
}

/// Whether some server reads this key as the name: in any case, as an item of a list (`id[]`,
/// `id[0]`), or with the characters that PHP replaces.
fn is_spelling(key: &str, name: &str) -> bool {
    fn folded(text: &str) -> impl Iterator<Item = char> {
        let text = text.trim().split('[').next().unwrap_or_default();
        text.chars().map(|c| match c {
            ' ' | '.' => '_',
            _ => c.to_ascii_lowercase(),
        })
    }
    folded(key).eq(folded(name))
}

fn decoded_path(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_some_server_reads_as_the_name_is_a_spelling_of_it() {
        for key in [
            "project_id",
            "Project_ID",
            "project_id[]",
            "project_id[0][x]",
            " project_id",
            "project.id",
            "project id",
        ] {
            assert!(is_spelling(key, "project_id"), "{key}");
        }
        for key in ["project_ids", "projectid", "[project_id]", "project-id", ""] {
            assert!(!is_spelling(key, "project_id"), "{key}");
        }
    }
}
