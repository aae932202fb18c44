//! Which request at the identity server's own paths is which operation.
//!
//! Decides:  what may be asked: what the table has, spelled exactly so. Trusts: the canonical path.
//! Not here: what becomes of it.
//!
//! The identity server would understand more: other spellings, parameters in a form body, the administrator's paths. What is not recognised is
//! not sent, so that nothing is ever done there that was taken for something else here.

use std::borrow::Cow;

use hyper::Method;
use uuid::Uuid;

use crate::denial::{Denial, Reason};
use crate::request::query::decoded;
use crate::sign_in::operation::Operation;
use crate::sign_in::session::LogoutScope;

/// A request that was recognised.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct OperationRequest {
    /// What it asks.
    pub(super) operation: Operation,
    /// The method.
    pub(super) method: Method,
    /// Path and query as they are sent.
    pub(super) path: String,
    /// What its body must be.
    pub(super) body: BodyRule,
    /// Which sessions end, if it is [`Operation::Logout`].
    pub(super) scope: LogoutScope,
}

/// What a body must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BodyRule {
    /// There is none; one that comes is not read.
    None,
    /// One JSON object.
    Json,
    /// One JSON object, or none.
    JsonOrNone,
}

/// A part of a path.
#[derive(Clone, Copy)]
enum Segment {
    Literal(&'static str),
    /// A UUID, as `Uuid` writes it.
    Id,
}
use Segment::{Id, Literal};

type Row = (Method, &'static [Segment], Operation, BodyRule);

/// Everything that may be asked but `token`, which goes by its `grant_type`.
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

/// What was not recognised.
#[derive(Debug)]
pub(super) enum RecognitionError {
    /// Nothing of the kind may be asked.
    Unlisted,
    /// A grant that does not exist; told in the identity server's own words.
    Grant,
    /// A logout of a scope that does not exist; told in the identity server's own words.
    Scope,
    /// It could be read in two ways.
    Ambiguous,
}

impl From<RecognitionError> for Denial {
    fn from(error: RecognitionError) -> Self {
        match error {
            RecognitionError::Unlisted => Reason::OperationUnknown.into(),
            RecognitionError::Ambiguous => Reason::QueryRepeated.into(),
            // Those who answer in the server's words never come here.
            RecognitionError::Grant | RecognitionError::Scope => {
                Reason::OperationUnknown.because("the parameter")
            }
        }
    }
}

/// Recognises a request by its method, its path below the door, such as `token`, and its query.
pub(super) fn recognise(
    method: &Method,
    tail: &str,
    query: Option<&str>,
) -> Result<OperationRequest, RecognitionError> {
    let query = query.unwrap_or_default();
    let parts: Vec<&str> = tail.split('/').collect();
    if (method, parts.as_slice()) == (&Method::POST, &["token"]) {
        let grant = single_parameter(query, "grant_type")?.unwrap_or_default();
        let found = GRANTS.iter().find(|(name, _)| *name == grant);
        let (name, operation) = found.ok_or(RecognitionError::Grant)?;
        return Ok(OperationRequest {
            operation: *operation,
            method: method.clone(),
            // Nothing else is read there, so nothing else is sent.
            path: format!("/token?grant_type={name}"),
            body: BodyRule::Json,
            scope: LogoutScope::Global,
        });
    }
    let is = |part: &Segment, text: &&str| match part {
        Literal(word) => word == text,
        Id => Uuid::try_parse(text).is_ok_and(|id| id.as_hyphenated().to_string() == **text),
    };
    let matches = |row: &&Row| {
        row.0 == *method
            && row.1.len() == parts.len()
            && row.1.iter().zip(&parts).all(|(part, text)| is(part, text))
    };
    let (_, _, operation, body) = TABLE
        .iter()
        .find(matches)
        .ok_or(RecognitionError::Unlisted)?;
    if *operation == Operation::Logout {
        let scope = scope(single_parameter(query, "scope")?.as_deref())?;
        return Ok(OperationRequest {
            operation: *operation,
            method: method.clone(),
            path: format!("/logout?scope={}", scope.as_str()),
            body: *body,
            scope,
        });
    }
    let query = without_apikey(query);
    let path = match query.is_empty() {
        true => format!("/{tail}"),
        false => format!("/{tail}?{query}"),
    };
    Ok(OperationRequest {
        operation: *operation,
        method: method.clone(),
        path,
        body: *body,
        scope: LogoutScope::Global,
    })
}

/// The value of a parameter that may be there once. However it is spelled: some reader would find it.
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

/// The key is judged here, and the server gets ours.
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

/// Whether only a user may ask it.
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

/// Whether it is asked without a key: by a browser that follows a link, or by whoever verifies tokens.
pub(super) const fn is_open(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Verify | Operation::Authorize | Operation::Callback | Operation::KeySet
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(method: Method, tail: &str, query: &str) -> Option<(Operation, String)> {
        let query = (!query.is_empty()).then_some(query);
        let request = recognise(&method, tail, query).ok()?;
        Some((request.operation, request.path))
    }

    #[test]
    fn what_is_listed_is_sent_as_it_was_read() {
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
    fn what_is_not_listed_or_could_be_read_in_two_ways_is_not() {
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
