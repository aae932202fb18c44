//! Decoding: from a tree of YAML to wire structs, without stopping at the first mistake.
//!
//! Reports unknown, repeated, empty, missing and wrongly typed keys.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::node::{Entry, Kind, Node, Text};
use super::place::Place;
use super::problem::Report;
use super::range::{self, Ranged};
use crate::policy::spelling::nearest;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Value<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl Value<Text> {
    /// What `parse` makes of the text. If that is nothing, the problem is "`TEXT` IS_NOT".
    pub(crate) fn parse<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
        is_not: &str,
        instead: &str,
        report: &mut Report,
    ) -> Option<T> {
        parse(&self.value.value).or_else(|| {
            let message = format!("`{}` {is_not}", self.value.shown());
            report.refuse_instead(&self.place, message, instead)
        })
    }
}

/// A key of a wire struct.
#[derive(Clone, Debug)]
pub(crate) enum Field<T> {
    /// Not written.
    Absent,
    /// Written or required, and already reported.
    Bad,
    /// Written, and of the right type.
    Good(Value<T>),
}

impl<T> Field<T> {
    /// The value, if a good one was written.
    pub(crate) fn good(&self) -> Option<&Value<T>> {
        match self {
            Self::Good(value) => Some(value),
            Self::Absent | Self::Bad => None,
        }
    }

    /// Where a good value was written.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.good().map(|value| &value.place)
    }

    /// Whether the key was written, well or badly.
    pub(crate) fn is_written(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The value; `Some(None)` if nothing was written, `None` if a bad one was.
    pub(crate) fn optional(&self) -> Option<Option<&Value<T>>> {
        match self {
            Self::Absent => Some(None),
            Self::Bad => None,
            Self::Good(value) => Some(Some(value)),
        }
    }

    /// What `check` makes of the value; `Some(None)` if nothing was written.
    pub(crate) fn then<U>(&self, check: impl FnOnce(&Value<T>) -> Option<U>) -> Option<Option<U>> {
        match self.optional()? {
            Some(value) => check(value).map(Some),
            None => Some(None),
        }
    }

    /// The value; its absence in the mapping at `parent` is a problem.
    pub(crate) fn required(
        &self,
        parent: &Place,
        name: &str,
        instead: &str,
        report: &mut Report,
    ) -> Option<&Value<T>> {
        if !self.is_written() {
            report.problem_instead(&parent.below(name), "is missing", instead);
        }
        self.good()
    }

    /// The same, but its absence in the mapping at `parent` is a problem.
    pub(crate) fn or_missing(
        self,
        parent: &Place,
        name: &str,
        instead: &str,
        report: &mut Report,
    ) -> Self {
        match self.required(parent, name, instead, report) {
            Some(_) => self,
            None => Self::Bad,
        }
    }
}

impl<T: Clone> Field<T> {
    /// The value, or `default` if nothing was written.
    pub(crate) fn or(&self, default: T) -> Option<T> {
        self.or_else(|| default)
    }

    /// The value, or what `default` gives if nothing was written.
    pub(crate) fn or_else(&self, default: impl FnOnce() -> T) -> Option<T> {
        Some(match self.optional()? {
            Some(value) => value.value.clone(),
            None => default(),
        })
    }
}

impl<T: Section> Field<T> {
    /// The mapping, or an empty one if nothing was written.
    pub(crate) fn section(&self) -> Option<Cow<'_, T>> {
        Some(match self.optional()? {
            Some(value) => Cow::Borrowed(&value.value),
            None => Cow::Owned(T::absent()),
        })
    }
}

/// A mapping whose keys are known.
pub(crate) trait Section: Decode + Clone {
    /// The mapping with nothing in it.
    fn absent() -> Self;
}

/// A type that can be read from a node of the tree.
pub(crate) trait Decode: Sized {
    /// Reads it. `None` means that the reason is in `report`.
    fn decode(node: Node, report: &mut Report) -> Option<Self>;

    /// Adds the mappings that it consists of, for the tests that keep the annotated examples complete.
    #[cfg(test)]
    fn keys(_all: &mut Vec<KeysOf>) {}
}

/// A wire struct and its keys.
#[cfg(test)]
pub(crate) type KeysOf = (&'static str, &'static [&'static str]);

impl<T: Decode> Decode for Value<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let place = node.place.clone();
        Some(Self {
            value: T::decode(node, report)?,
            place,
        })
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        T::keys(all);
    }
}

/// Reports that `node` is of the wrong type, unless it was reported already.
pub(crate) fn wrong<T>(node: &Node, needs: &str, report: &mut Report) -> Option<T> {
    let message = match &node.kind {
        Kind::Broken => return None,
        Kind::Null => format!("is empty: needs {needs}; write one, or remove the key"),
        kind @ (Kind::Bool(_)
        | Kind::Integer(_)
        | Kind::Float
        | Kind::Text(_)
        | Kind::List(_)
        | Kind::Map(_)) => {
            format!("needs {needs}, not {}", kind.name())
        }
    };
    report.problem(&node.place, message);
    None
}

impl Decode for Text {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match node.kind {
            Kind::Text(text) => Some(text),
            // The parser has turned `007` or `1e3` into something else by now, so guessing the text would be wrong.
            Kind::Bool(_) | Kind::Integer(_) | Kind::Float => {
                wrong(&node, "text: put it in quotes", report)
            }
            Kind::Null | Kind::List(_) | Kind::Map(_) | Kind::Broken => {
                wrong(&node, "text", report)
            }
        }
    }
}

impl Decode for bool {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        if let Kind::Bool(value) = node.kind {
            return Some(value);
        }
        let value = node
            .kind
            .as_interpolated()
            .and_then(|value| value.parse().ok());
        value.or_else(|| wrong(&node, "`true` or `false`", report))
    }
}

impl Decode for i128 {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let interpolated = || node.kind.as_interpolated()?.parse().ok();
        let number = node.kind.as_integer().or_else(interpolated);
        number.or_else(|| wrong(&node, "a whole number", report))
    }
}

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
            return wrong(&node, "a list", report);
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
        match node.kind {
            Kind::List(_) => List::decode(node, report).map(Self),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float
            | Kind::Text(_)
            | Kind::Map(_)
            | Kind::Broken => one(node, report).map(Self),
        }
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
        match node.kind {
            Kind::List(_) => ListOrEmpty::decode(node, report).map(|list| Self(list.0)),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float
            | Kind::Text(_)
            | Kind::Map(_)
            | Kind::Broken => one(node, report).map(Self),
        }
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        T::keys(all);
    }
}

/// A value that stands for a list of one.
fn one<T: Decode>(node: Node, report: &mut Report) -> Option<List<T>> {
    if let Kind::Map(_) = node.kind {
        return wrong(&node, "one value or a list of them", report);
    }
    Some(List {
        items: vec![Value::decode(node, report)?],
        written: 1,
    })
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

/// The entries without repetitions; each repetition is reported.
fn unique(entries: Vec<Entry>, report: &mut Report) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut lines = std::collections::HashMap::with_capacity(entries.len());
    for entry in entries {
        match lines.get(&entry.name) {
            Some(line) => {
                report.problem(
                    &entry.place,
                    format!("is written twice; the first is at line {line}; remove one"),
                );
            }
            None => {
                lines.insert(entry.name.clone(), entry.place.line);
                kept.push(entry);
            }
        }
    }
    kept
}

/// The names of a wire struct: the keys that it reads, and the messages about others.
pub(crate) struct Names {
    /// Keys that are read.
    pub known: &'static [&'static str],
    /// Keys of the route map's design that have no effect yet. Ignoring one could leave open what its author believes closed.
    pub later: &'static [&'static str],
    /// Keys that will never be read here, each with the reason and what to do.
    pub refused: &'static [(&'static str, &'static str)],
}

/// The keys of one mapping, taken out one after another.
pub(crate) struct Keys(Vec<Entry>);

impl Keys {
    /// Opens a mapping and reports every key that it should not have.
    pub(crate) fn open(node: Node, names: &Names, report: &mut Report) -> Option<Self> {
        let Kind::Map(entries) = node.kind else {
            return wrong(&node, "a mapping of keys", report);
        };
        let mut entries = unique(entries, report);
        entries.retain(|entry| {
            let known = names.known.contains(&entry.name.as_str());
            if !known {
                report_unknown(entry, names, report);
            }
            known
        });
        Some(Self(entries))
    }

    /// Reads the value of one key.
    pub(crate) fn take<T: Decode>(&mut self, name: &str, report: &mut Report) -> Field<T> {
        self.read(name, |node| Value::decode(node, report))
    }

    /// Reads the value of one key, which must be within `range`.
    pub(crate) fn take_within<T: Ranged>(
        &mut self,
        name: &str,
        range: RangeInclusive<T>,
        report: &mut Report,
    ) -> Field<T> {
        self.read(name, |node| range::within(node, &range, report))
    }

    fn read<T>(&mut self, name: &str, read: impl FnOnce(Node) -> Option<Value<T>>) -> Field<T> {
        match self.0.iter().position(|entry| entry.name == name) {
            Some(index) => read(self.0.swap_remove(index).value).map_or(Field::Bad, Field::Good),
            None => Field::Absent,
        }
    }
}

fn report_unknown(entry: &Entry, names: &Names, report: &mut Report) {
    let name = entry.name.as_str();
    if names.later.contains(&name) {
        return report.problem(&entry.place, not_yet(name));
    }
    if let Some((_, why)) = names.refused.iter().find(|(refused, _)| *refused == name) {
        return report.problem(&entry.place, *why);
    }
    let instead = match nearest(name, names.known.iter().copied()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the keys here are {}", names.known.join(", ")),
    };
    report.problem_instead(&entry.place, "is not a key", instead);
}

/// The message about a part of the design that does not work yet.
pub(crate) fn not_yet(name: &str) -> String {
    format!("`{name}` does not work yet in this version; remove it")
}

/// A choice between words. Words that the design has and this version does not are reported as such.
pub(crate) fn word<T: Copy>(
    node: &Node,
    words: &[(&str, T)],
    later: &[&str],
    report: &mut Report,
) -> Option<T> {
    let all = || {
        words
            .iter()
            .map(|(word, _)| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Kind::Text(text) = &node.kind else {
        let needs = format!("one of {}", all());
        return wrong(node, &needs, report);
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
        return Some(*value);
    }
    if later.contains(&text.value.as_str()) {
        let message = format!(
            "`{}` does not work yet in this version; write one of {}",
            text.shown(),
            all()
        );
        report.problem(&node.place, message);
        return None;
    }
    let message = format!("`{}` is not one of {}", text.shown(), all());
    match nearest(&text.value, words.iter().map(|(word, _)| *word)) {
        // A suggestion near the value of a variable would reveal something about it.
        Some(near) if text.written.is_none() => {
            report.problem_instead(&node.place, message, format!("did you mean `{near}`?"))
        }
        Some(_) | None => report.problem(&node.place, message),
    }
    None
}
