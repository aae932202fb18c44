//! How a tree of YAML becomes wire structs without stopping at the first mistake.
//!
//! Decides: what an unknown, repeated, empty or wrongly typed key is told. Trusts: the tree of `yaml`. Not here: the keys
//! themselves (`file`), and whether a value makes sense (`check`).

use super::node::{Entry, Kind, Node, Text};
use super::place::Place;
use super::problem::Report;
use crate::policy::spelling::nearest;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Value<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// A key of a wire struct.
#[derive(Clone, Debug)]
pub(crate) enum Field<T> {
    /// Not written.
    Absent,
    /// Written, and already told as a problem.
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

    /// Whether the key was written, well or badly.
    pub(crate) fn is_written(&self) -> bool {
        !matches!(self, Self::Absent)
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
}

/// A type that can be read from a node of the tree.
pub(crate) trait Decode: Sized {
    /// Reads it. `None` means that `report` was told why not.
    fn decode(node: Node, report: &mut Report) -> Option<Self>;
}

impl<T: Decode> Decode for Value<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let place = node.place.clone();
        Some(Self {
            value: T::decode(node, report)?,
            place,
        })
    }
}

/// Tells that `node` is of the wrong type. Says nothing where something was said already.
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

/// A list. Entries that could not be read were told, and are left out.
#[derive(Clone, Debug)]
pub(crate) struct List<T> {
    /// The good entries.
    pub items: Vec<Value<T>>,
    /// How many were written.
    pub written: usize,
}

impl<T> List<T> {
    /// Tells if nothing was written between the brackets.
    pub(crate) fn at_least_one(&self, place: &Place, report: &mut Report) {
        if self.written == 0 {
            report.problem(
                place,
                "is an empty list; write at least one entry, or remove the key",
            );
        }
    }
}

impl<T: Decode> Decode for List<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let Kind::List(nodes) = node.kind else {
            return wrong(&node, "a list", report);
        };
        let written = nodes.len();
        let items = nodes
            .into_iter()
            .filter_map(|node| Value::decode(node, report))
            .collect();
        Some(Self { items, written })
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(crate) struct Many<T>(pub List<T>);

impl<T: Decode> Decode for Many<T> {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match node.kind {
            Kind::List(_) => List::decode(node, report).map(Self),
            Kind::Map(_) => wrong(&node, "one value or a list of them", report),
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float
            | Kind::Text(_)
            | Kind::Broken => Some(Self(List {
                items: vec![Value::decode(node, report)?],
                written: 1,
            })),
        }
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
}

/// The entries without repetitions; each repetition is told.
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

/// What a wire struct knows about names: which keys it reads, and what to say about others.
pub(crate) struct Names {
    /// Keys that are read.
    pub known: &'static [&'static str],
    /// Keys of the route map's design that do nothing yet. Ignoring one could leave open what its author believes closed.
    pub later: &'static [&'static str],
    /// Keys that will never be read here, each with the reason and what to do.
    pub refused: &'static [(&'static str, &'static str)],
}

/// The keys of one mapping, taken out one after another.
pub(crate) struct Keys(Vec<Entry>);

impl Keys {
    /// Opens a mapping and tells every key it should not have.
    pub(crate) fn open(node: Node, names: &Names, report: &mut Report) -> Option<Self> {
        let Kind::Map(entries) = node.kind else {
            return wrong(&node, "a mapping of keys", report);
        };
        let mut entries = unique(entries, report);
        entries.retain(|entry| {
            let known = names.known.contains(&entry.name.as_str());
            if !known {
                tell_unknown(entry, names, report);
            }
            known
        });
        Some(Self(entries))
    }

    /// Reads the value of one key.
    pub(crate) fn take<T: Decode>(&mut self, name: &str, report: &mut Report) -> Field<T> {
        let Some(index) = self.0.iter().position(|entry| entry.name == name) else {
            return Field::Absent;
        };
        Value::decode(self.0.swap_remove(index).value, report).map_or(Field::Bad, Field::Good)
    }
}

fn tell_unknown(entry: &Entry, names: &Names, report: &mut Report) {
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

/// What is said about a part of the design that does not work yet.
pub(crate) fn not_yet(name: &str) -> String {
    format!("`{name}` does not work yet in this version; remove it")
}

/// A choice between words. Words that the design has and this version does not are told as such.
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
        // A suggestion near the value of a variable would tell something about it.
        Some(near) if text.written.is_none() => {
            report.problem_instead(&node.place, message, format!("did you mean `{near}`?"))
        }
        Some(_) | None => report.problem(&node.place, message),
    }
    None
}
