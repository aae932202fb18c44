//! Writes the log line of a request straight into the worker's buffer, as JSON (RFC 8259) in which
//! no value can end a member or begin another.
//!
//! Every request has a line, so writing it is part of every request's cost; a general serializer
//! took longer than all layers together. The tests parse every line with a JSON parser.

use std::fmt::{self, Write as _};

/// The name of a member whose value is text, with the constant text around it, so that it is copied
/// at once.
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

/// A key from [`text_key`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextKey(pub(crate) &'static str);

/// A key from [`number_key`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberKey(pub(crate) &'static str);

/// Members that many lines share, serialized once.
pub(crate) struct Members(Box<[u8]>);

impl Members {
    /// Serializes the members that have a value.
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
    /// Begins a line with the time and the members that all lines of requests share.
    pub(crate) fn open(out: &'a mut Vec<u8>, timestamp: &str) -> Self {
        // Most lines fit and cause no other allocation.
        out.reserve(1024);
        let line = Self { out };
        line.out.extend_from_slice(b"{\"timestamp\":\"");
        line.out.extend_from_slice(timestamp.as_bytes());
        line.out
            .extend_from_slice(b"\",\"level\":\"INFO\",\"message\":\"request\"");
        line
    }

    /// Ends the line.
    pub(crate) fn close(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// Writes a member whose value is any text.
    #[inline]
    pub(crate) fn text(&mut self, key: TextKey, value: &str) {
        self.out.extend_from_slice(key.0.as_bytes());
        self.escaped(value);
        self.out.push(b'"');
    }

    /// Writes a member whose value is a constant of ours.
    #[inline]
    pub(crate) fn word(&mut self, key: TextKey, value: &'static str) {
        self.plain(key, value);
    }

    /// Writes a member whose value needs no escapes, because it is ours or its grammar has no such
    /// characters.
    #[inline]
    pub(crate) fn plain(&mut self, key: TextKey, value: &str) {
        debug_assert!(!needs_escapes(value.as_bytes()));
        self.out.extend_from_slice(key.0.as_bytes());
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    /// Writes a member if it has a value.
    #[inline]
    pub(crate) fn optional(&mut self, key: TextKey, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Writes members that are already serialized.
    pub(crate) fn members(&mut self, members: &Members) {
        self.out.extend_from_slice(&members.0);
    }

    /// Writes a member whose value is a number.
    #[inline]
    pub(crate) fn number(&mut self, key: NumberKey, value: u64) {
        self.out.extend_from_slice(key.0.as_bytes());
        self.digits(value);
    }

    /// Writes a member whose value consists of constants of ours and of numbers.
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

/// A value that consists of several parts.
pub(crate) struct Parts<'a>(&'a mut Vec<u8>);

impl Parts<'_> {
    /// Adds a constant of ours, which needs no escapes.
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

/// Whether JSON escapes any byte of this text.
fn needs_escapes(text: &[u8]) -> bool {
    let (eights, rest) = text.as_chunks::<8>();
    // Eight bytes at a time and without an early exit: nearly all texts are short and need no
    // escape.
    let in_eights = eights.iter().fold(0, |found, eight| {
        found | special(u64::from_ne_bytes(*eight))
    });
    let mut last = [b' '; 8];
    for (slot, byte) in last.iter_mut().zip(rest) {
        *slot = *byte;
    }
    (in_eights | special(u64::from_ne_bytes(last))) & HIGH_BITS != 0
}

const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Sets the high bit of one of the eight bytes if, and only if, one of them needs an escape.
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

/// Lets `write!` append to bytes.
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
