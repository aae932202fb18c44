//! The body of a request: streamed past us, or read because a rule judges what it says.
//!
//! Decides:  413 `body_too_large`, 408 `body_timeout`, 400 `body_broken` for a body that is read
//!           here, 415 `body_type` for one that is no JSON by its own words, 400 `body_malformed`
//!           for one that is no JSON, or that two readers could read differently. Trusts: hyper's
//!           framing. Not here: which routes have such rules, and what the rules say (`auth`).
//!
//! A judged body is held in memory, up to `body.limit` of its route and never more than [`JUDGED`],
//! and is forwarded byte for byte as it was judged. It is read only for who has proven who he is
//! where that is asked for. Trailers behind it are dropped (RFC 9110, section 6.5.1): nobody has
//! judged them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::denial::{Denial, Reason};
use crate::json;

/// The longest body that is judged, whatever its route allows to be streamed past us. A choice.
pub const JUDGED: u64 = 1024 * 1024;

/// Room that is made for a body before it comes, whatever length was announced.
const FIRST_ROOM: usize = 16 * 1024;

/// A body that may be forwarded.
#[derive(Debug)]
pub enum Body {
    /// As the client sends it.
    Streamed(Incoming),
    /// All of it at once, and not looked at: that of a case of `foregate test`.
    Whole(Bytes),
    /// Read already.
    Judged(Judged),
}

/// A body that was read to its end, and is one JSON document.
pub struct Judged {
    bytes: Bytes,
    value: Value,
}

impl Judged {
    /// What it says.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl std::fmt::Debug for Judged {
    /// It is somebody's data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Judged({} bytes)", self.bytes.len())
    }
}

impl Body {
    /// Reads it as one JSON document, which it must call itself in `headers`.
    ///
    /// # Errors
    ///
    /// See the module.
    pub(super) async fn judge(
        self,
        headers: &HeaderMap,
        limit: u64,
        idle: Duration,
    ) -> Result<Self, Denial> {
        if matches!(self, Self::Judged(_)) {
            return Ok(self);
        }
        says_json(headers)?;
        let bytes = self.collect(limit.min(JUDGED), idle).await?;
        let value = json::value(&bytes).ok_or(Reason::BodyMalformed)?;
        Ok(Self::Judged(Judged { bytes, value }))
    }
}

impl Body {
    /// Its bytes, read to the end: at most `limit`, and each piece of them within `idle`.
    ///
    /// # Errors
    ///
    /// As [`collect`] says.
    pub(crate) async fn collect(self, limit: u64, idle: Duration) -> Result<Bytes, Denial> {
        match self {
            Self::Streamed(body) => collect(body, limit, idle).await,
            Self::Whole(bytes) => match u64::try_from(bytes.len()) {
                Ok(length) if length <= limit => Ok(bytes),
                Ok(_) | Err(_) => Err(Reason::BodyTooLarge.into()),
            },
            Self::Judged(judged) => Ok(judged.bytes),
        }
    }
}

/// Reads a body to its end: at most `limit` bytes, and each piece of it within `idle`.
///
/// # Errors
///
/// [`Reason::BodyTooLarge`], [`Reason::BodyTimeout`] or [`Reason::BodyBroken`]. A body that is
/// announced as too long is not begun, so that no `100 Continue` is sent.
pub async fn collect(mut body: Incoming, limit: u64, idle: Duration) -> Result<Bytes, Denial> {
    if body.size_hint().lower() > limit {
        return Err(Reason::BodyTooLarge.into());
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(FIRST_ROOM);
    let mut read = Vec::with_capacity(announced.min(FIRST_ROOM));
    let mut timer = pin!(sleep_until(Instant::now() + idle));
    loop {
        let next = poll_fn(|context| match Pin::new(&mut body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => timer
                .as_mut()
                .poll(context)
                .map(|()| Err(Reason::BodyTimeout)),
        });
        let Some(frame) = next.await? else {
            return Ok(read.into());
        };
        timer.as_mut().reset(Instant::now() + idle);
        let Ok(data) = frame.map_err(|_| Reason::BodyBroken)?.into_data() else {
            continue;
        };
        let length = u64::try_from(read.len() + data.len()).unwrap_or(u64::MAX);
        if length > limit {
            return Err(Reason::BodyTooLarge.into());
        }
        read.extend_from_slice(&data);
    }
}

/// One `Content-Type`, which is JSON, and no compression: a reader that takes it for anything else
/// reads something that was not judged.
pub(crate) fn says_json(headers: &HeaderMap) -> Result<(), Denial> {
    let kind = only(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let is_utf8 = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        name.trim().eq_ignore_ascii_case("charset")
            && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    };
    let plain = parameters.trim().is_empty() || parameters.split(';').all(is_utf8);
    if !essence.trim().eq_ignore_ascii_case("application/json") || !plain {
        return Err(Reason::BodyType.because("it is not `application/json`"));
    }
    match only(headers, &header::CONTENT_ENCODING)? {
        None => Ok(()),
        Some(coding) if coding.trim().eq_ignore_ascii_case("identity") => Ok(()),
        Some(_) => Err(Reason::BodyType.because("it is compressed")),
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Denial> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(Reason::BodyType.because(format!("`{name}` occurs twice")));
    }
    let Some(value) = value else { return Ok(None) };
    let text = value.to_str().map_err(|_| Reason::BodyType)?;
    Ok(Some(text))
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Streamed(body) => Pin::new(body).poll_frame(context),
            Self::Whole(bytes) | Self::Judged(Judged { bytes, .. }) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streamed(body) => body.is_end_stream(),
            Self::Whole(bytes) | Self::Judged(Judged { bytes, .. }) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streamed(body) => body.size_hint(),
            Self::Whole(bytes) | Self::Judged(Judged { bytes, .. }) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn is_json(fields: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        says_json(&headers).is_ok()
    }

    #[test]
    fn a_body_is_json_only_by_its_one_plain_word() {
        for kind in [
            "application/json",
            "application/json;charset=UTF-8",
            "Application/JSON; charset=\"utf-8\"",
        ] {
            assert!(is_json(&[("content-type", kind)]), "{kind}");
        }
        for kind in [
            "",
            "text/csv",
            "application/x-www-form-urlencoded",
            "application/json, text/csv",
            "application/json; charset=utf-16",
            "application/json; a=b",
            "application/jsonx",
        ] {
            assert!(!is_json(&[("content-type", kind)]), "{kind}");
        }
        let json = ("content-type", "application/json");
        assert!(is_json(&[json, ("content-encoding", "identity")]));
        assert!(!is_json(&[json, ("content-encoding", "gzip")]));
        assert!(!is_json(&[json, json]));
        assert!(!is_json(&[]));
    }
}
