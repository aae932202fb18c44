//! Boundaries of server-sent events (the HTML standard, section 9.2): where an event of this
//! gateway may be inserted. The content of events is not read.

use bytes::Bytes;
use serde::Serialize;

use crate::live::Ending;

/// Finds the boundaries in a stream of events.
#[derive(Debug)]
pub(super) struct EventBoundaries {
    /// The current line is not empty.
    in_line: bool,
    /// The current event has a line.
    in_event: bool,
    /// The last byte was a carriage return; a line feed after it belongs to it.
    after_return: bool,
}

impl EventBoundaries {
    /// Starts before the first event.
    pub(super) fn new() -> Self {
        Self {
            in_line: false,
            in_event: false,
            after_return: false,
        }
    }

    /// Whether an event may be inserted here.
    pub(super) fn is_between(&self) -> bool {
        !self.in_line && !self.in_event
    }

    /// Follows these bytes; with `to_boundary` only up to the end of the current event. Returns how
    /// many were followed.
    pub(super) fn follow(&mut self, bytes: &[u8], to_boundary: bool) -> usize {
        for (place, byte) in bytes.iter().enumerate() {
            if to_boundary && self.is_between() {
                return place;
            }
            match byte {
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => {
                    // An empty line ends the event.
                    self.in_event = self.in_line;
                    self.in_line = false;
                }
                _ => self.in_line = true,
            }
            self.after_return = *byte == b'\r';
        }
        bytes.len()
    }
}

/// A comment, which clients ignore, and the empty line that keeps it from the next event.
pub(super) const fn comment() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// The data of the event that ends a stream.
#[derive(Serialize)]
struct Data {
    code: &'static str,
    status: u16,
}

/// The event that ends a stream.
pub(super) fn last(ending: Ending) -> Bytes {
    let data = Data {
        code: ending.code(),
        status: ending.status().as_u16(),
    };
    let data = serde_json::to_string(&data).unwrap_or_default();
    format!("event: foregate\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::Reason;

    fn between(text: &str) -> bool {
        let mut whole = EventBoundaries::new();
        whole.follow(text.as_bytes(), false);
        let mut bytewise = EventBoundaries::new();
        for byte in text.as_bytes() {
            bytewise.follow(&[*byte], false);
        }
        assert_eq!(whole.is_between(), bytewise.is_between(), "{text:?}");
        whole.is_between()
    }

    #[test]
    fn an_event_is_inserted_only_between_two_others() {
        for text in [
            "",
            "data: a\n\n",
            "data: a\r\n\r\n",
            "data: a\r\r",
            "\n",
            "data: a\r\n\n",
        ] {
            assert!(between(text), "{text:?}");
        }
        for text in [
            "d",
            "data: a",
            "data: a\n",
            "data: a\r\n",
            ": c\n",
            "data: a\n\nid: 1\n",
        ] {
            assert!(!between(text), "{text:?}");
        }
    }

    #[test]
    fn the_current_event_is_finished_first() {
        let mut events = EventBoundaries::new();
        events.follow(b"data: a\n\nda", false);
        assert_eq!(events.follow(b"ta: b\n\ndata: c\n\n", true), 7);
        assert!(events.is_between());
    }

    #[test]
    fn the_last_event_is_one_event() {
        let last = last(Ending::refused(Reason::TokenExpired));
        assert_eq!(
            &last[..],
            b"event: foregate\ndata: {\"code\":\"token_expired\",\"status\":401}\n\n"
        );
        assert!(between(std::str::from_utf8(&last).expect("text")));
    }
}
