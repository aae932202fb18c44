//! The head of an answer: status, fields, and how the body is delimited. httparse knows the
//! grammar; ambiguous framing is refused here.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use crate::http1::{Framing, FramingFields, MAX_FIELDS, MAX_HEAD, Malformed};

/// An answer's head. It has no `Debug`: its fields may set cookies.
pub(in crate::upstream) struct AnswerHead {
    pub(in crate::upstream) status: StatusCode,
    /// The fields as they were received.
    pub(in crate::upstream) headers: HeaderMap,
    /// How the body is delimited.
    pub(super) framing: Framing,
    /// Whether the server keeps the connection after this answer.
    pub(super) keeps_open: bool,
}

/// Room for the fields that the gateway adds to every answer, so that the map does not grow.
const ADDED: usize = 6;

/// Takes a complete head off the unread bytes; `None` if it is incomplete.
///
/// # Errors
///
/// It is not a head of HTTP/1.x, is too long, or has ambiguous framing.
pub(super) fn take(unread: &mut Bytes, method: &Method) -> Result<Option<AnswerHead>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parsing = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        unread,
        &mut fields,
    );
    let length = match parsing {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(_) if unread.len() > MAX_HEAD => {
            return Err(Malformed("the head is longer than 64 KiB"));
        }
        Ok(_) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Malformed("more than 128 fields"));
        }
        Err(_) => return Err(Malformed("not an HTTP/1.1 answer")),
    };
    let status = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(Malformed("no status"))?;
    let is_http_11 = parsed.version == Some(1);
    let (headers, framing_fields) = fields_of(parsed.headers, unread)?;
    unread.advance(length);
    let framing = framing(&framing_fields, status, is_http_11, method)?;
    // Bytes of content that the status forbids would be read as the head of the next answer, and
    // may arrive after the next request was sent (RFC 9110, section 8.6; RFC 9112, section 6.1).
    let forbids = status.is_informational() || status == StatusCode::NO_CONTENT;
    let is_impossible = forbids && framing_fields.declare_content();
    if is_impossible && status.is_informational() {
        return Err(Malformed("a 1xx answer that declares content"));
    }
    let keeps_open =
        framing != Framing::UntilClose && framing_fields.keeps_open(is_http_11) && !is_impossible;
    Ok(Some(AnswerHead {
        status,
        headers,
        framing,
        keeps_open,
    }))
}

/// The fields of a head, and what they declare about framing. The values share the memory of the
/// head.
fn fields_of(
    parsed: &[httparse::Header<'_>],
    unread: &Bytes,
) -> Result<(HeaderMap, FramingFields), Malformed> {
    let mut headers = HeaderMap::with_capacity(parsed.len() + ADDED);
    let mut framing_fields = FramingFields::default();
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Malformed("invalid field name"))?;
        let value = HeaderValue::from_maybe_shared(unread.slice_ref(field.value))
            .map_err(|_| Malformed("invalid field value"))?;
        framing_fields.note(&name, &value);
        headers.append(name, value);
    }
    Ok((headers, framing_fields))
}

/// RFC 9112, section 6.3, with every ambiguous case refused.
fn framing(
    fields: &FramingFields,
    status: StatusCode,
    is_http_11: bool,
    method: &Method,
) -> Result<Framing, Malformed> {
    let declared = fields.declared(is_http_11)?;
    let has_none = *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    Ok(match declared {
        _ if has_none => Framing::Length(0),
        Some(framing) => framing,
        None => Framing::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<AnswerHead>, Malformed> {
        take(&mut Bytes::copy_from_slice(text.as_bytes()), &Method::GET)
    }

    #[test]
    fn an_answer_with_ambiguous_framing_is_refused() {
        for fields in [
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding:",
            "Content-Length: 3\r\nContent-Length: 3",
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3, 3",
            "Content-Length: +3",
            "Content-Length: -1",
            "Content-Length: 0x3",
            "Content-Length: 3 3",
            "Content-Length:",
            "Content-Length: 18446744073709551616",
            "Content-Length : 3",
            "X: a\r\n b",
            "X: a\rb",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert!(parse(&text).is_err(), "{fields}");
        }
        for fields in ["Content-Length: 3", "Transfer-Encoding: chunked"] {
            for status in ["100 Continue", "103 Early Hints", "101 Switching Protocols"] {
                let text = format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n");
                assert!(parse(&text).is_err(), "{text}");
            }
        }
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(parse(old).is_err());
    }

    #[test]
    fn the_head_declares_the_framing_and_whether_the_connection_stays_open() {
        for (head, framing, keeps_open) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
                Framing::Length(3),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Framing::Chunked,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", Framing::Length(0), true),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                Framing::Length(0),
                true,
            ),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n",
                Framing::Length(0),
                false,
            ),
            (
                "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing::Length(0),
                false,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                Framing::Length(0),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x, Close\r\n\r\n",
                Framing::Length(3),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n",
                Framing::Length(3),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
                Framing::Length(3),
                true,
            ),
        ] {
            let parsed = parse(head).expect("well formed").expect("complete");
            assert_eq!(
                (parsed.framing, parsed.keeps_open),
                (framing, keeps_open),
                "{head}"
            );
        }
    }

    #[test]
    fn only_a_complete_head_is_taken() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: 1\r\nx: 2\r\n\r\nabc";
        for end in 0..whole.len() - 3 {
            assert!(
                parse(&whole[..end]).expect("so far well formed").is_none(),
                "{end}"
            );
        }
        let mut unread = Bytes::from(whole);
        let head = take(&mut unread, &Method::GET)
            .expect("well formed")
            .expect("complete");
        assert_eq!(&unread[..], b"abc");
        assert_eq!(head.headers.get_all("x").iter().count(), 2);
    }
}
