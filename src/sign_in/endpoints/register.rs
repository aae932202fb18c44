//! `register`: a new account, and tokens for it.
//!
//! There are three steps: the account, its tokens, and the row in the operator's database. Each
//! failure tells the client whether the account exists. The account is kept when a later step
//! fails; signing in makes up for both. If it is unknown whether the account was created,
//! requesting tokens finds out.

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::input::{Registration, UnreadBody};
use super::login::{GrantError, secret_text};
use super::outcome::{Flow, refusal};
use super::{SignInRequest, reply, sign_in};
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::policy::sign_in::ConfirmEmail;
use crate::sessions::sign_in::NewSession;
use crate::sign_in::grant::{AuthError, Grant};
use crate::sign_in::operation::Operation;
use crate::sign_in::session::{LogoutScope, RevokedForLogout};
use crate::sign_in::throttle::{Admission, Attempt};
use crate::sign_in::{profile, run_to_completion};

/// Initial values of a new user's metadata, as in the earlier backend.
const CREDITS: u32 = 100;
const PLAN: &str = "free";

/// The outcome of a registration.
enum RegistrationOutcome {
    /// The user is signed in.
    SignedIn(Grant, NewSession),
    /// The user must follow the link in a message first.
    MustConfirm,
}

/// Whether the account was created.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AccountState {
    Created,
    /// There was one before.
    Existed,
    /// The identity server was called and did not answer.
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
        let outcome = owned.create_and_sign_in(&admission, registration).await;
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
        admission: &Admission,
        registration: Registration,
    ) -> Result<RegistrationOutcome, Denial> {
        let confirm = sign_in(&self.in_force)?.confirm_email;
        let account = self
            .create_account(admission, &registration, confirm)
            .await?;
        match confirm {
            ConfirmEmail::Required => {
                self.send_confirmation(admission, &registration, account)
                    .await?;
                Ok(RegistrationOutcome::MustConfirm)
            }
            ConfirmEmail::Auto => {
                let asked_at = clock::unix_millis();
                let grant = self
                    .sign_in_new_user(admission, &registration, account)
                    .await?;
                if let Err(denial) =
                    profile::ensure(&self.context, &self.in_force, grant.user.get()).await
                {
                    // The client never gets these tokens.
                    self.forward_logout(
                        LogoutScope::Local,
                        grant.access_token.clone(),
                        RevokedForLogout::default(),
                    );
                    return Err(denial);
                }
                let begun = self.begin_session(&grant, asked_at).await;
                let begun = begun.map_err(|denial| {
                    Reason::RegisteredOnly.because(format!("no session: {}", denial.reason.code()))
                })?;
                Ok(RegistrationOutcome::SignedIn(grant, begun))
            }
        }
    }

    async fn create_account(
        &self,
        admission: &Admission,
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
            .call(
                admission,
                Operation::AdminUsers,
                Method::POST,
                "/admin/users",
            )
            .as_admin()
            .with_body(body.to_string());
        match self.identity.call(call).await {
            Ok(reply) if reply.status.is_success() => Ok(AccountState::Created),
            // The account may have been created before the server failed.
            Ok(reply) if reply.status.is_server_error() => Ok(AccountState::Unknown),
            Ok(reply) => {
                let denial = refusal(Flow::Register, &AuthError::read(&reply));
                // Only whoever reads the address's messages learns that it has an account, as with
                // a sign-up at the identity server.
                let hides = confirm == ConfirmEmail::Required;
                match hides && denial.reason == Reason::EmailExists {
                    true => Ok(AccountState::Existed),
                    false => Err(denial),
                }
            }
            Err(error) if error.may_be_done() => Ok(AccountState::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    async fn send_confirmation(
        &self,
        admission: &Admission,
        registration: &Registration,
        account: AccountState,
    ) -> Result<(), Denial> {
        let body = json!({ "type": "signup", "email": registration.credentials.email });
        let call = self
            .call(admission, Operation::Resend, Method::POST, "/resend")
            .with_body(body.to_string());
        let why = match self.identity.call(call).await {
            Ok(reply) if reply.status.is_success() && account != AccountState::Unknown => {
                return Ok(());
            }
            // Only an existing account was sent a message a moment ago.
            Ok(reply)
                if reply.status == StatusCode::TOO_MANY_REQUESTS
                    && account == AccountState::Existed =>
            {
                return Ok(());
            }
            // A success, too, if there is no such account.
            Ok(reply) if reply.status.is_success() => "creation of the account unconfirmed",
            Ok(_) => "confirmation message refused",
            Err(_) => "confirmation message not known to be sent",
        };
        Err(match account {
            AccountState::Created | AccountState::Existed => Reason::RegisteredOnly.because(why),
            AccountState::Unknown => Reason::RegistrationUnknown.because(why),
        })
    }

    async fn sign_in_new_user(
        &self,
        admission: &Admission,
        registration: &Registration,
        account: AccountState,
    ) -> Result<Grant, Denial> {
        let why = match self
            .password_grant(admission, &registration.credentials)
            .await
        {
            Ok(grant) => return Ok(grant),
            Err(why) => why,
        };
        Err(match (account, &why) {
            // There is no such account with this password, so it was not created.
            (AccountState::Unknown, GrantError::Refused(error))
                if error.code == "invalid_credentials" =>
            {
                Reason::IdentityUnavailable.because("the account was not created")
            }
            (AccountState::Unknown, _) => Reason::RegistrationUnknown.because(failure_detail(&why)),
            (AccountState::Created | AccountState::Existed, _) => {
                Reason::RegisteredOnly.because(failure_detail(&why))
            }
        })
    }
}

/// Whether nothing was created because of an outage, so that the attempt does not count.
fn is_undecided(reason: Reason) -> bool {
    reason.status().is_server_error()
        && !matches!(reason, Reason::RegisteredOnly | Reason::RegistrationUnknown)
}

/// The detail for the log.
fn failure_detail(why: &GrantError) -> String {
    let denial = why.denial(Flow::Login);
    let detail = denial.detail.unwrap_or_default();
    format!("no tokens: {} {detail}", denial.reason.code())
}
