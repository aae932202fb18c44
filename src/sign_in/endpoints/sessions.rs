//! `sessions`: the user's sessions, and ending one of them.
//!
//! Decides:  404 for a session that is not the user's, or is none. Trusts: `sessions`, for whose they are. Not here: what ends with a session
//! (`sessions::sign_in`, `streams`).

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::logout::Scope;
use super::{Guest, Visit, reply};
use crate::denial::{Denial, Reason};
use crate::sessions::sign_in::{Which, name_of_id};

pub(super) async fn list(visit: &Visit, guest: Guest) -> Result<Response<Bytes>, Denial> {
    let verified = &guest.verified;
    let sessions = visit.context.sessions();
    let list = sessions
        .list(verified.issuer(), verified.subject(), &guest.own)
        .await
        .map_err(|why| Reason::SessionUnavailable.because(why.as_str()))?;
    reply::json(StatusCode::OK, &json!({ "sessions": list }))
}

/// Ends the session that the last segment of the path names.
pub(super) async fn end(
    visit: &Visit,
    guest: Guest,
    path: &str,
) -> Result<Response<Bytes>, Denial> {
    let id = path.trim_end_matches('/').rsplit('/').next();
    let name = id.and_then(name_of_id).ok_or(Reason::SessionAbsent)?;
    let verified = &guest.verified;
    let list = visit
        .context
        .sessions()
        .list(verified.issuer(), verified.subject(), &guest.own)
        .await
        .map_err(|why| Reason::SessionUnavailable.because(why.as_str()))?;
    let found = list
        .iter()
        .find(|session| name_of_id(&session.id) == Some(name))
        .ok_or(Reason::SessionAbsent)?;
    // Of another session nobody here has a token by which the identity server would end it: what it still gives is refused here.
    let told = found.current.then_some(Scope::Local);
    if visit.end(&guest, Which::One(name), told).await? == 0 {
        return Err(Reason::SessionAbsent.into());
    }
    let mut response = reply::json(StatusCode::OK, &json!({ "message": "Session ended" }))?;
    if found.current {
        visit.clear_cookie(&guest, &mut response);
    }
    Ok(response)
}
