//! HTTP/1.1 towards an upstream's server: one request at a time on a kept connection (RFC 9112).
//!
//! Decides: how a request is written, and how an answer is parsed; an answer that two parsers could
//! read differently is refused. Trusts: httparse for the grammar of heads; the caller to send only
//! permitted requests. Not here: time limits, and what a failure means for the request
//! (`exchange`), and which connection is used (`pool`).
//!
//! A general-purpose client keeps a state machine, a channel and buffers for every connection, and
//! each request touches all of it. Here the task of the request reads and writes by itself: a kept
//! connection owns its socket and a timeout, and nothing is copied into maps on the way out. With a
//! thousand open requests that is most of what a request costs, because memory that was not used
//! for a while is cold.
//!
//! | of an answer | what is done |
//! |---|---|
//! | `Transfer-Encoding` other than one `chunked`, or in HTTP/1.0 | refused |
//! | `Transfer-Encoding` with `Content-Length` | refused (RFC 9112, section 6.3) |
//! | several `Content-Length`, or one that is not digits | refused |
//! | neither, if a body is allowed | read to the end of the connection, which is not reused |
//! | content declared for a 1xx | refused |
//! | content declared for a 204 | ignored, and the connection is not reused |
//! | 1xx except 101 | skipped, up to a limit |
//! | 101 | the end of HTTP on this connection, if the request asked for an upgrade; else refused |
//! | folded fields, a space before the colon, a bare CR | refused |
//! | a bare LF in a head | a line end (RFC 9112, section 2.2) |
//! | a chunk size of more than 16 digits, a bare LF around a chunk or in trailers, control characters in an extension | refused |
//! | bytes after the end | the connection is not reused |

mod connection;
mod head;
mod request;

pub(super) use connection::{Connection, ReadFailure};
pub(super) use head::AnswerHead;
pub(super) use request::{OutgoingRequest, RequestHead};
