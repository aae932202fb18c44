//! `register`: a new account, and tokens for it.
//!
//! Decides:  what somebody is told at each step that fails: whether the account is there. Trusts: the identity server, for what it made.
//! Not here: the shape of what was written (`input`).
//!
//! Three steps: the account, tokens, and the row in the operator's database. The account is not undone when a later one fails; signing in makes
//! up for both. If it is not known whether the account was
//! made, asking for tokens finds out.

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::input::{Registration, UnreadBody};
use super::login::{GrantError, secret_text};
use super::outcome::{Flow, refusal};
use super::{SignInRequest, reply, sign_in};
use crate::denial::{Denial, Reason};
use crate::policy::sign_in::ConfirmEmail;
use crate::sessions::sign_in::Begun;
use crate::sign_in::grant::{AuthError, Grant};
use crate::sign_in::operation::Operation;
use crate::sign_in::session::LogoutScope;
use crate::sign_in::throttle::Attempt;
use crate::sign_in::{profile, run_to_completion};

/// What new users have, as they always had.
const CREDITS: u32 = 100;
const PLAN: &str = "free";

/// What became of it.
enum RegistrationOutcome {
    /// The user is signed in.
    SignedIn(Grant, Begun),
    /// The user must follow the link in a message first.
    MustConfirm,
}

/// Whether the account is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AccountState {
    Created,
    /// The identity server was asked, and did not answer.
    Unknown,
}

pub(super) async fn register(
    request: &SignInRequest,
    body: UnreadBody,
) -> Result<Response<Bytes>, Denial> {
    let registration = body.registration().await?;
    let email = registration.credentials.email.clone();
    let admission = request.admit(Attempt::Register, Some(&email)).await?;
    let owned = request.clone();
    let work = async move {
        let outcome = owned.create_and_sign_in(registration).await;
        match &outcome {
            Err(denial) if is_undecided(denial.reason) => admission.undecided(),
            Ok(_) | Err(_) => admission.succeeded(),
        }
        outcome
    };
    match run_to_completion(request.identity.runtime(), work).await? {
        RegistrationOutcome::SignedIn(grant, begun) => reply::signed_in(&grant, begun),
        RegistrationOutcome::MustConfirm => reply::json(
            StatusCode::ACCEPTED,
            &json!({ "message": "Confirm your e-mail address to sign in", "email": email }),
        ),
    }
}

impl SignInRequest {
    async fn create_and_sign_in(
        &self,
        registration: Registration,
    ) -> Result<RegistrationOutcome, Denial> {
        let confirm = sign_in(&self.in_force)?.confirm_email;
        let account = self.create_account(&registration, confirm).await?;
        match confirm {
            ConfirmEmail::Required => {
                self.send_confirmation(&registration, account).await?;
                Ok(RegistrationOutcome::MustConfirm)
            }
            ConfirmEmail::Auto => {
                let grant = self.sign_in_new_user(&registration, account).await?;
                if let Err(denial) =
                    profile::ensure(&self.context, &self.in_force, grant.user.get()).await
                {
                    // Nobody gets these tokens.
                    self.forward_logout(LogoutScope::Local, grant.access_token.clone());
                    return Err(denial);
                }
                let begun = self.begin_session(&grant).await.map_err(|denial| {
                    Reason::RegisteredOnly.because(format!("no session: {}", denial.reason.code()))
                })?;
                Ok(RegistrationOutcome::SignedIn(grant, begun))
            }
        }
    }

    async fn create_account(
        &self,
        registration: &Registration,
        confirm: ConfirmEmail,
    ) -> Result<AccountState, Denial> {
        let body = json!({
            "email": registration.credentials.email,
            "password": secret_text(registration.credentials.password.expose()),
            "email_confirm": confirm == ConfirmEmail::Auto,
            "user_metadata": {
                "full_name": registration.full_name,
                "credits_balance": CREDITS,
                "current_plan": PLAN,
            },
        });
        let call = self
            .call(Operation::AdminUsers, Method::POST, "/admin/users")
            .as_admin()
            .with_body(body.to_string());
        match self.identity.call(call).await {
            Ok(reply) if reply.status.is_success() => Ok(AccountState::Created),
            // What failed there may have been done before it failed.
            Ok(reply) if reply.status.is_server_error() => Ok(AccountState::Unknown),
            Ok(reply) => Err(refusal(Flow::Register, &AuthError::read(&reply))),
            Err(error) if error.may_be_done() => Ok(AccountState::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    async fn send_confirmation(
        &self,
        registration: &Registration,
        account: AccountState,
    ) -> Result<(), Denial> {
        let body = json!({ "type": "signup", "email": registration.credentials.email });
        let call = self
            .call(Operation::Resend, Method::POST, "/resend")
            .with_body(body.to_string());
        let why = match self.identity.call(call).await {
            Ok(reply) if reply.status.is_success() && account == AccountState::Created => {
                return Ok(());
            }
            // It says so too if there is no such account.
            Ok(reply) if reply.status.is_success() => "the account",
            Ok(_) => "the message was refused",
            Err(_) => "the message",
        };
        Err(match account {
            AccountState::Created => Reason::RegisteredOnly.because(why),
            AccountState::Unknown => Reason::RegistrationUnknown.because(why),
        })
    }

    async fn sign_in_new_user(
        &self,
        registration: &Registration,
        account: AccountState,
    ) -> Result<Grant, Denial> {
        let why = match self.password_grant(&registration.credentials).await {
            Ok(grant) => return Ok(grant),
            Err(why) => why,
        };
        Err(match (account, &why) {
            // No such account with this password, so it was not made.
            (AccountState::Unknown, GrantError::Refused(error))
                if error.code == "invalid_credentials" =>
            {
                Reason::IdentityUnavailable.because("the account was not made")
            }
            (AccountState::Unknown, _) => Reason::RegistrationUnknown.because(failure_detail(&why)),
            (AccountState::Created, _) => Reason::RegisteredOnly.because(failure_detail(&why)),
        })
    }
}

/// Whether nothing was made, and nobody is to blame.
fn is_undecided(reason: Reason) -> bool {
    reason.status().is_server_error()
        && !matches!(reason, Reason::RegisteredOnly | Reason::RegistrationUnknown)
}

/// For the operator.
fn failure_detail(why: &GrantError) -> String {
    let denial = why.denial(Flow::Login);
    let detail = denial.detail.unwrap_or_default();
    format!("no tokens: {} {detail}", denial.reason.code())
}
