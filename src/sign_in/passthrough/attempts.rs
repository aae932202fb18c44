//! Maps a pass-through request to the attempts that the throttle counts, and its reply to their
//! outcome.
//!
//! Every operation is at least one attempt. A change of one's own account is up to three: a
//! password or a code is a guess at what proves the user, and a new address is sent a message.

use super::operations::OperationRequest;
use super::{Exchange, RequestBody, reply};
use crate::denial::{Denial, Reason};
use crate::request::peer::client_networks;
use crate::sign_in::call::{CallError, Reply};
use crate::sign_in::client::IdentityServer;
use crate::sign_in::grant::AuthError;
use crate::sign_in::operation::Operation;
use crate::sign_in::require_revocations;
use crate::sign_in::throttle::{Admission, Attempt, AttemptKey};

/// Members that prove the user in a change of the account: a stolen session could be used to guess
/// them.
const PROOFS: [&str; 3] = ["password", "current_password", "nonce"];

/// Members whose change sends a message.
const ADDRESSES: [&str; 2] = ["email", "phone"];

/// The attempts of a request. Dropping them counts them as failures.
#[must_use = "settle it with its outcome"]
pub(super) struct Admissions(Vec<Admission>);

impl Admissions {
    /// Records the reply of the identity server.
    fn settle(self, identity: &IdentityServer, reply: &Reply) {
        if reply.status.is_client_error() || reply.status.is_server_error() {
            let error = AuthError::read(reply);
            for admission in self.0 {
                admission.refused(identity, error.clone());
            }
        } else if reply::redirects_with_error(reply) {
            self.failed();
        } else {
            self.succeeded();
        }
    }

    /// Records the outcome of a call, answered or not.
    pub(super) fn settle_call(self, identity: &IdentityServer, replied: &Result<Reply, CallError>) {
        match replied {
            Ok(reply) => self.settle(identity, reply),
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

impl Exchange {
    /// Asks the throttle for every attempt of a request, once it is certain that the list of
    /// revocations is known.
    pub(super) async fn admit(
        &self,
        request: &OperationRequest,
        body: &RequestBody,
    ) -> Result<Admissions, Denial> {
        let mut admissions = Admissions(Vec::new());
        for (attempt, account) in attempts(request.operation, body) {
            if attempt.needs_revocations() {
                require_revocations(&self.context)?;
            }
            match self.admit_one(attempt, account, body).await {
                Ok(admission) => admissions.0.push(admission),
                Err(denial) => {
                    // The identity server is not called.
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
        account: AccountSource,
        body: &RequestBody,
    ) -> Result<Admission, Denial> {
        // Only what the identity server itself uses as the account of this operation; otherwise a
        // client could have its attempts counted against another account.
        let named = || {
            let phone = || body.text("phone").map(normalized_phone);
            body.text("email").map(str::to_owned).or_else(phone)
        };
        let subject = || Some(self.user.as_ref()?.0.subject().to_owned());
        let account = match account {
            AccountSource::Body => named(),
            AccountSource::Caller => subject(),
            AccountSource::Nobody => None,
        };
        let key = AttemptKey {
            client: client_networks(self.client, &self.in_force.config().trusted_proxies),
            account: account.as_deref(),
        };
        let sign_in = self.in_force.config().sign_in.as_ref();
        let throttling = &sign_in.ok_or(Reason::Internal)?.throttle;
        let throttle = self.context.throttle();
        throttle.admit(throttling, attempt, key).await
    }
}

fn attempts(operation: Operation, body: &RequestBody) -> Vec<(Attempt, AccountSource)> {
    let mut attempts = vec![(attempt(operation), account_source(operation))];
    if operation != Operation::ChangeUser {
        return attempts;
    }
    let has_any = |names: &[&str]| names.iter().any(|name| body.members.contains_key(*name));
    if has_any(&PROOFS) {
        attempts.push((Attempt::Verify, AccountSource::Caller));
    }
    if has_any(&ADDRESSES) {
        attempts.push((Attempt::Reset, AccountSource::Caller));
    }
    attempts
}

/// A telephone number in the identity server's spelling, which drops one `+` and all spaces.
fn normalized_phone(phone: &str) -> String {
    phone.strip_prefix('+').unwrap_or(phone).replace(' ', "")
}

/// The attempt that an operation counts as. There is no operation without one: each occupies the
/// identity server.
const fn attempt(operation: Operation) -> Attempt {
    match operation {
        Operation::PasswordGrant
        | Operation::PkceGrant
        | Operation::IdTokenGrant
        | Operation::Web3Grant => Attempt::Login,
        Operation::Refresh => Attempt::Refresh,
        Operation::SignUp | Operation::AdminUsers => Attempt::Register,
        Operation::Otp
        | Operation::MagicLink
        | Operation::Recover
        | Operation::Resend
        | Operation::Reauthenticate => Attempt::Reset,
        Operation::Verify | Operation::VerifyFactor => Attempt::Verify,
        Operation::Authorize | Operation::Callback => Attempt::Redirect,
        Operation::Logout
        | Operation::ReadUser
        | Operation::ChangeUser
        | Operation::Identities
        | Operation::Factors => Attempt::Account,
        Operation::Settings | Operation::Health | Operation::KeySet => Attempt::Read,
    }
}

/// Whose account an operation is an attempt on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AccountSource {
    /// The account of the e-mail address or telephone number in the body.
    Body,
    /// The caller's account.
    Caller,
    /// Unknown until the operation is answered.
    Nobody,
}

/// Whose account an operation is an attempt on, for the throttle.
const fn account_source(operation: Operation) -> AccountSource {
    match operation {
        Operation::PasswordGrant
        | Operation::SignUp
        | Operation::Otp
        | Operation::MagicLink
        | Operation::Recover
        | Operation::Resend
        | Operation::Verify => AccountSource::Body,
        Operation::VerifyFactor | Operation::Reauthenticate => AccountSource::Caller,
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
        | Operation::AdminUsers => AccountSource::Nobody,
    }
}
