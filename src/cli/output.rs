//! What a command prints. A reader that has read enough, such as `head`, closes the pipe: what it
//! does not read is dropped, and the command ends with its own exit status.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

/// Prints a line of results.
pub(super) fn line(text: impl Display) {
    let _ = writeln!(stdout().lock(), "{text}");
}

/// Prints a line about what went wrong.
pub(super) fn error(text: impl Display) {
    let _ = writeln!(stderr().lock(), "{text}");
}
