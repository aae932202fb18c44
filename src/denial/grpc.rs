//! The gRPC status of a refusal, by its HTTP status (the gRPC specification over HTTP/2). Messages
//! are never parsed.

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a message has a media type of gRPC. gRPC-Web does not count: it has no trailers and
/// reads HTTP statuses.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| is_grpc_type(kind.as_bytes()))
}

/// Whether this is a media type of gRPC.
pub fn is_grpc_type(kind: &[u8]) -> bool {
    kind.strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// The gRPC status code for an HTTP status.
///
/// A 404 is UNIMPLEMENTED, as in the gRPC specification's own mapping: a gRPC path names a method,
/// and this gateway does not offer it. One code for all reasons with this status: a second one
/// would tell a hidden method from one that does not exist.
pub fn code(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 | 405 | 406 | 411 | 414 | 415 | 421 | 422 | 426 => 3, // INVALID_ARGUMENT
        401 => 16,                                                // UNAUTHENTICATED
        403 => 7,                                                 // PERMISSION_DENIED
        410 => 5,                                                 // NOT_FOUND
        409 => 10,                                                // ABORTED
        408 | 504 => 4,                                           // DEADLINE_EXCEEDED
        413 | 429 | 431 => 8,                                     // RESOURCE_EXHAUSTED
        500 => 13,                                                // INTERNAL
        404 | 501 => 12,                                          // UNIMPLEMENTED
        502 | 503 => 14,                                          // UNAVAILABLE
        _ => 2,                                                   // UNKNOWN
    }
}

/// Writes `grpc-status` and `grpc-message`, into a head or into trailers.
pub(crate) fn write_status(fields: &mut HeaderMap, status: StatusCode, message: &str) {
    fields.insert(STATUS, HeaderValue::from(u16::from(code(status))));
    if let Ok(message) = HeaderValue::from_str(&escaped(message)) {
        fields.insert(MESSAGE, message);
    }
}

/// Percent-encodes every byte but printable ASCII without `%`.
fn escaped(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::denial::Reason;

    #[test]
    fn grpc_is_recognized_by_its_media_type() {
        let is = |kind: &'static str| {
            is_grpc(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(kind),
            )]))
        };
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc; a=b",
        ] {
            assert!(is(kind), "{kind}");
        }
        for kind in [
            "application/grpc-web",
            "application/grpcx",
            "application/json",
            "",
        ] {
            assert!(!is(kind), "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn every_reason_has_a_code_and_messages_are_escaped() {
        for reason in Reason::ALL {
            assert_ne!(code(reason.status()), 2, "{}", reason.code());
        }
        assert_eq!(escaped("a `%2F` é\n"), "a `%252F` %C3%A9%0A");
    }
}
