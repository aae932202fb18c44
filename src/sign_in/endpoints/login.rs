//! `login`: tokens for a password.
//!
//! An unknown account and a wrong password have the same answer, after one call, and no sooner than
//! the throttle's `refusal_floor`.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::json;
use tokio::time::Instant;

use super::input::{Credentials, UnreadBody};
use super::outcome::{Flow, refusal};
use super::{SignInRequest, TokenDelivery, reply, sign_in, with_captcha};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::sessions::record::Carrier;
use crate::sessions::sign_in::NewSession;
use crate::sign_in::call::CallError;
use crate::sign_in::grant::{AuthError, Grant};
use crate::sign_in::operation::Operation;
use crate::sign_in::session::{
    LogoutScope, RevokedForLogout, check_new, granted, seen, signed_out_recently,
};
use crate::sign_in::throttle::{Admission, Attempt};
use crate::sign_in::{is_refusal, profile, run_to_completion};
use crate::tokens::{Presented, Verified};

/// Why there is no grant.
#[derive(Debug)]
pub(super) enum GrantError {
    /// There was no reply.
    Call(CallError),
    /// The identity server refused.
    Refused(AuthError),
    /// The reply was a success without tokens.
    Malformed,
}

impl GrantError {
    /// Whether the identity server examined the credentials and refused them.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(error) => is_refusal(error.status),
            Self::Call(_) | Self::Malformed => false,
        }
    }

    /// The refusal of the client's request.
    pub(super) fn denial(&self, flow: Flow) -> Denial {
        match self {
            Self::Call(error) => (*error).into(),
            Self::Refused(error) => refusal(flow, error),
            Self::Malformed => Reason::IdentityRefused.because("the reply is not a grant"),
        }
    }
}

pub(super) async fn login(
    request: &SignInRequest,
    body: UnreadBody,
) -> Result<Response<Bytes>, Denial> {
    let credentials = body.credentials().await?;
    let admission = request
        .admit(Attempt::Login, Some(&credentials.email))
        .await?;
    let (owned, began) = (request.clone(), Instant::now());
    let asked_at = clock::unix_millis();
    let result = run_to_completion(request.identity.runtime(), async move {
        let grant = match owned.password_grant(&admission, &credentials).await {
            Ok(grant) => grant,
            Err(why) => {
                let denial = why.denial(Flow::Login);
                let is_refusal = why.is_refusal();
                match why {
                    GrantError::Refused(error) => admission.refused(&owned.identity, error),
                    GrantError::Call(_) | GrantError::Malformed => admission.undecided(),
                }
                return match is_refusal {
                    true => Ok(Err(denial)),
                    false => Err(denial),
                };
            }
        };
        admission.succeeded();
        let begun = owned.begin_session(&grant, asked_at).await;
        let begun = begun.inspect_err(|_| {
            // The client never gets these tokens.
            let token = grant.access_token.clone();
            owned.forward_logout(LogoutScope::Local, token, RevokedForLogout::default());
        })?;
        profile::ensure_before_answer(&owned.context, &owned.in_force, grant.user.get()).await;
        Ok(Ok((grant, begun)))
    })
    .await?;
    match result {
        Ok((grant, begun)) => reply::signed_in(&grant, begun),
        Err(denial) => {
            let throttling = &sign_in(&request.in_force)?.throttle;
            let throttle = request.context.throttle();
            throttle.hold_refusal(throttling, began).await?;
            Err(denial)
        }
    }
}

impl SignInRequest {
    /// Requests tokens for a password.
    pub(super) async fn password_grant(
        &self,
        admission: &Admission,
        credentials: &Credentials,
    ) -> Result<Grant, GrantError> {
        let body = json!({
            "email": credentials.email,
            "password": secret_text(credentials.password.expose()),
        });
        let path = "/token?grant_type=password";
        let call = self
            .call(admission, Operation::PasswordGrant, Method::POST, path)
            .with_body(with_captcha(body, credentials.captcha.as_ref()));
        let reply = self.identity.call(call).await.map_err(GrantError::Call)?;
        match reply.status.is_success() {
            true => Grant::read(&reply.body).ok_or(GrantError::Malformed),
            false => Err(GrantError::Refused(AuthError::read(&reply))),
        }
    }

    /// Begins a session with new tokens, for which the client asked at `asked_at`, in Unix
    /// milliseconds.
    pub(super) async fn begin_session(
        &self,
        grant: &Grant,
        asked_at: i64,
    ) -> Result<NewSession, Denial> {
        let verified = self.verify_grant(grant).await?;
        let carrier = match self.delivery {
            TokenDelivery::Tokens => Carrier::Bearer,
            TokenDelivery::Cookie(_) => Carrier::Cookie,
        };
        let must_be_stored = check_new(&self.context, &verified, carrier, asked_at)?;
        let sessions = self.context.sessions();
        let replaces = match &self.delivery {
            TokenDelivery::Tokens | TokenDelivery::Cookie(None) => None,
            TokenDelivery::Cookie(Some(old)) => sessions.cookies().read(old),
        };
        let granted = granted(&verified, grant, asked_at);
        let seen = seen(self.client, self.user_agent.as_ref());
        let begun = sessions.begin(granted, carrier, seen, replaces).await;
        match (begun, carrier) {
            (Ok(begun), _) => Ok(begun),
            (Err(_), Carrier::Bearer) if must_be_stored => Err(signed_out_recently()),
            // The tokens are valid without the store; only the user's list lacks the session.
            (Err(_), Carrier::Bearer) => Ok(NewSession {
                set_cookie: None,
                csrf: None,
            }),
            (Err(why), Carrier::Cookie) => Err(Reason::SessionUnavailable.because(why.as_str())),
        }
    }

    /// Verifies the access token of a grant, by the same rules as when a client presents it later:
    /// what a sign-in returns is usable, or the client learns that it is not.
    pub(super) async fn verify_grant(&self, grant: &Grant) -> Result<Arc<Verified>, Denial> {
        let token = secret_text(grant.access_token.expose());
        let result = self.tokens.verify_or_wait(&token, clock::unix_now).await;
        let verified = match result {
            Ok(Presented::User(verified)) => verified,
            Ok(Presented::Nobody) => {
                return Err(Reason::IdentityRefused.because("the token is not a user's"));
            }
            // The user can be told why: the metadata is too large.
            Err(denial)
                if matches!(
                    denial.reason,
                    Reason::KeysUnavailable | Reason::TokenTooLarge
                ) =>
            {
                return Err(denial);
            }
            Err(denial) => {
                let why = format!("the token is not accepted here: {}", denial.reason.code());
                return Err(Reason::IdentityRefused.because(why));
            }
        };
        match verified.issuer() == self.identity.config().issuer {
            true => Ok(verified),
            false => Err(Reason::IdentityRefused.because("the token is another issuer's")),
        }
    }
}

/// A secret as text, for JSON.
pub(super) fn secret_text(secret: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(secret)
}
