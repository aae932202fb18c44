//! Decodes a body from bytes, by the framing that its head declared.

use bytes::{Buf, Bytes};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::framing::Framing;
use super::malformed::{MAX_FIELDS, MAX_HEAD, Malformed};

/// The longest line with a chunk size, including extensions.
const MAX_CHUNK_LINE: usize = 4096;

/// A decoded part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Some of its bytes; at least one.
    Data(Bytes),
    /// Its trailers, which are its end.
    Trailers(HeaderMap),
    /// Its end.
    End,
}

/// The state of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are missing.
    Length(u64),
    /// Everything up to the end of the connection.
    UntilClose,
    /// Before a chunk size.
    ChunkSize,
    /// So many bytes of a chunk are missing.
    ChunkData(u64),
    /// Before the line end after a chunk.
    ChunkEnd,
    /// After the last chunk.
    Trailers,
    /// At the end of the body.
    Done,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::ChunkSize,
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(crate) fn is_done(self) -> bool {
        self == Self::Done
    }

    /// How much is missing, if the head declared it.
    pub(crate) fn left(self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(left),
            Self::Done => Some(0),
            Self::UntilClose
            | Self::ChunkSize
            | Self::ChunkData(_)
            | Self::ChunkEnd
            | Self::Trailers => None,
        }
    }

    /// Decodes the next part of the unread bytes; `None` if more must be read first.
    ///
    /// # Errors
    ///
    /// The chunks violate the standard.
    pub(crate) fn next(&mut self, unread: &mut Bytes) -> Result<Option<Piece>, Malformed> {
        loop {
            match *self {
                Self::Done => return Ok(Some(Piece::End)),
                Self::UntilClose => {
                    return Ok((!unread.is_empty()).then(|| Piece::Data(std::mem::take(unread))));
                }
                Self::Length(left) => {
                    let Some((data, rest)) = take(unread, left) else {
                        return Ok(None);
                    };
                    *self = if rest == 0 {
                        Self::Done
                    } else {
                        Self::Length(rest)
                    };
                    return Ok(Some(Piece::Data(data)));
                }
                Self::ChunkData(left) => {
                    let Some((data, rest)) = take(unread, left) else {
                        return Ok(None);
                    };
                    *self = if rest == 0 {
                        Self::ChunkEnd
                    } else {
                        Self::ChunkData(rest)
                    };
                    return Ok(Some(Piece::Data(data)));
                }
                Self::ChunkEnd => match (unread.first(), unread.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        unread.advance(2);
                        *self = Self::ChunkSize;
                    }
                    (None | Some(b'\r'), None) => return Ok(None),
                    _ => return Err(Malformed("no line end after a chunk")),
                },
                Self::ChunkSize => {
                    let Some(size) = chunk_size(unread)? else {
                        return Ok(None);
                    };
                    *self = if size == 0 {
                        Self::Trailers
                    } else {
                        Self::ChunkData(size)
                    };
                }
                Self::Trailers => {
                    let Some(trailers) = trailers(unread)? else {
                        return Ok(None);
                    };
                    *self = Self::Done;
                    if !trailers.is_empty() {
                        return Ok(Some(Piece::Trailers(trailers)));
                    }
                }
            }
        }
    }

    /// Notes the end of the connection; true if it is the end of the body.
    pub(crate) fn ends_with_connection(&mut self) -> bool {
        if *self == Self::UntilClose {
            *self = Self::Done;
        }
        self.is_done()
    }
}

/// Takes the bytes that there are, at most `left`, and returns how many are missing then.
fn take(unread: &mut Bytes, left: u64) -> Option<(Bytes, u64)> {
    if unread.is_empty() {
        return None;
    }
    let have = usize::try_from(left)
        .unwrap_or(usize::MAX)
        .min(unread.len());
    let data = unread.split_to(have);
    Some((data, left - u64::try_from(have).unwrap_or(left)))
}

/// Reads the line with a chunk size.
fn chunk_size(unread: &mut Bytes) -> Result<Option<u64>, Malformed> {
    let Some(end) = unread.iter().position(|byte| *byte == b'\n') else {
        return if unread.len() > MAX_CHUNK_LINE {
            Err(Malformed("the line with a chunk size is too long"))
        } else {
            Ok(None)
        };
    };
    let line = unread.split_to(end + 1);
    let line = line
        .strip_suffix(b"\r\n")
        .filter(|line| line.len() <= MAX_CHUNK_LINE)
        .ok_or(Malformed("the line with a chunk size does not end in CRLF"))?;
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (size, extension) = line.split_at(digits);
    // An extension begins with `;`, perhaps after blanks, and contains nothing that another parser
    // could take for a line end.
    let blanks = extension
        .iter()
        .take_while(|byte| matches!(**byte, b' ' | b'\t'))
        .count();
    let (_, extension) = extension.split_at(blanks);
    let is_plain = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    if !(extension.is_empty() || extension.first() == Some(&b';') && extension.iter().all(is_plain))
    {
        return Err(Malformed("invalid chunk size"));
    }
    if digits == 0 || digits > 16 {
        return Err(Malformed("invalid chunk size"));
    }
    let size = std::str::from_utf8(size)
        .ok()
        .and_then(|size| u64::from_str_radix(size, 16).ok())
        .ok_or(Malformed("invalid chunk size"))?;
    Ok(Some(size))
}

/// Reads the trailer section.
fn trailers(unread: &mut Bytes) -> Result<Option<HeaderMap>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let (length, fields) = match httparse::parse_headers(unread, &mut fields) {
        Ok(httparse::Status::Complete((length, _))) if has_bare_lf(unread, length) => {
            return Err(Malformed("a bare LF in the trailer section"));
        }
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) if unread.len() > MAX_HEAD => {
            return Err(Malformed("the trailers are longer than 64 KiB"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("invalid trailer section")),
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        match (name, value) {
            (Ok(name), Ok(value)) => trailers.append(name, value),
            _ => return Err(Malformed("invalid trailer section")),
        };
    }
    unread.advance(length);
    Ok(Some(trailers))
}

/// Whether a line among the first `length` bytes ends without CR. Only some parsers end a line
/// there.
fn has_bare_lf(bytes: &[u8], length: usize) -> bool {
    let lines = bytes
        .get(..length)
        .unwrap_or_default()
        .split_inclusive(|byte| *byte == b'\n');
    lines.into_iter().any(|line| !line.ends_with(b"\r\n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Data, trailers, and the bytes after them.
    type Read = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Reads `wire` in pieces of `step` bytes.
    fn read(wire: &[u8], step: usize) -> Result<Read, Malformed> {
        let (mut data, mut trailers) = (Vec::new(), None);
        let (mut unread, mut decoder) = (Bytes::new(), Decoder::ChunkSize);
        let mut wire = wire.chunks(step);
        loop {
            match decoder.next(&mut unread)? {
                Some(Piece::Data(piece)) => data.extend_from_slice(&piece),
                Some(Piece::Trailers(fields)) => trailers = Some(fields),
                Some(Piece::End) => {
                    let mut rest = unread.to_vec();
                    rest.extend(wire.flatten());
                    return Ok((data, trailers, rest));
                }
                None => match wire.next() {
                    Some(more) => unread = [&unread, more].concat().into(),
                    None => return Err(Malformed("incomplete")),
                },
            }
        }
    }

    proptest! {
        #[test]
        fn chunks_are_decoded_in_pieces_of_any_size(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            step in 1_usize..64,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x};a=\"b\"\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\nSum: 1\r\n\r\nnext");
            let (data, trailers, rest) = read(&wire, step).expect("well formed");
            prop_assert_eq!(data, chunks.concat());
            let trailers = trailers.expect("trailers");
            prop_assert_eq!(trailers.get("sum").expect("sum"), "1");
            prop_assert_eq!(rest, b"next");
        }

        #[test]
        fn no_bytes_panic(wire in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..16) {
            let _ = read(&wire, step);
        }
    }

    #[test]
    fn ambiguous_chunks_are_refused() {
        for wire in [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "-3\r\nabc\r\n0\r\n\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            " 3\r\nabc\r\n0\r\n\r\n",
            "\r\n3\r\nabc\r\n0\r\n\r\n",
            "3 3\r\nabc\r\n0\r\n\r\n",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
            "3\r\r\nabc\r\n0\r\n\r\n",
            "3\r;a\r\nabc\r\n0\r\n\r\n",
            "3\u{c}\r\nabc\r\n0\r\n\r\n",
            "00000000000000003\r\nabc\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nabc",
            "3;\0\r\nabc\r\n0\r\n\r\n",
            "3\r\nabc\r\n0\r\na: b\n\r\n",
            "3\r\nabc\r\n0\r\na: b\r\n\n",
            "3\r\nabc\r\n0\r\n\n",
        ] {
            for step in [1, 7, 100] {
                assert!(
                    read(wire.as_bytes(), step).is_err(),
                    "{wire:?} in steps of {step}"
                );
            }
        }
    }

    #[test]
    fn a_body_with_a_length_ends_after_it() {
        let mut decoder = Decoder::new(Framing::Length(3));
        let mut unread = Bytes::from("abcde");
        assert_eq!(
            decoder.next(&mut unread),
            Ok(Some(Piece::Data(Bytes::from("abc"))))
        );
        assert_eq!(decoder.next(&mut unread), Ok(Some(Piece::End)));
        assert_eq!(&unread[..], b"de");
        assert!(!Decoder::Length(1).ends_with_connection());
        assert!(Decoder::UntilClose.ends_with_connection());
    }
}
