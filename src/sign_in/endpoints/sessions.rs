//! `sessions`: lists the user's sessions, and ends one of them. 404 for a session that is not the
//! user's or does not exist.

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{SignInRequest, SignedInCaller, reply};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::sessions::record::InnerTokens;
use crate::sessions::sign_in::{SessionSelection, name_of_id};
use crate::sign_in::refresh::RefreshOutcome;
use crate::sign_in::session::{LogoutScope, RevokedForLogout, seen};
use crate::tokens::claims_of;

pub(super) async fn list(
    request: &SignInRequest,
    caller: SignedInCaller,
) -> Result<Response<Bytes>, Denial> {
    let verified = &caller.verified;
    let sessions = request.context.sessions();
    let list = sessions
        .list(verified.issuer(), verified.subject(), &caller.own)
        .await
        .map_err(|why| Reason::SessionUnavailable.because(why.as_str()))?;
    reply::json(StatusCode::OK, &json!({ "sessions": list }))
}

/// Ends the session that the last segment of the path names.
pub(super) async fn end(
    request: &SignInRequest,
    caller: SignedInCaller,
    path: &str,
) -> Result<Response<Bytes>, Denial> {
    let id = path.trim_end_matches('/').rsplit('/').next();
    let name = id.and_then(name_of_id).ok_or(Reason::SessionAbsent)?;
    let verified = &caller.verified;
    let list = request
        .context
        .sessions()
        .list(verified.issuer(), verified.subject(), &caller.own)
        .await
        .map_err(|why| Reason::SessionUnavailable.because(why.as_str()))?;
    let found = list
        .iter()
        .find(|session| name_of_id(&session.id) == Some(name))
        .ok_or(Reason::SessionAbsent)?;
    // Of another session there may be a token here by which the identity server ends it: that
    // behind a cookie. Tokens that it issues for any other ended session are refused here.
    let tokens = match found.current {
        true => None,
        false => request.context.sessions().inner_tokens(&name).await,
    };
    let forwarded = found.current.then_some(LogoutScope::Local);
    if request
        .end_sessions(&caller, SessionSelection::One(name), forwarded)
        .await?
        == 0
    {
        return Err(Reason::SessionAbsent.into());
    }
    if let Some(tokens) = tokens {
        request.end_there(tokens);
    }
    let mut response = reply::json(StatusCode::OK, &json!({ "message": "Session ended" }))?;
    if found.current {
        request.clear_cookie(&caller, &mut response);
    }
    Ok(response)
}

impl SignInRequest {
    /// Ends a session at the identity server, too, in the background. An access token that has
    /// expired is renewed for that.
    fn end_there(&self, tokens: InnerTokens) {
        let owned = self.clone();
        self.identity.runtime().spawn(async move {
            let expires = claims_of(tokens.access()).and_then(|claims| claims.get("exp")?.as_i64());
            let access = match expires.is_some_and(|expires| expires > clock::unix_now()) {
                true => tokens.access.clone(),
                false => {
                    let refresh = owned.context.refresh()?;
                    let client = seen(owned.client, None);
                    let outcome = refresh.refresh(&tokens.refresh, client).await;
                    match &*outcome.ok()? {
                        RefreshOutcome::Granted(grant) => grant.access_token.clone(),
                        // It has ended there.
                        RefreshOutcome::Refused(_) => return None,
                    }
                }
            };
            owned.forward_logout(LogoutScope::Local, access, RevokedForLogout::default());
            Some(())
        });
    }
}
