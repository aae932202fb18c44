//! Reading a request's body to its end.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderName};
use tokio::time::{Instant, sleep_until};

use crate::denial::{Denial, Reason};

/// Room that is made for a body before it comes, whatever length was announced.
const FIRST_ROOM: usize = 16 * 1024;

/// Reads a body to its end: at most `limit` bytes, and each piece of it within `idle`.
///
/// # Errors
///
/// [`Reason::BodyTooLarge`], [`Reason::BodyTimeout`] or [`Reason::BodyBroken`]. A body that is announced as too long is not begun, so that
/// no `100 Continue` is sent.
pub(in crate::identity) async fn collect(
    mut body: Incoming,
    limit: u64,
    idle: Duration,
) -> Result<Bytes, Denial> {
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

/// One `Content-Type`, which is JSON, and no compression: a reader that takes it for anything else reads something that was not judged.
pub(in crate::identity) fn says_json(headers: &HeaderMap) -> Result<(), Denial> {
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
