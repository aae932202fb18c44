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

use super::input::{Newcomer, Unread};
use super::login::{NoGrant, text};
use super::outcome::{Asked, refusal};
use super::{Visit, reply, sign_in};
use crate::denial::{Denial, Reason};
use crate::policy::sign_in::ConfirmEmail;
use crate::sessions::sign_in::Begun;
use crate::sign_in::grant::{AuthError, Grant};
use crate::sign_in::operation::Operation;
use crate::sign_in::throttle::Attempt;
use crate::sign_in::{profile, to_the_end};

/// What new users have, as they always had.
const CREDITS: u32 = 100;
const PLAN: &str = "free";

/// What became of it.
enum Registered {
    /// The user is signed in.
    SignedIn(Grant, Begun),
    /// The user must follow the link in a message first.
    MustConfirm,
}

/// Whether the account is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Account {
    Made,
    /// The identity server was asked, and did not answer.
    PerhapsMade,
}

pub(super) async fn register(visit: &Visit, unread: Unread) -> Result<Response<Bytes>, Denial> {
    let newcomer = unread.newcomer().await?;
    let email = newcomer.credentials.email.clone();
    let admission = visit.admit(Attempt::Register, Some(&email)).await?;
    let at_work = visit.clone();
    let work = async move {
        let outcome = at_work.make_account(newcomer).await;
        match &outcome {
            Err(denial) if is_undecided(denial.reason) => admission.undecided(),
            Ok(_) | Err(_) => admission.succeeded(),
        }
        outcome
    };
    match to_the_end(visit.identity.runtime(), work).await? {
        Registered::SignedIn(grant, begun) => reply::signed_in(&grant, begun),
        Registered::MustConfirm => reply::json(
            StatusCode::ACCEPTED,
            &json!({ "message": "Confirm your e-mail address to sign in", "email": email }),
        ),
    }
}

impl Visit {
    async fn make_account(&self, newcomer: Newcomer) -> Result<Registered, Denial> {
        let confirm = sign_in(&self.in_force)?.confirm_email;
        let account = self.ask_for_account(&newcomer, confirm).await?;
        match confirm {
            ConfirmEmail::Required => {
                self.send_confirmation(&newcomer, account).await?;
                Ok(Registered::MustConfirm)
            }
            ConfirmEmail::Auto => {
                let grant = self.sign_in_newcomer(&newcomer, account).await?;
                if let Err(denial) =
                    profile::make(&self.context, &self.in_force, grant.user.get()).await
                {
                    // Nobody gets these tokens.
                    self.tell_of_logout("local", grant.access_token.clone());
                    return Err(denial);
                }
                let begun = self.begin(&grant).await.map_err(|denial| {
                    Reason::RegisteredOnly.because(format!("no session: {}", denial.reason.code()))
                })?;
                Ok(Registered::SignedIn(grant, begun))
            }
        }
    }

    async fn ask_for_account(
        &self,
        newcomer: &Newcomer,
        confirm: ConfirmEmail,
    ) -> Result<Account, Denial> {
        let body = json!({
            "email": newcomer.credentials.email,
            "password": text(newcomer.credentials.password.expose()),
            "email_confirm": confirm == ConfirmEmail::Auto,
            "user_metadata": {
                "full_name": newcomer.full_name,
                "credits_balance": CREDITS,
                "current_plan": PLAN,
            },
        });
        let call = self
            .call(Operation::AdminUsers, Method::POST, "/admin/users")
            .as_admin()
            .with_body(body.to_string());
        match self.identity.call(call).await {
            Ok(reply) if reply.status.is_success() => Ok(Account::Made),
            // What failed there may have been done before it failed.
            Ok(reply) if reply.status.is_server_error() => Ok(Account::PerhapsMade),
            Ok(reply) => Err(refusal(Asked::Register, &AuthError::read(&reply))),
            Err(error) if error.may_be_done() => Ok(Account::PerhapsMade),
            Err(error) => Err(error.into()),
        }
    }

    async fn send_confirmation(&self, newcomer: &Newcomer, account: Account) -> Result<(), Denial> {
        let body = json!({ "type": "signup", "email": newcomer.credentials.email });
        let call = self
            .call(Operation::Resend, Method::POST, "/resend")
            .with_body(body.to_string());
        let why = match self.identity.call(call).await {
            Ok(reply) if reply.status.is_success() && account == Account::Made => return Ok(()),
            // It says so too if there is no such account.
            Ok(reply) if reply.status.is_success() => "the account",
            Ok(_) => "the message was refused",
            Err(_) => "the message",
        };
        Err(match account {
            Account::Made => Reason::RegisteredOnly.because(why),
            Account::PerhapsMade => Reason::RegistrationUnknown.because(why),
        })
    }

    async fn sign_in_newcomer(
        &self,
        newcomer: &Newcomer,
        account: Account,
    ) -> Result<Grant, Denial> {
        let why = match self.password_grant(&newcomer.credentials).await {
            Ok(grant) => return Ok(grant),
            Err(why) => why,
        };
        Err(match (account, &why) {
            // No such account with this password, so it was not made.
            (Account::PerhapsMade, NoGrant::Refused(error))
                if error.code == "invalid_credentials" =>
            {
                Reason::IdentityUnavailable.because("the account was not made")
            }
            (Account::PerhapsMade, _) => Reason::RegistrationUnknown.because(told(&why)),
            (Account::Made, _) => Reason::RegisteredOnly.because(told(&why)),
        })
    }
}

/// Whether nothing was made, and nobody is to blame.
fn is_undecided(reason: Reason) -> bool {
    reason.status().is_server_error()
        && !matches!(reason, Reason::RegisteredOnly | Reason::RegistrationUnknown)
}

/// For the operator.
fn told(why: &NoGrant) -> String {
    let denial = why.denial(Asked::Login);
    let detail = denial.detail.unwrap_or_default();
    format!("no tokens: {} {detail}", denial.reason.code())
}
