//! From a node of the tree to a value.

use crate::config::node::{Entry, Kind, Node, Text};
use crate::config::notation;
use crate::config::problem::Report;

/// A type that can be read from a node of the tree.
pub(crate) trait Decode: Sized {
    /// Reads it. `None` means that the reason is in `report`.
    fn decode(node: Node, report: &mut Report) -> Option<Self>;

    /// Adds the mappings that it consists of, for the tests that keep the annotated examples
    /// complete.
    #[cfg(test)]
    fn keys(_all: &mut Vec<KeysOf>) {}
}

/// A wire struct and its keys.
#[cfg(test)]
pub(crate) type KeysOf = (&'static str, &'static [&'static str]);

/// Reports that `node` is of the wrong type, unless it was reported already.
pub(crate) fn wrong<T>(node: &Node, needs: &str, report: &mut Report) -> Option<T> {
    wrong_instead(node, needs, None, report)
}

/// The same, with the text to write instead, if it is known.
pub(crate) fn wrong_instead<T>(
    node: &Node,
    needs: &str,
    instead: Option<String>,
    report: &mut Report,
) -> Option<T> {
    let message = match &node.kind {
        Kind::Broken => return None,
        Kind::Null => format!("is empty: needs {needs}; write one, or remove the key"),
        kind @ (Kind::Bool(_)
        | Kind::Integer(_)
        | Kind::Float(_)
        | Kind::Text(_)
        | Kind::List(_)
        | Kind::Map(_)) => {
            format!("needs {needs}, not {}", kind.name())
        }
    };
    match instead {
        Some(instead) => report.refuse_instead(&node.place, message, format!("write `{instead}`")),
        None => report.refuse(&node.place, message),
    }
}

/// The entries without repetitions; each repetition is reported.
pub(super) fn unique(entries: Vec<Entry>, report: &mut Report) -> Vec<Entry> {
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

impl Decode for i128 {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let interpolated = || node.kind.as_interpolated()?.parse().ok();
        let number = node.kind.as_integer().or_else(interpolated);
        number.or_else(|| {
            let instead = notation::whole(&node.kind);
            wrong_instead(&node, "a whole number", instead, report)
        })
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

impl Decode for Text {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match node.kind {
            Kind::Text(text) => Some(text),
            // The parser has turned `007` or `1e3` into something else by now, so guessing the text
            // would be wrong.
            Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) => {
                wrong(&node, "text: put it in quotes", report)
            }
            Kind::Null | Kind::List(_) | Kind::Map(_) | Kind::Broken => {
                wrong(&node, "text", report)
            }
        }
    }
}
