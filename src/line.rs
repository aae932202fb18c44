//! A log line of a request, written straight into the worker's buffer.
//!
//! One line is written for every request, so its writing is part of every request's cost: a general serializer took longer than all
//! layers together. The grammar is that of RFC 8259; the tests read every line back with a JSON parser.

use std::fmt::{self, Write as _};

use crate::record::{Step, Verdict};

/// A JSON object under construction.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Line<'a> {
    /// Begins a line.
    pub(crate) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Ends it.
    pub(crate) fn close(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// A member whose value is text.
    pub(crate) fn text(&mut self, name: &'static str, value: &str) {
        self.name(name);
        self.out.push(b'"');
        self.escaped(value);
        self.out.push(b'"');
    }

    /// A member that may be left out.
    pub(crate) fn optional(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A member whose value is a number.
    pub(crate) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        self.digits(value);
    }

    /// What the layers said.
    pub(crate) fn steps(&mut self, name: &'static str, steps: &[Step]) {
        self.name(name);
        self.out.push(b'"');
        for (index, step) in steps.iter().enumerate() {
            if index > 0 {
                self.out.push(b' ');
            }
            self.out.extend_from_slice(step.layer.as_str().as_bytes());
            self.out.push(b':');
            match step.verdict {
                Verdict::Off => self.out.extend_from_slice(b"off"),
                Verdict::Passed | Verdict::Denied(_) | Verdict::Waived(_) => {
                    self.digits(u64::try_from(step.took.as_micros()).unwrap_or(u64::MAX));
                }
            }
            match step.verdict {
                Verdict::Off | Verdict::Passed => {}
                Verdict::Denied(_) => self.out.extend_from_slice(b":denied"),
                Verdict::Waived(reason) => {
                    self.out.extend_from_slice(b":waived:");
                    self.out.extend_from_slice(reason.code().as_bytes());
                }
            }
        }
        self.out.push(b'"');
    }

    fn name(&mut self, name: &'static str) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn escaped(&mut self, value: &str) {
        let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        // Without an early end, so that the compiler can look at many bytes at once.
        let is_special = value
            .bytes()
            .fold(false, |found, byte| found | special(byte));
        if !is_special {
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

    fn digits(&mut self, mut value: u64) {
        let mut reversed = [0; 20];
        let mut length = 0;
        for place in &mut reversed {
            *place = b'0' + u8::try_from(value % 10).unwrap_or_default();
            value /= 10;
            length += 1;
            if value == 0 {
                break;
            }
        }
        self.out.extend(reversed.iter().take(length).rev());
    }
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
            let mut line = Line::open(&mut out);
            line.text("text", &value);
            line.number("number", number);
            line.optional("absent", None);
            line.close();
            let read: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            prop_assert_eq!(read.get("text").expect("text"), &serde_json::Value::from(value));
            prop_assert_eq!(read.get("number").expect("number"), &serde_json::Value::from(number));
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }
}
