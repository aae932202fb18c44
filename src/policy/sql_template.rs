//! A template from an operator's query, in which `$1` is replaced. Only SQL whose `$1`s can be
//! found reliably is accepted; `facts::source` builds statements from it.
//!
//! Input from a request never becomes part of the text: the replacements are parameters and columns
//! of the gateway's own statements.

/// The parts of a query between its `$1`s; there is at least one `$1`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Vec<String>);

impl Template {
    /// Parses a query, which must be one statement whose only parameter is `$1`.
    ///
    /// # Errors
    ///
    /// What is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let begins = |word: &str| {
            text.get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        if !begins("select") && !begins("with") {
            return Err("is not a query: it must begin with `select`");
        }
        let mut pieces = Vec::new();
        let mut piece = String::new();
        let mut characters = text.chars().peekable();
        let mut previous = ' ';
        while let Some(character) = characters.next() {
            let next = characters.peek().copied().unwrap_or(' ');
            match character {
                ';' => return Err("has a `;`; write one query without it"),
                '-' if next == '-' => {
                    return Err("has a comment (`--`); write it as a YAML comment (`#`)");
                }
                '/' if next == '*' => {
                    return Err("has a comment (`/*`); write it as a YAML comment (`#`)");
                }
                '\'' if matches!(previous, 'e' | 'E') => {
                    return Err("has a string with escapes (`E'…'`); write it without");
                }
                '\'' | '"' => {
                    piece.push(character);
                    copy_quoted(&mut characters, character, &mut piece)?;
                    previous = character;
                    continue;
                }
                '$' if is_word(previous) => return Err("has a `$` inside a name"),
                '$' if next == '1' => {
                    characters.next();
                    if characters.peek().copied().is_some_and(is_word) {
                        return Err("has a parameter besides `$1`");
                    }
                    pieces.push(std::mem::take(&mut piece));
                    previous = '1';
                    continue;
                }
                '$' => return Err("has a `$` that is not `$1`; write strings in single quotes"),
                _ => {}
            }
            piece.push(character);
            previous = character;
        }
        if pieces.is_empty() {
            return Err("does not use `$1`, so it returns the same for every id");
        }
        pieces.push(piece);
        Ok(Self(pieces))
    }

    /// The query with this expression in place of every `$1`.
    pub fn fill(&self, with: &str) -> String {
        self.0.join(&format!("({with})"))
    }

    /// The query with its `$1`s.
    pub fn shown(&self) -> String {
        self.0.join("$1")
    }
}

/// Copies the rest of a quoted string or name, with its closing quote. A doubled quote ends one
/// string and begins the next, with the same result.
fn copy_quoted(
    characters: &mut impl Iterator<Item = char>,
    quote: char,
    piece: &mut String,
) -> Result<(), &'static str> {
    loop {
        let inside = characters.next().ok_or("has an unclosed quote")?;
        piece.push(inside);
        if inside == quote {
            return Ok(());
        }
    }
}

const fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parameter_is_replaced() {
        let parse =
            |text| Template::parse(text).unwrap_or_else(|why| unreachable!("{text}: {why}"));
        let template = parse("select a as \"$1\", '$1 it''s' from t where id = $1 and x=$1");
        assert_eq!(
            template.fill("w.id"),
            "select a as \"$1\", '$1 it''s' from t where id = (w.id) and x=(w.id)"
        );
        assert_eq!(
            template.shown(),
            "select a as \"$1\", '$1 it''s' from t where id = $1 and x=$1"
        );
        assert_eq!(parse(" SELECT $1::uuid ").fill("x"), "SELECT (x)::uuid");
    }

    #[test]
    fn an_ambiguous_query_is_refused() {
        for text in [
            "",
            "delete from t where id = $1",
            "select 1",
            "select $2, $1",
            "select $12",
            "select '$1",
            "select '$1' from t",
            "select $1; drop table t",
            "select $1 -- '",
            "select $1 /* x */",
            "select E'\\'' || $1",
            "select $$x$$ || $1",
            "select $tag$x$tag$ || $1",
            "select a$1 from t",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
