//! Folding: a path as the most lenient server might read it, to find near misses.

use super::LEVELS;
use super::escape::{decode_leniently, encode};

/// The path as the most lenient server might read it: fully decoded, without parameters and empty
/// segments, in lower case. `None` if that is the path itself. Used to find near misses, never for
/// forwarding.
pub fn fold(canonical: &str) -> Option<String> {
    if is_folded(canonical.as_bytes()) {
        return None;
    }
    Some(fold_all(canonical)).filter(|folded| folded != canonical)
}

pub(super) fn fold_all(canonical: &str) -> String {
    let mut folded = String::with_capacity(canonical.len());
    for segment in canonical.split('/') {
        let mut decoded = segment.as_bytes().to_vec();
        for _ in 0..=LEVELS {
            let Some(next) = decode_leniently(&decoded) else {
                break;
            };
            decoded = next;
        }
        let name = decoded
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default();
        // Servers on some file systems remove trailing spaces and dots.
        let name = trim_end(name);
        if name.is_empty() {
            continue;
        }
        // To upper case and back: some servers read `ſ` and `K` (the Kelvin sign) as `s` and `k`.
        let name: String = String::from_utf8_lossy(name)
            .chars()
            .flat_map(char::to_uppercase)
            .flat_map(char::to_lowercase)
            .collect();
        folded.push('/');
        folded.push_str(&encode(name.as_bytes()));
    }
    if folded.is_empty() {
        folded.push('/');
    }
    folded
}

/// A fast check that folding would change nothing. May return false for such a path.
pub(super) fn is_folded(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        if byte.is_ascii_uppercase()
            || matches!(byte, b'%' | b';')
            || byte == b'/' && matches!(previous, b'/' | b'.')
        {
            return false;
        }
        previous = byte;
    }
    previous != b'.' && (previous != b'/' || path.len() == 1)
}

fn trim_end(mut name: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'.'] = name {
        name = rest;
    }
    name
}

/// The path without a format suffix such as `.json`, which some frameworks read as a requested
/// format and not as part of the name.
pub fn without_suffix(folded: &str) -> Option<&str> {
    let (path, suffix) = folded.rsplit_once('.')?;
    let is_format =
        (1..=5).contains(&suffix.len()) && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_format && !path.ends_with('/')).then_some(path)
}
