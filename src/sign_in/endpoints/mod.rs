//! The sign-in routes, which the gateway answers itself, in front of the identity server.
//!
//! Decides:  what each route does, in which order, and what it answers.
//! Trusts:   the chain, for who the user is; the identity server, for passwords and tokens; the
//!           throttle, for how often.
//! Not here: how the identity server is called (`client`).
//!
//! The answers are those of the backend that did this before, field by field: `token_type` is
//! `Bearer`, and there is no `expires_at`.
//!
//! Each route has one deadline over everything it does. What it starts at the identity server runs
//! to completion in a task of the background runtime, even if the client disconnects or the
//! deadline passes: a dropped connection never leaves a half-registered user.

mod account;
mod input;
mod login;
mod logout;
pub mod outcome;
mod refresh;
mod register;
mod reply;
mod reset;
mod sessions;
mod user;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::timeout_at;

use self::input::UnreadBody;
use super::call::Call;
use super::client::IdentityServer;
use super::operation::Operation;
use super::passthrough::cookie_caller::CookieCaller;
use super::throttle::{Admission, Attempt, AttemptKey};
use super::{bearer_token, require_revocations};
use crate::auth::Permit;
use crate::breaker::Outage;
use crate::clock;
use crate::denial::{Denial, FieldError, Reason};
use crate::policy::endpoint::Endpoint;
use crate::policy::in_force::InForce;
use crate::policy::sign_in::SignIn;
use crate::request::Inbound;
use crate::request::headers::GatewayCookie;
use crate::request::peer::client_networks;
use crate::secrets::secret::Secret;
use crate::sessions::sign_in::OwnSession;
use crate::sign_in::context::Context;
use crate::tokens::{Tokens, Verified};

/// A request to a sign-in route. Cheap to clone, so that a background task can own it.
#[derive(Clone)]
struct SignInRequest {
    context: Arc<Context>,
    in_force: Arc<InForce>,
    tokens: Arc<Tokens>,
    identity: IdentityServer,
    client: IpAddr,
    user_agent: Option<HeaderValue>,
    /// Whether the gateway's cookie came with it.
    has_cookie: bool,
    delivery: TokenDelivery,
}

/// How a client receives the tokens of its sign-in.
#[derive(Clone)]
enum TokenDelivery {
    /// In the body.
    Tokens,
    /// Behind a cookie; the tokens stay here. Holds the value of the cookie that came with the
    /// request, if any, which the new one replaces.
    Cookie(Option<String>),
}

/// A user verified by the chain, with the access token that the identity server accepts.
#[derive(Clone)]
struct SignedInCaller {
    verified: Arc<Verified>,
    access_token: Secret,
    own: OwnSession,
    /// The session of the cookie that proved the user, if one did.
    cookie: Option<CookieCaller>,
    /// The CSRF token of the cookie that proved the user.
    csrf: Option<String>,
}

/// The field by which a client asks for a cookie, with the value `session`. An HTML form cannot set
/// it, so no other site can sign a browser in.
const USE_COOKIE: HeaderName = HeaderName::from_static("x-use-cookie");

/// Answers a permitted request to a sign-in route.
///
/// # Errors
///
/// The refusal of the route.
pub(crate) async fn answer(
    context: &Arc<Context>,
    tokens: &Arc<Tokens>,
    permit: Permit,
    endpoint: Endpoint,
) -> Result<Response<Bytes>, Denial> {
    let started = clock::now();
    let in_force = permit.request().in_force().clone();
    let identity = context.identity().ok_or(Reason::Internal)?.clone();
    let until = started + deadline(sign_in(&in_force)?, endpoint);
    let client = permit.request().client().address;
    let delivery = delivery(permit.request());
    let has_cookie = permit.request().cookie().is_some();
    // Only these two routes return it.
    let csrf = matches!(endpoint, Endpoint::Me | Endpoint::WhoAmI)
        .then(|| csrf_token(context, &permit))
        .flatten();
    let cookie = CookieCaller::of(context, &permit);
    let verified = permit.caller().verified().map(|verified| &**verified);
    let budget = permit
        .request()
        .body_budget(context.body_memory(), verified);
    let mut spent = permit.spend();
    let fields = std::mem::take(spent.fields());
    let body = spent.take_body();
    let access_token = spent.authorization().and_then(bearer_token);
    let stream = spent.into_stream();
    let verified = stream.caller().verified().cloned();
    let caller = verified.zip(access_token);
    let caller = caller.map(|(verified, access_token)| SignedInCaller {
        verified,
        access_token,
        own: stream.caller().own_session(),
        cookie,
        csrf,
    });
    let request = SignInRequest {
        context: context.clone(),
        tokens: tokens.clone(),
        identity,
        client,
        user_agent: fields.get(USER_AGENT).cloned(),
        has_cookie,
        delivery,
        in_force,
    };
    let body = UnreadBody {
        fields,
        body,
        budget,
    };
    let work = dispatch(&request, endpoint, body, caller, stream.request().target());
    timeout_at(until.into(), work)
        .await
        .unwrap_or_else(|_| Err(timed_out(endpoint)))
}

/// Answers a request by its endpoint.
async fn dispatch(
    request: &SignInRequest,
    endpoint: Endpoint,
    body: UnreadBody,
    caller: Option<SignedInCaller>,
    target: &PathAndQuery,
) -> Result<Response<Bytes>, Denial> {
    match endpoint {
        Endpoint::Login => login::login(request, body).await,
        Endpoint::Register => register::register(request, body).await,
        Endpoint::Refresh => refresh::refresh(request, body).await,
        Endpoint::PasswordReset => reset::password_reset(request, body).await,
        Endpoint::Logout => logout::logout(request, caller, target.query()).await,
        Endpoint::Me => user::me(request, user(caller)?).await,
        Endpoint::WhoAmI => user::whoami(request, user(caller)?).await,
        Endpoint::Sessions => sessions::list(request, user(caller)?).await,
        Endpoint::EndSession => sessions::end(request, user(caller)?, target.path()).await,
        Endpoint::ChangePassword
        | Endpoint::Reauthenticate
        | Endpoint::Factors
        | Endpoint::Enroll
        | Endpoint::Challenge
        | Endpoint::VerifyFactor
        | Endpoint::Unenroll => {
            account::account(request, endpoint, body, user(caller)?, target.path()).await
        }
    }
}

/// The caller of a route for users, which the chain has verified.
fn user(caller: Option<SignedInCaller>) -> Result<SignedInCaller, Denial> {
    Ok(caller.ok_or(Reason::Internal)?)
}

/// The refusal when the deadline has passed. Work that was started continues.
fn timed_out(endpoint: Endpoint) -> Denial {
    let why = "overall deadline exceeded";
    match endpoint {
        Endpoint::Register => Reason::RegistrationUnknown.because(why),
        // A client ends its session at any other answer.
        Endpoint::Refresh => Reason::IdentityUnavailable.because(why),
        Endpoint::Login
        | Endpoint::PasswordReset
        | Endpoint::Logout
        | Endpoint::Me
        | Endpoint::WhoAmI
        | Endpoint::Sessions
        | Endpoint::EndSession
        | Endpoint::ChangePassword
        | Endpoint::Reauthenticate
        | Endpoint::Factors
        | Endpoint::Enroll
        | Endpoint::Challenge
        | Endpoint::VerifyFactor
        | Endpoint::Unenroll => Reason::IdentityTimeout.because(why),
    }
}

fn sign_in(in_force: &InForce) -> Result<&SignIn, Denial> {
    // The route exists only with this section.
    let sign_in = in_force.config().sign_in.as_ref();
    Ok(sign_in.ok_or(Reason::Internal)?)
}

fn deadline(sign_in: &SignIn, endpoint: Endpoint) -> Duration {
    match endpoint {
        Endpoint::Login => sign_in.deadlines.login,
        Endpoint::Register => sign_in.deadlines.register,
        Endpoint::Refresh
        | Endpoint::PasswordReset
        | Endpoint::Logout
        | Endpoint::Me
        | Endpoint::WhoAmI
        | Endpoint::Sessions
        | Endpoint::EndSession
        | Endpoint::ChangePassword
        | Endpoint::Reauthenticate
        | Endpoint::Factors
        | Endpoint::Enroll
        | Endpoint::Challenge
        | Endpoint::VerifyFactor
        | Endpoint::Unenroll => sign_in.deadlines.other,
    }
}

/// The CSRF token of the cookie that was accepted, for a page that was reloaded and lost it.
fn csrf_token(context: &Context, permit: &Permit) -> Option<String> {
    permit.caller().cookie_session()?;
    let Some(GatewayCookie::One(value)) = permit.request().cookie() else {
        return None;
    };
    let cookies = context.sessions().cookies();
    cookies
        .read(value)
        .map(|cookie| cookies.csrf_token(&cookie))
}

fn delivery(request: &Inbound) -> TokenDelivery {
    let value = request.headers().get(USE_COOKIE);
    if value.is_none_or(|value| value != "session") {
        return TokenDelivery::Tokens;
    }
    TokenDelivery::Cookie(match request.cookie() {
        Some(GatewayCookie::One(value)) => Some(value.to_string()),
        Some(GatewayCookie::Ambiguous) | None => None,
    })
}

/// The text of a JSON body, with the answer to a captcha where the identity server reads it.
fn with_captcha(mut body: Value, captcha: Option<&Secret>) -> String {
    if let (Some(captcha), Some(members)) = (captcha, body.as_object_mut()) {
        let answer = json!({ "captcha_token": login::secret_text(captcha.expose()) });
        members.insert("gotrue_meta_security".to_owned(), answer);
    }
    body.to_string()
}

impl SignInRequest {
    /// The path of an operation that sends a link, with the address to which the link leads.
    ///
    /// # Errors
    ///
    /// 422: the address is not in the configured list. The identity server has a list of its own,
    /// often with patterns.
    fn with_redirect(&self, path: &str, redirect_to: Option<&str>) -> Result<String, Denial> {
        let Some(wanted) = redirect_to else {
            return Ok(path.to_owned());
        };
        let allowed = &sign_in(&self.in_force)?.redirect_to;
        if !allowed.iter().any(|one| one == wanted) {
            return Err(input::invalid(vec![FieldError {
                field: "redirect_to",
                detail: "is not an allowed address".into(),
            }]));
        }
        let encoded = utf8_percent_encode(wanted, NON_ALPHANUMERIC);
        Ok(format!("{path}?redirect_to={encoded}"))
    }

    /// Asks the throttle. If the attempt is to sign in, only once it is certain that the list of
    /// revocations is known and that a requested cookie can be stored.
    async fn admit(&self, attempt: Attempt, account: Option<&str>) -> Result<Admission, Denial> {
        if attempt.needs_revocations() {
            require_revocations(&self.context)?;
            let store = self.context.store().outage();
            if matches!(self.delivery, TokenDelivery::Cookie(_)) && store != Outage::Reachable {
                let why = "sessions in cookies need the store";
                return Err(Reason::SessionUnavailable.because(why));
            }
        }
        let key = AttemptKey {
            client: client_networks(self.client, &self.in_force.config().trusted_proxies),
            account,
        };
        let throttling = &sign_in(&self.in_force)?.throttle;
        self.context
            .throttle()
            .admit(throttling, attempt, key)
            .await
    }

    /// A call on behalf of this client, which the throttle admitted.
    fn call(
        &self,
        _admitted: &Admission,
        operation: Operation,
        method: Method,
        path: &str,
    ) -> Call {
        self.unlimited_call(operation, method, path)
    }

    /// A call that the throttle did not admit.
    fn unlimited_call(&self, operation: Operation, method: Method, path: &str) -> Call {
        let mut headers = HeaderMap::new();
        if let Some(agent) = &self.user_agent {
            headers.insert(USER_AGENT, agent.clone());
        }
        Call {
            headers,
            ..Call::new(operation, method, path, self.client)
        }
    }
}
