//! Input that the identity server could only fail at: refused here, in words and in its form.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value};

use super::body::{Member, RequestBody};
use super::operations::OperationRequest;
use super::{Exchange, reply};
use crate::request::query::decoded;
use crate::secrets::secret::Secret;
use crate::sign_in::call::Call;
use crate::sign_in::grant::AuthError;
use crate::sign_in::operation::Operation;

impl Exchange {
    /// The refusal of a request with such input.
    pub(super) fn refuse_input(
        &self,
        request: &OperationRequest,
        body: &RequestBody,
    ) -> Option<Response<Bytes>> {
        let is_new = request.operation != Operation::ChangeUser;
        let sentence = complaint(&request.path, body.members())
            .or_else(|| self.metadata_complaint(body).filter(|_| is_new))?;
        Some(self.refused(&sentence))
    }

    /// The refusal of a change of metadata that would make the access token longer than is accepted
    /// here: with that token, its user could not even change it back. It is measured with what the
    /// account has now, since the caller's token may be older than the last change.
    pub(super) async fn refuse_metadata(&self, body: &RequestBody) -> Option<Response<Bytes>> {
        let (verified, token) = self.user.as_ref()?;
        let change = body.object(Member::Data)?;
        // A hook may leave it out of the token.
        let in_token = verified.claims().get("user_metadata")?.as_object()?;
        let known = self.metadata(token).await;
        let before = known.as_ref().unwrap_or(in_token);
        let after = encoded_length(&merged(before, change));
        let others = token
            .expose()
            .len()
            .saturating_sub(encoded_length(in_token));
        if after <= encoded_length(before) || others + after <= self.tokens.longest() {
            return None;
        }
        Some(self.refused(&self.too_long()))
    }

    /// What the account has as metadata; `None` if the identity server does not tell.
    async fn metadata(&self, token: &Secret) -> Option<Map<String, Value>> {
        let call = Call::new(Operation::ReadUser, Method::GET, "/user", self.client);
        let call = Call {
            headers: self.fields.clone(),
            ..call.for_user(token.clone())
        };
        let reply = self.identity.call(call).await.ok()?;
        let mut user: Map<String, Value> = serde_json::from_slice(&reply.body).ok()?;
        match user.remove("user_metadata") {
            Some(Value::Object(metadata)) if reply.status.is_success() => Some(metadata),
            _ => None,
        }
    }

    /// What is wrong with the metadata of a new user.
    fn metadata_complaint(&self, body: &RequestBody) -> Option<Cow<'static, str>> {
        let data = body.object(Member::Data)?;
        let is_too_long = OTHER_CLAIMS + encoded_length(data) > self.tokens.longest();
        is_too_long.then(|| self.too_long().into())
    }

    fn too_long(&self) -> String {
        let longest = self.tokens.longest();
        format!("`data` would make the access token longer than {longest} bytes")
    }

    fn refused(&self, sentence: &str) -> Response<Bytes> {
        let error = AuthError::new(StatusCode::BAD_REQUEST, "validation_failed", sentence);
        reply::error(&error, self.version)
    }
}

/// The length of a token without metadata. An estimate, and rather too low.
const OTHER_CLAIMS: usize = 800;

/// Metadata after a change: the identity server replaces members one by one, and removes those that
/// become `null`.
fn merged(before: &Map<String, Value>, change: &Map<String, Value>) -> Map<String, Value> {
    let mut after = before.clone();
    for (name, value) in change {
        match value.is_null() {
            true => drop(after.remove(name)),
            false => drop(after.insert(name.clone(), value.clone())),
        }
    }
    after
}

/// The length of members in a token: in JSON as Go writes it, which escapes `<`, `>` and `&`, and
/// in base64url.
fn encoded_length(members: &Map<String, Value>) -> usize {
    let text = serde_json::to_string(members).unwrap_or_default();
    let escaped = text.matches(['<', '>', '&']).count() * 5
        + text.matches(['\u{2028}', '\u{2029}']).count() * 3;
    (text.len() + escaped) * 4 / 3
}

/// What is wrong with path and body. PostgreSQL stores no NUL character, neither in text nor in
/// JSON, so the identity server answers 500.
fn complaint(path: &str, members: &Map<String, Value>) -> Option<Cow<'static, str>> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    if query.contains('\0') || decoded(query).contains('\0') {
        return Some("The query has a NUL character".into());
    }
    let has_nul = |(name, value): &(&String, &Value)| name.contains('\0') || holds_nul(value);
    let (name, _) = members.iter().find(has_nul)?;
    Some(match name.contains('\0') {
        true => "The name of a member has a NUL character".into(),
        false => format!("`{name}` has a NUL character").into(),
    })
}

/// Whether a text in a value has a NUL character. The parser has bounded its depth.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || holds_nul(value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_length_of_metadata_is_that_in_a_token_after_the_change() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let before = object(json!({ "a": 1, "b": "x" }));
        let change = object(json!({ "a": null, "c": [1] }));
        let after = merged(&before, &change);
        assert_eq!(Value::Object(after), json!({ "b": "x", "c": [1] }));
        assert_eq!(encoded_length(&object(json!({ "a": "1234" }))), 16);
        assert_eq!(
            encoded_length(&object(json!({ "a": "12<>" }))),
            (12 + 10) * 4 / 3
        );
    }

    #[test]
    fn a_nul_is_found_at_any_depth() {
        let complains = |path: &str, body: Value| {
            let members = body.as_object().cloned().unwrap_or_default();
            complaint(path, &members).is_some()
        };
        assert!(!complains(
            "/signup?redirect_to=%2F",
            json!({ "email": "a@b.test" })
        ));
        for body in [
            json!({ "email": "a\0@b.test" }),
            json!({ "data": { "list": [1, "x\0"] } }),
            json!({ "data": { "a\0": 1 } }),
            json!({ "a\0": 1 }),
        ] {
            assert!(complains("/signup", body.clone()), "{body}");
        }
        assert!(complains("/verify?token=a%00", json!({})));
    }
}
