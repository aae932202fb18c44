//! `logout`: ends this session, the user's others, or all.
//!
//! Sessions are revoked here before the answer; the logout is forwarded to the identity server in
//! the background, until it succeeds. So a user is signed out within a moment even while the
//! identity server is unreachable.

use bytes::Bytes;
use hyper::header::SET_COOKIE;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::input::invalid;
use super::{SignInRequest, SignedInCaller, reply};
use crate::denial::{Denial, Extra, FieldError, Reason};
use crate::request::query::decoded;
use crate::secrets::secret::Secret;
use crate::sessions::cookie;
use crate::sessions::sign_in::SessionSelection;
use crate::sign_in::operation::Operation;
use crate::sign_in::run_to_completion;
use crate::sign_in::session::{self, LogoutScope, RevokedForLogout, end_locally};
use crate::sign_in::throttle::Attempt;

/// Reads the scope from a query. Anything unknown is refused: the client would trust that more had
/// ended than did.
fn scope(query: Option<&str>) -> Result<LogoutScope, Denial> {
    let mut scopes = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(key, _)| decoded(key) == "scope");
    let Some((_, name)) = scopes.next() else {
        return Ok(LogoutScope::Local);
    };
    let scope = LogoutScope::named(&decoded(name)).filter(|_| scopes.next().is_none());
    scope.ok_or_else(|| {
        invalid(vec![FieldError {
            field: "scope",
            detail: "is not one of `local`, `others` and `global`, once".into(),
        }])
    })
}

pub(super) async fn logout(
    request: &SignInRequest,
    caller: Option<SignedInCaller>,
    query: Option<&str>,
) -> Result<Response<Bytes>, Denial> {
    let scope = scope(query)?;
    let Some(caller) = caller else {
        return request.signed_out_before(scope);
    };
    if scope == LogoutScope::Others {
        // It can be repeated. Any other logout ends the session by which it is requested, and is
        // never refused.
        request.admit(Attempt::Account, None).await?.succeeded();
    }
    let which = scope.which(caller.own.clone());
    request.end_sessions(&caller, which, Some(scope)).await?;
    let mut response = signed_out()?;
    if scope != LogoutScope::Others {
        request.clear_cookie(&caller, &mut response);
    }
    Ok(response)
}

fn signed_out() -> Result<Response<Bytes>, Denial> {
    let message = json!({ "message": "Logged out successfully" });
    reply::json(StatusCode::OK, &message)
}

impl SignInRequest {
    /// Answers a caller whose session has ended before. With any scope but its own session, the
    /// client would trust that others have ended, too.
    fn signed_out_before(&self, scope: LogoutScope) -> Result<Response<Bytes>, Denial> {
        let cleared = self.has_cookie;
        let cleared = cleared.then(|| cookie::clear(&self.in_force.config().sessions));
        if scope != LogoutScope::Local {
            return Err(Denial {
                extra: cleared.map_or(Extra::None, Extra::ClearCookie),
                ..Reason::SessionRevoked.into()
            });
        }
        let mut response = signed_out()?;
        if let Some(cleared) = cleared {
            response.headers_mut().insert(SET_COOKIE, cleared);
        }
        Ok(response)
    }

    /// Ends sessions, here first; the logout is forwarded with the scope `forwarded`, if there is
    /// one that the identity server understands. Returns how many sessions of the user's list
    /// ended.
    pub(super) async fn end_sessions(
        &self,
        caller: &SignedInCaller,
        which: SessionSelection,
        forwarded: Option<LogoutScope>,
    ) -> Result<usize, Denial> {
        let (owned, caller) = (self.clone(), caller.clone());
        let work = async move {
            let is_own = matches!(forwarded, Some(LogoutScope::Local | LogoutScope::Global));
            let (verified, token) = (&caller.verified, &caller.access_token);
            let ended = end_locally(&owned.context, verified, token, which, is_own).await;
            if let Some(scope) = forwarded {
                owned.forward_logout(scope, caller.access_token, ended.revoked);
            }
            ended.sessions
        };
        run_to_completion(self.identity.runtime(), work).await
    }

    /// Forwards a logout to the identity server in the background, until it succeeds. `revoked` was
    /// revoked for it here.
    pub(super) fn forward_logout(
        &self,
        scope: LogoutScope,
        access_token: Secret,
        revoked: RevokedForLogout,
    ) {
        let path = format!("/logout?scope={}", scope.as_str());
        let call = self
            .unlimited_call(Operation::Logout, Method::POST, &path)
            .for_user(access_token);
        session::forward_logout(&self.context, &self.identity, call, revoked);
    }

    /// Clears the cookie of a caller that was verified by one.
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

    #[test]
    fn a_scope_is_one_of_three_words_and_occurs_once() {
        for (query, expected) in [
            (None, LogoutScope::Local),
            (Some(""), LogoutScope::Local),
            (Some("x=1"), LogoutScope::Local),
            (Some("scope=local"), LogoutScope::Local),
            (Some("x=1&scope=others"), LogoutScope::Others),
            (Some("scope=global"), LogoutScope::Global),
            (Some("sc%6fpe=gl%6fbal"), LogoutScope::Global),
        ] {
            assert_eq!(scope(query).expect("a scope"), expected, "{query:?}");
        }
        for query in [
            "scope",
            "scope=",
            "scope=all",
            "scope=Global",
            "scope=global&scope=global",
            "scope=local&sc%6fpe=global",
        ] {
            let denial = scope(Some(query)).unwrap_err();
            assert_eq!(denial.reason, Reason::InputInvalid, "{query}");
        }
    }
}
