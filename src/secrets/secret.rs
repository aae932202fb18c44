//! A secret of the configuration, which no `Debug`, log line or error can print.
//!
//! Decides: nothing. Trusts: whoever calls `expose` to hand the bytes to a cryptographic function or a server they are for. Not here: whether a
//! secret is good enough (`check`).

use secrecy::{ExposeSecret, SecretString};

/// Text that must not be seen. Wiped when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The bytes, for a cryptographic function and nothing else.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
