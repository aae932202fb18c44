//! Where the fields of a request are written: into the text of HTTP/1.1, or into a map for HTTP/2.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// A destination of header fields.
pub(super) trait FieldWriter {
    fn field(&mut self, name: &HeaderName, value: &HeaderValue);
}

impl FieldWriter for HeaderMap {
    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name, value.clone());
    }
}
