//! The buffer into which all tunnels of a worker read.

use std::cell::RefCell;

/// How many bytes are read at once.
const READ: usize = 16 * 1024;

/// The read buffer of all tunnels of a worker.
pub(crate) struct Scratch(pub(super) RefCell<Box<[u8]>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(RefCell::new(vec![0; READ].into()))
    }
}

impl std::fmt::Debug for Scratch {
    /// The bytes are a user's messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch(…)")
    }
}
