//! `${NAME}` and `${NAME:-default}`: values that come from the environment.
//!
//! A value is put into one scalar after the YAML was parsed, so whatever it holds, it cannot add a
//! key. `$${` writes a literal `${`. A value is not expanded again, so a value that holds `${`
//! stays as it is.

use std::collections::BTreeMap;
use std::fmt;

/// Shifts an ASCII character into a private block of Unicode, which YAML treats as letters.
const MASK: u32 = 0xE000;

/// The text with every `${…}` and every path parameter masked, character for character, so
/// that lines and columns stay.
///
/// Without it `[${PORT}]` and `[/a/{id}]` would open a mapping, and `${NAME:-a, b}` would be two
/// items.
pub(crate) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${").into_iter().chain(rest.find("/{")).min() {
        let (before, braced) = rest.split_at(at);
        out.push_str(before);
        match braced
            .find('}')
            .and_then(|end| braced.split_at_checked(end + 1))
        {
            Some((braced, after)) if is_variable(braced) || is_parameter(braced) => {
                out.extend(braced.chars().take(1));
                out.extend(braced.chars().skip(1).map(mask));
                rest = after;
            }
            _ => {
                out.extend(braced.chars().take(2));
                rest = braced.get(2..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

/// YAML interprets quotes and backslashes in a quoted scalar, so a variable that holds one is not
/// masked.
fn is_variable(text: &str) -> bool {
    text.starts_with("${") && !text.contains(['\n', '"', '\'', '\\'])
}

fn is_parameter(text: &str) -> bool {
    let inner = text
        .strip_prefix("/{")
        .and_then(|text| text.strip_suffix('}'))
        .unwrap_or_default();
    let name = inner.strip_prefix('*').unwrap_or(inner);
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// The inverse of [`masked`].
pub(crate) fn unmasked(text: &str) -> String {
    text.chars().map(unmask).collect()
}

/// Whether a character could be mistaken for a masked one.
pub(crate) fn is_masked(c: char) -> bool {
    unmask(c) != c
}

fn mask(c: char) -> char {
    if c.is_ascii() {
        char::from_u32(MASK + u32::from(c)).unwrap_or(c)
    } else {
        c
    }
}

fn unmask(c: char) -> char {
    u32::from(c)
        .checked_sub(MASK)
        .and_then(|code| u8::try_from(code).ok())
        .filter(u8::is_ascii)
        .map_or(c, char::from)
}

/// The variables, and which of them were used.
pub(crate) struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    used: BTreeMap<String, Option<String>>,
}

impl<'a> Variables<'a> {
    /// The variables that `lookup` resolves.
    pub(crate) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            used: BTreeMap::new(),
        }
    }

    /// Every name that was used, with its value if it has one. Holds secrets: for the digest and
    /// nothing else.
    pub(crate) fn used(&self) -> &BTreeMap<String, Option<String>> {
        &self.used
    }

    /// The text with its variables put in. `None` if it has none; otherwise every fault of it at
    /// once.
    pub(crate) fn expand(&mut self, text: &str) -> Option<Result<String, Vec<Fault>>> {
        if !text.contains("${") {
            return None;
        }
        let mut out = String::new();
        let mut faults = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, variable) = rest.split_at(at);
            let variable = variable.get(2..).unwrap_or_default();
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = variable;
                continue;
            }
            out.push_str(before);
            let Some((inner, after)) = variable.split_once('}') else {
                faults.push(Fault::Unclosed);
                rest = "";
                break;
            };
            match self.value(inner) {
                Ok(value) => out.push_str(&value),
                Err(fault) => faults.push(fault),
            }
            rest = after;
        }
        out.push_str(rest);
        Some(if faults.is_empty() {
            Ok(out)
        } else {
            Err(faults)
        })
    }

    fn value(&mut self, inner: &str) -> Result<String, Fault> {
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(Fault::Name);
        }
        let value = (self.lookup)(name);
        self.used.insert(name.to_owned(), value.clone());
        match (value, default) {
            // As in a shell: `:-` also stands in for an empty value.
            (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
            (Some(value), _) => Ok(value),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(Fault::Missing(name.to_owned())),
        }
    }
}

impl fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables")
            .field("used", &self.used.keys())
            .finish_non_exhaustive()
    }
}

/// What is wrong with a `${…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No such variable, and no default.
    Missing(String),
    /// The name is not a variable's.
    Name,
    /// There is no `}`.
    Unclosed,
}

impl Fault {
    /// What is wrong, and what to write.
    pub(crate) fn message(&self) -> (String, String) {
        match self {
            Self::Missing(name) => (
                format!("the environment variable `{name}` is not set"),
                format!("set it, or write a default: `${{{name}:-value}}`"),
            ),
            Self::Name => (
                "`${…}` does not hold the name of an environment variable".to_owned(),
                "write letters, digits and `_`, as in `${NAME}` or `${NAME:-default}`; a literal `${` is `$${`".to_owned(),
            ),
            Self::Unclosed => (
                "`${` has no `}`".to_owned(),
                "write `${NAME}` or `${NAME:-default}`; a literal `${` is `$${`".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Option<Result<String, Vec<Fault>>> {
        let lookup = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        };
        Variables::new(&lookup).expand(text)
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        assert_eq!(expanded("no variable"), None);
        assert_eq!(
            expanded("<${A}-${B:-2}-${EMPTY:-3}-${EMPTY}>"),
            Some(Ok("<1-2-3->".to_owned()))
        );
        assert_eq!(expanded("$${A} ${A}"), Some(Ok("${A} 1".to_owned())));
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        assert_eq!(expanded("${NESTED}"), Some(Ok("${A}".to_owned())));
    }

    #[test]
    fn every_missing_variable_is_reported() {
        let missing = |name: &str| Fault::Missing(name.to_owned());
        assert_eq!(
            expanded("${B}${C}"),
            Some(Err(vec![missing("B"), missing("C")]))
        );
        assert_eq!(
            expanded("${}${B"),
            Some(Err(vec![Fault::Name, Fault::Unclosed]))
        );
    }

    #[test]
    fn masking_keeps_columns_and_can_be_undone() {
        let text = "a: [${A:-x, y}, ${B}] # ${\nb: \"${C:-\\\"}\" $${D}";
        let masked = masked(text);
        assert_eq!(masked.chars().count(), text.chars().count());
        assert!(!masked.contains("x, y"));
        assert_eq!(unmasked(&masked), text);

        let text = "[/a/{id:uuid}/{*rest}, {b: /c}]";
        assert_eq!(super::masked(text).matches(['{', '}']).count(), 2);
        assert_eq!(unmasked(&super::masked(text)), text);
    }
}
