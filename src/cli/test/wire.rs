//! The keys of a file of cases, as they are written.

use serde_json::{Map, Value as Json};

#[cfg(test)]
use crate::config::decode::KeysOf;
use crate::config::decode::{Decode, wrong};
use crate::config::macros::wire;
use crate::config::node::{Kind, Node, Text};
use crate::config::problem::Report;
use crate::config::sections::facts::StaticFacts;
use crate::config::sections::routes::wire::Aal;
use crate::config::wire::{List, ManyOrEmpty, Named};

wire! {
    /// The whole file.
    struct File {
        facts: StaticFacts,
        cases: List<CaseEntry> => "write `cases: [{ name: …, request: { path: /… }, expect: { allow: true } }]`",
    }

    /// One case.
    struct CaseEntry {
        name: Text => "write in a few words what this case is about",
        request: RequestEntry => "write at least `{ path: /… }`",
        caller: CallerField => "write `nobody`, or `{ subject: … }`",
        expect: ExpectEntry => "write `{ allow: true }`, or `{ deny: REASON }`",
    }

    /// The request.
    struct RequestEntry {
        method: Text,
        path: Text => "write one such as `/api/v1/projects`",
        host: Text,
        address: Text,
        headers: Named<ManyOrEmpty<Text>>,
        body: Document,
    }

    /// The caller.
    struct CallerEntry {
        subject: Text => "write the `sub` of the caller, or `caller: nobody`",
        issuer: Text,
        session: Text,
        roles: ManyOrEmpty<Text>,
        aal: Aal = Aal(1),
        anonymous: bool = false,
        claims: Named<Document>,
    }

    /// The expected outcome.
    struct ExpectEntry {
        allow: bool,
        route: Text,
        upstream: Text,
        serve: Text,
        deny: Text,
        layer: Text,
    }
}

/// The value of `caller`: `nobody`, or a mapping.
#[derive(Clone, Debug)]
pub(crate) enum CallerField {
    /// The request carries no token.
    Nobody,
    /// The request carries a token of this caller.
    Caller(Box<CallerEntry>),
}

impl Decode for CallerField {
    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        CallerEntry::keys(all);
    }

    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => {
                CallerEntry::decode(node, report).map(|user| Self::Caller(Box::new(user)))
            }
            Kind::Text(text) if text.value == "nobody" => Some(Self::Nobody),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float(_)
            | Kind::Text(_)
            | Kind::List(_)
            | Kind::Broken => wrong(&node, "`nobody`, or a mapping with `subject`", report),
        }
    }
}

/// The value of a claim, or a whole body: any JSON without fractions.
#[derive(Clone, Debug)]
pub(crate) struct Document(pub Json);

impl Decode for Document {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        Some(Self(match node.kind {
            Kind::Null => Json::Null,
            Kind::Bool(value) => value.into(),
            Kind::Integer(number) => match i64::try_from(number) {
                Ok(number) => number.into(),
                Err(_) => return wrong(&node, "a smaller number", report),
            },
            Kind::Text(text) => text.value.into(),
            Kind::List(nodes) => {
                let items: Option<Vec<Json>> = nodes
                    .into_iter()
                    .map(|node| Self::decode(node, report).map(|claim| claim.0))
                    .collect();
                items?.into()
            }
            Kind::Map(entries) => {
                let members: Option<Map<String, Json>> = entries
                    .into_iter()
                    .map(|entry| Some((entry.name, Self::decode(entry.value, report)?.0)))
                    .collect();
                members?.into()
            }
            Kind::Float(_) | Kind::Broken => {
                return wrong(
                    &node,
                    "a whole number, text, or a list or mapping of them",
                    report,
                );
            }
        }))
    }
}
