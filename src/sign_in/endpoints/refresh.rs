//! `refresh`: new tokens for a session. 401 for a refresh token that is no longer valid, and for
//! one whose session was ended here. [`Refresh`] makes one call for all clients and decides which
//! answers are final.
//!
//! [`Refresh`]: crate::sign_in::refresh::Refresh

use bytes::Bytes;
use hyper::Response;

use super::input::UnreadBody;
use super::outcome::{Flow, refusal};
use super::{SignInRequest, reply};
use crate::denial::{Denial, Reason};
use crate::sign_in::profile;
use crate::sign_in::refresh::RefreshOutcome;
use crate::sign_in::session::{check_refreshed, seen};
use crate::sign_in::throttle::Attempt;

pub(super) async fn refresh(
    request: &SignInRequest,
    body: UnreadBody,
) -> Result<Response<Bytes>, Denial> {
    let token = body.refresh_token().await?;
    let admission = request.admit(Attempt::Refresh, None).await?;
    let refresh = request.context.refresh().ok_or(Reason::Internal)?;
    let client = seen(request.client, request.user_agent.as_ref());
    let refreshed = match refresh.refresh(&token, client).await {
        Ok(refreshed) => refreshed,
        Err(denial) => {
            admission.undecided();
            return Err(denial);
        }
    };
    match &*refreshed {
        RefreshOutcome::Refused(error) => {
            admission.failed();
            let detail = refusal(Flow::Refresh, error).detail;
            Err(Reason::RefreshTokenInvalid.because(detail.unwrap_or_default()))
        }
        RefreshOutcome::Granted(grant) => {
            let verified = request.verify_grant(grant).await;
            // The identity server may not know yet that the session was ended here.
            if let Ok(verified) = &verified
                && let Err(denial) = check_refreshed(&request.context, verified).await
            {
                admission.failed();
                return Err(Reason::RefreshTokenInvalid.because(denial.reason.code()));
            }
            admission.succeeded();
            match verified {
                Ok(_) => {}
                // The old token is used up: a client that does not get the new ones has lost its
                // session. They are verified when they are used.
                Err(denial) if denial.reason == Reason::KeysUnavailable => {}
                Err(denial) => return Err(denial),
            }
            let (context, in_force) = (&request.context, &request.in_force);
            profile::ensure_unless_known(context, in_force, grant.user.get()).await;
            reply::tokens(grant)
        }
    }
}
