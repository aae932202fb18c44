//! The values of a route's keys as the file writes them, and `defaults`. The keys themselves are in
//! `route`; what they mean together is checked in the files beside this one.

use std::time::Duration;

use hyper::Method;

#[cfg(test)]
use crate::config::decode::KeysOf;
use crate::config::decode::{Decode, wrong};
use crate::config::macros::{wire, words};
use crate::config::node::{Kind, Node, Text};
use crate::config::problem::Report;
use crate::config::units::{DAY, PerSecond, Size, TICK, days, secs};
use crate::config::wire::{Field, Keys, List, ListOrEmpty, Named, Names, Value};
use crate::denial::format::ErrorsSetting;
use crate::policy::methods::ROUTABLE;
use crate::policy::rest::Embeds;
use crate::policy::roles::Action;
use crate::policy::route::{Access, ApiKey, CredentialSource, Tail, TrailingSlash};

wire! {
    /// What routes have unless they say otherwise.
    struct Defaults {
        upstream: Text,
        body: Body,
        trailing_slash: TrailingSlash = TrailingSlash::Same,
        timeouts: Timeouts,
    }
    later ["errors", "limits"]
    refused {
        "access": "every route writes its own `access`, so that reading a route is enough to know who may come; remove it here",
        "resource": "every route with a path parameter writes its own `resource`, so that none is opened by a default; remove it here",
    }

    /// Time limits of a route.
    struct Timeouts {
        first_byte: Duration [TICK..=DAY],
        stream_idle: Duration [TICK..=DAY],
        total: Duration [TICK..=DAY],
    }
}

words! {
    impl TrailingSlash { "same" => TrailingSlash::Same, "strict" => TrailingSlash::Strict, }
    impl Tail { "canonical" => Tail::Canonical, "opaque" => Tail::Opaque, }
    impl ErrorsSetting {
        "problem" => ErrorsSetting::Problem,
        "grpc" => ErrorsSetting::Grpc,
        "gotrue" => ErrorsSetting::Gotrue,
        "postgrest" => ErrorsSetting::Postgrest,
    }
}

impl Decode for Method {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let text = Value::<Text>::decode(node, report)?;
        let written = text.value.value.as_str();
        if let Some(method) = ROUTABLE.iter().find(|method| method.as_str() == written) {
            return Some(method.clone());
        }
        let message = match written {
            "CONNECT" | "TRACE" => "is never served".to_owned(),
            _ => format!(
                "`{}` is not a method that can be routed",
                text.value.shown()
            ),
        };
        let names = ROUTABLE.iter().map(Method::as_str).collect::<Vec<_>>();
        let instead = format!("write one of {}, in capitals", names.join(", "));
        report.refuse_instead(&text.place, message, instead)
    }
}

/// The least authenticator assurance level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aal(pub u8);

words! {
    impl Access {
        "public" => Access::Public,
        "optional" => Access::Optional,
        "user" => Access::User,
        "deny" => Access::Deny,
    } later ["service", "signed"]
    impl Aal { "aal1" => Aal(1), "aal2" => Aal(2), }
    impl ApiKey { "required" => ApiKey::Required, "optional" => ApiKey::Optional, }
}

impl Decode for CredentialSource {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        Value::<Text>::decode(node, report)?.parse(
            credential,
            "is not a place for a credential",
            "write `bearer`, `cookie`, or `query.NAME` with letters, digits, `_`, `-`, `.` and `~`",
            report,
        )
    }
}

fn credential(text: &str) -> Option<CredentialSource> {
    match text {
        "bearer" => return Some(CredentialSource::Bearer),
        "cookie" => return Some(CredentialSource::Cookie),
        _ => {}
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
    text.strip_prefix("query.")
        .filter(|name| !name.is_empty() && name.chars().all(plain))
        .map(|name| CredentialSource::Query(name.to_owned()))
}

wire! {
    /// What may be sent.
    struct Body {
        limit: Size [Size(0)..=Size(1 << 40)],
        idle: Duration [TICK..=DAY],
        rate: PerSecond [PerSecond(0)..=PerSecond(1 << 30)],
        ids: List<BodyId>,
    }

    /// Resources that a body names.
    struct BodyId {
        field: Text => FIELD,
        kind: Text,
        max: usize [1..=1000] = 100,
        action: Action,
    }
}

/// What to write where an id in a body is.
pub(super) const FIELD: &str = "write where the id is, such as `project_id` or `items[].id`";

wire! {
    /// Where the id is, and how long it is known.
    struct Learn {
        kind: Text => KIND,
        field: Text => "write the field of the response that holds the id, such as `generation_id` or `data.id`",
        keep: Duration [secs(60)..=days(30)] = DAY,
    }
    later ["limits", "when"]
}

/// What to write where a learned type is.
pub(super) const KIND: &str = "write a resource type of `resources` with `learned: true`";

wire! {
    /// A resource of a route.
    struct ResourceOf {
        kind: Text,
        id: Text,
        action: Action,
        within: Text,
    }
}

/// The resources of a route.
#[derive(Clone, Debug)]
pub(crate) enum ResourceField {
    /// `none`.
    Nothing,
    /// All of these.
    All(Vec<Value<ResourceEntry>>),
}

/// One resource of a route.
#[derive(Clone, Debug)]
pub(crate) enum ResourceEntry {
    /// The name of a type alone.
    Kind(Text),
    /// `{ self: … }`: the caller.
    Caller { id: Text, action: Option<Action> },
    /// `{ kind: …, id: … }`.
    Of(Box<ResourceOf>),
}

impl Decode for ResourceField {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text.value == "none" => Some(Self::Nothing),
            Kind::List(_) => {
                let list = List::<ResourceEntry>::decode(node, report)?;
                (list.items.len() == list.written).then_some(Self::All(list.items))
            }
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float(_)
            | Kind::Text(_)
            | Kind::Map(_)
            | Kind::Broken => Some(Self::All(vec![Value::decode(node, report)?])),
        }
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        ResourceOf::keys(all);
    }
}

impl Decode for ResourceEntry {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) => Some(Self::Kind(text.clone())),
            Kind::Map(entries) if entries.iter().any(|entry| entry.name == "self") => {
                const CALLER: Names<'_> = Names {
                    known: &["self", "action"],
                    later: &[],
                    refused: &[],
                };
                let mut keys = Keys::open(node, &CALLER, report)?;
                let id: Field<Text> = keys.take("self", report);
                let action: Field<Action> = keys.take("action", report);
                Some(Self::Caller {
                    id: id.good()?.value.clone(),
                    action: action.optional()?.map(|action| action.value.clone()),
                })
            }
            Kind::Map(_) => ResourceOf::decode(node, report).map(|of| Self::Of(Box::new(of))),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float(_)
            | Kind::List(_)
            | Kind::Broken => wrong(
                &node,
                "`none`, a type of `resources`, a mapping, or a list of these",
                report,
            ),
        }
    }
}

wire! {
    /// What is granted.
    struct Rest {
        tables: Named<RestTable>,
        embeds: Embeds = Embeds::Deny,
        rpc: ListOrEmpty<Text>,
        schemas: List<Text>,
        openapi: bool = false,
    }

    /// What is granted of one table.
    struct RestTable {
        read: Columns = Columns::All(false),
        write: Columns = Columns::All(false),
        delete: bool = false,
    }
}

words! {
    impl Embeds { "deny" => Embeds::Deny, "tables" => Embeds::Tables, }
}

/// `true`, or the names of columns.
#[derive(Clone, Debug)]
pub(crate) enum Columns {
    /// All of them, or none.
    All(bool),
    /// These.
    These(List<Text>),
}

impl Decode for Columns {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => List::decode(node, report).map(Self::These),
            Kind::Bool(all) => Some(Self::All(*all)),
            Kind::Null
            | Kind::Integer(_)
            | Kind::Float(_)
            | Kind::Text(_)
            | Kind::Map(_)
            | Kind::Broken => wrong(&node, "`true`, or a list of columns", report),
        }
    }
}

/// What a client may change a connection to; one way works so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// RFC 6455.
    Websocket,
}

words! {
    impl Upgrade { "websocket" => Upgrade::Websocket, }
}
