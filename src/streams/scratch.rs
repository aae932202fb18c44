//! The buffer into which all tunnels of a worker read.

use std::cell::RefCell;

/// How much is read at once.
const READ: usize = 16 * 1024;

/// Where all tunnels of a worker read into.
pub(super) struct Scratch(pub(super) RefCell<Box<[u8]>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(RefCell::new(vec![0; READ].into()))
    }
}

impl std::fmt::Debug for Scratch {
    /// The bytes are somebody's message.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch(…)")
    }
}
