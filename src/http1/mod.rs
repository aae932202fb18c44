//! The parts of HTTP/1.1 that clients and servers are read by alike (RFC 9112): how a message is
//! framed, and the bytes of its body.
//!
//! Decides: where a message ends; one that two parsers could read differently is refused. Trusts:
//! httparse for the grammar of fields. Not here: heads, which differ (`listen::http1` reads those
//! of requests, `upstream::http1` those of answers), and time limits.

mod decoder;
mod framing;
mod malformed;
mod read_buffer;

pub(crate) use decoder::{Decoder, Piece};
pub(crate) use framing::{Framing, FramingFields, digits};
pub(crate) use malformed::{MAX_FIELDS, MAX_HEAD, Malformed};
pub(crate) use read_buffer::ReadBuffer;
