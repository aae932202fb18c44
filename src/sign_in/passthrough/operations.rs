//! Recognizes which operation a pass-through request calls: exactly those of the table
//! (`operation`), in exactly its spelling.
//!
//! The identity server would accept more: other spellings, parameters in a form body, the
//! administrator's paths. An unrecognized request is not forwarded, so that the two servers never
//! read one request as different operations.

use std::borrow::Cow;

use hyper::Method;
use uuid::Uuid;

use crate::denial::{Denial, Reason};
use crate::request::query::decoded;
use crate::sign_in::operation::{BodyRule, Operation, REFUSED, Route};
use crate::sign_in::session::LogoutScope;

/// A recognized request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct OperationRequest {
    /// The operation it calls.
    pub(super) operation: Operation,
    /// The HTTP method.
    pub(super) method: Method,
    /// Path and query to send.
    pub(super) path: String,
    /// What its body must be.
    pub(super) body: BodyRule,
    /// Which sessions end, for [`Operation::Logout`].
    pub(super) scope: LogoutScope,
    /// Which app loses its access, for [`Operation::OauthGrants`].
    pub(super) client: Option<String>,
}

/// Why a request was not recognized.
#[derive(Debug)]
pub(super) enum RecognitionError {
    /// No operation has this method and path. Says why, if the path is refused by name.
    Unlisted(Option<&'static str>),
    /// An unknown grant type; refused in the identity server's form.
    Grant,
    /// An unknown scope of a logout; refused in the identity server's form.
    Scope,
    /// The parameter can be read in two ways.
    Ambiguous,
}

impl From<RecognitionError> for Denial {
    fn from(error: RecognitionError) -> Self {
        match error {
            RecognitionError::Unlisted(Some(why)) => Reason::OperationUnknown.because(why),
            RecognitionError::Unlisted(None) => Reason::OperationUnknown.into(),
            RecognitionError::Ambiguous => Reason::QueryRepeated.into(),
            // Unreachable: the caller refuses these two in the identity server's form.
            RecognitionError::Grant | RecognitionError::Scope => {
                Reason::OperationUnknown.because("unknown parameter value")
            }
        }
    }
}

/// Recognizes a request by its method, its path below the prefix, such as `token`, and its query.
pub(super) fn recognize(
    method: &Method,
    tail: &str,
    query: Option<&str>,
) -> Result<OperationRequest, RecognitionError> {
    let query = query.unwrap_or_default();
    let parts: Vec<&str> = tail.split('/').collect();
    let request = |operation, path, body| OperationRequest {
        operation,
        method: method.clone(),
        path,
        body,
        scope: LogoutScope::Global,
        client: None,
    };
    let is_of = |route: &&Route| route.method == *method && has_path(route.path, &parts);
    let mut found = Operation::ALL.into_iter().flat_map(|operation| {
        let routes = operation.row().routes.iter().filter(is_of);
        routes.map(move |route| (operation, route))
    });
    let (operation, route) = found.next().ok_or_else(|| unlisted(&parts))?;
    if route.grant.is_some() {
        let grant = single_parameter(query, "grant_type")?.unwrap_or_default();
        let is_grant = |one: &(Operation, &Route)| one.1.grant == Some(&*grant);
        let mut grants = std::iter::once((operation, route)).chain(found);
        let (operation, route) = grants.find(is_grant).ok_or(RecognitionError::Grant)?;
        // The identity server reads no other parameter here, so none is sent.
        let path = format!("/{}?grant_type={grant}", route.path);
        return Ok(request(operation, path, route.body));
    }
    if operation == Operation::Logout {
        let scope = scope(single_parameter(query, "scope")?.as_deref())?;
        let path = format!("/logout?scope={}", scope.as_str());
        return Ok(OperationRequest {
            scope,
            ..request(operation, path, route.body)
        });
    }
    let client = match operation == Operation::OauthGrants {
        true => single_parameter(query, "client_id")?
            .map(Cow::into_owned)
            .filter(|id| !id.trim().is_empty()),
        false => None,
    };
    let query = without_apikey(query);
    let path = match query.is_empty() {
        true => format!("/{tail}"),
        false => format!("/{tail}?{query}"),
    };
    Ok(OperationRequest {
        client,
        ..request(operation, path, route.body)
    })
}

fn unlisted(parts: &[&str]) -> RecognitionError {
    let first = parts.first().copied().unwrap_or_default();
    let refused = REFUSED.iter().find(|row| row.path == first);
    RecognitionError::Unlisted(refused.map(|row| row.why))
}

fn has_path(path: &str, parts: &[&str]) -> bool {
    let is = |segment: &str, text: &str| match segment {
        "{id}" => Uuid::try_parse(text).is_ok_and(|id| id.as_hyphenated().to_string() == text),
        "{word}" => !text.is_empty() && text.bytes().all(is_of_word),
        literal => literal == text,
    };
    let segments = path.split('/');
    segments.clone().count() == parts.len()
        && segments.zip(parts).all(|(segment, text)| is(segment, text))
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The value of a parameter that may occur once. Every other spelling of its name counts, too: some
/// server would accept it.
fn single_parameter<'a>(
    query: &'a str,
    name: &str,
) -> Result<Option<Cow<'a, str>>, RecognitionError> {
    let mut values = query
        .split(['&', ';'])
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(key, _)| decoded(key).trim().eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some((key, value)), None) if key == name => Ok(Some(decoded(value))),
        (Some(_), _) => Err(RecognitionError::Ambiguous),
    }
}

fn scope(name: Option<&str>) -> Result<LogoutScope, RecognitionError> {
    match name {
        // The identity server's default.
        None | Some("") => Ok(LogoutScope::Global),
        Some(name) => LogoutScope::named(name).ok_or(RecognitionError::Scope),
    }
}

/// Removes the client's key, which was checked here; the identity server gets the gateway's.
fn without_apikey(query: &str) -> Cow<'_, str> {
    let is_key = |pair: &&str| {
        let key = pair.split_once('=').map_or(*pair, |(key, _)| key);
        decoded(key).trim().eq_ignore_ascii_case("apikey")
    };
    if !query.split('&').any(|pair| is_key(&pair)) {
        return Cow::Borrowed(query);
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    Cow::Owned(kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(method: Method, tail: &str, query: &str) -> Option<(Operation, String)> {
        let query = (!query.is_empty()).then_some(query);
        let request = recognize(&method, tail, query).ok()?;
        Some((request.operation, request.path))
    }

    #[test]
    fn a_listed_request_is_forwarded_as_it_was_read() {
        let id = "018f5b5e-0000-7000-8000-000000000001";
        for (method, tail, query, operation, sent) in [
            (
                Method::POST,
                "token",
                "grant_type=password&x=1",
                Operation::PasswordGrant,
                "/token?grant_type=password",
            ),
            (
                Method::POST,
                "token",
                "grant_type=refresh_token",
                Operation::Refresh,
                "/token?grant_type=refresh_token",
            ),
            (
                Method::POST,
                "signup",
                "redirect_to=https%3A%2F%2Fa",
                Operation::SignUp,
                "/signup?redirect_to=https%3A%2F%2Fa",
            ),
            (
                Method::POST,
                "logout",
                "",
                Operation::Logout,
                "/logout?scope=global",
            ),
            (
                Method::POST,
                "logout",
                "scope=local",
                Operation::Logout,
                "/logout?scope=local",
            ),
            (
                Method::GET,
                "settings",
                "apikey=k&x=1",
                Operation::Settings,
                "/settings?x=1",
            ),
            (
                Method::GET,
                "settings",
                "apikey=k",
                Operation::Settings,
                "/settings",
            ),
            (
                Method::GET,
                ".well-known/jwks.json",
                "",
                Operation::KeySet,
                "/.well-known/jwks.json",
            ),
        ] {
            assert_eq!(
                path(method, tail, query),
                Some((operation, sent.to_owned())),
                "{tail} {query}"
            );
        }
        let verify = format!("factors/{id}/verify");
        assert_eq!(
            path(Method::POST, &verify, ""),
            Some((Operation::VerifyFactor, format!("/{verify}")))
        );
    }

    #[test]
    fn an_unlisted_or_ambiguous_request_is_not_recognized() {
        for (method, tail, query) in [
            (Method::POST, "token/", "grant_type=password"),
            (Method::POST, "Token", "grant_type=password"),
            (Method::GET, "token", "grant_type=password"),
            (Method::POST, "token", ""),
            (Method::POST, "token", "grant_type=implicit"),
            (
                Method::POST,
                "token",
                "grant_type=password&grant_type=refresh_token",
            ),
            (
                Method::POST,
                "token",
                "grant_type=password;grant_type=refresh_token",
            ),
            (Method::POST, "token", "grant%5Ftype=password"),
            (
                Method::POST,
                "token",
                "grant_type=password&grant%5ftype=pkce",
            ),
            (Method::POST, "token", "grant_type=password&GRANT_TYPE=pkce"),
            (Method::POST, "logout", "scope=all"),
            (Method::POST, "logout", "scope=local&scope=global"),
            (Method::GET, "admin/users", ""),
            (Method::POST, "admin/users", ""),
            (Method::POST, "invite", ""),
            (Method::GET, "", ""),
            (Method::POST, "factors/x/verify", ""),
            (
                Method::POST,
                "factors/018F5B5E-0000-7000-8000-000000000001/verify",
                "",
            ),
            (Method::HEAD, "settings", ""),
            (Method::GET, "user/identities", ""),
            (
                Method::DELETE,
                "user/oauth/grants",
                "client_id=a&client_id=b",
            ),
            (Method::GET, "oauth/authorizations/", ""),
            (Method::GET, "oauth/authorizations/a%2Fb", ""),
            (Method::GET, "oauth/authorizations/a.b", ""),
            (Method::PUT, "callback", ""),
        ] {
            assert_eq!(path(method, tail, query), None, "{tail} {query}");
        }
    }
}
