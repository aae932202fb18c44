//! Where something was written in a configuration.

/// Where in the file something was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Path of the key.
    pub key: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters, to mark it; at least 1.
    pub width: u32,
}

impl Place {
    /// The same place, for a key below it.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self {
            key: joined(&self.key, name),
            ..self.clone()
        }
    }
}

/// `name` below the key path `key`.
pub(crate) fn joined(key: &str, name: &str) -> String {
    if key.is_empty() {
        name.to_owned()
    } else {
        format!("{key}.{name}")
    }
}
