//! Maps a pass-through request to the attempts that the throttle counts, and its reply to their
//! outcome.
//!
//! Every operation is at least one attempt. A change of one's own account is up to three: a
//! password or a code is a guess at what proves the user, and a new address is sent a message.

use super::body::{Member, RequestBody};
use super::operations::OperationRequest;
use super::{Exchange, reply};
use crate::denial::{Denial, Reason};
use crate::request::peer::client_networks;
use crate::sign_in::call::{CallError, Reply};
use crate::sign_in::client::IdentityServer;
use crate::sign_in::grant::AuthError;
use crate::sign_in::operation::{AccountSource, Operation};
use crate::sign_in::require_revocations;
use crate::sign_in::throttle::{Admission, Attempt, AttemptKey};

/// Members that prove the user in a change of the account: a stolen session could be used to guess
/// them.
const PROOFS: [Member; 3] = [Member::Password, Member::CurrentPassword, Member::Nonce];

/// Members whose change sends a message.
const ADDRESSES: [Member; 2] = [Member::Email, Member::Phone];

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
            Err(error) => {
                for admission in self.0 {
                    admission.unanswered(*error);
                }
            }
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
        let named = || {
            let phone = || body.text(Member::Phone).map(normalized_phone);
            body.text(Member::Email).map(str::to_owned).or_else(phone)
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
    let row = operation.row();
    let mut attempts = vec![(row.attempt, row.account)];
    if operation != Operation::ChangeUser {
        return attempts;
    }
    let has_any = |members: &[Member]| members.iter().any(|member| body.has(*member));
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
