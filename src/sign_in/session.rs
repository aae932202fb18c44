//! What a sign-in begins and a logout ends, alike at the sign-in routes and at the pass-through.

use std::net::IpAddr;
use std::time::Duration;

use hyper::header::HeaderValue;

use super::background::CallKind;
use super::call::{Call, Reply};
use super::client::IdentityServer;
use super::context::Context;
use super::grant::{AuthError, Grant};
use crate::clock;
use crate::denial::{Denial, Extra, Fault, Reason};
use crate::revocation::list::LEEWAY;
use crate::revocation::{Listed, Revocation, RevokeOutcome, Target, canonical_id};
use crate::secrets::secret::Secret;
use crate::sessions::record::{Carrier, ClientInfo, InnerTokens};
use crate::sessions::renew::no_store;
use crate::sessions::sign_in::{EndError, OwnSession, SessionSelection, SignedInUser};
use crate::tokens::Verified;

/// Which sessions a logout ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LogoutScope {
    /// The caller's own.
    Local,
    /// All of the user's but that one.
    Others,
    /// All of the user's.
    Global,
}

impl LogoutScope {
    /// The scope of this name, if there is one.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "local" => Some(Self::Local),
            "others" => Some(Self::Others),
            "global" => Some(Self::Global),
            _ => None,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Others => "others",
            Self::Global => "global",
        }
    }

    /// The sessions to end for a caller whose own session is `own`.
    pub(super) fn which(self, own: OwnSession) -> SessionSelection {
        match self {
            Self::Local => SessionSelection::Own(own),
            Self::Others => SessionSelection::Others(own),
            Self::Global => SessionSelection::All(own),
        }
    }
}

/// The session that begins with a grant whose access token proves `verified`, and for which the
/// client asked at `asked_at`, in Unix milliseconds.
pub(super) fn granted(verified: &Verified, grant: &Grant, asked_at: i64) -> SignedInUser {
    SignedInUser {
        issuer: verified.issuer().to_owned(),
        subject: verified.subject().to_owned(),
        session: verified.session().map(str::to_owned),
        tokens: InnerTokens {
            access: grant.access_token.clone(),
            refresh: grant.refresh_token.clone(),
        },
        asked_at,
    }
}

/// Where a session was begun from, for the user's list.
pub(super) fn seen(address: IpAddr, user_agent: Option<&HeaderValue>) -> ClientInfo {
    let user_agent = user_agent.and_then(|agent| agent.to_str().ok());
    ClientInfo {
        address,
        user_agent: user_agent.map(str::to_owned),
    }
}

/// Looks the token of a refresh up in the list of revocations.
///
/// # Errors
///
/// The token, its session, its user or its issuer was revoked. An outage is no error: the old token
/// is used up, and the new ones are looked up again when they are used.
pub(super) async fn check_refreshed(context: &Context, verified: &Verified) -> Result<(), Denial> {
    let checked = context
        .sessions()
        .check(verified.clean(), verified.listed());
    match checked.await {
        Err(denial) if denial.reason.fault() == Fault::Client => Err(denial),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Looks the token of a new session up in the list of revocations. The client asked for the session
/// at `asked_at`, in Unix milliseconds. Returns whether the session must be stored, since only its
/// record tells it from those that were revoked.
///
/// # Errors
///
/// 503 `signed_out_recently`: the session cannot be told from those that were revoked, and would be
/// refused at its first use.
pub(super) fn check_new(
    context: &Context,
    verified: &Verified,
    carrier: Carrier,
    asked_at: i64,
) -> Result<bool, Denial> {
    let listed = Listed {
        // The record of a cookie is read anyway.
        begun: (carrier == Carrier::Cookie).then_some(asked_at),
        ..verified.listed()
    };
    let revocations = context.revocations();
    let found = revocations.find(verified.clean(), listed, clock::unix_now());
    let Some(hit) = found else {
        return Ok(false);
    };
    match hit.unless_begun_after {
        Some(revoked_at) if asked_at > revoked_at => Ok(true),
        Some(_) | None => Err(Denial {
            detail: Some(Denial::from(hit).reason.code().into()),
            ..signed_out_recently()
        }),
    }
}

/// Refuses a sign-in in the seconds after a revocation, from whose sessions it cannot be told.
pub(super) fn signed_out_recently() -> Denial {
    Denial {
        extra: Extra::RetryAfter(Duration::from_secs(LEEWAY.unsigned_abs() + 1)),
        ..Reason::SignedOutRecently.into()
    }
}

/// Sessions that ended here: what was revoked, for [`forward_logout`], and how many of the user's
/// list, or why not every replica refuses them.
pub(super) struct EndedLocally {
    pub(super) revoked: RevokedForLogout,
    pub(super) sessions: Result<usize, Denial>,
}

/// Ends sessions of a user on every replica and in the user's list. The error is 503
/// `logout_incomplete` if only this replica refuses them yet. Any other error means that not even
/// this replica refuses all of them.
///
/// `is_own`: the caller's own session ends. If the caller's token names no session, the token is
/// revoked, too, since there may be no other trace of its session than a cookie that leads to it.
pub(super) async fn end_locally(
    context: &Context,
    verified: &Verified,
    token: &Secret,
    which: SessionSelection,
    is_own: bool,
) -> EndedLocally {
    let outcome = match is_own && verified.session().is_none() {
        true => {
            let revocation = verified.revocation(token);
            context.revocations().revoke(revocation).await
        }
        false => RevokeOutcome::Stored,
    };
    // Even if that failed: end as much as possible.
    let (issuer, subject) = (verified.issuer(), verified.subject());
    let ended = context.sessions().end(issuer, subject, which).await;
    let (revoked, ended) = match ended {
        Ok(ended) => (ended.revoked, Ok((ended.sessions, ended.propagated))),
        Err(why) => (Vec::new(), Err(why)),
    };
    let incomplete = |why| Err(Reason::LogoutIncomplete.because(why));
    let failed = |why| Err(Reason::Internal.because(why));
    let sessions = match (ended, outcome) {
        (_, RevokeOutcome::Full) => failed("the list is full; raise `revocations.capacity`"),
        (_, RevokeOutcome::Stopped) => failed("the list has stopped"),
        (Err(EndError::NotRevoked), _) => failed("not everything was revoked"),
        (Err(EndError::Unknown(why)), _) => Err(no_store(why)),
        (Err(EndError::Unreachable(why)), _) => incomplete(why.as_str()),
        (Ok((sessions, true)), RevokeOutcome::Stored) => Ok(sessions),
        (Ok(_), RevokeOutcome::Stored | RevokeOutcome::Queued) => incomplete("not stored yet"),
    };
    let revoked = RevokedForLogout {
        own: verified.session().map(str::to_owned),
        revoked,
    };
    EndedLocally { revoked, sessions }
}

/// Forwards a logout to the identity server in the background, until it succeeds. Then what was
/// `revoked` for it need not be kept for long.
pub(super) fn forward_logout(
    context: &Context,
    identity: &IdentityServer,
    call: Call,
    revoked: RevokedForLogout,
) {
    let sessions = context.sessions().clone();
    let answered = move |reply: &Reply| sessions.confirm_logout(revoked.confirmed_by(reply));
    let background = context.background();
    if !background.call_then(identity, call, CallKind::Logout, answered) {
        tracing::error!("logout not forwarded: queue full");
    }
}

/// What was revoked for a logout, until the identity server confirms it.
#[derive(Default)]
pub(super) struct RevokedForLogout {
    /// The `session_id` of the token that the logout was requested with.
    own: Option<String>,
    revoked: Vec<Revocation>,
}

impl RevokedForLogout {
    /// All of it: the identity server has ended these sessions.
    pub(super) fn all(self) -> Vec<Revocation> {
        self.revoked
    }

    /// What this reply to the logout confirms: the identity server has ended these sessions, so
    /// that they get no further tokens. A refusal of the token says nothing about them.
    pub(super) fn confirmed_by(mut self, reply: &Reply) -> Vec<Revocation> {
        if reply.status.is_success() {
            return self.revoked;
        }
        let code = match reply.status.is_client_error() {
            true => AuthError::read(reply).code,
            false => return Vec::new(),
        };
        match code.as_str() {
            "user_not_found" => self.revoked,
            // The server looks the caller's session up before it logs anybody out, so it has ended
            // no other session.
            "session_not_found" => {
                let own = self.own.as_deref().map(canonical_id);
                self.revoked.retain(|one| match &one.target {
                    Target::Session { session, .. } => own.as_deref() == Some(session.as_str()),
                    Target::Token { .. }
                    | Target::Subject { .. }
                    | Target::Issuer { .. }
                    | Target::Bucket { .. }
                    | Target::Undone { .. } => false,
                });
                self.revoked
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_logout_confirms_only_sessions_that_the_identity_server_has_ended() {
        let session = |id: &str| Target::Session {
            issuer: "i".to_owned(),
            session: id.to_owned(),
            subject: Some("u".to_owned()),
        };
        let everything = Target::Subject {
            issuer: "i".to_owned(),
            subject: "u".to_owned(),
            not_before: 1,
            except: Vec::new(),
            strict: false,
        };
        let own = "0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b70";
        let all = [session(own), everything, session("another")];
        let all = all.map(|target| Revocation::new(target, 1, 2));
        let (own_only, none) = (&all[..1], &all[..0]);
        for (status, code, expected) in [
            (204, "", &all[..]),
            (403, "user_not_found", &all[..]),
            (403, "session_not_found", own_only),
            (401, "session_not_found", own_only),
            (403, "bad_jwt", none),
            (401, "", none),
            (500, "session_not_found", none),
            (503, "user_not_found", none),
        ] {
            let reply = Reply {
                status: StatusCode::from_u16(status).expect("a status"),
                headers: HeaderMap::new(),
                body: Bytes::from(json!({ "error_code": code }).to_string()),
            };
            let revoked = |own: Option<String>| RevokedForLogout {
                own,
                revoked: all.to_vec(),
            };
            let upper = revoked(Some(own.to_uppercase()));
            assert_eq!(upper.confirmed_by(&reply), expected, "{status} {code}");
            // A token without a session is no session's.
            if code == "session_not_found" {
                assert_eq!(revoked(None).confirmed_by(&reply), none);
            }
        }
    }
}
