//! What a plan and its statement say of clocks, the session and chance.

use super::super::Table;
use super::{Plan, calls};

/// Expressions that a plan writes as capitals without parentheses: clocks, and session properties.
const KEYWORDS: [&str; 12] = [
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SESSION_USER",
    "SYSTEM_USER",
    "USER",
];

/// The type of a time of day with a zone, with or without a precision. A cast to it takes the
/// offset of today, and a plan shows no function for it.
const TIME_WITH_ZONE: &str = "time with time zone";
const TIME_OF_PRECISION: &str = "time(";

/// Texts that date and time types read as the clock, such as `'today'::date`. The parser puts the
/// date in their place, so only the statement shows them, and the
/// catalog those of functions.
const CLOCK_WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// Casts of an expression, not of a constant, to a type that reads such texts.
const CASTS_TO_TIME: [&str; 4] = [")::date", ")::time", ")::tsrange", ")::tstzrange"];

/// Functions and operators that make texts when the statement is executed, so that neither the
/// statement nor its plan need show the word.
const TEXT_FUNCTIONS: [&str; 6] = [
    "array_to_string",
    "concat",
    "concat_ws",
    "format",
    "string_agg",
    "to_char",
];
const TEXT_OPERATORS: [&str; 3] = ["->>", "#>>", "||"];

impl Plan {
    /// What depends on a clock, the session or chance without being a function call.
    pub(super) fn unstable_expressions(&self) -> impl Iterator<Item = String> {
        let is_keyword = |keyword: &&str| {
            let is_other = |c: char| !c.is_alphanumeric() && c != '_';
            let mut words = self.unquoted.split(is_other);
            words.any(|word| word == *keyword)
        };
        let is_clock = |text: &&str| {
            let texts = [&self.statement, &self.expressions];
            texts.into_iter().any(|any| has_word(any, text))
        };
        let with_zone = self.unquoted.match_indices(TIME_OF_PRECISION);
        let mut with_zone =
            with_zone.filter_map(|(at, _)| self.unquoted.get(at..)?.split_once(')'));
        let has_zone = self.unquoted.contains(TIME_WITH_ZONE)
            || with_zone.any(|(_, rest)| rest.starts_with(" with time zone"));
        KEYWORDS
            .into_iter()
            .filter(is_keyword)
            .chain(CLOCK_WORDS.into_iter().filter(is_clock))
            .chain(has_zone.then_some(TIME_WITH_ZONE))
            .chain(self.is_sampled.then_some("TABLESAMPLE"))
            .chain(
                self.has_changing_constant
                    .then_some("a constant that is another one each time"),
            )
            .chain(has_escapes(&self.statement).then_some("a text with escapes"))
            .map(str::to_owned)
    }

    /// A date or time that is read from a text which is made when the statement is executed, or
    /// from a column that holds texts: it may be `today`.
    pub(super) fn time_from_text(&self, tables: &[Table]) -> Option<String> {
        let is_cast = |text: &str| CASTS_TO_TIME.iter().any(|cast| text.starts_with(cast));
        let mut columns = tables.iter().flat_map(|table| &table.texts);
        let is_made = TEXT_FUNCTIONS
            .iter()
            .any(|name| calls(&self.expressions, name))
            || TEXT_OPERATORS
                .iter()
                .any(|sign| self.unquoted.contains(sign));
        let has_cast = || {
            CASTS_TO_TIME
                .iter()
                .any(|cast| self.expressions.contains(cast))
        };
        let is_read = |column: &String| {
            let mut found = self.expressions.match_indices(column.as_str());
            found.any(|(at, _)| {
                let rest = self.expressions.get(at + column.len()..);
                rest.is_some_and(|rest| {
                    is_cast(rest.trim_start_matches('"').trim_start_matches(")::text"))
                })
            })
        };
        (is_made && has_cast() || columns.any(is_read))
            .then(|| "a time that is read from a text".to_owned())
    }
}

/// Whether a text has this word, as date and time types find it: in any case, next to digits and
/// punctuation. A name such as `valid_now` does not have it.
fn has_word(text: &str, word: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphabetic() && c != '_');
    words.any(|one| one.trim_matches('_').eq_ignore_ascii_case(word))
}

/// Whether a statement has texts that are not what they look like: with Unicode escapes, or in
/// pieces on several lines. Templates refuse other escapes.
fn has_escapes(sql: &str) -> bool {
    let mut pieces = sql.split('\'').skip(1);
    let is_break = |text: &str| text.contains('\n') && text.trim().is_empty();
    sql.to_lowercase().contains("u&'") || pieces.any(is_break)
}
