//! The body of a request: streamed to the upstream, or buffered because a rule of the route
//! inspects it.
//!
//! A buffered body is refused with 413 `body_too_large`, 408 `body_timeout` or 400 `body_broken`,
//! with 415 `body_type` if its fields do not announce JSON, and with 400 `body_malformed` if it is
//! not JSON or servers could read it differently.
//!
//! An inspected body is held in memory, up to `body.limit` of its route and at most
//! [`INSPECTED_LIMIT`], and is forwarded byte for byte. Where the route requires a user it is read
//! only after the caller is authenticated. Trailers behind it are dropped (RFC 9110, section
//! 6.5.1), because no rule has inspected them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName};
use serde_json::Value;
use tokio::time::sleep;

use super::client_body::{BrokenBody, ClientBody};
use super::holder::Holder;
use super::memory::{BodyMemory, Reservation};
use super::pace::Pace;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::json;
use crate::policy::listen::{BodyPace, InspectedBodies};

/// The longest body that is inspected, whatever `body.limit` allows to be streamed. A choice.
pub const INSPECTED_LIMIT: u64 = 1024 * 1024;

/// The largest buffer that is allocated before a body arrives, whatever length is announced.
const FIRST_ROOM: usize = 16 * 1024;

/// A body that may be forwarded.
#[derive(Debug)]
pub enum Body {
    /// Streamed as the client sends it.
    Streamed(ClientBody),
    /// In memory, and not inspected: the body of a case of `foregate test`.
    Whole(Bytes),
    /// Read and parsed.
    Inspected(JsonBody),
}

/// A body that was read to its end and is one JSON document.
pub struct JsonBody {
    bytes: Bytes,
    value: Value,
    /// Its share of the memory for bodies, until it is forwarded.
    reservation: Option<Reservation>,
}

impl JsonBody {
    /// The parsed document.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

impl std::fmt::Debug for JsonBody {
    /// Omits the content, which is user data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JsonBody({} bytes)", self.bytes.len())
    }
}

/// What a body that is read into memory may cost.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    /// The longest body, in bytes.
    pub(crate) limit: u64,
    pub(crate) pace: BodyPace,
    pub(crate) inspected: InspectedBodies,
    pub(crate) memory: Arc<BodyMemory>,
    /// Whose share of the memory it takes.
    pub(crate) holder: Holder,
}

/// A body in memory.
#[derive(Debug)]
pub(crate) struct CollectedBody {
    pub(crate) bytes: Bytes,
    /// Must live as long as the bytes. `None` if they are not a client's.
    pub(crate) reservation: Option<Reservation>,
}

impl Body {
    /// Reads the body as one JSON document, which `headers` must announce.
    ///
    /// # Errors
    ///
    /// The reasons that the header of this module lists.
    pub(super) async fn inspect(
        self,
        headers: &HeaderMap,
        mut budget: BodyBudget,
    ) -> Result<Self, Denial> {
        if matches!(self, Self::Inspected(_)) {
            return Ok(self);
        }
        says_json(headers)?;
        budget.limit = budget.limit.min(INSPECTED_LIMIT);
        let CollectedBody {
            bytes,
            mut reservation,
        } = self.collect(&budget).await?;
        let value = json::value(&bytes).ok_or(Reason::BodyMalformed)?;
        if let Some(reservation) = &mut reservation {
            reservation.grow(weight(&value))?;
        }
        Ok(Self::Inspected(JsonBody {
            bytes,
            value,
            reservation,
        }))
    }

    /// Forgets the parsed document, which no layer reads any more: it may take a hundred times the
    /// memory of its text.
    pub(super) fn forget_document(&mut self) {
        if let Self::Inspected(JsonBody {
            bytes,
            value,
            reservation,
        }) = self
        {
            *value = Value::Null;
            if let Some(reservation) = reservation {
                reservation.shrink_to(bytes.len());
            }
        }
    }

    /// The bytes of the body, read to the end.
    ///
    /// # Errors
    ///
    /// Those of [`collect`].
    pub(crate) async fn collect(self, budget: &BodyBudget) -> Result<CollectedBody, Denial> {
        let (bytes, reservation) = match self {
            Self::Streamed(body) => return collect(body, budget).await,
            Self::Whole(bytes) => match u64::try_from(bytes.len()) {
                Ok(length) if length <= budget.limit => (bytes, None),
                Ok(_) | Err(_) => return Err(Reason::BodyTooLarge.into()),
            },
            Self::Inspected(inspected) => (inspected.bytes, inspected.reservation),
        };
        Ok(CollectedBody { bytes, reservation })
    }
}

/// About how many bytes a parsed document takes beside its text.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(members) => {
            members.len() * size_of::<Value>() + members.iter().map(weight).sum::<usize>()
        }
        Value::Object(members) => {
            let of = |(name, value): (&String, &Value)| name.len() + weight(value);
            members.len().div_ceil(NODE) * NODE_SIZE + members.iter().map(of).sum::<usize>()
        }
    }
}

/// How many members a node of a map holds at least, if there are as many, and how long it is.
const NODE: usize = 6;
const NODE_SIZE: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;

/// Reads a body to its end, within its budget.
///
/// # Errors
///
/// [`Reason::BodyTooLarge`], [`Reason::BodyTimeout`], [`Reason::BodyBroken`], or that the memory
/// for bodies is in use. If the announced length is too large, nothing is read, so that no `100
/// Continue` is sent.
async fn collect<B>(body: B, budget: &BodyBudget) -> Result<CollectedBody, Denial>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let mut body = pin!(body);
    if body.size_hint().lower() > budget.limit {
        return Err(Reason::BodyTooLarge.into());
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(FIRST_ROOM);
    let mut read = Vec::with_capacity(announced.min(FIRST_ROOM));
    let mut reservation = budget.memory.reserve(budget.holder, budget.inspected);
    let mut pace = Pace::new(budget.pace);
    let mut deadline = pin!(sleep(budget.inspected.timeout));
    loop {
        let next = poll_fn(|context| match body.as_mut().poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => match (pace.poll_late(context), deadline.as_mut().poll(context)) {
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                (Poll::Ready(()), _) | (_, Poll::Ready(())) => {
                    Poll::Ready(Err(Reason::BodyTimeout))
                }
            },
        });
        let Some(frame) = next.await? else {
            return Ok(CollectedBody {
                bytes: read.into(),
                reservation: Some(reservation),
            });
        };
        let Ok(data) = frame.map_err(|_| Reason::BodyBroken)?.into_data() else {
            continue;
        };
        pace.arrived(data.len(), clock::now());
        let length = u64::try_from(read.len() + data.len()).unwrap_or(u64::MAX);
        if length > budget.limit {
            return Err(Reason::BodyTooLarge.into());
        }
        reservation.grow(data.len())?;
        read.extend_from_slice(&data);
    }
}

/// Requires exactly one `Content-Type`, which is JSON, and no compression. A server that read the
/// body as anything else would read what no rule has inspected.
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
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        match &mut *self {
            Self::Streamed(body) => Pin::new(body).poll_frame(context),
            Self::Whole(bytes) | Self::Inspected(JsonBody { bytes, .. }) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streamed(body) => body.is_end_stream(),
            Self::Whole(bytes) | Self::Inspected(JsonBody { bytes, .. }) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streamed(body) => body.size_hint(),
            Self::Whole(bytes) | Self::Inspected(JsonBody { bytes, .. }) => {
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
    fn a_body_counts_as_json_only_by_one_plain_content_type() {
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
