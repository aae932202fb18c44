//! Decoding: from a tree of YAML to wire structs, without stopping at the first mistake.
//!
//! Reports unknown, repeated, empty, missing and wrongly typed keys.

use std::ops::RangeInclusive;

pub(crate) use super::field::{Field, Section, Value};
pub(crate) use super::lists::{List, ListOrEmpty, Many, ManyOrEmpty, Named};
use super::node::{Entry, Kind, Node};
use super::problem::Report;
use super::range::{self, Ranged};
use crate::config::decode::Decode;
use crate::config::decode::unique;
use crate::config::decode::wrong;
use crate::policy::spelling::nearest;

/// The names of a wire struct: the keys that it reads, and the messages about others.
pub(crate) struct Names<'a> {
    /// Keys that are read.
    pub known: &'a [&'a str],
    /// Keys of the route map's design that have no effect yet. Ignoring one could leave open what
    /// its author believes closed.
    pub later: &'a [&'a str],
    /// Keys that will never be read here, each with the reason and what to do.
    pub refused: &'a [(&'a str, &'a str)],
}

/// The keys of one mapping, taken out one after another.
pub(crate) struct Keys(Vec<Entry>);

impl Keys {
    /// Opens a mapping and reports every key that it should not have.
    pub(crate) fn open(node: Node, names: &Names<'_>, report: &mut Report) -> Option<Self> {
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

fn report_unknown(entry: &Entry, names: &Names<'_>, report: &mut Report) {
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

/// A choice between words. Words that the design has and this version does not are reported as
/// such.
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
