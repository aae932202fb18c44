//! What a sign-in begins and a logout ends, alike at the sign-in routes and at the pass-through.

use std::net::IpAddr;
use std::time::Duration;

use hyper::header::HeaderValue;

use super::background::CallKind;
use super::call::Call;
use super::client::IdentityServer;
use super::context::Context;
use super::grant::Grant;
use crate::clock;
use crate::denial::{Denial, Extra, Reason};
use crate::revocation::RevokeOutcome;
use crate::revocation::list::LEEWAY;
use crate::secrets::secret::Secret;
use crate::sessions::record::{ClientInfo, InnerTokens};
use crate::sessions::sign_in::{OwnSession, SessionSelection, SignedInUser};
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
            Self::Global => SessionSelection::All,
        }
    }
}

/// The session that begins with a grant whose access token proves `verified`.
pub(super) fn granted(verified: &Verified, grant: &Grant) -> SignedInUser {
    SignedInUser {
        issuer: verified.issuer().to_owned(),
        subject: verified.subject().to_owned(),
        session: verified.session().map(str::to_owned),
        tokens: InnerTokens {
            access: grant.access_token.clone(),
            refresh: grant.refresh_token.clone(),
        },
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

/// Looks a verified token up in the list of revocations.
///
/// # Errors
///
/// The token, its session, its user or its issuer was revoked.
pub(super) fn check_revocations(context: &Context, verified: &Verified) -> Result<(), Denial> {
    let now = clock::unix_now();
    let revocations = context.revocations();
    revocations.check(verified.clean(), verified.listed(), now)
}

/// Refuses a sign-in in the seconds after a logout everywhere: it cannot be told from the sign-ins
/// before the logout, and would be refused at its first use.
pub(super) fn signed_out_recently() -> Denial {
    Denial {
        extra: Extra::RetryAfter(Duration::from_secs(LEEWAY.unsigned_abs() + 1)),
        ..Reason::SignedOutRecently.into()
    }
}

/// Ends sessions of a user on every replica and in the user's list. Returns how many sessions of
/// the list ended.
///
/// `is_own`: the caller's own session ends. If the caller's token names no session, the token is
/// revoked, too, since there may be no other trace of its session than a cookie that leads to it.
///
/// # Errors
///
/// 503 `logout_incomplete`: not every replica knows of it yet.
pub(super) async fn end_locally(
    context: &Context,
    verified: &Verified,
    token: &Secret,
    which: SessionSelection,
    is_own: bool,
) -> Result<usize, Denial> {
    let incomplete = |why| Err(Reason::LogoutIncomplete.because(why));
    let revoked = match is_own && verified.session().is_none() {
        true => {
            let revocation = verified.revocation(token);
            context.revocations().revoke(revocation).await
        }
        false => RevokeOutcome::Stored,
    };
    // Even if that failed: end as much as possible.
    let (issuer, subject) = (verified.issuer(), verified.subject());
    let ended = context.sessions().end(issuer, subject, which).await;
    match (ended, revoked) {
        (Err(why), _) => incomplete(why.as_str()),
        (Ok(_), RevokeOutcome::Full) => {
            incomplete("the list is full; raise `revocations.capacity`")
        }
        (Ok(_), RevokeOutcome::Stopped) => incomplete("the list has stopped"),
        (Ok(ended), RevokeOutcome::Stored) if ended.propagated => Ok(ended.sessions),
        (Ok(_), RevokeOutcome::Stored | RevokeOutcome::Queued) => incomplete("not stored yet"),
    }
}

/// Forwards a logout to the identity server in the background, until it succeeds.
pub(super) fn forward_logout(context: &Context, identity: &IdentityServer, call: Call) {
    if !context.background().call(identity, call, CallKind::Logout) {
        tracing::error!("logout not forwarded: queue full");
    }
}
