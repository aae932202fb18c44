//! One canonical path, or a refusal; and the patterns of the route map.
//!
//! Decides: which bytes of a path are normalised and which are refused. Trusts: nothing. Not here: which route a path belongs to
//! (`route`), and hosts, methods and headers.
//!
//! The canonical path is what is matched, judged, logged *and* forwarded, so no server behind us can read another path than the one
//! that was judged. Every segment has exactly one canonical spelling: decoded once, then encoded again where RFC 3986 (section 3.3)
//! demands it. What different servers are known to read differently is refused instead.
//!
//! | written | answer | why |
//! |---|---|---|
//! | `%41`, `%2D`, `%7e` (unreserved) | normalised: decoded | equivalent by RFC 3986, section 6.2.2.2 |
//! | `%3A`, `%2B`, `%40` (`:`, sub-delimiters but `;`, `@`) | normalised: decoded | no path scheme we know distinguishes them; one spelling must win |
//! | `%c3%a9` | normalised: upper-case hexadecimal | RFC 3986, section 6.2.2.1 |
//! | raw `"` `[` `]` `^` `{` `\|` `}` | normalised: encoded | sent by browsers, not allowed raw (hyper answers 400 to raw spaces, `<`, `>` and `` ` ``) |
//! | upper and lower case letters | kept | paths are case-sensitive; see *near miss* in `route` for servers that disagree |
//! | trailing `/` | kept | `trailing_slash` of the route says what it means |
//! | `#fragment` | already cut by hyper | never belongs in a request |
//! | `%2F` | refused `path_slash_encoded` | split by some servers, not by others |
//! | `\`, `%5C` | refused `path_backslash` | a slash to some servers |
//! | `%00`–`%1F`, `%7F` | refused `path_control` | cuts strings, splits logs and headers |
//! | `.`, `..`, `%2e`, `.%2e`, `..;x` | refused `path_dot_segment` | resolved by some servers, by some before and by some after decoding |
//! | `//` | refused `path_empty_segment`, but not in an opaque tail | merged by some servers |
//! | `%2541`, `%25%34%31`, `%25u0041` | refused `path_double_encoded`, but not in an opaque tail | decoded twice by some servers |
//! | `%252F`, `%252e%252e`, `%2500` | refused for what it is at the last level | the same |
//! | `%zz`, `%4` | refused `path_escape` | guessed at by every server in its own way |
//! | overlong UTF-8 (`%c0%af`) | refused `path_utf8` | a slash to lenient decoders |
//! | other bytes that are not UTF-8 (`%ff`) | refused `path_utf8`, but not in an opaque tail | replaced, dropped or kept, by server |
//! | raw bytes outside ASCII | refused `path_non_ascii` | not a URI |
//! | `;`, `%3B` | refused `path_parameters`, but not in an opaque tail | cut away by servlet containers |
//!
//! **Opaque tail** (`tail: opaque` on `{*rest}`): the part behind the fixed segments is forwarded byte for byte. What is refused
//! there is refused at *every* level of decoding: `%252F` and `%252e%252e` are as unwelcome as `%2F` and `..`.
//!
//! Framing is hyper's: it gives us one reading, and that reading is forwarded. Already settled there are `Content-Length` together
//! with `Transfer-Encoding` (chunked wins, the length is dropped), differing lengths, unknown transfer codings, obsolete line folding,
//! white space before a colon (all answered 400), bare line feeds (read as line ends, sent on as CRLF), too large a head (431), and on
//! HTTP/2 upper-case field names and connection-specific fields (the stream is reset). There is no second parser in front of it.

use std::borrow::Cow;

use crate::denial::Reason;

/// A path in its one spelling, and what in it only an opaque tail may hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// The canonical text. Segments that only an opaque tail may hold are kept as they came.
    pub text: Cow<'a, str>,
    /// The first oddity: why it is refused outside an opaque tail, and the index of its segment.
    pub oddity: Option<(Reason, usize)>,
}

/// Reads a path as it came on the wire.
///
/// # Errors
///
/// A reason for what is refused everywhere. What an opaque tail may hold is in [`Canonical::oddity`].
pub fn canonicalise(raw: &str) -> Result<Canonical<'_>, Reason> {
    if !raw.starts_with('/') {
        return Err(Reason::TargetForm);
    }
    if is_plain(raw.as_bytes()) {
        return Ok(Canonical {
            text: Cow::Borrowed(raw),
            oddity: None,
        });
    }
    let mut text = String::with_capacity(raw.len() + 8);
    let mut oddity = None;
    let mut segments = raw.split('/').skip(1).enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        text.push('/');
        if segment.is_empty() {
            // An empty last segment is a trailing slash.
            if segments.peek().is_some() {
                oddity.get_or_insert((Reason::PathEmptySegment, index));
            }
            continue;
        }
        match canonical_segment(segment)? {
            Ok(canonical) => text.push_str(&canonical),
            Err(reason) => {
                oddity.get_or_insert((reason, index));
                text.push_str(segment);
            }
        }
    }
    Ok(Canonical {
        text: Cow::Owned(text),
        oddity,
    })
}

/// Whether the path is canonical at a glance: the common case, without a copy. May say no to a canonical path.
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
    // Servlet containers cut `;x` away before they resolve dots.
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

/// How often a server might decode. Four is a choice: two is known to happen.
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

/// Decodes every valid escape; `None` if there is none.
fn decode_leniently(bytes: &[u8]) -> Option<Vec<u8>> {
    if !has_escape(bytes) {
        return None;
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        match tail {
            [high, low, after @ ..] if *first == b'%' && hex_pair(*high, *low).is_some() => {
                decoded.extend(hex_pair(*high, *low));
                rest = after;
            }
            // The form of old Microsoft servers: `%u002f`.
            [b'u' | b'U', a, b, c, d, after @ ..]
                if *first == b'%' && unicode_escape([*a, *b, *c, *d]).is_some() =>
            {
                let character = unicode_escape([*a, *b, *c, *d]).unwrap_or('\u{fffd}');
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    Some(decoded)
}

/// Whether a second decoding would change the bytes.
fn has_escape(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|window| matches!(window, [b'%', high, low] if hex_pair(*high, *low).is_some()))
        || bytes
            .windows(6)
            .any(|window| matches!(window, [b'%', b'u' | b'U', a, b, c, d] if unicode_escape([*a, *b, *c, *d]).is_some()))
}

fn unicode_escape(digits: [u8; 4]) -> Option<char> {
    let text = std::str::from_utf8(&digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let code = u32::from_str_radix(text, 16).ok()?;
    Some(char::from_u32(code).unwrap_or('\u{fffd}'))
}

/// Lead bytes and second bytes that only overlong forms use (RFC 3629, section 3).
fn is_overlong(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, 0xc0 | 0xc1))
        || bytes
            .windows(2)
            .any(|pair| matches!(pair, [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]))
}

/// Decodes once; `None` if an escape is malformed.
fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = tail else {
                return None;
            };
            decoded.push(hex_pair(*high, *low)?);
            rest = after;
        } else {
            decoded.push(*first);
            rest = tail;
        }
    }
    Some(decoded)
}

fn encode(decoded: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(decoded.len());
    for &byte in decoded {
        if is_segment_byte(byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(
                    HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'),
                ));
            }
        }
    }
    text
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Of every byte, whether a segment may hold it. Paths are asked byte by byte, and a look here is less than the question.
static SEGMENT_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "below 256"
        )]
        {
            bytes[byte] = is_pchar(byte as u8);
        }
        byte += 1;
    }
    bytes
};

fn is_segment_byte(byte: u8) -> bool {
    SEGMENT_BYTES.get(usize::from(byte)) == Some(&true)
}

/// `pchar` of RFC 3986, section 3.3, without `%` and `;`.
const fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}

/// The path as the most careless server might read it: decoded to the end, without parameters and empty segments, lower case.
/// `None` if that is the path itself. For finding near misses, never for forwarding.
pub fn fold(canonical: &str) -> Option<String> {
    if is_folded(canonical.as_bytes()) {
        return None;
    }
    Some(fold_all(canonical)).filter(|folded| folded != canonical)
}

fn fold_all(canonical: &str) -> String {
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
        // Trailing spaces and dots are cut by servers on some file systems.
        let name = trim_end(name);
        if name.is_empty() {
            continue;
        }
        // To upper case and back: `ſ` and `K` (the Kelvin sign) become `s` and `k` for some servers.
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

/// Whether folding would change nothing, at a glance.
fn is_folded(path: &[u8]) -> bool {
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

/// The path without a format suffix such as `.json`, which some frameworks take for a wish and not for a name.
pub fn without_suffix(folded: &str) -> Option<&str> {
    let (path, suffix) = folded.rsplit_once('.')?;
    let is_format =
        (1..=5).contains(&suffix.len()) && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_format && !path.ends_with('/')).then_some(path)
}

/// What a path parameter must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Any non-empty segment.
    Text,
    /// A UUID with hyphens (RFC 9562), not nil. Upper-case digits are forwarded in lower case.
    Uuid,
    /// A decimal number from 0 to 2^63 - 1 without sign or leading zeros.
    Integer,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This canonical text.
    Literal(String),
    /// One segment, named.
    Parameter {
        /// The name in the route map.
        name: String,
        /// Its type.
        kind: ParameterKind,
    },
    /// One or more segments up to the end, `{*name}`.
    Tail,
}

/// A path pattern of the route map: `/projects/{project_id:uuid}/files/{*rest}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A sentence that says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err("a path begins with `/`".to_owned());
        };
        let mut segments = Vec::new();
        if !path.is_empty() {
            let mut parts = path.split('/').peekable();
            while let Some(part) = parts.next() {
                if part.is_empty() {
                    return Err(match parts.peek() {
                        None => "write the path without its trailing slash; `trailing_slash` says what one means".to_owned(),
                        Some(_) => "a path has no empty segments".to_owned(),
                    });
                }
                let segment = Segment::parse(part)?;
                if segment == Segment::Tail && parts.peek().is_some() {
                    return Err(format!("`{part}` must be the last segment"));
                }
                segments.push(segment);
            }
        }
        let pattern = Self {
            text: text.to_owned(),
            segments,
        };
        let mut names: Vec<&str> = pattern.parameters().collect();
        names.sort_unstable();
        if names
            .windows(2)
            .any(|pair| matches!(pair, [one, other] if one == other))
        {
            return Err("two parameters have the same name".to_owned());
        }
        Ok(pattern)
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments, in order; none for `/`.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether the pattern ends in `{*rest}`.
    pub fn has_tail(&self) -> bool {
        self.segments.last() == Some(&Segment::Tail)
    }

    /// Whether some parameter has a type that not every segment has.
    pub fn is_typed(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| matches!(segment, Segment::Parameter { kind, .. } if *kind != ParameterKind::Text))
    }

    /// Whether every segment is literal.
    pub fn is_literal(&self) -> bool {
        self.segments
            .iter()
            .all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// The names of the parameters, without the tail.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter { name, .. } => Some(name.as_str()),
            Segment::Literal(_) | Segment::Tail => None,
        })
    }

    /// The pattern for the router, in which parameters are named by their place: two patterns with the same shape match the same
    /// paths. With `lower_case`, literals are folded as [`fold`] folds paths.
    pub fn shape(&self, lower_case: bool) -> String {
        let mut shape = String::new();
        for (index, segment) in self.segments.iter().enumerate() {
            shape.push('/');
            match segment {
                Segment::Literal(text) if lower_case => match fold(&format!("/{text}")) {
                    Some(folded) => shape.push_str(folded.trim_start_matches('/')),
                    None => shape.push_str(text),
                },
                Segment::Literal(text) => shape.push_str(text),
                Segment::Parameter { .. } => shape.push_str(&format!("{{p{index}}}")),
                Segment::Tail => shape.push_str("{*tail}"),
            }
        }
        if shape.is_empty() {
            shape.push('/');
        }
        shape
    }
}

impl Segment {
    fn parse(part: &str) -> Result<Self, String> {
        let Some(inner) = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        else {
            return Self::parse_literal(part);
        };
        if let Some(name) = inner.strip_prefix('*') {
            return match is_name(name) {
                true => Ok(Self::Tail),
                false => Err(format!(
                    "`{part}`: write a name behind the `*`, such as `{{*rest}}`"
                )),
            };
        }
        let (name, kind) = inner.split_once(':').unwrap_or((inner, "text"));
        if !is_name(name) {
            return Err(format!(
                "`{part}`: a parameter's name has letters, digits and `_`"
            ));
        }
        let kind = match kind {
            "text" => ParameterKind::Text,
            "uuid" => ParameterKind::Uuid,
            "int" => ParameterKind::Integer,
            _ => return Err(format!("`{part}`: the type is `uuid`, `int` or `text`")),
        };
        Ok(Self::Parameter {
            name: name.to_owned(),
            kind,
        })
    }

    fn parse_literal(part: &str) -> Result<Self, String> {
        if part.contains(['{', '}']) {
            return Err(format!(
                "`{part}`: a parameter is a whole segment, such as `{{id:uuid}}`"
            ));
        }
        // The map may be written with plain letters of any script; what is matched is their canonical encoding.
        let raw: String = part
            .chars()
            .map(|character| {
                if character.is_ascii() {
                    character.to_string()
                } else {
                    encode(character.to_string().as_bytes())
                }
            })
            .collect();
        match canonical_segment(&raw) {
            Ok(Ok(text)) => Ok(Self::Literal(text)),
            Ok(Err(reason)) | Err(reason) => Err(format!(
                "`{part}` can never be requested: {}",
                reason.meaning()
            )),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
