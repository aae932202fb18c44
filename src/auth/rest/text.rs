//! A parser for the small languages inside a query of PostgREST: names, paths, operators, values.
//!
//! PostgREST's own grammar is wider: names with spaces, dashes and letters of any script, and
//! spaces in many places. This parser accepts what PostgREST's clients write, which has the same
//! reading in both; everything else is refused.

use crate::policy::rest::is_name;

/// How deep brackets may be nested.
pub(super) const DEPTH: usize = 12;

/// What could not be parsed, for the operator.
pub(super) type ParseError = &'static str;

/// Operators of a filter.
const OPERATORS: &[&str] = &[
    "eq",
    "neq",
    "gt",
    "gte",
    "lt",
    "lte",
    "like",
    "ilike",
    "match",
    "imatch",
    "in",
    "is",
    "isdistinct",
    "fts",
    "plfts",
    "phfts",
    "wfts",
    "cs",
    "cd",
    "ov",
    "sl",
    "sr",
    "nxr",
    "nxl",
    "adj",
];

/// Aggregate functions.
const AGGREGATES: &[&str] = &["sum", "avg", "count", "max", "min"];

/// The text that is left to parse.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn begins(self, with: &str) -> bool {
        self.0.starts_with(with)
    }

    /// Consumes `wanted`, if it comes next.
    pub(super) fn take(&mut self, wanted: &str) -> bool {
        match self.0.strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// Consumes a comma and the spaces behind it.
    pub(super) fn comma(&mut self) -> bool {
        let taken = self.take(",");
        if taken {
            self.0 = self.0.trim_start_matches(' ');
        }
        taken
    }

    /// Parses a word of letters, digits and `_`.
    fn word(&mut self) -> Option<&'a str> {
        let end = self
            .0
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(word).filter(|word| !word.is_empty())
    }

    /// Parses the name of a column, a table or an alias, bare or in quotes.
    pub(super) fn name(&mut self) -> Result<&'a str, ParseError> {
        let name = match self.take("\"") {
            true => {
                let (name, rest) = self.0.split_once('"').ok_or("an unclosed quote")?;
                self.0 = rest;
                Some(name)
            }
            false => self.word(),
        };
        name.filter(|name| is_name(name))
            .ok_or("a name with other characters than letters, digits and `_`")
    }

    /// Parses names with dots between them, such as the path to an embedded column.
    pub(super) fn path(&mut self) -> Result<Vec<&'a str>, ParseError> {
        let mut names = vec![self.name()?];
        while self.take(".") {
            names.push(self.name()?);
        }
        Ok(names)
    }

    /// Parses a path into a JSON column: `->a->>b`, `->0`. It stays inside its column.
    pub(super) fn json_path(&mut self) -> Result<(), ParseError> {
        while self.take("->>") || self.take("->") {
            let _ = self.take("-");
            self.name()?;
        }
        Ok(())
    }

    /// `::text`
    pub(super) fn cast(&mut self) -> Result<(), ParseError> {
        match self.take("::") {
            true => self.name().map(|_| ()),
            false => Ok(()),
        }
    }

    /// `.sum()`
    pub(super) fn aggregate(&mut self) -> Result<(), ParseError> {
        if !self.take(".") {
            return Ok(());
        }
        let word = self.word().unwrap_or_default();
        match AGGREGATES.contains(&word) && self.take("()") {
            true => Ok(()),
            false => Err("an unknown aggregate"),
        }
    }

    /// Requires that no text is left.
    pub(super) fn end(self) -> Result<(), ParseError> {
        match self.is_empty() {
            true => Ok(()),
            false => Err("text behind the end"),
        }
    }

    /// Parses an operator with its negation and its option: `not.eq.`, `like(any).`,
    /// `fts(english).`. Returns its name.
    pub(super) fn operator(&mut self) -> Result<&'a str, ParseError> {
        let _ = self.take("not.");
        let operator = self.word().unwrap_or_default();
        if !OPERATORS.contains(&operator) {
            return Err("an unknown operator");
        }
        if self.take("(") {
            self.word()
                .ok_or("an operator's option that is not a word")?;
            if !self.take(")") {
                return Err("an unclosed bracket");
            }
        }
        match self.take(".") {
            true => Ok(operator),
            false => Err("an operator without a value"),
        }
    }

    /// Parses the value of a filter inside brackets, where it ends at a comma or a bracket.
    pub(super) fn inner_value(&mut self, operator: &str) -> Result<(), ParseError> {
        if operator == "in" {
            if !self.take("(") {
                return Err("`in` without a list");
            }
            loop {
                self.scalar()?;
                if !self.take(",") {
                    break;
                }
            }
            if !self.take(")") {
                return Err("an unclosed bracket");
            }
        } else if self.take("{") {
            let (inside, rest) = self.0.split_once('}').ok_or("an unclosed brace")?;
            if inside.contains('{') {
                return Err("braces in braces");
            }
            self.0 = rest;
        } else {
            self.scalar()?;
        }
        match self.begins(",") || self.begins(")") {
            true => Ok(()),
            false => Err("a value without a comma or bracket behind it"),
        }
    }

    /// Parses a value in quotes, or one without any character that could end it.
    fn scalar(&mut self) -> Result<(), ParseError> {
        if self.take("\"") {
            let mut escaped = false;
            for (index, letter) in self.0.char_indices() {
                match letter {
                    '\\' if !escaped => escaped = true,
                    '"' if !escaped => {
                        self.0 = self.0.get(index + 1..).unwrap_or_default();
                        return Ok(());
                    }
                    _ => escaped = false,
                }
            }
            return Err("an unclosed quote");
        }
        let end = self.0.find([',', ')']).unwrap_or(self.0.len());
        let (value, rest) = self.0.split_at_checked(end).unwrap_or_default();
        if value.contains(['(', '"', '{', '}', '\\']) {
            return Err("an unquoted value with brackets or quotes");
        }
        self.0 = rest;
        Ok(())
    }
}
