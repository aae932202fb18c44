//! Why bytes are not one message, and how long an answer's head may be.

/// The bytes are not a message, or are ambiguous. The text is for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The longest head of an answer, and the longest trailer section. Far more than servers send.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// The most fields of an answer or a trailer section.
pub(crate) const MAX_FIELDS: usize = 128;
