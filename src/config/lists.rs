//! Lists, and mappings whose keys are names.

#[cfg(test)]
use super::decode::KeysOf;
use super::decode::{Decode, unique, wrong, wrong_instead};
use super::field::Value;
use super::node::{Entry, Kind, Node};
use super::problem::Report;

/// A list of at least one entry. Entries that could not be read were reported, and are left out.
#[derive(Clone, Debug)]
pub(crate) struct List<T> {
    /// The good entries.
    pub items: Vec<Value<T>>,
    /// How many were written.
    pub written: usize,
}

impl<T: Decode> Decode for List<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let place = node.place.clone();
        let ListOrEmpty(list) = ListOrEmpty::decode(node, report)?;
        match list.written {
            0 => report.refuse(
                &place,
                "is an empty list; write at least one entry, or remove the key",
            ),
            _ => Some(list),
        }
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        T::keys(all);
    }
}

impl<T: Clone> List<T> {
    /// The values, if every entry is good.
    pub(crate) fn values(&self) -> Option<Vec<T>> {
        let values = || self.items.iter().map(|item| item.value.clone()).collect();
        (self.items.len() == self.written).then(values)
    }
}

/// A list that may be empty.
#[derive(Clone, Debug)]
pub(crate) struct ListOrEmpty<T>(pub List<T>);

impl<T: Decode> Decode for ListOrEmpty<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let Kind::List(nodes) = node.kind else {
            let text = node.kind.as_text();
            let instead = text.map(|text| format!("[{}]", text.shown()));
            return wrong_instead(&node, "a list", instead, report);
        };
        let written = nodes.len();
        let items = nodes
            .into_iter()
            .filter_map(|node| Value::decode(node, report))
            .collect();
        Some(Self(List { items, written }))
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        T::keys(all);
    }
}

/// One value, or a list of at least one.
#[derive(Clone, Debug)]
pub(crate) struct Many<T>(pub List<T>);

impl<T: Decode> Decode for Many<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        one_or(List::decode, node, report).map(Self)
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        T::keys(all);
    }
}

/// One value, or a list that may be empty.
#[derive(Clone, Debug)]
pub(crate) struct ManyOrEmpty<T>(pub List<T>);

impl<T: Decode> Decode for ManyOrEmpty<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let list = |node, report: &mut Report| ListOrEmpty::decode(node, report).map(|list| list.0);
        one_or(list, node, report).map(Self)
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        T::keys(all);
    }
}

/// Reads a list, or one value that stands for a list of one.
fn one_or<T: Decode>(
    list: impl FnOnce(Node, &mut Report) -> Option<List<T>>,
    node: Node,
    report: &mut Report,
) -> Option<List<T>> {
    match node.kind {
        Kind::List(_) => list(node, report),
        Kind::Map(_) => wrong(&node, "one value or a list of them", report),
        Kind::Null
        | Kind::Bool(_)
        | Kind::Integer(_)
        | Kind::Float(_)
        | Kind::Text(_)
        | Kind::Broken => Some(List {
            items: vec![Value::decode(node, report)?],
            written: 1,
        }),
    }
}

/// A mapping whose keys are names the operator chose.
#[derive(Clone, Debug)]
pub(crate) struct Named<T>(pub Vec<(Value<String>, Option<Value<T>>)>);

impl<T: Decode> Decode for Named<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let Kind::Map(entries) = node.kind else {
            return wrong(&node, "a mapping of names", report);
        };
        let entries = unique(entries, report);
        let named = |entry: Entry| {
            let name = Value {
                value: entry.name,
                place: entry.place,
            };
            (name, Value::decode(entry.value, report))
        };
        Some(Self(entries.into_iter().map(named).collect()))
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        T::keys(all);
    }
}
