//! Recognizes which operation a pass-through request calls: exactly those of a table, in exactly
//! its spelling.
//!
//! The identity server would accept more: other spellings, parameters in a form body, the
//! administrator's paths. An unrecognized request is not forwarded, so that the two servers never
//! read one request as different operations.

use std::borrow::Cow;

use hyper::Method;
use uuid::Uuid;

use crate::denial::{Denial, Reason};
use crate::request::query::decoded;
use crate::sign_in::operation::Operation;
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
}

/// What the body of an operation must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BodyRule {
    /// There is none; a body that comes is not read.
    None,
    /// A JSON object.
    Json,
    /// A JSON object, or none.
    JsonOrNone,
}

/// A segment of a path.
#[derive(Clone, Copy)]
enum Segment {
    Literal(&'static str),
    /// A UUID, in lower case with hyphens.
    Id,
}
use Segment::{Id, Literal};

type Row = (Method, &'static [Segment], Operation, BodyRule);

/// Every operation but `token`, which depends on its `grant_type`.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    (Method::POST,   &[Literal("signup")],                                         Operation::SignUp,         BodyRule::Json),
    (Method::POST,   &[Literal("otp")],                                            Operation::Otp,            BodyRule::Json),
    (Method::POST,   &[Literal("magiclink")],                                      Operation::MagicLink,      BodyRule::Json),
    (Method::POST,   &[Literal("recover")],                                        Operation::Recover,        BodyRule::Json),
    (Method::POST,   &[Literal("resend")],                                         Operation::Resend,         BodyRule::Json),
    (Method::POST,   &[Literal("verify")],                                         Operation::Verify,         BodyRule::Json),
    (Method::GET,    &[Literal("verify")],                                         Operation::Verify,         BodyRule::None),
    (Method::POST,   &[Literal("logout")],                                         Operation::Logout,         BodyRule::None),
    (Method::GET,    &[Literal("user")],                                           Operation::ReadUser,       BodyRule::None),
    (Method::PUT,    &[Literal("user")],                                           Operation::ChangeUser,     BodyRule::Json),
    (Method::GET,    &[Literal("user"), Literal("identities"), Literal("authorize")], Operation::Identities,    BodyRule::None),
    (Method::DELETE, &[Literal("user"), Literal("identities"), Id],                Operation::Identities,     BodyRule::None),
    (Method::GET,    &[Literal("reauthenticate")],                                 Operation::Reauthenticate, BodyRule::None),
    (Method::POST,   &[Literal("factors")],                                        Operation::Factors,        BodyRule::Json),
    (Method::POST,   &[Literal("factors"), Id, Literal("challenge")],              Operation::Factors,        BodyRule::JsonOrNone),
    (Method::POST,   &[Literal("factors"), Id, Literal("verify")],                 Operation::VerifyFactor,   BodyRule::Json),
    (Method::DELETE, &[Literal("factors"), Id],                                    Operation::Factors,        BodyRule::None),
    (Method::GET,    &[Literal("authorize")],                                      Operation::Authorize,      BodyRule::None),
    (Method::GET,    &[Literal("callback")],                                       Operation::Callback,       BodyRule::None),
    (Method::GET,    &[Literal("settings")],                                       Operation::Settings,       BodyRule::None),
    (Method::GET,    &[Literal("health")],                                         Operation::Health,         BodyRule::None),
    (Method::GET,    &[Literal(".well-known"), Literal("jwks.json")],              Operation::KeySet,         BodyRule::None),
];

const GRANTS: &[(&str, Operation)] = &[
    ("password", Operation::PasswordGrant),
    ("refresh_token", Operation::Refresh),
    ("pkce", Operation::PkceGrant),
    ("id_token", Operation::IdTokenGrant),
    ("web3", Operation::Web3Grant),
];

/// Why a request was not recognized.
#[derive(Debug)]
pub(super) enum RecognitionError {
    /// No operation has this method and path.
    Unlisted,
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
            RecognitionError::Unlisted => Reason::OperationUnknown.into(),
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
    let request = |operation, path, body, scope| OperationRequest {
        operation,
        method: method.clone(),
        path,
        body,
        scope,
    };
    if (method, parts.as_slice()) == (&Method::POST, &["token"]) {
        let grant = single_parameter(query, "grant_type")?.unwrap_or_default();
        let found = GRANTS.iter().find(|(name, _)| *name == grant);
        let (name, operation) = found.ok_or(RecognitionError::Grant)?;
        // The identity server reads no other parameter here, so none is sent.
        let path = format!("/token?grant_type={name}");
        let scope = LogoutScope::Global;
        return Ok(request(*operation, path, BodyRule::Json, scope));
    }
    let row = TABLE
        .iter()
        .find(|row| row.0 == *method && has_path(row.1, &parts));
    let (_, _, operation, body) = row.ok_or(RecognitionError::Unlisted)?;
    if *operation == Operation::Logout {
        let scope = scope(single_parameter(query, "scope")?.as_deref())?;
        let path = format!("/logout?scope={}", scope.as_str());
        return Ok(request(*operation, path, *body, scope));
    }
    let query = without_apikey(query);
    let path = match query.is_empty() {
        true => format!("/{tail}"),
        false => format!("/{tail}?{query}"),
    };
    Ok(request(*operation, path, *body, LogoutScope::Global))
}

fn has_path(segments: &[Segment], parts: &[&str]) -> bool {
    let is = |segment: &Segment, text: &str| match segment {
        Literal(word) => *word == text,
        Id => Uuid::try_parse(text).is_ok_and(|id| id.as_hyphenated().to_string() == text),
    };
    segments.len() == parts.len()
        && segments
            .iter()
            .zip(parts)
            .all(|(segment, text)| is(segment, text))
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

/// Whether only a user may call it.
pub(super) const fn is_for_users(operation: Operation) -> bool {
    match operation {
        Operation::Logout
        | Operation::ReadUser
        | Operation::ChangeUser
        | Operation::Identities
        | Operation::Reauthenticate
        | Operation::Factors
        | Operation::VerifyFactor => true,
        Operation::PasswordGrant
        | Operation::Refresh
        | Operation::PkceGrant
        | Operation::IdTokenGrant
        | Operation::Web3Grant
        | Operation::SignUp
        | Operation::Otp
        | Operation::MagicLink
        | Operation::Recover
        | Operation::Resend
        | Operation::Verify
        | Operation::Authorize
        | Operation::Callback
        | Operation::Settings
        | Operation::Health
        | Operation::KeySet
        | Operation::AdminUsers => false,
    }
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
        ] {
            assert_eq!(path(method, tail, query), None, "{tail} {query}");
        }
    }
}
