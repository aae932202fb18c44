//! The order of the layers, and the permit at the end of it.
//!
//! Decides: who judges when, and what a waiver means. Trusts: each layer's own verdict. Not here: any rule of a layer.
//!
//! [`inquire`], [`enforce`] and [`step`] are the only places that time, shadow and record a layer.

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::identifiers::{Identified, Identifiers};
use super::identity::Identity;
use super::lineage::Lineage;
use super::ownership::Ownership;
use super::performance::{Informed, Performance};
use super::rest::{self, Rest};
use super::role_table::RoleTable;
use super::roles::Roles;
use super::when::{Fits, When};
use super::{Caller, Check, Inquiry, Layer};
use crate::budget::Budget;
use crate::clock;
use crate::denial::{Denial, Reason};
use crate::facts::{Facts, Touched};
use crate::policy::in_force::InForce;
use crate::policy::layers::WaivedMode;
use crate::policy::route::{Access, Target};
use crate::policy::upstream::Authorization;
use crate::record::via::Via;
use crate::record::{Record, Verdict};
use crate::request::Inbound;
use crate::request::body::Body;
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::tokens::Tokens;

/// How many seconds before the token behind a cookie expires its stream is judged again: within the time in which it is renewed.
const RENEWAL: i64 = 30;

/// The layers of one configuration.
#[derive(Debug)]
pub struct Chain {
    identity: Identity,
    identifiers: Identifiers,
    rest: Rest,
    performance: Performance,
    roles: Roles,
    when: When,
    ownership: Ownership,
    lineage: Lineage,
}

impl Chain {
    /// Builds the chain.
    pub fn new(
        tokens: Arc<Tokens>,
        roles: RoleTable,
        revocations: Arc<Revocations>,
        sessions: Arc<Sessions>,
        facts: Arc<Facts>,
    ) -> Self {
        Self {
            identity: Identity::new(tokens, Arc::new(roles), revocations, sessions),
            identifiers: Identifiers,
            rest: Rest,
            performance: Performance::new(facts),
            roles: Roles,
            when: When,
            ownership: Ownership,
            lineage: Lineage,
        }
    }

    /// The facts that requests are judged by.
    pub fn facts(&self) -> &Arc<Facts> {
        self.performance.facts()
    }

    /// Judges a request. The only way to a [`Permit`].
    ///
    /// # Errors
    ///
    /// The first layer's refusal.
    pub async fn authorize(
        &self,
        mut request: Inbound,
        record: &mut Record,
    ) -> Result<Permit, Denial> {
        record.start_lap();
        // Who is calling, before anything that would tell a stranger what our paths look like.
        let caller = inquire(&self.identity, &request, (), record).await?;
        record.caller = caller.verified().cloned();
        record.by_cookie = caller.cookie_session().is_some();
        // Nobody makes us hold a body before that is known; the layers below judge what it says.
        let names_things = !request.rule().body_ids.is_empty() && request.has_unread_body();
        if rest::judges_body(&request) || names_things {
            Box::pin(request.judge_body()).await?;
            record.start_lap();
        }
        // Identifiers that cannot exist are refused before anybody looks them up.
        let identified = enforce(&self.identifiers, &request, caller, record)?;
        // What a table's rules grant nobody is granted no role either.
        let identified = enforce(&self.rest, &request, identified, record)?;
        let (informed, proofs) = self.judge_things(&request, identified, record).await?;
        record.via = proofs.ownership.via();
        let touched = match request.method().is_safe() {
            true => Touched::nothing(),
            false => self.touched(&informed),
        };
        Permit::new(request, touched, informed, proofs)
    }

    /// The layers that judge by facts, of a request as of a stream that stands.
    async fn judge_things(
        &self,
        request: &Inbound,
        identified: Identified,
        record: &mut Record,
    ) -> Result<(Informed, Proofs), Denial> {
        // All lookups at once, before anybody judges by them.
        let budget = Budget::begin(record.lap(), request.in_force().config().budget);
        let given = (identified, budget);
        let informed = inquire(&self.performance, request, given, record).await?;
        let proofs = Proofs {
            // What the caller is, before whose the thing is.
            _roles: step(&self.roles, request, &informed, record)?,
            // What the route's author adds: it sees the caller and the request, and no facts.
            _fits: enforce(&self.when, request, &informed, record)?,
            // Whose it is, before where it came from: a stranger learns nothing of a thing's parents.
            ownership: step(&self.ownership, request, &informed, record)?,
            _lineage: step(&self.lineage, request, &informed, record)?,
        };
        Ok((informed, proofs))
    }

    fn touched(&self, informed: &Informed) -> Touched {
        let facts = self.facts();
        let subject = informed.caller().verified().map(|one| one.subject());
        Touched::new(facts, facts.touched(informed.known(), subject))
    }

    /// Re-authorizes an open stream by this chain, which was built from `in_force`.
    ///
    /// # Errors
    ///
    /// What the same request would be refused for now.
    pub async fn judge_again(
        &self,
        standing: &Standing,
        in_force: Arc<InForce>,
    ) -> Result<Standing, Denial> {
        // The steps of the stream's record stay those it was let in by.
        let mut record = standing.request().record_again(in_force.clone());
        let request = standing.request().reroute(in_force, &mut record)?;
        let caller = self.identity.confirm(&request, standing.caller()).await?;
        self.let_stand(request, caller, record).await
    }

    /// Judges an open stream again because somebody speaks on it: whoever this token proves, or nobody. The stream stays what it is: one session's.
    ///
    /// # Errors
    ///
    /// What the request would be refused for if it had come with this token; 401 `session_differs` if it is another session's.
    pub async fn judge_speaker(
        &self,
        standing: &Standing,
        in_force: Arc<InForce>,
        token: Option<&str>,
    ) -> Result<Standing, Denial> {
        let mut record = standing.request().record_again(in_force.clone());
        let request = standing.request().reroute(in_force, &mut record)?;
        let caller = self.identity.speaker(&request, standing.caller(), token);
        let caller = caller.await?;
        self.let_stand(request, caller, record).await
    }

    /// The layers behind identity, for a stream that is open already. Its body and what it asked of tables were judged when it began.
    async fn let_stand(
        &self,
        request: Inbound,
        caller: Caller,
        mut record: Record,
    ) -> Result<Standing, Denial> {
        // What it took to prove the caller again is not the budget's.
        record.start_lap();
        let identified = enforce(&self.identifiers, &request, caller, &mut record)?;
        let things = self.judge_things(&request, identified, &mut record);
        let (informed, proofs) = things.await?;
        // What it wrote, it wrote when it began.
        let permit = Permit::new(request, Touched::nothing(), informed, proofs)?;
        Ok(Standing(permit.0))
    }
}

/// What became of a layer that may be waived.
enum Outcome<L: Layer> {
    /// It passed.
    Proven(L::Proof),
    /// The route waives it.
    Waived,
}

impl Outcome<Ownership> {
    fn via(&self) -> Option<Via> {
        match self {
            Self::Proven(owned) => owned.via(),
            Self::Waived => None,
        }
    }
}

/// What the layers behind the facts proved. Only [`Chain::judge_things`] makes one.
struct Proofs {
    _roles: Outcome<Roles>,
    _fits: Fits,
    ownership: Outcome<Ownership>,
    _lineage: Outcome<Lineage>,
}

/// Runs a layer that may have to wait.
async fn inquire<L: Inquiry>(
    layer: &L,
    request: &Inbound,
    given: L::Given,
    record: &mut Record,
) -> Result<L::Proof, Denial> {
    const { assert!(!L::NAME.can_be_waived()) };
    let outcome = layer.inquire(request, given).await;
    noted(layer, request, outcome, record, Verdict::Denied)
}

/// Runs a layer that is always enforced.
fn enforce<L: Check>(
    layer: &L,
    request: &Inbound,
    given: L::Given<'_>,
    record: &mut Record,
) -> Result<L::Proof, Denial> {
    const { assert!(!L::NAME.can_be_waived()) };
    let outcome = layer.check(request, given);
    noted(layer, request, outcome, record, Verdict::Denied)
}

/// Runs a layer that a route may waive.
fn step<L: Check>(
    layer: &L,
    request: &Inbound,
    given: L::Given<'_>,
    record: &mut Record,
) -> Result<Outcome<L>, Denial> {
    const { assert!(L::NAME.can_be_waived()) };
    match request.waived(L::NAME) {
        None => {
            let outcome = layer.check(request, given);
            noted(layer, request, outcome, record, Verdict::Denied).map(Outcome::Proven)
        }
        Some(WaivedMode::Shadow) => {
            let outcome = layer.check(request, given);
            // What it says is in the record; what it proves is not used, so that a shadow cannot widen anything either.
            let _ = noted(layer, request, outcome, record, Verdict::Waived);
            Ok(Outcome::Waived)
        }
        Some(WaivedMode::Off) => {
            record.step(L::NAME, Verdict::Off);
            Ok(Outcome::Waived)
        }
    }
}

/// What a layer said, once it is written down with the time it took.
fn noted<L: Layer>(
    layer: &L,
    request: &Inbound,
    outcome: Result<L::Proof, Denial>,
    record: &mut Record,
    refused: fn(Reason) -> Verdict,
) -> Result<L::Proof, Denial> {
    match &outcome {
        Ok(_) if !layer.concerns(request) => record.idle_step(L::NAME),
        Ok(_) => record.step(L::NAME, Verdict::Passed),
        Err(denial) => record.step(L::NAME, refused(denial.reason)),
    }
    outcome
}

/// Proof that every layer the route enforces said yes, with the request it was said to. Only [`Chain::authorize`] hands one out, and
/// forwarding or serving consumes it.
#[derive(Debug)]
pub struct Permit(Box<Judged>);

/// What a permit holds. In a box, because it moves through every step of forwarding.
#[derive(Debug)]
struct Judged {
    request: Inbound,
    caller: Caller,
    target: Target,
    authorization: Option<HeaderValue>,
    touched: Touched,
}

impl Permit {
    /// Takes what every layer gave, so that a chain that ends earlier does not compile.
    fn new(
        request: Inbound,
        touched: Touched,
        informed: Informed,
        _proofs: Proofs,
    ) -> Result<Self, Denial> {
        let caller = informed.into_caller();
        let rule = request.rule();
        let target = rule.target.ok_or(Reason::RouteDenied)?; // The router refuses this already; a net.
        let keeps_token = match target {
            Target::Upstream(index) => request
                .in_force()
                .upstream(index)
                .is_some_and(|upstream| upstream.authorization == Authorization::Keep),
            Target::Serve(what) => what.acts_for_caller(),
        };
        let authorization = match rule.pass_credentials {
            // The route map says so, and the start prints it.
            true => request.authorization().cloned(),
            false => caller.authorization().filter(|_| keeps_token).cloned(),
        };
        Ok(Self(Box::new(Judged {
            request,
            caller,
            target,
            authorization,
            touched,
        })))
    }

    /// The judged request.
    pub fn request(&self) -> &Inbound {
        &self.0.request
    }

    /// Who it is from.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// Where it may go.
    pub fn target(&self) -> Target {
        self.0.target
    }

    /// Uses it up.
    pub(crate) fn spend(self) -> Spent {
        Spent(self.0)
    }
}

/// A permit that was used up: what of the request goes on, until it has gone.
#[derive(Debug)]
pub(crate) struct Spent(Box<Judged>);

impl Spent {
    /// The judged request.
    pub(crate) fn request(&self) -> &Inbound {
        &self.0.request
    }

    /// Who it is from.
    pub(crate) fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// The fields that may pass.
    pub(crate) fn fields(&mut self) -> &mut HeaderMap {
        self.0.request.fields()
    }

    /// The `Authorization` field for the upstream.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.0.authorization.as_ref()
    }

    /// The body.
    pub(crate) fn take_body(&mut self) -> Option<Body> {
        self.0.request.take_body()
    }

    /// The facts that the request may change.
    pub(crate) fn take_touched(&mut self) -> Touched {
        std::mem::replace(&mut self.0.touched, Touched::nothing())
    }

    /// What may be judged again.
    pub(crate) fn stand(mut self) -> Standing {
        self.0.request.forget_message();
        self.0.authorization = None;
        Standing(self.0)
    }
}

/// Who asked what, of a request that was let in: enough to judge again whether its answer may go on, and nothing that could be forwarded.
#[derive(Debug)]
pub struct Standing(Box<Judged>);

impl Standing {
    /// The request, without its fields and body.
    pub fn request(&self) -> &Inbound {
        &self.0.request
    }

    /// Who it is from.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// Whether nobody has proven yet who they are, and must before they say anything.
    pub(crate) fn needs_token(&self) -> bool {
        self.request().rule().access == Access::User && self.caller().verified().is_none()
    }

    /// When to ask at the latest whether its proof still is accepted, in Unix seconds; never if nobody had to prove anything.
    pub fn accepted_until(&self) -> Option<i64> {
        let until = self.caller().verified()?.accepted_until();
        let Some(live) = self.caller().cookie_session() else {
            return Some(until);
        };
        // Half a minute before the token behind the cookie expires, so that it is renewed in time.
        let early = until - RENEWAL;
        let until = match clock::unix_now() < early {
            true => early,
            false => until,
        };
        let sessions = &self.request().in_force().config().sessions;
        Some(until.min(live.until(sessions)))
    }
}
