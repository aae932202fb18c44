//! HTTP/2 towards an upstream's server, in clear text and without asking first (RFC 9113, section
//! 3.3): what gRPC needs.
//!
//! Decides: how a request is written, how long to wait, and what a failure was. Trusts: hyper for
//! the protocol. Not here: which connection is taken (`channel`).
//!
//! A client's reset reaches the server as a reset, and the server's the client as one: dropping
//! either half of an exchange resets its stream, and the connection goes on.

pub(super) mod body;
pub(crate) mod channel;

pub(super) use body::{Http2AnswerBody, RequestBody};
pub(super) use channel::{Channel, Channels, Share};
