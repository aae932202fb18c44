//! How an answer's body may break off.
//!
//! Decides: nothing. Trusts: whoever reads the body. Not here: failures before the answer's head,
//! which are refusals.

/// The answer broke off. hyper then breaks the client's message off: no end of chunks on HTTP/1.1,
/// RST_STREAM on HTTP/2.
#[derive(Debug)]
pub enum AnswerError {
    /// The upstream failed.
    Upstream,
    /// The client broke its upload off, which the upstream was still reading.
    Upload,
    /// This gateway ended the stream, and could not say so.
    Ended,
}

impl std::fmt::Display for AnswerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Upstream => "the upstream failed in the middle of its answer",
            Self::Ended => "the stream may not go on",
            Self::Upload => "the request broke off in the middle of its answer",
        })
    }
}

impl std::error::Error for AnswerError {}
