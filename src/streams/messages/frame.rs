//! One frame of a client: its header (RFC 6455, section 5.2), and how much of its payload was
//! received.

use crate::denial::Reason;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xa;

/// The longest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL: u8 = 125;

/// The frame that is being received.
#[derive(Debug)]
pub(super) struct Frame {
    opcode: u8,
    pub(super) is_last: bool,
    mask: [u8; 4],
    /// How many bytes of its payload were received.
    received: usize,
    /// How many bytes of its payload are still missing.
    missing: u64,
}

impl Frame {
    /// Reads the header at the beginning of `bytes`, and gives it with its length; `None` if it is
    /// not complete yet. `in_message` while a message has begun and not ended.
    ///
    /// # Errors
    ///
    /// [`Reason::MessageInvalid`]: a client may not send such a frame here.
    pub(super) fn parse(bytes: &[u8], in_message: bool) -> Result<Option<(Self, usize)>, Reason> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if !is_allowed(*first, *second, in_message) {
            return Err(Reason::MessageInvalid);
        }
        let (length, size) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (u16::from_be_bytes([*a, *b]).into(), 2),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8)
            }
            (126 | 127, _) => return Ok(None),
            (short, _) => (short.into(), 0),
        };
        let Some([a, b, c, d]) = rest.get(size..size + 4) else {
            return Ok(None);
        };
        // The first bit of a long length must be 0.
        if length > u64::MAX / 2 {
            return Err(Reason::MessageInvalid);
        }
        let frame = Self {
            opcode: first & 0x0f,
            is_last: is_last(*first),
            mask: [*a, *b, *c, *d],
            received: 0,
            missing: length,
        };
        Ok(Some((frame, 2 + size + 4)))
    }

    pub(super) fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }

    pub(super) fn is_close(&self) -> bool {
        self.opcode == CLOSE
    }

    pub(super) fn begins_message(&self) -> bool {
        matches!(self.opcode, TEXT | BINARY)
    }

    pub(super) fn is_text(&self) -> bool {
        self.opcode == TEXT
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// How many of these bytes, which follow what was received, belong to the payload.
    pub(super) fn available(&self, bytes: &[u8]) -> usize {
        usize::try_from(self.missing)
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    }

    /// The next bytes of the payload without their mask.
    pub(super) fn unmask(&self, bytes: &[u8]) -> impl Iterator<Item = u8> {
        let mask = self.mask.iter().cycle().skip(self.received % 4);
        bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask)
    }

    /// Counts the next `length` bytes of the payload as received.
    pub(super) fn advance(&mut self, length: usize) {
        self.received += length;
        self.missing -= u64::try_from(length).unwrap_or(self.missing);
    }
}

/// Whether a client may send a frame that begins with these two bytes. No extension was agreed on,
/// so the reserved bits are 0; and clients mask their frames (RFC 6455, section 5.1).
fn is_allowed(first: u8, second: u8, in_message: bool) -> bool {
    let has_reserved_bits = first & 0x70 != 0;
    let is_masked = second & 0x80 != 0;
    !has_reserved_bits
        && is_masked
        && match first & 0x0f {
            CONTINUATION => in_message,
            TEXT | BINARY => !in_message,
            CLOSE..=PONG => is_last(first) && second & 0x7f <= MAX_CONTROL,
            _ => false,
        }
}

fn is_last(first: u8) -> bool {
    first & 0x80 != 0
}
