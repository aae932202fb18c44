//! A query of the operator's, in which `$1` can be replaced by something of ours.
//!
//! Decides: what SQL is understood well enough for that. Trusts: the operator for what the query says. Not here: how it is built in
//! (`source`).
//!
//! What a request names never becomes part of the text: the replacements are parameters and columns of statements written here.

/// The pieces of a query between its `$1`s; there is at least one `$1`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Vec<String>);

impl Template {
    /// Reads a query. It is one statement whose only parameter is `$1`.
    ///
    /// # Errors
    ///
    /// What to write instead, in a sentence.
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
                ';' => return Err("has a `;`; write one query, without an end"),
                '-' if next == '-' => {
                    return Err("has a comment (`--`); put it behind the `#` of a YAML line");
                }
                '/' if next == '*' => {
                    return Err("has a comment (`/*`); put it behind the `#` of a YAML line");
                }
                '\'' if matches!(previous, 'e' | 'E') => {
                    return Err("has a string with escapes (`E'…'`); write it without");
                }
                '\'' | '"' => {
                    piece.push(character);
                    // A doubled quote ends one string and begins the next, which comes to the same.
                    loop {
                        let inside = characters.next().ok_or("has a quote without an end")?;
                        piece.push(inside);
                        if inside == character {
                            break;
                        }
                    }
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
            return Err("does not ask for `$1`, so it would say the same of everything");
        }
        pieces.push(piece);
        Ok(Self(pieces))
    }

    /// The query, with this expression in place of `$1`.
    pub fn fill(&self, with: &str) -> String {
        self.0.join(&format!("({with})"))
    }

    /// The query as it stands, in one line.
    pub fn shown(&self) -> String {
        self.0.join("$1")
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
    fn what_could_be_read_in_two_ways_is_refused() {
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
