//! The pass-through: the identity server's own API, as its clients know it. `serve:
//! identity_server`, usually at `/auth/v1`.
//!
//! Decides:  which operations may be called there, by whom and how often, and the order of a
//!           logout: here first, at the identity server second.
//! Trusts:   the chain, for who the user is; the identity server, for passwords and tokens.
//! Not here: the gateway's own sign-in routes (`endpoints`). Both use the same throttle, the same
//!           refresh and the same revocations, so neither allows what the other refuses.
//!
//! Bodies and replies pass unchanged, except for the form of errors, which follows the API version
//! of the client, and for what a stranger would learn of an account (`disclosure`).

mod attempts;
mod behind_cookie;
mod body;
pub(super) mod cookie_caller;
mod disclosure;
mod effects;
mod input;
mod operations;
pub(super) mod own;
mod reply;
mod sessions;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, REFERER, SET_COOKIE, USER_AGENT,
};
use hyper::{Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use self::attempts::Admissions;
use self::body::{Member, RequestBody};
use self::cookie_caller::CookieCaller;
use self::disclosure::concealed;
use self::operations::{OperationRequest, RecognitionError, recognize};
use super::call::{Call, Reply};
use super::client::IdentityServer;
use super::grant::{AuthError, Grant};
use super::operation::{CallerRule, Effect, Operation};
use super::refresh::RefreshOutcome;
use super::session::seen;
use super::{is_refusal, profile, run_to_completion};
use crate::auth::Permit;
use crate::clock;
use crate::denial::format::GotrueVersion;
use crate::denial::{Denial, Extra, Reason};
use crate::policy::in_force::InForce;
use crate::policy::route::CredentialSource;
use crate::request::apikey;
use crate::secrets::secret::Secret;
use crate::sessions::cookie;
use crate::sessions::sign_in::OwnSession;
use crate::sign_in::context::Context;
use crate::tokens::{Tokens, Verified};

/// Deadline of an answer, including all calls and the throttle's delay. A refresh has its own,
/// which is shorter.
const DEADLINE: Duration = Duration::from_secs(9);

/// The longest body in bytes, as at the identity server. A route may allow less.
const LONGEST_BODY: u64 = 1 << 20;

const CLIENT_INFO: HeaderName = HeaderName::from_static("x-client-info");

/// Request fields that are forwarded: the identity server records them, and redirects a browser
/// back to its `Referer`.
const PASS: [HeaderName; 3] = [USER_AGENT, REFERER, CLIENT_INFO];

/// A recognized request and what it needs.
#[derive(Clone)]
struct Exchange {
    context: Arc<Context>,
    in_force: Arc<InForce>,
    tokens: Arc<Tokens>,
    identity: IdentityServer,
    client: IpAddr,
    version: GotrueVersion,
    /// The user, with the access token that proves them.
    user: Option<(Arc<Verified>, Secret)>,
    /// What identifies the caller's own session.
    own: OwnSession,
    /// The session of the cookie that proved the user, if one did.
    cookie: Option<CookieCaller>,
    fields: HeaderMap,
}

/// Answers a permitted request.
///
/// # Errors
///
/// The request is refused here, or the identity server does not answer.
pub(crate) async fn answer(
    context: &Arc<Context>,
    tokens: &Arc<Tokens>,
    permit: Permit,
) -> Result<Response<Bytes>, Denial> {
    let deadline = Instant::now() + DEADLINE;
    let inbound = permit.request();
    let in_force = inbound.in_force().clone();
    let version = GotrueVersion::requested(inbound.headers());
    let tail = inbound.tail().ok_or(Reason::Internal)?;
    let request = match recognize(inbound.method(), tail, inbound.target().query()) {
        Ok(request) => request,
        Err(error) => return refuse_unrecognized(error, version),
    };
    // The edge of Supabase requires a key, too. The identity server gets the gateway's own.
    if !request.operation.is_open() {
        let query = inbound.target().query();
        apikey::judged(&in_force, inbound.key_fields(), query)?.ok_or(Reason::ApikeyMissing)?;
    }
    let client = inbound.client().address;
    let cookie = CookieCaller::of(context, &permit);
    let cleared = ended_cookie(&permit);
    let verified = permit.caller().verified().map(|verified| &**verified);
    let mut budget = inbound.body_budget(context.body_memory(), verified);
    budget.limit = budget.limit.min(LONGEST_BODY);
    let mut spent = permit.spend();
    let fields = std::mem::take(spent.fields());
    let body = spent.take_body();
    let token = spent.authorization().and_then(super::bearer_token);
    let authorization = spent.into_stream();
    let user = authorization.caller().verified().cloned().zip(token);
    if user.is_none() && request.operation.row().caller == CallerRule::User {
        return Err(match cleared {
            None => Reason::TokenMissing.into(),
            Some(cleared) => Denial {
                extra: Extra::ClearCookie(cleared),
                ..Reason::SessionUnknown.because("the session of the cookie has ended")
            },
        });
    }
    // An application that the map lets in may read who its user is, and not change the account.
    let is_app = user
        .as_ref()
        .is_some_and(|(user, _)| user.client().is_some());
    if is_app && request.operation != Operation::OauthUser {
        return Err(Reason::ClientRefused.because("only `oauth/userinfo` is for applications"));
    }
    let exchange = Exchange {
        context: context.clone(),
        tokens: tokens.clone(),
        identity: context.identity().ok_or(Reason::Internal)?.clone(),
        client,
        version,
        user,
        own: authorization.caller().own_session(),
        cookie,
        fields: PASS
            .into_iter()
            .filter_map(|name| fields.get(&name).cloned().map(|value| (name, value)))
            .collect(),
        in_force,
    };
    let operation = request.operation;
    let work = async {
        let body = RequestBody::read(request.body, body, &fields, &budget).await?;
        exchange.answer(request, body).await
    };
    let mut answered = timeout_at(deadline, work)
        .await
        .unwrap_or_else(|_| Err(timed_out(operation)));
    if let (Some(cleared), Ok(response)) = (cleared, &mut answered) {
        response.headers_mut().entry(SET_COOKIE).or_insert(cleared);
    }
    answered
}

/// What clears the cookie of a session that has ended; `None` if the request has none.
fn ended_cookie(permit: &Permit) -> Option<HeaderValue> {
    let request = permit.request();
    let reads_cookies = request
        .rule()
        .credentials
        .contains(&CredentialSource::Cookie);
    let has_ended = permit.caller().verified().is_none() && request.cookie().is_some();
    let settings = &request.in_force().config().sessions;
    (reads_cookies && has_ended).then(|| cookie::clear(settings))
}

/// An unknown parameter is refused as the identity server would, so that its clients understand.
fn refuse_unrecognized(
    error: RecognitionError,
    version: GotrueVersion,
) -> Result<Response<Bytes>, Denial> {
    let (code, message) = match error {
        RecognitionError::Grant => ("invalid_credentials", "unsupported_grant_type"),
        RecognitionError::Scope => ("validation_failed", "Unsupported logout scope"),
        RecognitionError::Unlisted(_) | RecognitionError::Ambiguous => return Err(error.into()),
    };
    let error = AuthError::new(StatusCode::BAD_REQUEST, code, message);
    Ok(reply::error(&error, version))
}

/// A client ends its session if a refresh is answered with anything but success or 503.
fn timed_out(operation: Operation) -> Denial {
    let reason = if operation == Operation::Refresh {
        Reason::IdentityUnavailable
    } else {
        Reason::IdentityTimeout
    };
    reason.because("overall deadline exceeded")
}

impl Exchange {
    async fn answer(
        self,
        request: OperationRequest,
        body: RequestBody,
    ) -> Result<Response<Bytes>, Denial> {
        if let Some(refusal) = self.refuse_input(&request, &body) {
            return Ok(refusal);
        }
        let admitted = self.admit(&request, &body).await;
        if request.operation == Operation::Logout {
            return self.log_out(request, admitted).await;
        }
        let admissions = admitted?;
        if let (Operation::Refresh, Some(token)) =
            (request.operation, body.text(Member::RefreshToken))
        {
            let token = Secret::new(token);
            if self.cookie.is_none() {
                return self.refresh(&token, admissions).await;
            }
            let runtime = self.identity.runtime().clone();
            let work = async move { self.refresh(&token, admissions).await };
            return run_to_completion(&runtime, work).await;
        }
        // What ends sessions, or gives tokens to a session here, must not stop halfway.
        let effect = request.operation.row().effect;
        let gives_tokens = self.cookie.is_some() && effect.gives_tokens();
        let runtime = self.identity.runtime().clone();
        match effect.ends_sessions() || gives_tokens {
            true => run_to_completion(&runtime, self.complete(request, body, admissions)).await,
            false => self.complete(request, body, admissions).await,
        }
    }

    async fn complete(
        self,
        request: OperationRequest,
        body: RequestBody,
        admissions: Admissions,
    ) -> Result<Response<Bytes>, Denial> {
        let began = Instant::now();
        // Nothing else may renew the tokens of a cookie while the server may replace them.
        let gives_tokens = request.operation.row().effect.gives_tokens();
        let _turn = match &self.cookie {
            Some(cookie) if gives_tokens => Some(cookie.live.renewal_turn().await),
            Some(_) | None => None,
        };
        if request.operation == Operation::ChangeUser
            && let Some(refusal) = self.refuse_metadata(&body).await
        {
            // It took a call; and what came with it, such as a code, was not tried.
            admissions.failed();
            return Ok(refusal);
        }
        let ends = self.effect_of(&request, &body).await;
        let call = self.call(&request, &body, &admissions);
        let asked_at = clock::unix_millis();
        let replied = self.identity.call(call).await;
        admissions.settle_call(&self.identity, &replied);
        self.apply(&ends, &replied).await?;
        let reply = concealed(&request, replied?);
        if let (true, Some(cookie)) = (reply.status.is_success() && ends.lowers(), &self.cookie) {
            self.lower(cookie).await;
            return reply::answer(&reply, self.version);
        }
        if request.operation == Operation::PasswordGrant && is_refusal(reply.status) {
            self.hold_refusal(began).await?;
        }
        if let Some(grant) = grant_in(&reply) {
            if grant.access_token.expose().len() > self.tokens.longest() {
                self.drop_session(grant.access_token);
                return Err(Reason::TokenTooLarge.into());
            }
            // A raised session is the caller's, with new tokens.
            let is_new = request.operation.row().effect != Effect::Raises;
            if is_new
                && self.cookie.is_none()
                && let Err(denial) = self.begin_session(&grant, asked_at).await
            {
                self.drop_session(grant.access_token);
                return Err(denial);
            }
            self.ensure_profile(grant.user.get()).await;
            if let Some(cookie) = &self.cookie {
                return self.keep_behind(cookie, &grant, asked_at).await;
            }
        }
        if matches!(
            request.operation,
            Operation::ReadUser | Operation::ChangeUser
        ) {
            self.ensure_profile_of_converted(&reply).await;
        }
        // Whoever follows a link in a message gets the tokens from the redirect, and nothing else
        // before using them.
        if profile::is_configured(&self.in_force)
            && let Some(token) = reply::redirect_token(&reply)
            && let Some(user) = self.user_from_token(token).await
        {
            self.ensure_profile(&user).await;
        }
        match (&self.cookie, reply::tokens_in_redirect(&reply)) {
            (Some(cookie), Some(tokens)) => {
                self.keep_redirected(cookie, tokens, &reply, asked_at).await
            }
            (Some(_), None) if gives_tokens && reply::has_tokens(&reply) => {
                Err(Reason::IdentityRefused.because("the reply has tokens and is not a grant"))
            }
            (None, _) | (_, None) => reply::answer(&reply, self.version),
        }
    }

    /// Inserts the row of a user who has just signed in, before the answer.
    async fn ensure_profile(&self, user: &str) {
        profile::ensure_before_answer(&self.context, &self.in_force, user).await;
    }

    /// The same for a caller whose token is an anonymous user's, and whom this reply describes as a
    /// permanent one.
    async fn ensure_profile_of_converted(&self, reply: &Reply) {
        let Some((caller, _)) = self.user.as_ref().filter(|(user, _)| user.is_anonymous()) else {
            return;
        };
        if reply.status == StatusCode::OK
            && let Ok(user) = std::str::from_utf8(&reply.body)
            && profile::describes(user, caller.subject())
        {
            profile::ensure_unless_known(&self.context, &self.in_force, user).await;
        }
    }

    /// The call of an admitted request.
    fn call(&self, request: &OperationRequest, body: &RequestBody, _admitted: &Admissions) -> Call {
        self.unlimited_call(request, body)
    }

    /// A call that the throttle did not admit.
    fn unlimited_call(&self, request: &OperationRequest, body: &RequestBody) -> Call {
        let mut headers = self.fields.clone();
        if let Some(kind) = body.content_type() {
            headers.insert(CONTENT_TYPE, kind);
        }
        Call {
            bearer: self.user.as_ref().map(|(_, token)| token.clone()),
            body: body.bytes(),
            headers,
            ..Call::new(
                request.operation,
                request.method.clone(),
                &request.path,
                self.client,
            )
        }
    }

    async fn refresh(
        &self,
        token: &Secret,
        admissions: Admissions,
    ) -> Result<Response<Bytes>, Denial> {
        let asked_at = clock::unix_millis();
        let refresh = self.context.refresh().ok_or(Reason::Internal)?;
        let client = seen(self.client, self.fields.get(USER_AGENT));
        let outcome = refresh.refresh(token, client).await;
        let (failed, answer) = match outcome.as_deref() {
            Ok(RefreshOutcome::Granted(grant)) if self.is_grant_revoked(grant).await => {
                let status = StatusCode::BAD_REQUEST;
                let message = "Invalid Refresh Token: Session Not Found";
                let error = AuthError::new(status, "session_not_found", message);
                (true, reply::error(&error, self.version))
            }
            Ok(RefreshOutcome::Granted(grant)) => {
                let (context, in_force) = (&self.context, &self.in_force);
                profile::ensure_unless_known(context, in_force, grant.user.get()).await;
                let answer = match &self.cookie {
                    Some(cookie) => self.keep_behind(cookie, grant, asked_at).await?,
                    None => reply::grant(&grant.raw, self.version),
                };
                (false, answer)
            }
            Ok(RefreshOutcome::Refused(error)) => (true, reply::error(error, self.version)),
            Err(_) => {
                admissions.undecided();
                return Err(outcome.err().unwrap_or(Reason::Internal.into()));
            }
        };
        match failed {
            true => admissions.failed(),
            false => admissions.succeeded(),
        }
        Ok(answer)
    }

    /// The duration of a refusal would disclose whether the account exists; see `throttle`.
    async fn hold_refusal(&self, began: Instant) -> Result<(), Denial> {
        let sign_in = self.in_force.config().sign_in.as_ref();
        let throttling = &sign_in.ok_or(Reason::Internal)?.throttle;
        self.context
            .throttle()
            .hold_refusal(throttling, began)
            .await
    }
}

/// The grant in a reply, if it is one.
fn grant_in(reply: &Reply) -> Option<Grant> {
    let is_good = reply.status == StatusCode::OK;
    is_good.then(|| Grant::read(&reply.body)).flatten()
}
