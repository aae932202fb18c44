//! Secrets: values that are never shown, keys derived from the gateway's own, and digests of what clients present.
//!
//! Decides: nothing. Trusts: nothing. Not here: what is sealed or signed with a key (`store`, `tokens`, `sessions`).

pub mod derive;
pub mod digest;
pub mod secret;
