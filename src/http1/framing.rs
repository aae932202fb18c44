//! What the fields of a head declare about the body and the connection.

use hyper::header::{self, HeaderName, HeaderValue};

use super::malformed::Malformed;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length.
    Length(u64),
    /// By chunks (RFC 9112, section 7.1).
    Chunked,
    /// By the end of the connection. Only an answer may be.
    UntilClose,
}

/// What the fields declare about framing and the connection.
#[derive(Debug, Default)]
pub(crate) struct FramingFields {
    codings: usize,
    is_chunked: bool,
    lengths: usize,
    length: Option<u64>,
    close: bool,
    keep_alive: bool,
}

impl FramingFields {
    /// Reads one field; those without a meaning here change nothing.
    pub(crate) fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        let value = value.as_bytes();
        if *name == header::CONTENT_LENGTH {
            self.lengths += 1;
            self.length = digits(value);
        } else if *name == header::CONNECTION {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == header::TRANSFER_ENCODING {
            self.codings += 1;
            self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        }
    }

    /// The framing that the fields declare; `None` if they declare none (RFC 9112, section 6.3).
    ///
    /// # Errors
    ///
    /// They are ambiguous: not exactly one length, or anything but exactly `chunked`, or both.
    pub(crate) fn declared(&self, is_http_11: bool) -> Result<Option<Framing>, Malformed> {
        match (self.codings, self.lengths) {
            (0, 0) => Ok(None),
            (0, 1) => match self.length {
                Some(length) => Ok(Some(Framing::Length(length))),
                None => Err(Malformed("`Content-Length` is not a number")),
            },
            // A coding that is not decoded here would reach the other side without being declared.
            (1, 0) if self.is_chunked && is_http_11 => Ok(Some(Framing::Chunked)),
            (1, 0) => Err(Malformed("`Transfer-Encoding` is not exactly `chunked`")),
            (_, 0) => Err(Malformed("more than one `Transfer-Encoding`")),
            (0, _) => Err(Malformed("more than one `Content-Length`")),
            _ => Err(Malformed(
                "both `Transfer-Encoding` and `Content-Length` declare the length",
            )),
        }
    }

    /// Whether the fields declare any content.
    pub(crate) fn declare_content(&self) -> bool {
        self.codings > 0 || self.length.is_some_and(|length| length > 0)
    }

    /// Whether the sender keeps the connection (RFC 9112, section 9.3).
    pub(crate) fn keeps_open(&self, is_http_11: bool) -> bool {
        !self.close && (is_http_11 || self.keep_alive)
    }
}

/// Digits and nothing else: other parsers accept signs and lists, and read them differently.
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
