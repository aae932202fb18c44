//! `sessions`: lists the user's sessions, and ends one of them. 404 for a session that is not the
//! user's or does not exist.

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{SignInRequest, SignedInCaller, reply};
use crate::denial::{Denial, Reason};
use crate::sessions::sign_in::{SessionSelection, name_of_id};
use crate::sign_in::session::LogoutScope;

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
    // For another session there is no token here by which the identity server would end it; the
    // tokens that it still issues are refused here.
    let forwarded = found.current.then_some(LogoutScope::Local);
    if request
        .end_sessions(&caller, SessionSelection::One(name), forwarded)
        .await?
        == 0
    {
        return Err(Reason::SessionAbsent.into());
    }
    let mut response = reply::json(StatusCode::OK, &json!({ "message": "Session ended" }))?;
    if found.current {
        request.clear_cookie(&caller, &mut response);
    }
    Ok(response)
}
