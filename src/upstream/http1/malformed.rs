//! Why the bytes of a server are not one answer, and how long its head may be.

/// The bytes are not an answer, or are ambiguous. The text is for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) struct Malformed(pub(in crate::upstream) &'static str);

/// The longest head of an answer, and the longest trailer section. Far more than servers send.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// The most fields of an answer.
pub(super) const MAX_FIELDS: usize = 128;
