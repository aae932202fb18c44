//! HTTP/1.1 towards an upstream's server: one request at a time on a kept connection (RFC 9112).
//!
//! Decides: how a request is written, and in which one way an answer is read; what two readers
//! could cut differently is refused. Trusts: httparse for the grammar of heads; the caller for a
//! request that may be sent. Not here: time limits and what a failure means for the request
//! (`exchange`), and which connection is taken (`pool`).
//!
//! A general client keeps a state machine, a channel and buffers for every connection, and each
//! request touches all of it. Here the task of the request reads and writes by itself: a kept
//! connection owns its socket and an alarm, and nothing is copied into maps on the way out. With a
//! thousand requests under way that is most of what a request costs, because memory that waited is
//! cold.
//!
//! | of an answer | is |
//! |---|---|
//! | `Transfer-Encoding` other than one `chunked`, or in HTTP/1.0 | refused |
//! | `Transfer-Encoding` with `Content-Length` | refused (RFC 9112, section 6.3) |
//! | several `Content-Length`, or one that is not digits | refused |
//! | neither, where a body may be | read to the end of the connection, which is not used again |
//! | 1xx but 101 | skipped, a few of them |
//! | 101 | the end of HTTP on this connection, if it was asked for; else refused |
//! | folded fields, a space before the colon, a bare CR | refused |
//! | a bare LF in a head or in trailers | a line end (RFC 9112, section 2.2) |
//! | a chunk size of more than 16 digits, a bare LF around a chunk, control characters in an extension | refused |
//! | bytes behind the end | the connection is not used again |

mod body;
mod connection;
mod head;
pub(super) mod malformed;
mod request;

pub(super) use body::Piece;
pub(super) use connection::{Connection, ReadBuffer, ReadFailure};
pub(super) use head::AnswerHead;
pub(super) use request::{OutgoingRequest, RequestHead};
