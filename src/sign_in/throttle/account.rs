//! One spelling of an account, exactly as the identity server folds it: two spellings of one
//! account would have twice the attempts, and two accounts with one spelling would share them.
//!
//! Supabase Auth is written in Go. It trims with `strings.TrimSpace` and folds with
//! `strings.ToLower`, which maps each code point by itself (`unicode.ToLower`), by the tables of
//! Unicode 15. Rust's `to_lowercase` differs: it maps U+0130 to two code points and a final sigma
//! by its context, and knows the letters of newer versions.

/// The account in the identity server's spelling.
pub(super) fn normalized_account(account: &str) -> String {
    // Both trim the code points with the property `White_Space`.
    account.trim().chars().map(lower_case).collect()
}

/// The simple lower case of a code point in Unicode 15.
fn lower_case(character: char) -> char {
    match character {
        // Capital letters of Unicode 16 and 17.
        '\u{1c89}'
        | '\u{a7cb}'
        | '\u{a7cc}'
        | '\u{a7ce}'
        | '\u{a7d2}'
        | '\u{a7d4}'
        | '\u{a7da}'
        | '\u{a7dc}'
        | '\u{10d50}'..='\u{10d65}'
        | '\u{16ea0}'..='\u{16eb8}' => character,
        // Where the full mapping has several code points, the first is the simple mapping.
        _ => character.to_lowercase().next().unwrap_or(character),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::secrets::{digest, hex};

    /// SHA-256 of a line `FROM TO`, in hexadecimal digits, for each code point that Go's
    /// `unicode.ToLower` changes; by Go 1.26:
    ///
    /// ```go
    /// for r := rune(0); r <= unicode.MaxRune; r++ {
    ///     if l := unicode.ToLower(r); l != r { fmt.Fprintf(h, "%x %x\n", r, l) }
    /// }
    /// ```
    const GO: &str = "f4944fbf8c952a5676c9b57b7707fa77b2238f620c41f6cce6f180532afe52f7";

    /// The code points, first and last, whose lower case differs between Go and Rust's full
    /// mapping.
    const DIFFERENT: [(char, char); 10] = [
        ('\u{130}', '\u{130}'),
        ('\u{1c89}', '\u{1c89}'),
        ('\u{a7cb}', '\u{a7cc}'),
        ('\u{a7ce}', '\u{a7ce}'),
        ('\u{a7d2}', '\u{a7d2}'),
        ('\u{a7d4}', '\u{a7d4}'),
        ('\u{a7da}', '\u{a7da}'),
        ('\u{a7dc}', '\u{a7dc}'),
        ('\u{10d50}', '\u{10d65}'),
        ('\u{16ea0}', '\u{16eb8}'),
    ];

    /// What Go's `unicode.IsSpace` accepts.
    const SPACE: [(char, char); 11] = [
        ('\t', '\r'),
        (' ', ' '),
        ('\u{85}', '\u{85}'),
        ('\u{a0}', '\u{a0}'),
        ('\u{1680}', '\u{1680}'),
        ('\u{2000}', '\u{200a}'),
        ('\u{2028}', '\u{2028}'),
        ('\u{2029}', '\u{2029}'),
        ('\u{202f}', '\u{202f}'),
        ('\u{205f}', '\u{205f}'),
        ('\u{3000}', '\u{3000}'),
    ];

    fn is_in(ranges: &[(char, char)], character: char) -> bool {
        let mut ranges = ranges.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&character))
    }

    #[test]
    fn spellings_of_one_account_are_one_for_the_identity_server_and_here() {
        for character in '\0'..=char::MAX {
            let full: String = character.to_lowercase().collect();
            let folded = normalized_account(&format!("a{character}b"));
            let differs = folded != format!("a{full}b");
            let number = u32::from(character);
            assert_eq!(differs, is_in(&DIFFERENT, character), "U+{number:04X}");
            let trimmed = normalized_account(&format!("{character}a{character}{character}"));
            assert_eq!(trimmed == "a", is_in(&SPACE, character), "U+{number:04X}");
        }
        for (account, folded) in [
            ("v\u{130}ctim@example.test", "victim@example.test"),
            ("\u{212a}im@example.test", "kim@example.test"),
            ("ΑΣ@example.test", "ασ@example.test"),
            // Nothing else is the same to the identity server.
            ("ﬁ@example.test", "ﬁ@example.test"),
            ("a.b+c@example.test", "a.b+c@example.test"),
            ("\u{17f}@example.test", "\u{17f}@example.test"),
            ("i\u{307}@example.test", "i\u{307}@example.test"),
        ] {
            assert_eq!(normalized_account(account), folded);
        }
    }

    #[test]
    fn every_code_point_is_folded_as_go_folds_it() {
        let mut lines = String::new();
        for character in '\0'..=char::MAX {
            let lower = lower_case(character);
            if lower != character {
                let (from, to) = (u32::from(character), u32::from(lower));
                let _ = writeln!(lines, "{from:x} {to:x}");
            }
        }
        assert_eq!(hex::encode(&digest::of(lines.as_bytes())), GO);
    }
}
