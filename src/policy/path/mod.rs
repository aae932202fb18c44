//! Path canonicalization, and the path patterns of the route map.
//!
//! Decides:  which parts of a path are normalised and which are refused.
//! Trusts:   no input.
//! Not here: which route a path belongs to (`router`); hosts, methods and headers.
//!
//! The canonical path is matched, authorized, logged *and* forwarded, so no upstream can read
//! another path than the authorized one. Every segment has exactly one canonical spelling: decoded
//! once, then encoded again where RFC 3986 (section 3.3) requires it. What servers are known to
//! read differently is refused instead.
//!
//! | written | answer | why |
//! |---|---|---|
//! | `%41`, `%2D`, `%7e` (unreserved) | normalised: decoded | equivalent by RFC 3986, section 6.2.2.2 |
//! | `%3A`, `%2B`, `%40` (`:`, sub-delimiters but `;`, `@`) | normalised: decoded | no path scheme we know distinguishes them; one spelling must win |
//! | `%c3%a9` | normalised: upper-case hexadecimal | RFC 3986, section 6.2.2.1 |
//! | raw `"` `[` `]` `^` `{` `\|` `}` | normalised: encoded | sent by browsers, not allowed raw (raw spaces, `<`, `>` and `` ` `` are no target: 400, and a reset on HTTP/2) |
//! | upper and lower case letters | kept | paths are case-sensitive; see *near miss* in `router` for servers that disagree |
//! | trailing `/` | kept | its meaning is the route's `trailing_slash` |
//! | `#fragment` | already removed with the target's parsing | not part of a request |
//! | `%2F` | refused `path_slash_encoded` | split by some servers, not by others |
//! | `\`, `%5C` | refused `path_backslash` | a slash to some servers |
//! | `%00`–`%1F`, `%7F` | refused `path_control` | cuts strings, splits logs and headers |
//! | `.`, `..`, `%2e`, `.%2e`, `..;x` | refused `path_dot_segment` | resolved by some servers, by some before and by some after decoding |
//! | `//` | refused `path_empty_segment`, but not in an opaque tail | merged by some servers |
//! | `%2541`, `%25%34%31`, `%25u0041` | refused `path_double_encoded`, but not in an opaque tail | decoded twice by some servers |
//! | `%252F`, `%252e%252e`, `%2500` | refused for what it decodes to in the end | the same |
//! | `%zz`, `%4` | refused `path_escape` | every server guesses differently |
//! | overlong UTF-8 (`%c0%af`) | refused `path_utf8` | a slash to lenient decoders |
//! | other bytes that are not UTF-8 (`%ff`) | refused `path_utf8`, but not in an opaque tail | replaced, dropped or kept, by server |
//! | raw bytes outside ASCII | refused `path_non_ascii` | not a URI |
//! | `;`, `%3B` | refused `path_parameters`, but not in an opaque tail | removed by servlet containers |
//!
//! **Opaque tail** (`tail: opaque` on `{*rest}`): the part behind the fixed segments is forwarded
//! byte for byte. What is refused there is refused at *every* level of decoding: `%252F` and
//! `%252e%252e` are refused like `%2F` and `..`.
//!
//! Framing is decided before: on HTTP/1.1 by `listen::http1`, whose header says what it refuses;
//! on HTTP/2 by hyper, which resets the stream for upper-case field names and connection-specific
//! fields. It has one reading, and that reading is forwarded.

mod escape;
mod fold;
mod pattern;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use self::fold::{fold, without_suffix};
pub use self::pattern::{Pattern, Segment};

use self::escape::{decode, decode_leniently, encode, has_escape, is_overlong, is_segment_byte};
use crate::denial::Reason;

/// A path in its canonical spelling.
#[derive(Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// The canonical text. Segments that only an opaque tail may hold are kept as they came.
    pub text: Cow<'a, str>,
    /// The first segment that only an opaque tail may hold: why it is refused elsewhere, and its
    /// index.
    pub tail_only: Option<(Reason, usize)>,
}

/// Canonicalizes a path as the client sent it.
///
/// # Errors
///
/// The path has a part that is refused everywhere. A part that an opaque tail may hold is in
/// [`Canonical::tail_only`].
pub fn canonicalise(raw: &str) -> Result<Canonical<'_>, Reason> {
    if !raw.starts_with('/') {
        return Err(Reason::TargetForm);
    }
    if is_plain(raw.as_bytes()) {
        return Ok(Canonical {
            text: Cow::Borrowed(raw),
            tail_only: None,
        });
    }
    let mut text = String::with_capacity(raw.len() + 8);
    let mut tail_only = None;
    let mut segments = raw.split('/').skip(1).enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        text.push('/');
        if segment.is_empty() {
            // An empty last segment is a trailing slash.
            if segments.peek().is_some() {
                tail_only.get_or_insert((Reason::PathEmptySegment, index));
            }
            continue;
        }
        match canonical_segment(segment)? {
            Ok(canonical) => text.push_str(&canonical),
            Err(reason) => {
                tail_only.get_or_insert((reason, index));
                text.push_str(segment);
            }
        }
    }
    Ok(Canonical {
        text: Cow::Owned(text),
        tail_only,
    })
}

/// A fast check for the common case of a canonical path, which needs no copy. May return false for
/// a canonical path.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        let fresh = previous == b'/';
        if !is_segment_byte(byte) && byte != b'/' || fresh && (byte == b'/' || byte == b'.') {
            return false;
        }
        previous = byte;
    }
    true
}

/// Outer error: refused everywhere. Inner error: refused outside an opaque tail.
fn canonical_segment(segment: &str) -> Result<Result<String, Reason>, Reason> {
    if !segment.is_ascii() {
        return Err(Reason::PathNonAscii);
    }
    let decoded = decode(segment.as_bytes()).ok_or(Reason::PathEscape)?;
    refuse_everywhere(&decoded)?;
    let has_parameters = decoded.contains(&b';');
    if has_escape(&decoded) {
        refuse_at_every_level(decoded)?;
        return Ok(Err(Reason::PathDoubleEncoded));
    }
    if has_parameters {
        return Ok(Err(Reason::PathParameters));
    }
    match std::str::from_utf8(&decoded) {
        Ok(_) => Ok(Ok(encode(&decoded))),
        Err(_) => Ok(Err(Reason::PathUtf8)),
    }
}

fn refuse_everywhere(decoded: &[u8]) -> Result<(), Reason> {
    for &byte in decoded {
        match byte {
            b'/' => return Err(Reason::PathSlashEncoded),
            b'\\' => return Err(Reason::PathBackslash),
            0..=0x1f | 0x7f => return Err(Reason::PathControl),
            _ => {}
        }
    }
    // Servlet containers remove `;x` before they resolve dots.
    let name = decoded
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default();
    if name == b"." || name == b".." {
        return Err(Reason::PathDotSegment);
    }
    if is_overlong(decoded) {
        return Err(Reason::PathUtf8);
    }
    Ok(())
}

/// How many times a server might decode a path. Four is a choice; two happens in practice.
const LEVELS: usize = 4;

fn refuse_at_every_level(mut decoded: Vec<u8>) -> Result<(), Reason> {
    for _ in 0..LEVELS {
        let Some(next) = decode_leniently(&decoded) else {
            return Ok(());
        };
        refuse_everywhere(&next)?;
        decoded = next;
    }
    Err(Reason::PathDoubleEncoded)
}
