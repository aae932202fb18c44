//! A strict reader of HTTP/1.1 requests.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use super::Seen;

/// Why the bytes are no request.
#[derive(Debug)]
pub enum Fault {
    /// The connection ended in the middle of a request.
    Incomplete,
    /// The bytes are not exactly one well-formed request.
    Malformed(String),
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
}

/// A head, and what follows it.
#[derive(Debug)]
pub struct Head {
    pub seen: Seen,
    pub framing: Framing,
}

/// One connection's bytes.
#[derive(Debug)]
pub struct Reader(BufReader<TcpStream>);

impl Reader {
    pub fn new(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    pub fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// The next head; `None` if the connection ends before it begins.
    pub fn head(&mut self) -> Result<Option<Head>, Fault> {
        let mut seen = Seen::default();
        let Some(first) = self.line(&mut seen.head)? else {
            return match seen.head.is_empty() {
                true => Ok(None),
                false => Err(Fault::Incomplete),
            };
        };
        let words: Vec<&str> = first.split(' ').collect();
        let [method, target, "HTTP/1.1"] = words[..] else {
            return malformed(format!("request line {first:?}"));
        };
        if method.is_empty() || !method.bytes().all(is_token_byte) {
            return malformed(format!("method {method:?}"));
        }
        if !(target.starts_with('/') || target == "*")
            || !target.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return malformed(format!("target {target:?}"));
        }
        seen.method = method.to_owned();
        seen.target = target.to_owned();
        let mut fields = Vec::new();
        let mut raw = std::mem::take(&mut seen.head);
        loop {
            let line = self.line(&mut raw)?.ok_or(Fault::Incomplete)?;
            if line.is_empty() {
                break;
            }
            fields.push(field(&line)?);
        }
        seen.head = raw;
        seen.headers = fields;
        let framing = framing(&seen)?;
        Ok(Some(Head { seen, framing }))
    }

    /// A line without its end; `None` at the end of the connection.
    pub fn line(&mut self, raw: &mut Vec<u8>) -> Result<Option<String>, Fault> {
        let start = raw.len();
        if self.0.read_until(b'\n', raw).is_err() {
            return Ok(None);
        }
        let line = &raw[start..];
        if !line.ends_with(b"\n") {
            return Ok(None);
        }
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return malformed(format!(
                "a bare line feed: {:?}",
                String::from_utf8_lossy(line)
            ));
        };
        if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return malformed(format!(
                "a bare CR or NUL: {:?}",
                String::from_utf8_lossy(line)
            ));
        }
        // Header values may hold any byte above 0x7f (RFC 9110, section 5.5); each becomes one
        // character.
        Ok(Some(line.iter().map(|byte| char::from(*byte)).collect()))
    }

    /// Up to `buffer.len()` of the next bytes; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        self.0.read(buffer).unwrap_or(0)
    }
}

/// `name: value`.
pub fn field(line: &str) -> Result<(String, String), Fault> {
    let Some((name, value)) = line.split_once(':') else {
        return malformed(format!("field line {line:?}"));
    };
    let value = value.trim_matches([' ', '\t']);
    let control = |character: char| character.is_ascii_control() && character != '\t';
    if name.is_empty() || !name.bytes().all(is_token_byte) || value.contains(control) {
        return malformed(format!("field {line:?}"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn framing(seen: &Seen) -> Result<Framing, Fault> {
    if seen.all("host").len() != 1 {
        return malformed(format!("hosts {:?}", seen.all("host")));
    }
    match (
        &seen.all("content-length")[..],
        &seen.all("transfer-encoding")[..],
    ) {
        ([], []) => Ok(Framing::Length(0)),
        ([length], [])
            if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Ok(Framing::Length(length.parse().unwrap()))
        }
        ([], ["chunked"]) => Ok(Framing::Chunked),
        (lengths, codings) => malformed(format!("framing {lengths:?} {codings:?}")),
    }
}

pub fn malformed<T>(why: String) -> Result<T, Fault> {
    Err(Fault::Malformed(why))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
