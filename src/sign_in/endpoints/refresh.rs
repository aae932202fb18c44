//! `refresh`: new tokens for a session.
//!
//! Decides:  401 for a refresh token that is not good any more, and for one whose session was ended here. Trusts: [`Refresh`], for one call whoever
//! asks. Not here: which answers are final (`refresh`).
//!
//! [`Refresh`]: crate::sign_in::refresh::Refresh

use bytes::Bytes;
use hyper::Response;

use super::input::Unread;
use super::outcome::{Asked, refusal};
use super::{Visit, reply};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::sign_in::refresh::Refreshed;
use crate::sign_in::throttle::Attempt;

pub(super) async fn refresh(visit: &Visit, unread: Unread) -> Result<Response<Bytes>, Denial> {
    let token = unread.refresh_token().await?;
    let admission = visit.admit(Attempt::Refresh, None).await?;
    let refresh = visit.context.refresh().ok_or(Reason::Internal)?;
    let refreshed = match refresh.refresh(&token, visit.client).await {
        Ok(refreshed) => refreshed,
        Err(denial) => {
            admission.undecided();
            return Err(denial);
        }
    };
    match &*refreshed {
        Refreshed::Refused(error) => {
            admission.failed();
            Err(refusal(Asked::Refresh, error))
        }
        Refreshed::Granted(grant) => {
            admission.succeeded();
            match visit.verified(grant).await {
                // The identity server may not know yet that the session was ended here.
                Ok(verified) => visit
                    .context
                    .revocations()
                    .check(verified.clean(), verified.listed(), clock::unix_now())
                    .map_err(|denial| Reason::RefreshTokenInvalid.because(denial.reason.code()))?,
                // The old token is used up: who does not get the new ones now has lost the session. They are judged when they are used.
                Err(denial) if denial.reason == Reason::KeysUnavailable => {}
                Err(denial) => return Err(denial),
            }
            reply::tokens(grant)
        }
    }
}
