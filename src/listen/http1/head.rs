//! The head of a request, from bytes. httparse knows the grammar; what two parsers could read
//! differently is refused here, each with its reason.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri, Version};

use crate::denial::Reason;
use crate::http1::{Framing, FramingFields};
use crate::policy::listen::Connections;

/// The fields for which a head has room on the stack; more are rare.
const FIELDS: usize = 128;

/// How much may be read behind a head whose fields share the memory of both. A choice.
const SHARED: usize = 8 * 1024;

/// A request's head, and what it says about its body and its connection.
pub(super) struct RequestHead {
    pub(super) parts: Parts,
    pub(super) framing: Framing,
    /// Whether the client keeps the connection.
    pub(super) keeps_open: bool,
    /// Whether the client waits for a `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// Whether the client can read trailers (RFC 9110, section 10.1.4).
    pub(super) takes_trailers: bool,
}

/// Why a head was refused. Nothing after it can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RefusedHead {
    pub(super) reason: Reason,
    /// For the operator.
    pub(super) detail: &'static str,
    /// As far as they were read.
    pub(super) method: Option<Method>,
    pub(super) version: Version,
}

impl RefusedHead {
    pub(super) fn new(reason: Reason, detail: &'static str) -> Self {
        Self {
            reason,
            detail,
            method: None,
            version: Version::HTTP_11,
        }
    }
}

/// Takes a complete head off the unread bytes; `None` if it is incomplete.
///
/// # Errors
///
/// It is not a head of HTTP/1.0 or 1.1, is too long, or has ambiguous framing.
pub(super) fn take(
    unread: &mut Bytes,
    limits: &Connections,
) -> Result<Option<RequestHead>, RefusedHead> {
    let bytes = unread.clone();
    let parsed = if limits.max_headers < FIELDS {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
        parse(&bytes, limits, &mut fields)
    } else {
        // One more than the limit, so that the excess is seen and refused with the limit's reason.
        let fields = std::iter::repeat_with(MaybeUninit::uninit);
        let mut fields: Vec<_> = fields.take(limits.max_headers + 1).collect();
        parse(&bytes, limits, &mut fields)
    };
    let Some((length, head)) = parsed? else {
        return Ok(None);
    };
    if bytes.len() - length > SHARED {
        // The fields would keep what was read behind the head, for as long as a stream lasts.
        let mut copy = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
        unread.advance(length);
        return take(&mut copy, limits);
    }
    unread.advance(length);
    if unread.is_empty() {
        // It would keep the memory of the head.
        *unread = Bytes::new();
    }
    Ok(Some(head))
}

/// Parses a head, and returns its length, too.
fn parse<'bytes>(
    bytes: &'bytes Bytes,
    limits: &Connections,
    fields: &mut [MaybeUninit<httparse::Header<'bytes>>],
) -> Result<Option<(usize, RequestHead)>, RefusedHead> {
    let mut parsed = httparse::Request::new(&mut []);
    let parsing = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut parsed,
        bytes,
        fields,
    );
    let method = parsed
        .method
        .and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let refuse = |reason, detail| RefusedHead {
        method: method.clone(),
        ..RefusedHead::new(reason, detail)
    };
    let length = match parsing {
        Ok(httparse::Status::Complete(length)) if length <= limits.max_head => length,
        Ok(httparse::Status::Partial) if bytes.len() <= limits.max_head => return Ok(None),
        Ok(_) if parsed.version.is_none() => {
            return Err(refuse(Reason::UriTooLong, "the request line has no end"));
        }
        Ok(_) => return Err(refuse(Reason::HeadTooLarge, "")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refuse(Reason::HeadersTooMany, ""));
        }
        Err(httparse::Error::Version) if names_version(bytes) => {
            return Err(refuse(Reason::VersionUnsupported, ""));
        }
        Err(error) => return Err(refuse(Reason::HeadMalformed, words(error))),
    };
    let is_http_11 = parsed.version == Some(1);
    let version = if is_http_11 {
        Version::HTTP_11
    } else {
        Version::HTTP_10
    };
    let refuse = |reason, detail| RefusedHead {
        version,
        ..refuse(reason, detail)
    };
    let uri = target(bytes, parsed.path.unwrap_or_default())
        .ok_or_else(|| refuse(Reason::TargetForm, "the target is not a URI"))?;
    let mut framing_fields = FramingFields::default();
    let (mut expects_continue, mut takes_trailers) = (false, false);
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        if !follows_crlf(bytes, field.name) {
            return Err(refuse(Reason::HeadMalformed, "a line ends in a bare LF"));
        }
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| refuse(Reason::HeadMalformed, "invalid field name"))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
            .map_err(|_| refuse(Reason::HeadMalformed, "invalid field value"))?;
        // Equal lengths have one reading (RFC 9110, section 8.6).
        if name == header::CONTENT_LENGTH && headers.get(&name) == Some(&value) {
            continue;
        }
        framing_fields.note(&name, &value);
        if name == header::EXPECT {
            expects_continue |= value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        } else if name == header::TE {
            takes_trailers |= has_trailers(&value);
        }
        headers.append(name, value);
    }
    if !bytes
        .get(..length)
        .is_some_and(|head| head.ends_with(b"\r\n\r\n"))
    {
        return Err(refuse(Reason::HeadMalformed, "a line ends in a bare LF"));
    }
    let framing = framing_fields
        .declared(is_http_11)
        .map_err(|ambiguous| refuse(Reason::FramingAmbiguous, ambiguous.0))?
        .unwrap_or(Framing::Length(0));
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method.ok_or(RefusedHead::new(Reason::HeadMalformed, "invalid method"))?;
    parts.uri = uri;
    parts.version = version;
    parts.headers = headers;
    let head = RequestHead {
        parts,
        framing,
        keeps_open: framing_fields.keeps_open(is_http_11),
        expects_continue: expects_continue && is_http_11 && framing != Framing::Length(0),
        takes_trailers,
    };
    Ok(Some((length, head)))
}

/// Whether the line that begins with `name` comes after CRLF. A bare LF ends a line for some
/// parsers only (RFC 9112, section 2.2).
fn follows_crlf(bytes: &Bytes, name: &str) -> bool {
    let begin = (name.as_ptr().addr()).saturating_sub(bytes.as_ptr().addr());
    bytes
        .get(..begin)
        .is_some_and(|before| before.ends_with(b"\r\n"))
}

/// The target as a URI. A query may contain `"`, `<` and `>`, which every server accepts and the
/// standard does not (RFC 3986, section 3.4): PostgREST's own examples have them. They are encoded,
/// once, before anything reads the query.
fn target(bytes: &Bytes, text: &str) -> Option<Uri> {
    if let Ok(uri) = Uri::from_maybe_shared(bytes.slice_ref(text.as_bytes())) {
        let is_http = matches!(uri.scheme_str(), None | Some("http" | "https"));
        return is_http.then_some(uri);
    }
    let (path, query) = text.split_once('?')?;
    let mut encoded = String::with_capacity(text.len() + 16);
    encoded.push_str(path);
    encoded.push('?');
    for character in query.chars() {
        match character {
            '"' => encoded.push_str("%22"),
            '<' => encoded.push_str("%3C"),
            '>' => encoded.push_str("%3E"),
            other => encoded.push(other),
        }
    }
    Uri::from_maybe_shared(Bytes::from(encoded)).ok()
}

/// Whether the request line has three parts, the last of which is a version.
fn names_version(bytes: &Bytes) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .find(|line| line.trim_ascii() != b"");
    let mut parts = line.unwrap_or_default().split(|byte| *byte == b' ');
    let version = parts.nth(2).unwrap_or_default();
    version.starts_with(b"HTTP/") && parts.next().is_none()
}

fn has_trailers(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|byte| *byte == b',');
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// What a parser objects to, for the operator.
fn words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "invalid field name",
        httparse::Error::HeaderValue => "invalid field value",
        httparse::Error::NewLine => "a line does not end in CRLF",
        httparse::Error::Token
        | httparse::Error::Status
        | httparse::Error::TooManyHeaders
        | httparse::Error::Version => "invalid request line",
    }
}
