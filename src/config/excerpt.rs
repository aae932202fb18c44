//! One line of the configuration, redacted so that an error can show it.
//!
//! It works on the text, because a file with a syntax error has no tree. A secret may be written
//! into the file, and the error may end in a build log. So the value of every key whose name
//! suggests a secret is replaced by `…`, on its own line and on the more indented lines below it,
//! and so are a name and password in a URL. Hiding too much is cheap.

use std::ops::Range;

use super::place::Place;
use crate::policy::spelling::nearest;

/// One line, and the bytes of it to mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line, with everything hidden that must be.
    pub line: String,
    /// Byte range to mark.
    pub marked: Range<usize>,
}

/// The lines of a file, and which of them must not be shown at all.
pub(crate) struct Source<'a> {
    lines: Vec<(&'a str, bool)>,
}

impl<'a> Source<'a> {
    /// Scans the whole file once: whether a line is part of a long secret depends on those above
    /// it.
    pub(crate) fn new(text: &'a str) -> Self {
        let mut secret: Option<usize> = None;
        let mark = |line: &'a str| {
            let blank = line.trim().is_empty();
            if secret.is_some_and(|indent| blank || indentation(line) > indent) {
                return (line, true);
            }
            secret = secret_value(line).map(|(at, _)| {
                let first = line.get(..at).is_some_and(|before| {
                    before.chars().all(|c| matches!(c, ' ' | '-' | '"' | '\''))
                });
                // Behind `- ` the key is further in than its line, and so are its neighbours.
                if first { at } else { indentation(line) }
            });
            (line, false)
        };
        Self {
            lines: text.lines().map(mark).collect(),
        }
    }

    /// The line of `place`. `None` if there is no such line.
    pub(crate) fn cut(&self, place: &Place) -> Option<Excerpt> {
        let index = usize::try_from(place.line).ok()?.checked_sub(1)?;
        let (line, secret) = self.lines.get(index)?;
        // A flow mapping may put the value on a line of its own, at any indentation.
        let strayed =
            place.key.rsplit('.').next().is_some_and(is_secret) && secret_value(line).is_none();
        let shown = if *secret || strayed {
            "…".to_owned()
        } else {
            hidden(line)
        };

        let start = usize::try_from(place.column).ok()?.saturating_sub(1);
        let width = usize::try_from(place.width).ok()?.max(1);
        let from = byte_of(&shown, start);
        let to = byte_of(&shown, start.saturating_add(width)).max(from);
        Some(Excerpt {
            line: shown,
            marked: from..to,
        })
    }
}

/// The byte at which character `index` starts; the end of the line if it has fewer.
fn byte_of(line: &str, index: usize) -> usize {
    line.char_indices()
        .nth(index)
        .map_or(line.len(), |(byte, _)| byte)
}

/// The line without the value of a secret's key and without names and passwords in URLs.
fn hidden(line: &str) -> String {
    let line = match secret_value(line) {
        Some((_, value)) => format!("{} …", line.get(..value).unwrap_or_default()),
        None => line.to_owned(),
    };
    without_userinfo(&line)
}

/// Where the key of a secret starts in this line, and the byte after its colon.
fn secret_value(line: &str) -> Option<(usize, usize)> {
    let mut rest = line;
    while let Some(skipped) = rest.find(is_name) {
        let (_, name) = rest.split_at_checked(skipped)?;
        let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
        let (name, after) = name.split_at_checked(end)?;
        let colon = after.trim_start_matches(['"', '\'', ' ', '\t']);
        if is_secret(name) && colon.starts_with(':') {
            return Some((
                line.len() - after.len() - name.len(),
                line.len() - colon.len() + 1,
            ));
        }
        rest = after;
    }
    None
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Also keys of other programs, and misspelled ones: the error that refuses such a key shows its
/// line.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let names_it = name.contains("secret") || name.contains("password");
    let is_misspelled = nearest(&name, ["secret"]).is_some();
    (names_it || is_misspelled) && !name.ends_with("_file")
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn without_userinfo(line: &str) -> String {
    let mut parts = line.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str("://");
        let authority = part
            .split(['/', ' ', '\t', '"', '\''])
            .next()
            .unwrap_or_default();
        match authority.rfind('@') {
            Some(at) => {
                shown.push('…');
                shown.push_str(part.get(at..).unwrap_or_default());
            }
            None => shown.push_str(part),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str, line: u32) -> String {
        let place = Place {
            line,
            column: 1,
            width: 1,
            ..Place::default()
        };
        Source::new(source)
            .cut(&place)
            .map(|excerpt| excerpt.line)
            .unwrap_or_default()
    }

    #[test]
    fn the_value_of_a_secret_is_replaced() {
        assert_eq!(shown("  secret: hunter2", 1), "  secret: …");
        assert_eq!(
            shown("- { issuer: a, \"secret\": hunter2, leeway: 5s }", 1),
            "- { issuer: a, \"secret\": …"
        );
        assert_eq!(shown("  Secrt: hunter2", 1), "  Secrt: …");
        assert_eq!(shown("secret_file: keys/a", 1), "secret_file: keys/a");
        assert_eq!(
            shown("identity: { supabase: { secret_key: a } }", 1),
            "identity: { supabase: { secret_key: …"
        );
    }

    #[test]
    fn the_lines_of_a_long_secret_are_hidden_and_its_neighbours_are_not() {
        let source = "tokens:\n  - issuer: a\n    secret: |\n      hunter2\n\n      hunter3\n    leeway: 5s\n";
        assert_eq!(shown(source, 4), "…");
        assert_eq!(shown(source, 6), "…");
        assert_eq!(shown(source, 7), "    leeway: 5s");
        let source = "tokens:\n  - secret: a\n    leeway: 5s\n";
        assert_eq!(shown(source, 3), "    leeway: 5s");
    }

    #[test]
    fn names_and_passwords_in_urls_are_hidden() {
        assert_eq!(
            shown("a: https://me:hunter2@host/x", 1),
            "a: https://…@host/x"
        );
        assert_eq!(shown("a: https://host/x@y", 1), "a: https://host/x@y");
    }
}
