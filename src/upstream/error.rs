//! How the body of an answer may fail. Failures before the answer's head are refusals.

/// The body of the answer failed. The client's message is then aborted: without the last chunk on
/// HTTP/1.1, with RST_STREAM on HTTP/2.
#[derive(Debug)]
pub enum AnswerError {
    /// The upstream failed.
    Upstream,
    /// The upstream sent nothing for `timeouts.stream_idle`.
    Idle,
    /// `timeouts.total` has passed.
    TimeLimit,
    /// The client's upload failed while the upstream was still reading it.
    Upload,
    /// This gateway ended the stream, and could not tell the client.
    Ended,
}

impl std::fmt::Display for AnswerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Upstream => "the upstream failed during its answer",
            Self::Idle => "the upstream paused for longer than `timeouts.stream_idle`",
            Self::TimeLimit => "the answer took longer than `timeouts.total`",
            Self::Ended => "this gateway ended the stream",
            Self::Upload => "the upload failed during the answer",
        })
    }
}

impl std::error::Error for AnswerError {}
