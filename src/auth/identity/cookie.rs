//! Authenticates a caller by the cookie of a session.
//!
//! Decides `cookie_malformed`, and how a request is answered whose session has ended or cannot be
//! looked up. `sessions` finds the session and its tokens, `tokens` verifies the access token
//! behind it, [`csrf`] checks that the request came from one of our own pages.
//!
//! - A session that has ended is a 401 that clears the cookie. Otherwise a page that is open to
//!   everybody would refuse its user until they sign in again.
//! - A session that cannot be looked up is a 503 that keeps the cookie: an outage signs nobody out.
//! - A cookie that a newer one replaced is a 401 that clears nothing. A browser keeps both under
//!   one name and deletes by that name alone (RFC 6265, section 5.3), so a late answer to the old
//!   cookie would delete the new one.

use std::sync::Arc;

use hyper::header::HeaderValue;

use super::{Identity, Renewal, client_info, csrf, is_over, signed_out_before};
use crate::auth::caller::Caller;
use crate::clock;
use crate::denial::{Denial, Extra, Fault, Reason};
use crate::policy::outage::{Effect, State};
use crate::policy::route::{Access, Serve, Target};
use crate::policy::tokens::LARGEST_LEEWAY;
use crate::request::Inbound;
use crate::request::headers::GatewayCookie;
use crate::revocation::{CleanAt, Listed};
use crate::sessions::record::SessionName;
use crate::sessions::renew::RenewalOutcome;
use crate::sessions::{CachedSession, SessionLookup, VerifiedAccess, cookie};
use crate::tokens::{Presented, Verified, claims_of};

/// The detail of a refusal for the operator.
const REPLACED: &str = "replaced by a newer cookie";

impl Identity {
    /// Authenticates a request by its cookie.
    pub(super) async fn by_cookie(
        &self,
        request: &Inbound,
        own: &GatewayCookie,
    ) -> Result<Caller, Denial> {
        let read = match own {
            GatewayCookie::One(value) => self.sessions.cookies().read(value),
            GatewayCookie::Ambiguous => None,
        };
        let Some(cookie) = read else {
            self.sessions.was_malformed();
            return Err(clearing_cookie(request, Reason::CookieMalformed.into()));
        };
        // Before anything else: a request of another site's page must not even prolong the session.
        csrf::check(request, || self.sessions.cookies().csrf_token(&cookie))?;
        let name = cookie.name();
        let caller = match self.of_session(request, &name, Renewal::Awaited).await {
            Ok(caller) => caller,
            Err(denial) if matches!(denial.extra, Extra::ClearCookie(_)) => {
                return without_ended_cookie(request, denial);
            }
            Err(denial) => return Err(denial),
        };
        if let Some(live) = caller.cookie_session() {
            self.sessions.touch(live);
        }
        Ok(caller)
    }

    /// Whether the list of revocations names the session with which a stream was opened, as far as
    /// this process knows it. A token that was revoked alone is renewed, which takes a lookup.
    pub(super) fn recheck_session(
        &self,
        request: &Inbound,
        live: &Arc<CachedSession>,
        verified: &Verified,
        now: i64,
    ) -> Result<(), Denial> {
        let newest = self.sessions.remembered(live.name());
        let live = newest.as_ref().unwrap_or(live);
        let proven = live.proven();
        let verified = proven.as_ref().map_or(verified, |proven| &proven.verified);
        let listed = Listed {
            token: live.name(),
            ..listed_of(live, verified)
        };
        let checked = self.revocations.check(live.clean(), listed, now);
        self.session_goes_on(request, live, checked)
    }

    /// The result of a look-up of a session, which goes on if only its access token is refused: it
    /// gets a new one.
    fn session_goes_on(
        &self,
        request: &Inbound,
        live: &CachedSession,
        checked: Result<(), Denial>,
    ) -> Result<(), Denial> {
        match checked {
            Err(denial)
                if denial.reason == Reason::TokenRevoked
                    && !self.sessions.is_replaced(live.name()) =>
            {
                Ok(())
            }
            checked => checked.map_err(|denial| refusal_of_listed(request, denial)),
        }
    }

    /// Authenticates by the session of this name: that of a cookie, or of an open stream.
    pub(super) async fn of_session(
        &self,
        request: &Inbound,
        name: &SessionName,
        renewal: Renewal,
    ) -> Result<Caller, Denial> {
        let live = match self.sessions.find(name).await {
            SessionLookup::Live(live) => live,
            SessionLookup::Ended(reason) => return Err(self.ended(request, name, reason)),
            SessionLookup::Unavailable(why) => return Err(self.unavailable(request, why.as_str())),
        };
        let (live, proven) = match self.proven(&live).await {
            Ok(proven) => (live, proven),
            // The token is not at fault, so a new one would not help.
            Err(denial) if denial.reason.fault() != Fault::Client => return Err(denial),
            Err(_) => {
                let live = self.renewed(request, live, renewal).await?;
                let proven = self.proven(&live).await.map_err(not_accepted)?;
                (live, proven)
            }
        };
        self.session_in_force(request, &live, &proven)?;
        let verified = proven.verified.clone();
        if self
            .sessions
            .is_renewal_due(&live, &verified, clock::unix_now())
        {
            let client = client_info(request);
            self.sessions.renew_behind(&live, client);
        }
        let roles = self.roles.of(&verified);
        Ok(Caller::of_session(live, &proven, roles))
    }

    /// The user of a session, if its access token is good. If only the token was revoked, it counts
    /// as expired, and the session goes on.
    async fn proven(&self, live: &Arc<CachedSession>) -> Result<Arc<VerifiedAccess>, Denial> {
        let now = clock::unix_now();
        let proven = match live.proven() {
            Some(proven) if self.tokens.still_accepts(&proven.verified, now) => proven,
            _ => self.prove(live, now).await?,
        };
        let verified = &proven.verified;
        match self
            .revocations
            .check(verified.clean(), listed_of(live, verified), now)
        {
            Err(denial) if denial.reason == Reason::TokenRevoked => Err(denial),
            // Every other revocation is checked with the session.
            Ok(()) | Err(_) => Ok(proven),
        }
    }

    async fn prove(
        &self,
        live: &Arc<CachedSession>,
        now: i64,
    ) -> Result<Arc<VerifiedAccess>, Denial> {
        let tokens = live.tokens().ok_or(Reason::SessionUnknown)?;
        let access = tokens.access();
        let proof = live.session().proof.as_ref();
        let recalled = proof.and_then(|proof| self.tokens.recall(access, proof, now));
        let verified = match recalled {
            Some(verified) => verified,
            None => match self.tokens.verify_or_wait(access, clock::unix_now).await? {
                Presented::User(verified) => verified,
                Presented::Nobody => return Err(Reason::TokenClaims.into()),
            },
        };
        if !live.is_of(&verified) {
            return Err(Reason::Internal.because("the session holds another session's token"));
        }
        let mut authorization = HeaderValue::try_from(format!("Bearer {access}"))
            .map_err(|_| Reason::TokenMalformed)?;
        authorization.set_sensitive(true);
        let proven = Arc::new(VerifiedAccess {
            verified,
            authorization,
        });
        live.prove(proven.clone());
        Ok(proven)
    }

    /// The session with new tokens. A revoked session gets none.
    async fn renewed(
        &self,
        request: &Inbound,
        live: Arc<CachedSession>,
        renewal: Renewal,
    ) -> Result<Arc<CachedSession>, Denial> {
        let session = live.session();
        let claims = live
            .tokens()
            .and_then(|tokens| claims_of(tokens.access()))
            .unwrap_or_default();
        let listed = Listed {
            token: live.name(),
            issuer: &session.issuer,
            subject: &session.subject,
            session: session.session.as_deref(),
            claims: &claims,
            begun: Some(session.created),
            leeway: LARGEST_LEEWAY.as_secs().cast_signed(),
        };
        let checked = self
            .revocations
            .check(&CleanAt::default(), listed, clock::unix_now());
        self.session_goes_on(request, &live, checked)?;
        let client = client_info(request);
        if renewal == Renewal::InBackground {
            self.sessions.renew_behind(&live, client);
            return Err(Reason::SessionUnavailable.because("its tokens are being renewed"));
        }
        match self.sessions.renew(&live, client).await {
            RenewalOutcome::Live(live) => Ok(live),
            RenewalOutcome::Ended => Err(self.ended(request, live.name(), Reason::SessionUnknown)),
            RenewalOutcome::Unavailable(denial) => Err(denial),
        }
    }

    /// Whether neither the session nor its token was revoked, as far as this replica knows.
    fn session_in_force(
        &self,
        request: &Inbound,
        live: &CachedSession,
        proven: &VerifiedAccess,
    ) -> Result<(), Denial> {
        let of_token = listed_of(live, &proven.verified);
        let listed = Listed {
            token: live.name(),
            ..of_token
        };
        let of_token = (proven.verified.clean(), of_token);
        let of_session = (live.clean(), listed);
        self.in_force(request, [of_session, of_token], live.since())
            .map_err(|denial| refusal_of_listed(request, denial))
    }

    /// The refusal of a session that has ended. It clears the cookie, unless a newer cookie may
    /// have replaced it.
    fn ended(&self, request: &Inbound, name: &SessionName, reason: Reason) -> Denial {
        match self.sessions.is_replaced(name) {
            true => reason.because(REPLACED),
            false => clearing_cookie(request, reason.into()),
        }
    }

    /// The failure matrix's answer to a cookie whose session is not in memory while the store is
    /// away.
    fn unavailable(&self, request: &Inbound, why: &'static str) -> Denial {
        match State::CookieUnknown.effect(request.access_class()) {
            Effect::Refuse(reason) => reason.because(why),
            // Without its session the request has no user, so it cannot be allowed.
            Effect::Allow | Effect::Degrade => Reason::SessionUnavailable.because(why),
        }
    }
}

/// What the list of revocations compares of the token of a session, which began here.
fn listed_of<'a>(live: &CachedSession, verified: &'a Verified) -> Listed<'a> {
    Listed {
        begun: Some(live.session().created),
        ..verified.listed()
    }
}

/// What a cookie whose session has ended is worth: nobody where one signs out, and at the identity
/// server's own paths, most of which need no user: it must not keep its user from signing in again.
/// The route decides what it answers. Elsewhere it is refused.
fn without_ended_cookie(request: &Inbound, denial: Denial) -> Result<Caller, Denial> {
    let rule = request.rule();
    let may_be_nobody = rule.access == Access::Optional
        && rule.target == Some(Target::Serve(Serve::IdentityServer));
    match may_be_nobody && is_over(denial.reason) {
        true => Ok(Caller::NOBODY),
        false => signed_out_before(request, denial),
    }
}

/// The refusal of a revoked session. It clears the cookie, unless only the cookie itself is listed:
/// then a newer cookie replaced it.
fn refusal_of_listed(request: &Inbound, denial: Denial) -> Denial {
    if denial.reason == Reason::TokenRevoked {
        Reason::SessionUnknown.because(REPLACED)
    } else if denial.reason.fault() == Fault::Client {
        clearing_cookie(request, denial)
    } else {
        denial
    }
}

/// The same refusal, which also clears the cookie.
fn clearing_cookie(request: &Inbound, denial: Denial) -> Denial {
    let settings = &request.in_force().config().sessions;
    Denial {
        extra: Extra::ClearCookie(cookie::clear(settings)),
        ..denial
    }
}

/// The identity server issued a token that is not accepted here. The fault is the server's or ours,
/// not the user's.
fn not_accepted(denial: Denial) -> Denial {
    // The user's metadata has become too large, and the user can be told.
    if denial.reason == Reason::TokenTooLarge {
        return denial;
    }
    let why = format!(
        "the renewed token is not accepted: {}",
        denial.reason.code()
    );
    Reason::SessionUnavailable.because(why)
}
