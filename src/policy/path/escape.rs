//! Percent-encoding of path segments: decoding, strict and lenient, and the one canonical encoding.

/// Decodes every valid escape; `None` if there is none.
pub(super) fn decode_leniently(bytes: &[u8]) -> Option<Vec<u8>> {
    if !has_escape(bytes) {
        return None;
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        match tail {
            [high, low, after @ ..] if *first == b'%' && hex_pair(*high, *low).is_some() => {
                decoded.extend(hex_pair(*high, *low));
                rest = after;
            }
            // The escapes of old Microsoft servers: `%u002f`.
            [b'u' | b'U', a, b, c, d, after @ ..]
                if *first == b'%' && unicode_escape([*a, *b, *c, *d]).is_some() =>
            {
                let character = unicode_escape([*a, *b, *c, *d]).unwrap_or('\u{fffd}');
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    Some(decoded)
}

/// Whether a second decoding would change the bytes.
pub(super) fn has_escape(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|window| matches!(window, [b'%', high, low] if hex_pair(*high, *low).is_some()))
        || bytes
            .windows(6)
            .any(|window| matches!(window, [b'%', b'u' | b'U', a, b, c, d] if unicode_escape([*a, *b, *c, *d]).is_some()))
}

fn unicode_escape(digits: [u8; 4]) -> Option<char> {
    let text = std::str::from_utf8(&digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let code = u32::from_str_radix(text, 16).ok()?;
    Some(char::from_u32(code).unwrap_or('\u{fffd}'))
}

/// Whether the bytes have an overlong form: lead and second bytes that nothing else uses (RFC 3629,
/// section 3).
pub(super) fn is_overlong(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, 0xc0 | 0xc1))
        || bytes
            .windows(2)
            .any(|pair| matches!(pair, [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]))
}

/// Decodes once; `None` if an escape is malformed.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else {
                return None;
            };
            decoded.push(hex_pair(*high, *low)?);
            rest = after;
        } else {
            decoded.push(*first);
            rest = tail;
        }
    }
    Some(decoded)
}

pub(super) fn encode(decoded: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(decoded.len());
    for &byte in decoded {
        if is_segment_byte(byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(
                    HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'),
                ));
            }
        }
    }
    text
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// For every byte, whether a segment may hold it. Every byte of every path is checked, and a table
/// is faster than the comparisons.
static SEGMENT_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "below 256"
        )]
        {
            bytes[byte] = is_pchar(byte as u8);
        }
        byte += 1;
    }
    bytes
};

pub(super) fn is_segment_byte(byte: u8) -> bool {
    SEGMENT_BYTES.get(usize::from(byte)) == Some(&true)
}

/// `pchar` of RFC 3986, section 3.3, without `%` and `;`.
const fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}
