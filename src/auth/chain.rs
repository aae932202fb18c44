//! The table of the layers and the order in which they run. How one layer is run is in `step`, what
//! a permit holds in `permit`.

use std::sync::Arc;

use super::caller::Caller;
use super::identifiers::{Identifiers, ValidIdentifiers};
use super::identity::{Identity, Renewal};
use super::layer::{Layer as _, NamedLayer};
use super::lineage::Lineage;
use super::ownership::{Ownership, ResourceAccess};
use super::performance::{GatheredFacts, Performance};
use super::permit::{Permit, StreamAuthorization};
use super::rest::{self, Rest};
use super::role_table::RoleTable;
use super::roles::Roles;
use super::step::{Passed, enforce, enforce_async, step};
use super::when::When;
use crate::budget::Budget;
use crate::denial::Denial;
use crate::facts::{Facts, Invalidation};
use crate::policy::in_force::InForce;
use crate::policy::layers::LayerName;
use crate::record::Record;
use crate::request::Inbound;
use crate::request::memory::BodyMemory;
use crate::revocation::Revocations;
use crate::sessions::{Recheck, Sessions};
use crate::tokens::{RefusedTokens, Tokens};

/// Derives each layer's name from its row, the list of all layers, and the proof that all of them
/// ran.
macro_rules! layers {
    ($($(#[doc = $doc:literal])* $name:ident: $layer:ident, $waivable:ident;)*) => {
        /// Positions in the table.
        enum Position {
            $($layer,)*
        }

        /// Every layer, in the order in which they run.
        pub const LAYERS: &[LayerName] = &[$(<$layer as NamedLayer>::NAME,)*];

        $(impl NamedLayer for $layer {
            const NAME: LayerName =
                LayerName::new(Position::$layer as u8, stringify!($name), layers!(@$waivable));
        })*

        /// Proof that every layer ran. A permit requires it, so a layer that is in the table and
        /// never runs does not compile.
        #[expect(dead_code, reason = "only the existence of each field matters")]
        pub(super) struct Proofs {
            $($(#[doc = $doc])* $name: Passed<$layer>,)*
        }
    };
    (@waivable) => { true };
    (@enforced) => { false };
}

// The table of layers, in the order in which they run. An operator may waive a waivable layer for a
// limited time.
layers! {
    /// Authenticates the caller.
    identity: Identity, enforced;
    /// Checks the type of identifiers.
    identifiers: Identifiers, enforced;
    /// Checks the grants on tables behind PostgREST.
    rest: Rest, enforced;
    /// Looks up the facts that the later layers need.
    performance: Performance, enforced;
    /// Checks that the caller's roles allow the action.
    roles: Roles, waivable;
    /// Evaluates the route's own condition.
    when: When, enforced;
    /// Checks that the caller may act on the resources that the request names.
    ownership: Ownership, waivable;
    /// Checks the chain of parents of those resources.
    lineage: Lineage, waivable;
}

/// The layers of one configuration. Layers without state are unit values and have no field here.
#[derive(Debug)]
pub struct Chain {
    identity: Identity,
    performance: Performance,
    body_memory: Arc<BodyMemory>,
}

/// Proof that the layers that depend on facts ran.
struct ByFacts {
    performance: Passed<Performance>,
    roles: Passed<Roles>,
    when: Passed<When>,
    ownership: Passed<Ownership>,
    lineage: Passed<Lineage>,
}

impl Chain {
    /// Builds the chain of one configuration from that configuration's tokens, roles and facts.
    pub fn new(
        tokens: Arc<Tokens>,
        refused: Arc<RefusedTokens>,
        roles: RoleTable,
        revocations: Arc<Revocations>,
        sessions: Arc<Sessions>,
        facts: Arc<Facts>,
        body_memory: Arc<BodyMemory>,
    ) -> Self {
        Self {
            identity: Identity::new(tokens, refused, roles, revocations, sessions),
            performance: Performance::new(facts),
            body_memory,
        }
    }

    /// The facts that requests are authorized by.
    pub fn facts(&self) -> &Arc<Facts> {
        self.performance.facts()
    }

    /// Authorizes a request. There is no other way to get a [`Permit`].
    ///
    /// # Errors
    ///
    /// The first layer's refusal.
    pub async fn authorize(
        &self,
        mut request: Inbound,
        record: &mut Record,
    ) -> Result<Permit, Denial> {
        record.start_steps(LAYERS.len());
        // Identity comes first, so that an unauthenticated client learns nothing about our paths.
        let (caller, identity) = enforce_async(&self.identity, &request, (), record).await?;
        record.caller = caller.verified().cloned();
        record.by_cookie = caller.cookie_session().is_some();
        // No client makes us buffer a body before it is authenticated; the layers below inspect it.
        let names_ids = !request.rule().body_ids.is_empty() && request.has_unread_body();
        if rest::inspects_body(&request) || names_ids {
            let verified = caller.verified().map(|verified| &**verified);
            Box::pin(request.inspect_body(&self.body_memory, verified)).await?;
            // The client may have taken its time.
            self.identity.confirm_after_wait(&request, &caller).await?;
            record.start_lap();
        }
        // Malformed identifiers are refused before they are looked up.
        let (valid, identifiers) = enforce(&Identifiers, &request, caller, record)?;
        // The grants on tables bind every role, so they are checked before the roles.
        let (valid, rest) = enforce(&Rest, &request, valid, record)?;
        let (gathered, by_facts) = self.by_facts(&request, valid, record).await?;
        let touched = match request.method().is_safe() {
            true => Invalidation::nothing(),
            false => self.touched(&gathered),
        };
        let proofs = by_facts.with(identity, identifiers, rest);
        Permit::new(request, gathered.into_parts(), touched, proofs)
    }

    /// Runs the layers that depend on facts, for a request and for an open stream alike.
    async fn by_facts(
        &self,
        request: &Inbound,
        valid: ValidIdentifiers,
        record: &mut Record,
    ) -> Result<(GatheredFacts, ByFacts), Denial> {
        // All lookups at once, before any layer uses the facts.
        let budget = Budget::begin(record.lap(), request.in_force().config().budget);
        let input = (valid, budget);
        let (gathered, performance) =
            enforce_async(&self.performance, request, input, record).await?;
        // The roles of the caller, before the owner of the resource.
        let (_, roles) = step(&Roles, request, &gathered, record)?;
        // The route's own condition. It sees the caller and the request, and no facts.
        let (_, when) = enforce(&When, request, &gathered, record)?;
        // Ownership before lineage: a caller without access learns nothing of a resource's parents.
        let (access, ownership) = step(&Ownership, request, &gathered, record)?;
        let (_, lineage) = step(&Lineage, request, &gathered, record)?;
        record.relation = access.and_then(ResourceAccess::relation);
        let by_facts = ByFacts {
            performance,
            roles,
            when,
            ownership,
            lineage,
        };
        Ok((gathered, by_facts))
    }

    /// The facts that this request may change.
    fn touched(&self, gathered: &GatheredFacts) -> Invalidation {
        let facts = self.facts();
        let caller = gathered.caller().verified();
        let caller = caller.map(|one| (one.issuer(), one.subject()));
        let subject = caller.map(|(_, subject)| subject);
        Invalidation::new(facts, facts.touched(gathered.known(), subject), caller)
    }

    /// The part of [`Self::reauthorize`] that needs no lookup: the route, the credential's time and
    /// key, and the list of revocations.
    ///
    /// # Errors
    ///
    /// The reason why the same request would be refused now.
    pub fn recheck(
        &self,
        stream: &StreamAuthorization,
        in_force: &Arc<InForce>,
    ) -> Result<Recheck, Denial> {
        let request = stream.request();
        if request.in_force().generation() == in_force.generation() {
            return self.identity.recheck(request, stream.caller());
        }
        let mut record = request.record_again(in_force.clone());
        let request = request.reroute(in_force.clone(), &mut record)?;
        self.identity.recheck(&request, stream.caller())
    }

    /// Whether [`Self::reauthorize`] may have to look up facts for a stream.
    pub fn needs_facts(&self, stream: &StreamAuthorization) -> bool {
        self.performance.concerns(stream.request())
    }

    /// Whether no fact was invalidated since the stream was authorized by some.
    pub fn has_current_facts(&self, stream: &StreamAuthorization) -> bool {
        let version = stream.facts();
        version.is_none_or(|version| version == self.facts().version())
    }

    /// Re-authorizes an open stream, or a request that has lasted, under this chain's configuration,
    /// which is `in_force`.
    ///
    /// # Errors
    ///
    /// The reason why the same request would be refused now.
    pub async fn reauthorize(
        &self,
        stream: &StreamAuthorization,
        in_force: Arc<InForce>,
        renewal: Renewal,
    ) -> Result<StreamAuthorization, Denial> {
        // A record of its own, so that the stream's record keeps the steps by which it was
        // permitted.
        let mut record = stream.request().record_again(in_force.clone());
        let request = stream.request().reroute(in_force, &mut record)?;
        let caller = self.identity.confirm(&request, stream.caller(), renewal);
        let caller = caller.await?;
        self.reauthorize_caller(stream, request, caller, record)
            .await
    }

    /// Re-authorizes an open stream for the token in one of its messages, or for no token. The
    /// stream belongs to one session from its first token on.
    ///
    /// # Errors
    ///
    /// The reason why the request would be refused if it had come with this token; 401
    /// `session_differs` if the token belongs to another session.
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

    /// Runs the layers behind identity for an open stream.
    async fn reauthorize_caller(
        &self,
        stream: &StreamAuthorization,
        request: Inbound,
        caller: Caller,
        mut record: Record,
    ) -> Result<StreamAuthorization, Denial> {
        let identity = Passed::again(&caller);
        // The time spent on verifying the caller again does not count against the budget.
        record.start_steps(LAYERS.len());
        let (valid, identifiers) = enforce(&Identifiers, &request, caller, &mut record)?;
        // Its body and its query to tables were authorized when the stream began.
        let rest = Passed::earlier(stream);
        let by_facts = self.by_facts(&request, valid, &mut record);
        let (gathered, by_facts) = by_facts.await?;
        let proofs = by_facts.with(identity, identifiers, rest);
        // Whatever it wrote was written when the stream began.
        let touched = Invalidation::nothing();
        let permit = Permit::new(request, gathered.into_parts(), touched, proofs)?;
        Ok(permit.spend().into_stream())
    }
}

impl ByFacts {
    /// Combines them with the proofs of the layers before them, which completes the set.
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
