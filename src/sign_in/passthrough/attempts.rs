//! What the throttle counts a visit as.
//!
//! Decides:  which attempts a request is, and what came of them. Trusts: `throttle`, for how often; the identity server, for what it answered.
//! Not here: the rates (`throttle`).
//!
//! A change of one's own account is as many attempts as it has parts: a password, or a code, is a guess at what proves the user, and a new
//! address is sent a message.

use super::operations::Asked;
use super::{Sent, Visit};
use crate::denial::{Denial, Reason};
use crate::sign_in::call::{CallError, Reply};
use crate::sign_in::operation::Operation;
use crate::sign_in::throttle::{Admission, Attempt, Who};
use crate::sign_in::{demand_revocations, is_refusal};

/// What proves a user in a change of the account: whoever has their session may guess at the rest.
const PROOFS: [&str; 3] = ["password", "current_password", "nonce"];

/// What is sent a message when it changes.
const ADDRESSES: [&str; 2] = ["email", "phone"];

/// The attempts that a visit is. Dropped, they count as failed.
#[must_use = "tell what came of it"]
pub(super) struct Admissions(Vec<Admission>);

impl Admissions {
    /// The identity server answered.
    pub(super) fn settle(self, reply: &Reply) {
        match reply.status {
            status if is_refusal(status) => self.failed(),
            status if status.is_client_error() || status.is_server_error() => self.undecided(),
            _ => self.succeeded(),
        }
    }

    /// What came of a call, answered or not.
    pub(super) fn settle_call(self, replied: &Result<Reply, CallError>) {
        match replied {
            Ok(reply) => self.settle(reply),
            Err(_) => self.undecided(),
        }
    }

    pub(super) fn succeeded(self) {
        self.0.into_iter().for_each(Admission::succeeded);
    }

    pub(super) fn failed(self) {
        self.0.into_iter().for_each(Admission::failed);
    }

    pub(super) fn undecided(self) {
        self.0.into_iter().for_each(Admission::undecided);
    }
}

impl Visit {
    /// Whether this may be asked, now and that often. Nobody signs in while it cannot be known what was revoked.
    pub(super) async fn admit(&self, asked: &Asked, sent: &Sent) -> Result<Admissions, Denial> {
        let mut admissions = Admissions(Vec::new());
        for (attempt, account) in attempts(asked.operation, sent) {
            demand_revocations(&self.context)?;
            match self.admit_one(attempt, account, sent).await {
                Ok(admission) => admissions.0.push(admission),
                Err(denial) => {
                    // Nothing is asked.
                    admissions.undecided();
                    return Err(denial);
                }
            }
        }
        Ok(admissions)
    }

    async fn admit_one(
        &self,
        attempt: Attempt,
        account: AccountOf,
        sent: &Sent,
    ) -> Result<Admission, Denial> {
        // Only what the identity server itself takes for the account of this operation: whoever may name another one has its attempts counted there.
        let named = || {
            let phone = || sent.text("phone").map(as_one_number);
            sent.text("email").map(str::to_owned).or_else(phone)
        };
        let subject = || Some(self.user.as_ref()?.0.subject().to_owned());
        let account = match account {
            AccountOf::Body => named(),
            AccountOf::Caller => subject(),
            AccountOf::Nobody => None,
        };
        let who = Who {
            client: self.client,
            account: account.as_deref(),
        };
        let sign_in = self.in_force.config().sign_in.as_ref();
        let throttling = &sign_in.ok_or(Reason::Internal)?.throttle;
        let throttle = self.context.throttle();
        throttle.admit(throttling, attempt, who).await
    }
}

fn attempts(operation: Operation, sent: &Sent) -> Vec<(Attempt, AccountOf)> {
    if operation != Operation::ChangeUser {
        let attempt = attempt(operation);
        return attempt
            .map(|attempt| (attempt, account_of(operation)))
            .into_iter()
            .collect();
    }
    let has_one = |names: &[&str]| names.iter().any(|name| sent.members.contains_key(*name));
    let mut attempts = Vec::new();
    if has_one(&PROOFS) {
        attempts.push((Attempt::Verify, AccountOf::Caller));
    }
    if has_one(&ADDRESSES) {
        attempts.push((Attempt::Reset, AccountOf::Caller));
    }
    attempts
}

/// A telephone number as the identity server reads it.
fn as_one_number(phone: &str) -> String {
    phone.trim_start_matches('+').replace(' ', "")
}

/// What the throttle counts a request as, if it does.
const fn attempt(operation: Operation) -> Option<Attempt> {
    match operation {
        Operation::PasswordGrant
        | Operation::PkceGrant
        | Operation::IdTokenGrant
        | Operation::Web3Grant => Some(Attempt::Login),
        Operation::Refresh => Some(Attempt::Refresh),
        Operation::SignUp => Some(Attempt::Register),
        Operation::Otp
        | Operation::MagicLink
        | Operation::Recover
        | Operation::Resend
        | Operation::Reauthenticate => Some(Attempt::Reset),
        Operation::Verify | Operation::VerifyFactor => Some(Attempt::Verify),
        Operation::Logout
        | Operation::ReadUser
        | Operation::ChangeUser
        | Operation::Identities
        | Operation::Factors
        | Operation::Authorize
        | Operation::Callback
        | Operation::Settings
        | Operation::Health
        | Operation::KeySet
        | Operation::AdminUsers => None,
    }
}

/// Whose account an operation is an attempt on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AccountOf {
    /// That of the e-mail address or telephone number in the body.
    Body,
    /// The caller's.
    Caller,
    /// Nobody's that could be known before it is answered.
    Nobody,
}

/// Whose account an operation is an attempt on, for the throttle.
const fn account_of(operation: Operation) -> AccountOf {
    match operation {
        Operation::PasswordGrant
        | Operation::SignUp
        | Operation::Otp
        | Operation::MagicLink
        | Operation::Recover
        | Operation::Resend
        | Operation::Verify => AccountOf::Body,
        Operation::VerifyFactor | Operation::Reauthenticate => AccountOf::Caller,
        Operation::PkceGrant
        | Operation::IdTokenGrant
        | Operation::Web3Grant
        | Operation::Refresh
        | Operation::Logout
        | Operation::ReadUser
        | Operation::ChangeUser
        | Operation::Identities
        | Operation::Factors
        | Operation::Authorize
        | Operation::Callback
        | Operation::Settings
        | Operation::Health
        | Operation::KeySet
        | Operation::AdminUsers => AccountOf::Nobody,
    }
}
