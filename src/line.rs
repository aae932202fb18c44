//! A log line of a request, written straight into the worker's buffer.
//!
//! Decides: how a member of the line is spelled, so that no value can end it or begin another (RFC 8259). Trusts: nothing that a client sent. Not
//! here: which members there are (`record`).
//!
//! One line is written for every request, so its writing is part of every request's cost: a general serializer took longer than all layers together.
//! The tests read every line back with a JSON parser.

use std::fmt::{self, Write as _};

/// The name of a member whose value is text, with everything around it that is the same in every line, so that it is copied in one
/// piece.
macro_rules! text_key {
    ($name:literal) => {
        $crate::line::TextKey(concat!(",\"", $name, "\":\""))
    };
}
pub(crate) use text_key;

/// The name of a member whose value is a number.
macro_rules! number_key {
    ($name:literal) => {
        $crate::line::NumberKey(concat!(",\"", $name, "\":"))
    };
}
pub(crate) use number_key;

/// See [`text_key`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextKey(pub(crate) &'static str);

/// See [`number_key`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberKey(pub(crate) &'static str);

/// Members that are the same in many lines, written once.
pub(crate) struct Members(Box<[u8]>);

impl Members {
    /// Those that have a value.
    pub(crate) fn of<'a>(members: impl IntoIterator<Item = (TextKey, Option<&'a str>)>) -> Self {
        let mut out = Vec::new();
        let mut line = Line { out: &mut out };
        for (key, value) in members {
            line.optional(key, value);
        }
        Self(out.into())
    }
}

/// A JSON object under construction.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Line<'a> {
    /// Begins a line with the time and what all lines of requests share.
    pub(crate) fn open(out: &'a mut Vec<u8>, timestamp: &str) -> Self {
        // Most lines fit, and then grow nothing.
        out.reserve(1024);
        let line = Self { out };
        line.out.extend_from_slice(b"{\"timestamp\":\"");
        line.out.extend_from_slice(timestamp.as_bytes());
        line.out
            .extend_from_slice(b"\",\"level\":\"INFO\",\"message\":\"request\"");
        line
    }

    /// Ends it.
    pub(crate) fn close(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// A member whose value is text.
    #[inline]
    pub(crate) fn text(&mut self, key: TextKey, value: &str) {
        self.out.extend_from_slice(key.0.as_bytes());
        self.escaped(value);
        self.out.push(b'"');
    }

    /// A member whose value is one of our own words.
    #[inline]
    pub(crate) fn word(&mut self, key: TextKey, value: &'static str) {
        self.plain(key, value);
    }

    /// A member whose value cannot have what needs an escape: it is ours, or has a grammar without.
    #[inline]
    pub(crate) fn plain(&mut self, key: TextKey, value: &str) {
        debug_assert!(!needs_escapes(value.as_bytes()));
        self.out.extend_from_slice(key.0.as_bytes());
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    /// A member that may be left out.
    #[inline]
    pub(crate) fn optional(&mut self, key: TextKey, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Members that were written before.
    pub(crate) fn members(&mut self, members: &Members) {
        self.out.extend_from_slice(&members.0);
    }

    /// A member whose value is a number.
    #[inline]
    pub(crate) fn number(&mut self, key: NumberKey, value: u64) {
        self.out.extend_from_slice(key.0.as_bytes());
        self.digits(value);
    }

    /// A member whose value is put together from our own words and from numbers.
    #[inline]
    pub(crate) fn parts(&mut self, key: TextKey, write: impl FnOnce(&mut Parts<'_>)) {
        self.out.extend_from_slice(key.0.as_bytes());
        write(&mut Parts(self.out));
        self.out.push(b'"');
    }

    fn escaped(&mut self, value: &str) {
        if !needs_escapes(value.as_bytes()) {
            return self.out.extend_from_slice(value.as_bytes());
        }
        for character in value.chars() {
            match character {
                '"' => self.out.extend_from_slice(b"\\\""),
                '\\' => self.out.extend_from_slice(b"\\\\"),
                control if u32::from(control) < 0x20 => {
                    let _ = write!(Plain(self.out), "\\u{:04x}", u32::from(control));
                }
                other => self
                    .out
                    .extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn digits(&mut self, value: u64) {
        Parts(self.out).number(value);
    }
}

/// The value of a member that is being put together.
pub(crate) struct Parts<'a>(&'a mut Vec<u8>);

impl Parts<'_> {
    /// Adds a word of ours, which needs no escapes.
    #[inline]
    pub(crate) fn word(&mut self, word: &'static str) {
        self.0.extend_from_slice(word.as_bytes());
    }

    /// Adds a number in decimal digits.
    #[inline]
    pub(crate) fn number(&mut self, number: u64) {
        let mut buffer = itoa::Buffer::new();
        self.0.extend_from_slice(buffer.format(number).as_bytes());
    }
}

/// Whether a byte of a text is one that JSON writes in another way.
fn needs_escapes(text: &[u8]) -> bool {
    let (eights, rest) = text.as_chunks::<8>();
    // Eight at a time, without an early end: nearly all texts are short, and need none.
    let in_eights = eights.iter().fold(0, |found, eight| {
        found | special(u64::from_ne_bytes(*eight))
    });
    let mut last = [b' '; 8];
    for (place, byte) in last.iter_mut().zip(rest) {
        *place = *byte;
    }
    (in_eights | special(u64::from_ne_bytes(last))) & HIGH_BITS != 0
}

const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Has a high bit set in one of eight bytes if, and only if, one of them is special.
const fn special(eight: u64) -> u64 {
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    const fn has_less(eight: u64, than: u8) -> u64 {
        eight.wrapping_sub(all(than)) & !eight
    }
    let quote = has_less(eight ^ all(b'"'), 1);
    let backslash = has_less(eight ^ all(b'\\'), 1);
    has_less(eight, 0x20) | quote | backslash
}

/// Formats into bytes.
struct Plain<'a>(&'a mut Vec<u8>);

impl fmt::Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_json_parser_reads_back_what_was_written(value in ".*", control in "[\\x00-\\x1f\"\\\\]{0,4}", number in any::<u64>()) {
            let value = value + &control;
            let mut out = Vec::new();
            let mut line = Line::open(&mut out, "now");
            line.text(text_key!("text"), &value);
            line.number(number_key!("number"), number);
            line.optional(text_key!("absent"), None);
            line.word(text_key!("word"), "word");
            line.members(&Members::of([(text_key!("once"), Some(value.as_str())), (text_key!("never"), None)]));
            line.close();
            let read: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            prop_assert_eq!(read.get("once").expect("once"), &serde_json::Value::from(value.as_str()));
            prop_assert!(read.get("never").is_none());
            prop_assert_eq!(read.get("text").expect("text"), &serde_json::Value::from(value));
            prop_assert_eq!(read.get("number").expect("number"), &serde_json::Value::from(number));
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }
}
