//! `register`: a new account, and tokens for it.
//!
//! The account is created by the identity server's sign-up, which decides whether sign-up is open,
//! checks captchas, calls hooks, and wants the address confirmed or not ([`Registration::SignUp`]);
//! or by its API for administrators ([`Registration::Admin`]). Then come the tokens, and the row in
//! the operator's database. Each failure tells the client whether the account exists. The account
//! is kept when a later step fails; signing in makes up for both. If it is unknown whether the
//! account was created, requesting tokens finds out.
//!
//! [`Registration::SignUp`]: How::SignUp
//! [`Registration::Admin`]: How::Admin

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::input::{Registration, UnreadBody};
use super::login::{GrantError, secret_text};
use super::outcome::{Flow, refusal};
use super::{SignInRequest, reply, sign_in, with_captcha};
use crate::clock;
use crate::denial::{Denial, Extra, FieldError, Reason};
use crate::policy::sign_in::{ConfirmEmail, Registration as How};
use crate::sessions::sign_in::NewSession;
use crate::sign_in::call::{Call, CallError, Reply};
use crate::sign_in::grant::{AuthError, Grant};
use crate::sign_in::operation::Operation;
use crate::sign_in::session::{LogoutScope, RevokedForLogout};
use crate::sign_in::throttle::{Admission, Attempt};
use crate::sign_in::{profile, run_to_completion};

/// Initial values of a new user's metadata, as in the earlier backend.
const CREDITS: u32 = 100;
const PLAN: &str = "free";

/// The longest sentence of the identity server that is passed on, in characters. A choice.
const LONGEST_SENTENCE: usize = 300;

/// The outcome of a registration.
enum RegistrationOutcome {
    /// The user is signed in.
    SignedIn(Grant, NewSession),
    /// The user must follow the link in a message first.
    MustConfirm,
}

/// What became of the account.
enum Account {
    /// It was created, and its user is signed in.
    Granted(Box<Grant>),
    /// It was created, or there was one before that is concealed, and a message was sent.
    MustConfirm,
    /// It was created, and nothing more.
    Created,
    /// There was one before.
    Existed,
    /// The identity server was called and did not answer.
    Unknown,
}

/// A registration that the throttle admitted.
struct Admitted<'a> {
    request: &'a SignInRequest,
    admission: &'a Admission,
    input: &'a Registration,
    how: How,
    /// The server's last error of its own, for the throttle.
    error: &'a ArcSwapOption<AuthError>,
}

pub(super) async fn register(
    request: &SignInRequest,
    body: UnreadBody,
) -> Result<Response<Bytes>, Denial> {
    let registration = body.registration().await?;
    let email = registration.credentials.email.clone();
    request.with_redirect("", registration.redirect_to.as_deref())?;
    let admission = request.admit(Attempt::Register, Some(&email)).await?;
    let owned = request.clone();
    let work = async move {
        let error = ArcSwapOption::empty();
        let outcome = owned
            .create_and_sign_in(&admission, &registration, &error)
            .await;
        match &outcome {
            Err(denial) if denial.reason == Reason::WeakPassword => admission.refused_choice(),
            Err(denial) if is_undecided(denial.reason) => match error.load_full() {
                Some(error) => admission.refused(&owned.identity, AuthError::clone(&error)),
                None => admission.undecided(),
            },
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
        registration: &Registration,
        error: &ArcSwapOption<AuthError>,
    ) -> Result<RegistrationOutcome, Denial> {
        let asked_at = clock::unix_millis();
        let admitted = Admitted {
            request: self,
            admission,
            input: registration,
            how: sign_in(&self.in_force)?.register,
            error,
        };
        let Some(grant) = admitted.account().await? else {
            return Ok(RegistrationOutcome::MustConfirm);
        };
        let begun = match profile::ensure(&self.context, &self.in_force, grant.user.get()).await {
            Ok(()) => self
                .begin_session(&grant, asked_at)
                .await
                .map_err(|denial| {
                    Reason::RegisteredOnly.because(format!("no session: {}", denial.reason.code()))
                }),
            Err(denial) => Err(denial),
        };
        let begun = begun.inspect_err(|_| {
            // The client never gets these tokens.
            let token = grant.access_token.clone();
            self.forward_logout(LogoutScope::Local, token, RevokedForLogout::default());
        })?;
        Ok(RegistrationOutcome::SignedIn(grant, begun))
    }
}

impl Admitted<'_> {
    /// Creates the account and returns its tokens; `None` if its address must be confirmed first.
    async fn account(&self) -> Result<Option<Grant>, Denial> {
        if let How::Admin(_) = self.how {
            let settings = self.call(Operation::Settings, Method::GET, "/settings");
            let (context, identity) = (&self.request.context, &self.request.identity);
            context
                .settings()
                .require_open_sign_up(identity, settings)
                .await?;
        }
        let created = self.create().await?;
        let account = match matches!(created, Account::Unknown) {
            true => self.find_out().await?,
            false => created,
        };
        match (account, self.how) {
            (Account::Granted(grant), _) => Ok(Some(*grant)),
            (Account::MustConfirm, _) => Ok(None),
            (account, How::Admin(ConfirmEmail::Required)) => {
                self.send_confirmation(&account).await?;
                Ok(None)
            }
            (Account::Created | Account::Existed, _) => {
                let grant = self.grant().await;
                let grant = grant.map_err(|why| Reason::RegisteredOnly.because(detail(&why)))?;
                Ok(Some(grant))
            }
            (Account::Unknown, _) => Err(Reason::RegistrationUnknown.because("no answer")),
        }
    }

    async fn create(&self) -> Result<Account, Denial> {
        match self.how {
            How::SignUp => self.sign_up().await,
            How::Admin(confirm) => self.create_as_admin(confirm).await,
        }
    }

    /// `POST /signup` with what the client sent. The reply decides.
    async fn sign_up(&self) -> Result<Account, Denial> {
        let credentials = &self.input.credentials;
        let mut body = json!({
            "email": credentials.email,
            "password": secret_text(credentials.password.expose()),
        });
        if let (false, Some(members)) = (self.input.full_name.is_empty(), body.as_object_mut()) {
            let data = json!({ "full_name": self.input.full_name });
            members.insert("data".to_owned(), data);
        }
        let redirect_to = self.input.redirect_to.as_deref();
        let path = self.request.with_redirect("/signup", redirect_to)?;
        let call = self
            .call(Operation::SignUp, Method::POST, &path)
            .with_body(with_captcha(body, credentials.captcha.as_ref()));
        self.created(call, signed_up, refused_sign_up).await
    }

    /// `POST /admin/users`.
    async fn create_as_admin(&self, confirm: ConfirmEmail) -> Result<Account, Denial> {
        let credentials = &self.input.credentials;
        let body = json!({
            "email": credentials.email,
            "password": secret_text(credentials.password.expose()),
            "email_confirm": confirm == ConfirmEmail::Auto,
            "user_metadata": {
                "full_name": self.input.full_name,
                "credits_balance": CREDITS,
                "current_plan": PLAN,
            },
        });
        let call = self
            .call(Operation::AdminUsers, Method::POST, "/admin/users")
            .as_admin()
            .with_body(body.to_string());
        let refused = |error: &AuthError| refusal(Flow::Register, error);
        match self.created(call, |_| Account::Created, refused).await {
            // Only whoever reads the address's messages learns that it has an account, as with a
            // sign-up at the identity server.
            Err(denial)
                if denial.reason == Reason::EmailExists && confirm == ConfirmEmail::Required =>
            {
                Ok(Account::Existed)
            }
            created => created,
        }
    }

    /// What a call to create the account did.
    async fn created(
        &self,
        call: Call,
        accepted: impl Fn(&Reply) -> Account,
        refused: impl Fn(&AuthError) -> Denial,
    ) -> Result<Account, Denial> {
        match self.request.identity.call(call).await {
            Ok(reply) if reply.status.is_success() => Ok(accepted(&reply)),
            // The account may have been created before the server failed.
            Ok(reply) if reply.status.is_server_error() => {
                self.error.store(Some(Arc::new(AuthError::read(&reply))));
                Ok(Account::Unknown)
            }
            Ok(reply) => Err(refused(&AuthError::read(&reply))),
            Err(error) if error.may_be_done() => Ok(Account::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds out what became of an account whose creation got no answer. If there is none with this
    /// password, it is created once more, because the identity server also fails if somebody else
    /// creates an account with the same address at the same moment.
    async fn find_out(&self) -> Result<Account, Denial> {
        // An account to confirm cannot sign in.
        let may_sign_in = self.how != How::Admin(ConfirmEmail::Required);
        if may_sign_in && let Some(account) = self.found(self.grant().await)? {
            return Ok(account);
        }
        let created = match self.create().await {
            // The first call may still have created it.
            Err(denial) if denial.reason != Reason::EmailExists => {
                let why = format!("no answer, then {}", denial.reason.code());
                return Err(Reason::RegistrationUnknown.because(why));
            }
            created => created?,
        };
        if !may_sign_in || !matches!(created, Account::Unknown) {
            return Ok(created);
        }
        let found = self.found(self.grant().await)?;
        found.ok_or_else(|| Reason::IdentityUnavailable.because("the account was not created"))
    }

    /// What an attempt to sign in tells of the account; `None` if there is none with this password.
    fn found(&self, granted: Result<Grant, GrantError>) -> Result<Option<Account>, Denial> {
        let why = match granted {
            Ok(grant) => return Ok(Some(Account::Granted(Box::new(grant)))),
            Err(why) => why,
        };
        match (&why, self.how) {
            (GrantError::Refused(error), _) if error.code == "invalid_credentials" => Ok(None),
            // The identity server creates an account only if it could send the message.
            (GrantError::Refused(error), How::SignUp) if error.code == "email_not_confirmed" => {
                Ok(Some(Account::MustConfirm))
            }
            (GrantError::Refused(_) | GrantError::Call(_) | GrantError::Malformed, _) => {
                Err(Reason::RegistrationUnknown.because(detail(&why)))
            }
        }
    }

    async fn send_confirmation(&self, account: &Account) -> Result<(), Denial> {
        let credentials = &self.input.credentials;
        let body = json!({ "type": "signup", "email": credentials.email });
        let redirect_to = self.input.redirect_to.as_deref();
        let path = self.request.with_redirect("/resend", redirect_to)?;
        let call = self
            .call(Operation::Resend, Method::POST, &path)
            .with_body(with_captcha(body, credentials.captcha.as_ref()));
        let replied = self.request.identity.call(call).await;
        let Some(why) = unsent(account, &replied) else {
            return Ok(());
        };
        Err(match account {
            Account::Unknown => Reason::RegistrationUnknown.because(why),
            Account::Granted(_) | Account::MustConfirm | Account::Created | Account::Existed => {
                Reason::RegisteredOnly.because(why)
            }
        })
    }

    async fn grant(&self) -> Result<Grant, GrantError> {
        let credentials = &self.input.credentials;
        let request = self.request;
        request.password_grant(self.admission, credentials).await
    }

    fn call(&self, operation: Operation, method: Method, path: &str) -> Call {
        self.request.call(self.admission, operation, method, path)
    }
}

/// What a successful sign-up says: tokens, or a user who must confirm the address.
fn signed_up(reply: &Reply) -> Account {
    if let Some(grant) = Grant::read(&reply.body) {
        return Account::Granted(Box::new(grant));
    }
    let document: Option<Value> = serde_json::from_slice(&reply.body).ok();
    match document.is_some_and(|user| user.get("id").is_some_and(Value::is_string)) {
        true => Account::MustConfirm,
        false => Account::Unknown,
    }
}

/// The refusal of a sign-up. An error in the identity server's own form is about this account, also
/// if its code is new, or `unknown`, as a hook's is.
fn refused_sign_up(error: &AuthError) -> Denial {
    let denial = refusal(Flow::Register, error);
    let is_about_account = match error.code.as_str() {
        // About our key, or not the identity server's own.
        "" | "bad_jwt" | "no_authorization" | "not_admin" => false,
        _ => error.status.is_client_error() && error.status != StatusCode::UNAUTHORIZED,
    };
    if denial.reason != Reason::IdentityRefused || !is_about_account {
        return denial;
    }
    let sentence = error.message.chars().filter(|c| !c.is_control());
    let sentence: String = sentence.take(LONGEST_SENTENCE).collect();
    Denial {
        detail: denial.detail,
        extra: Extra::Fields(vec![FieldError {
            field: "email",
            detail: sentence.into(),
        }]),
        ..Reason::RegistrationRefused.into()
    }
}

/// Why a message is not known to be sent; `None` if it is.
fn unsent(account: &Account, replied: &Result<Reply, CallError>) -> Option<&'static str> {
    match replied {
        // A success, too, if there is no such account.
        Ok(reply) if reply.status.is_success() => match account {
            Account::Unknown => Some("creation of the account unconfirmed"),
            Account::Granted(_) | Account::MustConfirm | Account::Created | Account::Existed => {
                None
            }
        },
        // Only an existing account was sent a message a moment ago.
        Ok(reply)
            if reply.status == StatusCode::TOO_MANY_REQUESTS
                && matches!(account, Account::Existed) =>
        {
            None
        }
        Ok(_) => Some("confirmation message refused"),
        Err(_) => Some("confirmation message not known to be sent"),
    }
}

/// Whether nothing was created because of an outage, so that the attempt does not count.
fn is_undecided(reason: Reason) -> bool {
    reason.status().is_server_error()
        && !matches!(reason, Reason::RegisteredOnly | Reason::RegistrationUnknown)
}

/// The detail for the log.
fn detail(why: &GrantError) -> String {
    let denial = why.denial(Flow::Login);
    let detail = denial.detail.unwrap_or_default();
    format!("no tokens: {} {detail}", denial.reason.code())
}
