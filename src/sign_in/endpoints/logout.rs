//! `logout`: this session ends, or the others, or all.
//!
//! Decides:  what is revoked. Trusts: `sessions`, to refuse it everywhere. Not here: how replicas learn of it.
//!
//! What ends is refused here, before the answer; the identity server is told behind it, and told again until it knows. So a user is signed out within a
//! moment even while the identity server is away.

use bytes::Bytes;
use hyper::header::SET_COOKIE;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::input::invalid;
use super::{SignInRequest, SignedInCaller, reply};
use crate::denial::{Denial, FieldError};
use crate::request::query::decoded;
use crate::secrets::secret::Secret;
use crate::sessions::cookie;
use crate::sessions::sign_in::Which;
use crate::sign_in::background::CallKind;
use crate::sign_in::operation::Operation;
use crate::sign_in::{end_locally, run_to_completion};

/// Which sessions end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// The one that asks.
    Local,
    /// The user's others.
    Others,
    /// All of the user's.
    Global,
}

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Others => "others",
            Self::Global => "global",
        }
    }

    /// Reads a query. Whatever is not understood is refused: ending too little would be believed to be done.
    fn read(query: Option<&str>) -> Result<Self, Denial> {
        let invalid_scope = || {
            invalid(vec![FieldError {
                field: "scope",
                detail: "is not one of `local`, `others` and `global`, once".into(),
            }])
        };
        let mut scopes = query
            .unwrap_or_default()
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(key, _)| decoded(key) == "scope");
        let Some((_, scope)) = scopes.next() else {
            return Ok(Self::Local);
        };
        match (decoded(scope).as_ref(), scopes.next()) {
            ("local", None) => Ok(Self::Local),
            ("others", None) => Ok(Self::Others),
            ("global", None) => Ok(Self::Global),
            _ => Err(invalid_scope()),
        }
    }
}

pub(super) async fn logout(
    request: &SignInRequest,
    caller: SignedInCaller,
    query: Option<&str>,
) -> Result<Response<Bytes>, Denial> {
    let scope = Scope::read(query)?;
    let which = match scope {
        Scope::Local => Which::Own(caller.own.clone()),
        Scope::Others => Which::Others(caller.own.clone()),
        Scope::Global => Which::All,
    };
    request.end_sessions(&caller, which, Some(scope)).await?;
    let mut response = reply::json(
        StatusCode::OK,
        &json!({ "message": "Logged out successfully" }),
    )?;
    if scope != Scope::Others {
        request.clear_cookie(&caller, &mut response);
    }
    Ok(response)
}

impl SignInRequest {
    /// Ends sessions, here first. The identity server is told which are meant by `told`, if by anything it understands. Gives how many of the user's
    /// list ended.
    pub(super) async fn end_sessions(
        &self,
        caller: &SignedInCaller,
        which: Which,
        forwarded: Option<Scope>,
    ) -> Result<usize, Denial> {
        let verified = &caller.verified;
        let (issuer, subject) = (verified.issuer(), verified.subject());
        let is_own = forwarded == Some(Scope::Local);
        let nameless = (is_own && verified.session().is_none())
            .then(|| verified.revocation(&caller.access_token));
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        let (owned, access_token) = (self.clone(), caller.access_token.clone());
        let work = async move {
            let ended = end_locally(&owned.context, &issuer, &subject, nameless, which).await;
            if let Some(scope) = forwarded {
                owned.forward_logout(scope.as_str(), access_token);
            }
            ended
        };
        run_to_completion(self.identity.runtime(), work).await
    }

    /// Tells the identity server behind the answer, until it knows.
    pub(super) fn forward_logout(&self, scope: &str, access_token: Secret) {
        let call = self
            .call(
                Operation::Logout,
                Method::POST,
                &format!("/logout?scope={scope}"),
            )
            .for_user(access_token);
        let background = self.context.background();
        if !background.call(&self.identity, call, CallKind::Logout) {
            tracing::error!("the identity server is not told of a logout: too many wait");
        }
    }

    /// Takes the cookie away from who proved themselves by one.
    pub(super) fn clear_cookie(&self, caller: &SignedInCaller, response: &mut Response<Bytes>) {
        if caller.own.cookie.is_some() {
            let cleared = cookie::clear(&self.in_force.config().sessions);
            response.headers_mut().insert(SET_COOKIE, cleared);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::denial::Reason;

    #[test]
    fn a_scope_is_one_of_three_words_once() {
        for (query, scope) in [
            (None, Scope::Local),
            (Some(""), Scope::Local),
            (Some("x=1"), Scope::Local),
            (Some("scope=local"), Scope::Local),
            (Some("x=1&scope=others"), Scope::Others),
            (Some("scope=global"), Scope::Global),
            (Some("sc%6fpe=gl%6fbal"), Scope::Global),
        ] {
            assert_eq!(Scope::read(query).expect("a scope"), scope, "{query:?}");
        }
        for query in [
            "scope",
            "scope=",
            "scope=all",
            "scope=Global",
            "scope=global&scope=global",
            "scope=local&sc%6fpe=global",
        ] {
            let denial = Scope::read(Some(query)).unwrap_err();
            assert_eq!(denial.reason, Reason::InputInvalid, "{query}");
        }
    }
}
