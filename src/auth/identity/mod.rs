//! Identity: authenticates the caller.
//!
//! Decides:  401 for a missing, bad or revoked credential or API key, 403 for a service key from
//!           outside, 429 for too many bad tokens, 503 while the issuer's keys cannot be fetched,
//!           and for a good credential the answer of the failure matrix while the store is away.
//! Trusts:   `tokens` for verifying tokens, `sessions` for cookies, `revocation` for the list of
//!           revocations, `policy::outage` for the failure matrix.
//! Not here: what the caller may do (`roles`).
//!
//! The first source of the route's `credentials` that is *present* decides; the next source never
//! replaces a bad credential. A public route reads no credential. On an optional route a request
//! without a credential has no user, and a bad credential is still refused. A request with a cookie
//! must also come from one of our own pages ([`csrf`]).

mod cookie;
pub mod csrf;

use std::sync::Arc;
use std::time::Instant;

use hyper::header::{HeaderValue, USER_AGENT};

use super::caller::Caller;
use super::layer::{AsyncCheck, Layer};
use super::role_table::RoleTable;
use crate::breaker::Outage;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::policy::endpoint::Endpoint;
use crate::policy::outage;
use crate::policy::route::{Access, ApiKey, CredentialSource, Serve, Target};
use crate::request::Inbound;
use crate::request::apikey;
use crate::revocation::{CleanAt, Listed, Revocations};
use crate::sessions::record::ClientInfo;
use crate::sessions::{Recheck, Sessions};
use crate::tokens::{CheckLimit, Presented, RefusedTokens, Tokens, Verified, is_service_key};

/// How a session gets new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The request waits for them.
    Awaited,
    /// The stream is refused for now with a 503, and re-authorized soon after.
    InBackground,
}

/// The layer.
#[derive(Debug)]
pub struct Identity {
    tokens: Arc<Tokens>,
    refused: Arc<RefusedTokens>,
    roles: RoleTable,
    revocations: Arc<Revocations>,
    sessions: Arc<Sessions>,
}

impl Identity {
    /// Authenticates by these issuers, this list of revocations and these sessions, and takes roles
    /// from this table.
    pub fn new(
        tokens: Arc<Tokens>,
        refused: Arc<RefusedTokens>,
        roles: RoleTable,
        revocations: Arc<Revocations>,
        sessions: Arc<Sessions>,
    ) -> Self {
        Self {
            tokens,
            refused,
            roles,
            revocations,
            sessions,
        }
    }

    /// Verifies again a caller that was proven for this request before, perhaps under another
    /// configuration. If a newer token of the same session was verified by this process, it counts
    /// as if it had come with the request.
    pub(super) async fn confirm(
        &self,
        request: &Inbound,
        caller: &Caller,
        renewal: Renewal,
    ) -> Result<Caller, Denial> {
        let Some(must_be_user) = must_be_user_still(request)? else {
            return Ok(Caller::NOBODY);
        };
        recheck_api_key(request)?;
        if let Some(live) = caller.cookie_session() {
            return self.of_session(request, live.name(), renewal).await;
        }
        let Some(verified) = caller.verified() else {
            return match must_be_user {
                true => Err(Reason::TokenMissing.into()),
                false => Ok(Caller::NOBODY),
            };
        };
        let verified = self.confirm_token(verified, clock::unix_now())?;
        match self.token_in_force(request, &verified).await {
            // An outage ends no stream, but this one may only be excepted from a revocation. A
            // request that waits is refused for the outage, and keeps its session.
            Err(denial)
                if denial.reason == Reason::SessionUnavailable
                    && renewal == Renewal::InBackground =>
            {
                return Err(Reason::SubjectRevoked.because("its session cannot be looked up"));
            }
            result => result?,
        }
        let roles = self.roles.of(&verified);
        Ok(caller.proven_again(verified, roles))
    }

    /// The part of [`Self::confirm`] that needs no lookup. It finds every revocation, but for some
    /// of a user who signed in within the leeway of it the record of the session must decide.
    pub(super) fn recheck(&self, request: &Inbound, caller: &Caller) -> Result<Recheck, Denial> {
        let Some(must_be_user) = must_be_user_still(request)? else {
            return Ok(Recheck::Passed);
        };
        recheck_api_key(request)?;
        let now = clock::unix_now();
        match (caller.cookie_session(), caller.verified()) {
            (Some(live), Some(verified)) => {
                self.recheck_session(request, live, verified, now)?;
                Ok(Recheck::Passed)
            }
            (None, Some(verified)) => {
                let verified = self.confirm_token(verified, now)?;
                self.sessions.recheck(verified.clean(), verified.listed())
            }
            (_, None) if must_be_user => Err(Reason::TokenMissing.into()),
            (_, None) => Ok(Recheck::Passed),
        }
    }

    /// Verifies again the caller of a request whose body this process waited for. While the list of
    /// revocations cannot be updated, the failure matrix decides as for a request that begins now.
    pub(super) async fn confirm_after_wait(
        &self,
        request: &Inbound,
        caller: &Caller,
    ) -> Result<(), Denial> {
        // Read before the list is searched, as in `in_force`.
        let is_current = self.revocations.outage(clock::coarse_now()) == Outage::Reachable
            && self.revocations.is_complete();
        if self.recheck(request, caller)? == Recheck::NeedsLookup || !is_current {
            // Boxed, as it is rare.
            Box::pin(self.confirm(request, caller, Renewal::Awaited)).await?;
        }
        Ok(())
    }

    /// The newest token of the session of this one, if its key is still accepted.
    fn confirm_token(&self, verified: &Arc<Verified>, now: i64) -> Result<Arc<Verified>, Denial> {
        let verified = self
            .tokens
            .newer_of_session(verified, now)
            .unwrap_or_else(|| verified.clone());
        if now >= verified.accepted_until() {
            return Err(Reason::TokenExpired.into());
        }
        if !self.tokens.still_accepts(&verified, now) {
            return Err(Reason::TokenKeyUnknown.because("its issuer entry or key is gone"));
        }
        Ok(verified)
    }

    /// The caller after a message with this token, on a stream that was authorized for `caller`:
    /// the user of the token, or nobody where the route allows that.
    pub(super) async fn speaker(
        &self,
        request: &Inbound,
        caller: &Caller,
        token: Option<&str>,
    ) -> Result<Caller, Denial> {
        let must_be_user = match request.rule().access {
            Access::Public | Access::Deny => return Err(Reason::RouteDenied.into()),
            Access::Optional => false,
            Access::User => true,
        };
        let presented = match token {
            None => Presented::Nobody,
            Some(token) => {
                let limit = self.check_limit(request);
                let verifying = self.tokens.verify_limited(token, clock::unix_now, limit);
                verifying.await?
            }
        };
        let Presented::User(verified) = presented else {
            if let Some(key) = token.filter(|_| request.rule().key_demand().is_some()) {
                apikey::require_listed(request.in_force(), key)?;
            }
            // An authenticated stream keeps its identity.
            return match must_be_user {
                true => Err(Reason::TokenMissing.because("a message without a user's token")),
                false => self.confirm(request, caller, Renewal::InBackground).await,
            };
        };
        self.token_in_force(request, &verified).await?;
        if verified.is_first_presented() {
            self.sessions.observe(&verified, client_info(request));
        }
        if let Some(known) = caller.verified()
            && !verified.is_same_session(known)
        {
            return Err(Reason::SessionDiffers.into());
        }
        if caller.cookie_session().is_some() {
            // The token changes nothing: the stream lives as long as the session behind the cookie.
            return self.confirm(request, caller, Renewal::InBackground).await;
        }
        let roles = self.roles.of(&verified);
        let authorization = Credential::of_text(token.unwrap_or_default());
        Ok(Caller::user(
            verified,
            roles,
            authorization.into_authorization()?,
        ))
    }

    /// Authenticates a request by the token that it carries.
    async fn by_token(
        &self,
        request: &Inbound,
        credential: Credential<'_>,
        must_be_user: bool,
    ) -> Result<Caller, Denial> {
        let verifying = self.tokens.verify_on(
            request.worker_cache(),
            credential.token,
            clock::unix_now,
            || self.check_limit(request),
            |verified| self.sessions.observe(verified, client_info(request)),
        );
        let Presented::User(verified) = verifying.await? else {
            // An API key proves no user. It was present, so no other source is tried.
            if request.rule().key_demand().is_some() {
                apikey::require_listed(request.in_force(), credential.token)?;
            }
            return match must_be_user {
                true => Err(Reason::TokenMissing.because("an API key is not a user")),
                false => Ok(Caller::NOBODY),
            };
        };
        if let Err(denial) = self.token_in_force(request, &verified).await {
            // A token that names no session is the whole of its session.
            let is_alone = verified.session().is_none();
            return match denial.reason == Reason::TokenRevoked && !is_alone {
                true => Err(denial),
                false => signed_out_before(request, denial),
            };
        }
        let roles = self.roles.of(&verified);
        let authorization = credential.into_authorization()?;
        Ok(Caller::user(verified, roles, authorization))
    }

    /// How many tokens of the client may be refused.
    fn check_limit(&self, request: &Inbound) -> Option<CheckLimit<'_>> {
        Some(CheckLimit {
            refused: &self.refused,
            rate: request.in_force().config().connections.refused_tokens,
            client: request.client().networks?,
        })
    }

    async fn token_in_force(&self, request: &Inbound, verified: &Verified) -> Result<(), Denial> {
        if let Some(client) = verified.client()
            && !request.rule().clients.iter().any(|known| known == client)
        {
            return Err(Reason::ClientRefused.into());
        }
        let of_token = (verified.clean(), verified.listed());
        match self.in_force(request, [of_token], verified.since()) {
            // Boxed, to keep the future small for tokens that are not refused.
            Err(denial)
                if matches!(
                    denial.reason,
                    Reason::SubjectRevoked | Reason::BucketRevoked
                ) =>
            {
                Box::pin(self.begun_in_force(request, verified)).await
            }
            result => result,
        }
    }

    /// The same for a token whose user was revoked: its session may have begun here since then.
    async fn begun_in_force(&self, request: &Inbound, verified: &Verified) -> Result<(), Denial> {
        let (clean, listed) = (verified.clean(), verified.listed());
        let begun = self.sessions.check(clean, listed).await?;
        let listed = Listed { begun, ..listed };
        self.in_force(request, [(clean, listed)], verified.since())
    }

    /// Whether a good credential, which was first accepted here at `since`, is still in force. It
    /// is not if any of its `parts` is on the list of revocations. While the list cannot be
    /// updated, the credential may have been revoked on another replica, and the failure matrix
    /// decides how long it is still accepted.
    fn in_force<const N: usize>(
        &self,
        request: &Inbound,
        parts: [(&CleanAt, Listed<'_>); N],
        since: Instant,
    ) -> Result<(), Denial> {
        // Read before the list is searched: a list that becomes complete after the search may have
        // lacked entries during it.
        let outage = self.revocations.outage(clock::coarse_now());
        let is_complete = self.revocations.is_complete();
        // Cached credentials are checked, too: a revocation removes nothing from the caches, it
        // only adds to the list.
        let now = clock::unix_now();
        for (clean, listed) in parts {
            self.revocations.check(clean, listed, now)?;
        }
        if outage == Outage::Reachable && is_complete {
            return Ok(());
        }
        let class = || request.access_class();
        outage::authorize(outage, is_complete, class, since, clock::now())
    }
}

impl Layer for Identity {
    type Proof = Caller;
}

impl AsyncCheck for Identity {
    type Input = ();

    async fn check(&self, request: &Inbound, (): ()) -> Result<Caller, Denial> {
        refuse_service_key(request)?;
        require_api_key(request)?;
        let rule = request.rule();
        let must_be_user = match rule.access {
            Access::Public => return Ok(Caller::NOBODY),
            // Unreachable: the router refuses this first. Kept as defence in depth.
            Access::Deny => return Err(Reason::RouteDenied.into()),
            Access::Optional => false,
            // A realtime socket authenticates in its messages, and forwards no other message before
            // that.
            Access::User => !(rule.realtime && request.handshake().is_some()),
        };
        for source in &rule.credentials {
            if *source == CredentialSource::Cookie {
                match request.cookie() {
                    // Boxed, to keep the future small for requests without a cookie.
                    Some(own) => return Box::pin(self.by_cookie(request, own)).await,
                    None => continue,
                }
            }
            let Some(credential) = Credential::find(source, request)? else {
                continue;
            };
            return self.by_token(request, credential, must_be_user).await;
        }
        if must_be_user {
            Err(Reason::TokenMissing.into())
        } else {
            Ok(Caller::NOBODY)
        }
    }
}

/// Refuses Supabase's secret keys, which grant everything. Clients send their key beside the token,
/// so this is checked on every route.
fn refuse_service_key(request: &Inbound) -> Result<(), Denial> {
    let query = request.target().query().unwrap_or_default();
    let mut keys = apikey::every(request.key_fields(), query);
    // The configured publishable keys are no secret keys, so they are not parsed as tokens.
    let is_refused =
        |key: &str| !apikey::is_listed(request.in_force(), key) && is_service_key(key.trim());
    if keys.any(|key| is_refused(&key)) {
        return Err(Reason::ServiceKeyRefused.because("an API key"));
    }
    let passed = request
        .authorization()
        .filter(|_| request.rule().pass_credentials);
    let token = passed.and_then(|field| field.to_str().ok()?.split_ascii_whitespace().last());
    match token.is_some_and(is_service_key) {
        true => Err(Reason::ServiceKeyRefused.because("`Authorization`")),
        false => Ok(()),
    }
}

/// On routes that check keys, requires configured publishable keys.
fn require_api_key(request: &Inbound) -> Result<(), Denial> {
    let Some(demand) = request.rule().key_demand() else {
        return Ok(());
    };
    let query = request.target().query();
    match apikey::judged(request.in_force(), request.key_fields(), query)? {
        None if demand == ApiKey::Required => Err(Reason::ApikeyMissing.into()),
        Some(_) | None => Ok(()),
    }
}

/// Whether the request of an open stream needs a user; `None` if it reads no credential.
fn must_be_user_still(request: &Inbound) -> Result<Option<bool>, Denial> {
    match request.rule().access {
        Access::Public => Ok(None),
        Access::Deny => Err(Reason::RouteDenied.into()),
        Access::Optional => Ok(Some(false)),
        // A realtime stream authenticates in its messages.
        Access::User => Ok(Some(!request.rule().realtime)),
    }
}

/// The same check for an open stream, which has kept its query but not its header fields.
fn recheck_api_key(request: &Inbound) -> Result<(), Denial> {
    if request.rule().key_demand().is_some() {
        apikey::judged(request.in_force(), None, request.target().query())?;
    }
    Ok(())
}

/// Whoever signs out of a session that has ended is signed out: nobody, and not refused. The route
/// decides what it answers.
fn signed_out_before(request: &Inbound, denial: Denial) -> Result<Caller, Denial> {
    let is_for_nobody =
        request.rule().target == Some(Target::Serve(Serve::SignIn(Endpoint::Logout)));
    match is_for_nobody && is_over(denial.reason) {
        true => Ok(Caller::NOBODY),
        false => Err(denial),
    }
}

/// Whether the reason is that a session has ended.
const fn is_over(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TokenRevoked
            | Reason::SessionRevoked
            | Reason::SubjectRevoked
            | Reason::SessionUnknown
            | Reason::SessionExpired
    )
}

/// The client of a request, as it is shown to the user and recorded by the identity server.
fn client_info(request: &Inbound) -> ClientInfo {
    let agent = request.headers().get(USER_AGENT);
    ClientInfo {
        address: request.client().address,
        user_agent: agent.and_then(|agent| agent.to_str().ok().map(str::to_owned)),
    }
}

/// The scheme of a bearer token, with the space behind it.
const SCHEME: &[u8] = b"Bearer ";

/// A credential as the request carries it.
struct Credential<'a> {
    /// The raw bytes. They are checked to be text only if the token is not in the cache.
    token: &'a [u8],
    /// The header field, if it already has the spelling that upstreams expect.
    field: Option<&'a HeaderValue>,
}

impl<'a> Credential<'a> {
    fn find(source: &CredentialSource, request: &'a Inbound) -> Result<Option<Self>, Denial> {
        match source {
            CredentialSource::Query(name) => Ok(request.query_credential(name).map(Self::of_text)),
            CredentialSource::Cookie => Ok(None),
            CredentialSource::Bearer => request.authorization().map(Self::from_field).transpose(),
        }
    }

    /// RFC 6750, section 2.1; the scheme's case does not matter (RFC 9110, section 11.1).
    fn from_field(field: &'a HeaderValue) -> Result<Self, Denial> {
        let text = field.as_bytes();
        let (scheme, token) = text.split_at_checked(SCHEME.len()).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(match text.contains(&b' ') {
                true => Reason::TokenMalformed.because("the scheme is not `Bearer`"),
                false => Reason::TokenMalformed.into(),
            });
        }
        Ok(Self {
            token,
            field: (scheme == SCHEME).then_some(field),
        })
    }

    fn of_text(token: &'a str) -> Self {
        Self {
            token: token.as_bytes(),
            field: None,
        }
    }

    fn into_authorization(self) -> Result<HeaderValue, Denial> {
        let mut field = match self.field {
            Some(field) => field.clone(),
            None => HeaderValue::from_bytes(&[SCHEME, self.token].concat())
                .map_err(|_| Reason::TokenMalformed)?,
        };
        field.set_sensitive(true);
        Ok(field)
    }
}
