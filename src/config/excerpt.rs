//! One line of the configuration, fit to be shown in an error.
//!
//! Decides: what of a line is hidden. Trusts: nothing; it works on the text, because a file with a syntax error has no tree to ask.
//! Not here: how the line is drawn (`problem`).
//!
//! A secret may be written into the file, and the error may end in a build log. So the value of every key named `secret` is
//! replaced by `…`, on its own line and on the more indented lines below it, and so are a name and password in a URL.
//! Hiding too much is cheap.

use std::ops::Range;

use super::problem::Place;

/// One line, and the bytes of it to mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line, with everything hidden that must be.
    pub line: String,
    /// Byte range to mark.
    pub marked: Range<usize>,
}

impl Excerpt {
    /// The line of `place`. `None` if there is no such line.
    pub(crate) fn cut(source: &str, place: &Place) -> Option<Self> {
        let index = usize::try_from(place.line).ok()?.checked_sub(1)?;
        let line = source.lines().nth(index)?;
        let shown = if continues_a_secret(source, index) {
            "…".to_owned()
        } else {
            hidden(line)
        };

        let start = usize::try_from(place.column).ok()?.saturating_sub(1);
        let width = usize::try_from(place.width).ok()?.max(1);
        let from = byte_of(&shown, start);
        let to = byte_of(&shown, start.saturating_add(width)).max(from);
        Some(Self {
            marked: from..to,
            line: shown,
        })
    }
}

/// The byte at which character `index` starts; the end of the line if it has fewer.
fn byte_of(line: &str, index: usize) -> usize {
    line.char_indices()
        .nth(index)
        .map_or(line.len(), |(byte, _)| byte)
}

/// The line without the value of a `secret` key and without names and passwords in URLs.
fn hidden(line: &str) -> String {
    let line = match secret_value(line) {
        Some((_, value)) => format!("{} …", line.get(..value).unwrap_or_default()),
        None => line.to_owned(),
    };
    without_userinfo(&line)
}

/// Where the key `secret` starts in this line, and the byte after its colon.
fn secret_value(line: &str) -> Option<(usize, usize)> {
    line.match_indices("secret").find_map(|(at, word)| {
        let before = line.get(..at)?.chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let after = line.get(at + word.len()..)?;
        let colon = after.trim_start_matches(['"', '\'', ' ', '\t']);
        colon
            .starts_with(':')
            .then(|| (at, line.len() - colon.len() + 1))
    })
}

fn continues_a_secret(source: &str, index: usize) -> bool {
    let lines: Vec<&str> = source.lines().take(index.saturating_add(1)).collect();
    let Some((line, above)) = lines.split_last() else {
        return false;
    };
    let mut indent = indentation(line);
    for line in above.iter().rev().filter(|line| !line.trim().is_empty()) {
        if let Some((at, _)) = secret_value(line) {
            let first = line
                .get(..at)
                .is_some_and(|before| before.chars().all(|c| c == ' ' || c == '-'));
            return indent > if first { at } else { indentation(line) };
        }
        if indentation(line) == 0 {
            return false;
        }
        indent = indent.min(indentation(line));
    }
    false
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
        Excerpt::cut(source, &place)
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
        assert_eq!(shown("secret_file: keys/a", 1), "secret_file: keys/a");
        assert_eq!(shown("client_secret: a", 1), "client_secret: a");
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
