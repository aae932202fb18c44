//! The order of the layers.
//!
//! Decides: which layer is asked when. Trusts: each layer's own verdict. Not here: any rule of a layer, how one is asked (`step`), and what
//! a permit holds (`permit`).

use std::sync::Arc;

use super::caller::Caller;
use super::identifiers::{ValidIdentifiers, Identifiers};
use super::identity::Identity;
use super::layer::NamedLayer;
use super::lineage::Lineage;
use super::ownership::{ResourceAccess, Ownership};
use super::performance::{GatheredFacts, Performance};
use super::permit::{Permit, StreamAuthorization};
use super::rest::{self, Rest};
use super::role_table::RoleTable;
use super::roles::Roles;
use super::step::{Passed, enforce, enforce_async, step};
use super::when::When;
use crate::budget::Budget;
use crate::denial::Denial;
use crate::facts::{Facts, Touched};
use crate::policy::in_force::InForce;
use crate::policy::layers::LayerName;
use crate::record::Record;
use crate::request::Inbound;
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::tokens::Tokens;

/// Makes a layer's name of its place in the table, the list of all, and the proof that all were asked.
macro_rules! layers {
    ($($(#[doc = $doc:literal])* $name:ident: $layer:ident, $waivable:ident;)*) => {
        /// Places in the table.
        enum Place {
            $($layer,)*
        }

        /// Every layer, in the order in which they are asked.
        pub const LAYERS: &[LayerName] = &[$(<$layer as NamedLayer>::NAME,)*];

        $(impl NamedLayer for $layer {
            const NAME: LayerName =
                LayerName::new(Place::$layer as u8, stringify!($name), layers!(@$waivable));
        })*

        /// That every layer was asked. A permit takes one, so a layer that is in the table and not asked does not compile.
        #[expect(dead_code, reason = "what counts is that each was made")]
        pub(super) struct Proofs {
            $($(#[doc = $doc])* $name: Passed<$layer>,)*
        }
    };
    (@waivable) => { true };
    (@enforced) => { false };
}

// The table of layers, in the order in which they are asked. An operator may waive what is waivable, for a time.
layers! {
    /// Who is calling.
    identity: Identity, enforced;
    /// Whether identifiers have their type.
    identifiers: Identifiers, enforced;
    /// Whether tables behind PostgREST are granted.
    rest: Rest, enforced;
    /// The facts by which the layers behind it decide.
    performance: Performance, enforced;
    /// Whether the caller's roles allow the action.
    roles: Roles, waivable;
    /// Whether the route's own condition holds.
    when: When, enforced;
    /// Whether the caller may act on the resources that the request names.
    ownership: Ownership, waivable;
    /// Whether the resources they were made from are in order.
    lineage: Lineage, waivable;
}

/// The layers of one configuration. Those without state are values.
#[derive(Debug)]
pub struct Chain {
    identity: Identity,
    performance: Performance,
}

/// That the layers behind the facts were asked.
struct ByFacts {
    performance: Passed<Performance>,
    roles: Passed<Roles>,
    when: Passed<When>,
    ownership: Passed<Ownership>,
    lineage: Passed<Lineage>,
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
            performance: Performance::new(facts),
        }
    }

    /// The facts that requests are authorized by.
    pub fn facts(&self) -> &Arc<Facts> {
        self.performance.facts()
    }

    /// Authorizes a request. The only way to a [`Permit`].
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
        let (caller, identity) = enforce_async(&self.identity, &request, (), record).await?;
        record.caller = caller.verified().cloned();
        record.by_cookie = caller.cookie_session().is_some();
        // Nobody makes us hold a body before that is known; the layers below read what it says.
        let names_ids = !request.rule().body_ids.is_empty() && request.has_unread_body();
        if rest::inspects_body(&request) || names_ids {
            Box::pin(request.inspect_body()).await?;
            record.start_lap();
        }
        // Identifiers that cannot exist are refused before anybody looks them up.
        let (valid, identifiers) = enforce(&Identifiers, &request, caller, record)?;
        // What a table's rules grant nobody is granted no role either.
        let (valid, rest) = enforce(&Rest, &request, valid, record)?;
        let (gathered, by_facts) = self.by_facts(&request, valid, record).await?;
        let touched = match request.method().is_safe() {
            true => Touched::nothing(),
            false => self.touched(&gathered),
        };
        let proofs = by_facts.with(identity, identifiers, rest);
        Permit::new(request, gathered.into_caller(), touched, proofs)
    }

    /// The layers that decide by facts, for a request as for an open stream.
    async fn by_facts(
        &self,
        request: &Inbound,
        valid: ValidIdentifiers,
        record: &mut Record,
    ) -> Result<(GatheredFacts, ByFacts), Denial> {
        // All lookups at once, before anybody decides by them.
        let budget = Budget::begin(record.lap(), request.in_force().config().budget);
        let input = (valid, budget);
        let (gathered, performance) = enforce_async(&self.performance, request, input, record).await?;
        // What the caller is, before whose the resource is.
        let (_, roles) = step(&Roles, request, &gathered, record)?;
        // What the route's author adds: it sees the caller and the request, and no facts.
        let (_, when) = enforce(&When, request, &gathered, record)?;
        // Whose it is, before where it came from: a stranger learns nothing of a resource's parents.
        let (owned, ownership) = step(&Ownership, request, &gathered, record)?;
        record.via = owned.and_then(ResourceAccess::via);
        let (_, lineage) = step(&Lineage, request, &gathered, record)?;
        let by_facts = ByFacts {
            performance,
            roles,
            when,
            ownership,
            lineage,
        };
        Ok((gathered, by_facts))
    }

    fn touched(&self, gathered: &GatheredFacts) -> Touched {
        let facts = self.facts();
        let subject = gathered.caller().verified().map(|one| one.subject());
        Touched::new(facts, facts.touched(gathered.known(), subject))
    }

    /// Authorizes an open stream again by this chain, which was built from `in_force`.
    ///
    /// # Errors
    ///
    /// What the same request would be refused for now.
    pub async fn reauthorize(
        &self,
        stream: &StreamAuthorization,
        in_force: Arc<InForce>,
    ) -> Result<StreamAuthorization, Denial> {
        // The steps of the stream's record stay those it was let in by.
        let mut record = stream.request().record_again(in_force.clone());
        let request = stream.request().reroute(in_force, &mut record)?;
        let caller = self.identity.confirm(&request, stream.caller()).await?;
        self.reauthorize_caller(stream, request, caller, record)
            .await
    }

    /// Authorizes an open stream again for whoever this token proves, or for nobody, because they speak on it. The stream stays one session's.
    ///
    /// # Errors
    ///
    /// What the request would be refused for if it had come with this token; 401 `session_differs` if it is another session's.
    pub async fn reauthorize_speaker(
        &self,
        stream: &StreamAuthorization,
        in_force: Arc<InForce>,
        token: Option<&str>,
    ) -> Result<StreamAuthorization, Denial> {
        let mut record = stream.request().record_again(in_force.clone());
        let request = stream.request().reroute(in_force, &mut record)?;
        let caller = self.identity.speaker(&request, stream.caller(), token);
        let caller = caller.await?;
        self.reauthorize_caller(stream, request, caller, record)
            .await
    }

    /// The layers behind identity, for an open stream.
    async fn reauthorize_caller(
        &self,
        stream: &StreamAuthorization,
        request: Inbound,
        caller: Caller,
        mut record: Record,
    ) -> Result<StreamAuthorization, Denial> {
        let identity = Passed::again(&caller);
        // What it took to prove the caller again is not the budget's.
        record.start_lap();
        let (valid, identifiers) = enforce(&Identifiers, &request, caller, &mut record)?;
        // Its body, and what it asked of tables, were authorized when it began.
        let rest = Passed::earlier(stream);
        let by_facts = self.by_facts(&request, valid, &mut record);
        let (gathered, by_facts) = by_facts.await?;
        let proofs = by_facts.with(identity, identifiers, rest);
        // What it wrote, it wrote when it began.
        let touched = Touched::nothing();
        let permit = Permit::new(request, gathered.into_caller(), touched, proofs)?;
        Ok(permit.spend().into_stream())
    }
}

impl ByFacts {
    /// Together with the layers before them, these are all.
    fn with(
        self,
        identity: Passed<Identity>,
        identifiers: Passed<Identifiers>,
        rest: Passed<Rest>,
    ) -> Proofs {
        let Self {
            performance,
            roles,
            when,
            ownership,
            lineage,
        } = self;
        Proofs {
            identity,
            identifiers,
            rest,
            performance,
            roles,
            when,
            ownership,
            lineage,
        }
    }
}
