//! Learns from an answer: reads the id of a new resource, which only the upstream knows, and binds
//! it to the caller. The client gets the answer only if that succeeds, else 502 `binding_failed`. A
//! request whose answer could not be bound is refused before it is forwarded.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use super::body::UpstreamBody;
use crate::auth::StreamAuthorization;
use crate::denial::{Denial, Reason};
use crate::facts::learned::Binding;
use crate::facts::{BindError, Facts};
use crate::policy::resources::{Learn, ParamType};

/// The longest answer that is read for an id. A choice.
const MAX_ANSWER: usize = 1 << 20;

/// Requests an answer that can be read.
pub(super) fn prepare(fields: &mut HeaderMap) {
    fields.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    for name in [
        header::RANGE,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_RANGE,
    ] {
        fields.remove(name);
    }
}

/// What is learned from an answer.
#[derive(Debug)]
pub(super) struct Lesson {
    learn: Learn,
    /// The type of the id.
    id: ParamType,
    /// To whom it is bound.
    owner: Binding,
}

impl Lesson {
    /// What a route teaches, for the caller of this request.
    pub(super) fn of(learn: &Learn, authorization: &StreamAuthorization) -> Result<Self, Reason> {
        let config = authorization.request().in_force().config();
        let kind = config.resources.get(learn.kind).ok_or(Reason::Internal)?;
        let verified = authorization.caller().verified().ok_or(Reason::Internal)?;
        Ok(Self {
            learn: learn.clone(),
            id: kind.id,
            owner: Binding {
                issuer: verified.issuer().to_owned(),
                subject: verified.subject().to_owned(),
            },
        })
    }
}

/// Whether the route learns from this answer.
pub(super) fn teaches(status: StatusCode, authorization: &StreamAuthorization) -> Option<&Learn> {
    let request = authorization.request();
    let learn = request.rule().learn.as_ref()?;
    (status.is_success() && request.method() != Method::HEAD).then_some(learn)
}

/// Reads the answer, binds the id in it to the caller, and returns the body.
///
/// # Errors
///
/// [`Reason::BindingFailed`]: the client must not get the answer.
pub(super) async fn learn(
    lesson: Lesson,
    headers: &HeaderMap,
    body: UpstreamBody,
    facts: &Facts,
) -> Result<Bytes, Denial> {
    let Lesson { learn, id, owner } = lesson;
    let failed = |why: &'static str| Reason::BindingFailed.because(why);
    let bytes = read(headers, body).await.map_err(failed)?;
    let id = find(&bytes, &learn.field, id).map_err(failed)?;
    facts
        .bind(learn.kind, &id, &owner, learn.keep)
        .await
        .map_err(|why| {
            failed(match why {
                BindError::Taken => "the id is already bound to another user",
                BindError::Unkept => "the store did not keep the binding, and too many wait for it",
            })
        })?;
    Ok(bytes)
}

/// Reads the whole body of an answer.
async fn read(headers: &HeaderMap, body: UpstreamBody) -> Result<Bytes, &'static str> {
    let is_plain = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !is_plain {
        return Err("the answer has a content coding");
    }
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err("the answer is too long"),
        Err(_) => Err("the answer is incomplete"),
    }
}

/// The id in an answer, in its canonical spelling.
fn find(bytes: &Bytes, field: &[String], kind: ParamType) -> Result<String, &'static str> {
    // A duplicate key is refused: the client might read the other value.
    let value = crate::json::value(bytes).ok_or("the answer is not JSON")?;
    let found = field
        .iter()
        .try_fold(&value, |value, name| value.get(name))
        .ok_or("the answer does not have the field")?;
    kind.spelled(found)
        .ok_or("the field is not an id of the resource type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_its_canonical_spelling() {
        let of = |text: &'static str, field: &str, kind: ParamType| {
            let field: Vec<String> = field.split('.').map(str::to_owned).collect();
            find(&Bytes::from_static(text.as_bytes()), &field, kind).ok()
        };
        let id = "018f5b5e-0000-7000-8000-00000000000a";
        let upper = r#"{"data":{"id":"018F5B5E-0000-7000-8000-00000000000A"}}"#;
        assert_eq!(of(upper, "data.id", ParamType::Uuid).as_deref(), Some(id));
        assert_eq!(
            of(r#"{"id":7}"#, "id", ParamType::Integer).as_deref(),
            Some("7")
        );
        assert_eq!(
            of(r#"{"id":"j-7"}"#, "id", ParamType::Text).as_deref(),
            Some("j-7")
        );
        for (text, kind) in [
            ("", ParamType::Text),
            ("[]", ParamType::Text),
            ("{}", ParamType::Text),
            (r#"{"id":""}"#, ParamType::Text),
            (r#"{"id":7}"#, ParamType::Text),
            (r#"{"id":7.5}"#, ParamType::Integer),
            (r#"{"id":-1}"#, ParamType::Integer),
            (
                r#"{"id":"018f5b5e000070008000000000000001"}"#,
                ParamType::Uuid,
            ),
            (
                r#"{"id":"00000000-0000-0000-0000-000000000000"}"#,
                ParamType::Uuid,
            ),
            (r#"{"id":["x"]}"#, ParamType::Text),
        ] {
            assert_eq!(of(text, "id", kind), None, "{text}");
        }
    }
}
