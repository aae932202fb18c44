//! HTTP/2 towards an upstream's server, in clear text and with prior knowledge (RFC 9113, section
//! 3.3), which is what gRPC needs.
//!
//! Decides: when an answer was idle for too long, and when another connection is opened. Trusts:
//! hyper for the protocol. Not here: which server is used, and retries (`attempt_http2`).
//!
//! A client's reset reaches the server as a reset, and the server's reaches the client as one:
//! dropping either half of an exchange resets its stream, and the connection stays open.

pub(super) mod body;
pub(crate) mod channel;

pub(super) use body::{Http2AnswerBody, RequestBody};
pub(super) use channel::{Channel, Channels, Share};
