//! Boundaries of WebSocket frames (RFC 6455, section 5.2): where a frame of this gateway may be
//! inserted, and whether a side has sent a close frame. Bytes that are no frame are forwarded all
//! the same, and the other end rejects them; payloads are not read.

use crate::live::Ending;

/// The opcode of a close frame.
const CLOSE: u8 = 0x8;

/// The longest header: two bytes, eight of length, four of mask.
const HEADER: usize = 14;

/// Finds the frame boundaries in one direction.
#[derive(Debug, Default)]
pub(super) struct FrameBoundaries {
    /// The incomplete header.
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the payload that are still missing.
    payload: u64,
    closed: bool,
    /// The bytes are no frames, so boundaries are not known any more.
    is_invalid: bool,
}

impl FrameBoundaries {
    /// Whether a frame may be inserted here.
    pub(super) fn is_between(&self) -> bool {
        !self.is_invalid && self.have == 0 && self.payload == 0
    }

    /// Whether a close frame began.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Follows all of these bytes.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.follow_frame(rest);
        }
    }

    /// Follows these bytes up to the end of the current frame, if they contain it. Returns the
    /// rest.
    pub(super) fn follow_frame<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        if self.is_invalid {
            return &[];
        }
        while self.payload == 0 {
            let Some((byte, after)) = rest.split_first() else {
                return rest;
            };
            rest = after;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == self.header_length() {
                self.begin_payload();
                if self.payload == 0 || self.is_invalid {
                    return rest;
                }
            }
        }
        let taken = usize::try_from(self.payload)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        self.payload -= u64::try_from(taken).unwrap_or(self.payload);
        rest.get(taken..).unwrap_or_default()
    }

    fn header_length(&self) -> usize {
        let [_, second, ..] = self.header;
        if self.have < 2 {
            return 2;
        }
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & 0x80 == 0 { 0 } else { 4 }
    }

    fn begin_payload(&mut self) {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.header;
        self.payload = match second & 0x7f {
            126 => u16::from_be_bytes([a, b]).into(),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => short.into(),
        };
        // The first bit of a long length must be 0.
        self.is_invalid = self.payload > u64::MAX / 2;
        self.closed |= first & 0x0f == CLOSE;
        self.have = 0;
    }
}

/// A ping without a payload from a server (RFC 6455, section 5.5.2).
pub(super) const PING: [u8; 2] = [0x89, 0];

/// The close frame that ends a stream. Clients mask their frames, servers do not (RFC 6455, section
/// 5.1).
pub(super) fn close(ending: Ending, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = ending.close_code().to_be_bytes().to_vec();
    // A control frame has at most 125 bytes of payload (section 5.5); public codes are short.
    payload.extend(ending.code().bytes().take(120));
    let length = u8::try_from(payload.len()).unwrap_or_default();
    let mut frame = vec![0x80 | CLOSE];
    match mask {
        None => frame.push(length),
        Some(mask) => {
            frame.push(0x80 | length);
            frame.extend(mask);
            for (byte, mask) in payload.iter_mut().zip(mask.into_iter().cycle()) {
                *byte ^= mask;
            }
        }
    }
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::denial::Reason;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let bit = if masked { 0x80 } else { 0 };
        match length {
            0..126 => frame.push(bit | u8::try_from(length).expect("short")),
            126..65536 => {
                frame.push(bit | 126);
                frame.extend(u16::try_from(length).expect("middling").to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend(u64::try_from(length).expect("long").to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    proptest! {
        #[test]
        fn boundaries_are_found_in_pieces_of_any_size(
            lengths in prop::collection::vec((prop_oneof![0_usize..130, Just(65_535), Just(65_536)], any::<bool>()), 1..6),
            step in 1_usize..5000,
        ) {
            let mut wire = Vec::new();
            let mut ends = vec![0];
            for (length, masked) in lengths {
                wire.extend(frame(2, length, masked));
                ends.push(wire.len());
            }
            let mut frames = FrameBoundaries::default();
            let mut at = 0;
            for piece in wire.chunks(step) {
                frames.follow(piece);
                at += piece.len();
                prop_assert_eq!(frames.is_between(), ends.contains(&at));
            }
            prop_assert!(!frames.is_closed());
            // One frame at a time, from the whole.
            let (mut frames, mut rest) = (FrameBoundaries::default(), &wire[..]);
            for end in ends.iter().skip(1) {
                rest = frames.follow_frame(rest);
                prop_assert!(frames.is_between());
                prop_assert_eq!(wire.len() - rest.len(), *end);
            }
        }

        #[test]
        fn no_bytes_panic(wire in prop::collection::vec(any::<u8>(), 0..400), step in 1_usize..40) {
            let mut frames = FrameBoundaries::default();
            for piece in wire.chunks(step) {
                frames.follow(piece);
            }
        }
    }

    #[test]
    fn a_close_frame_is_noticed_in_either_direction() {
        for masked in [false, true] {
            let mut frames = FrameBoundaries::default();
            frames.follow(&frame(1, 3, masked));
            assert!(!frames.is_closed());
            frames.follow(&frame(8, 2, masked));
            assert!(frames.is_closed() && frames.is_between());
        }
    }

    #[test]
    fn nothing_is_inserted_after_an_invalid_frame() {
        let mut frames = FrameBoundaries::default();
        frames.follow(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        assert!(!frames.is_between());
    }

    #[test]
    fn the_close_frame_of_the_gateway_is_one_frame() {
        let ending = Ending::refused(Reason::TokenExpired);
        for mask in [None, Some([9, 8, 7, 6])] {
            let mut frames = FrameBoundaries::default();
            frames.follow(&close(ending, mask));
            assert!(frames.is_closed() && frames.is_between());
        }
        let mut expected = vec![0x88, 15];
        expected.extend(4401_u16.to_be_bytes());
        expected.extend(b"token_expired");
        assert_eq!(close(ending, None), expected);
    }
}
