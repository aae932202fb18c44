//! Answers whose status or method forbids content (RFC 9110, section 6.4.1).
//!
//! A client that meets content, or a length other than zero, where there can be none, has two
//! answers to choose from: HTTP/2 clients reset the stream (RFC 9113, section 8.1.1), and HTTP/1.1
//! clients take the content for the next answer.

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};

/// Whether the answer to a request with this method has no content, whatever its fields say.
pub(crate) fn is_forbidden(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || status == StatusCode::NOT_MODIFIED || has_none(status)
}

/// Whether an answer with this status never has content, nor a length. 304 is not among them: its
/// `Content-Length` is that of the 200 which it stands for (RFC 9110, section 8.6).
fn has_none(status: StatusCode) -> bool {
    status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT)
}

/// Removes the fields that declare content, if the status forbids it.
pub(super) fn declare_none<B>(response: &mut Response<B>) {
    let status = response.status();
    if !has_none(status) {
        return;
    }
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::TRAILER);
    // HTTP/1.1 frames a 205 like any other answer (RFC 9110, section 15.3.6).
    if status == StatusCode::RESET_CONTENT {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(status: u16) -> Option<String> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("24"));
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
        declare_none(&mut response);
        let headers = response.headers();
        assert_eq!(
            headers.contains_key(header::TRANSFER_ENCODING),
            headers
                .get(header::CONTENT_LENGTH)
                .is_some_and(|length| length == "24"),
        );
        let length = headers.get(header::CONTENT_LENGTH)?;
        Some(length.to_str().expect("digits").to_owned())
    }

    #[test]
    fn a_status_without_content_declares_none() {
        for (status, length) in [
            (101, None),
            (199, None),
            (204, None),
            (205, Some("0")),
            (200, Some("24")),
            (206, Some("24")),
            (304, Some("24")),
            (404, Some("24")),
        ] {
            assert_eq!(declared(status).as_deref(), length, "{status}");
        }
    }

    #[test]
    fn content_is_forbidden_by_the_method_or_the_status() {
        let forbidden = |method: Method, status: u16| {
            is_forbidden(&method, StatusCode::from_u16(status).expect("a status"))
        };
        for status in [101, 204, 205, 304] {
            assert!(forbidden(Method::GET, status), "{status}");
        }
        for status in [200, 206, 301, 404, 500] {
            assert!(!forbidden(Method::GET, status), "{status}");
            assert!(forbidden(Method::HEAD, status), "{status}");
        }
    }
}
