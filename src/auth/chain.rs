//! The order of the layers, and the permit at the end of it.
//!
//! Decides: who judges when, and what a waiver means. Trusts: each layer's own verdict. Not here: any rule of a layer.
//!
//! [`step`] and [`enforce`] are the only places that time, shadow and record a layer.

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::HeaderValue;

use super::identifiers::{Identified, Identifiers};
use super::identity::Identity;
use super::roles::{RoleTable, Roles};
use super::when::{Fits, When};
use super::{Caller, Layer};
use crate::config::checked::{Authorization, Target, WaivedMode};
use crate::config::snapshot::Snapshot;
use crate::denial::{Denial, Reason};
use crate::record::{Record, Verdict};
use crate::request::Inbound;
use crate::sessions::Revocations;
use crate::tokens::Tokens;

/// The layers of one configuration.
#[derive(Debug)]
pub struct Chain {
    identity: Identity,
    identifiers: Identifiers,
    roles: Roles,
    when: When,
}

impl Chain {
    /// Builds the chain.
    pub fn new(tokens: Arc<Tokens>, roles: RoleTable, revocations: Arc<Revocations>) -> Self {
        let table = Arc::new(roles);
        Self {
            identity: Identity::new(tokens, table.clone(), revocations),
            identifiers: Identifiers,
            roles: Roles::new(table),
            when: When,
        }
    }

    /// Judges a request. The only way to a [`Permit`].
    ///
    /// # Errors
    ///
    /// The first layer's refusal.
    pub async fn authorize(&self, request: Inbound, record: &mut Record) -> Result<Permit, Denial> {
        record.start_lap();
        // Who is calling, before anything that would tell a stranger what our paths look like.
        let caller = enforce(&self.identity, &request, (), record).await?;
        record.caller = caller.verified().cloned();
        // Identifiers that cannot exist are refused before anybody looks them up.
        let identified = enforce(&self.identifiers, &request, caller, record).await?;
        // What the caller is, before whose the thing is: it needs no lookup.
        let roles = step(&self.roles, &request, identified, record).await?;
        // What the route's author adds, before anything must be looked up.
        let fits = enforce(&self.when, &request, roles, record).await?;
        Permit::new(request, fits)
    }

    /// Judges again what stands since an earlier judgement, by this chain, whose configuration is `snapshot`'s.
    ///
    /// # Errors
    ///
    /// What the same request would be refused for now.
    pub async fn judge_again(
        &self,
        standing: &Standing,
        snapshot: Arc<Snapshot>,
    ) -> Result<Standing, Denial> {
        // The steps of the stream's record stay those it was let in by.
        let mut record = standing.request.record_again(snapshot.clone());
        let request = standing.request.reroute(snapshot, &mut record)?;
        let caller = self.identity.confirm(&request, &standing.caller)?;
        let identified = enforce(&self.identifiers, &request, caller, &mut record).await?;
        let roles = step(&self.roles, &request, identified, &mut record).await?;
        let fits = enforce(&self.when, &request, roles, &mut record).await?;
        let permit = Permit::new(request, fits)?;
        Ok(Standing {
            request: permit.request,
            caller: permit.caller,
        })
    }

    /// Tells every layer how a request ended.
    pub fn settle(&self, record: &Record) {
        self.identity.settle(record);
        self.identifiers.settle(record);
        self.roles.settle(record);
        self.when.settle(record);
    }
}

/// What became of a layer that may be waived. Only this module makes one.
#[derive(Debug)]
pub struct Outcome<L: Layer>(Became<L::Proof, L::Given>);

#[derive(Clone, Debug)]
enum Became<P, G> {
    /// It passed.
    Proven(P),
    /// The route waives it; what was proven before is handed on.
    Waived(G),
}

impl<L: Layer> Clone for Outcome<L>
where
    L::Proof: Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Outcome<Roles> {
    /// What was proven before, whether the layer judged or not.
    pub(super) fn into_identified(self) -> Identified {
        match self.0 {
            Became::Proven(granted) => granted.into_identified(),
            Became::Waived(identified) => identified,
        }
    }
}

/// Runs a layer that is always enforced.
async fn enforce<L: Layer>(
    layer: &L,
    request: &Inbound,
    given: L::Given,
    record: &mut Record,
) -> Result<L::Proof, Denial> {
    const { assert!(!L::NAME.can_be_waived()) };
    judge(layer, request, given, record, Verdict::Denied).await
}

/// Runs a layer that a route may waive.
async fn step<L: Layer>(
    layer: &L,
    request: &Inbound,
    given: L::Given,
    record: &mut Record,
) -> Result<Outcome<L>, Denial> {
    const { assert!(L::NAME.can_be_waived()) };
    match request.waived(L::NAME) {
        None => judge(layer, request, given, record, Verdict::Denied)
            .await
            .map(|proof| Outcome(Became::Proven(proof))),
        Some(WaivedMode::Shadow) => {
            // What it says is in the record; what it proves is not used, so that a shadow cannot widen anything either.
            let _ = judge(layer, request, given.clone(), record, Verdict::Waived).await;
            Ok(Outcome(Became::Waived(given)))
        }
        Some(WaivedMode::Off) => {
            record.step(L::NAME, Verdict::Off);
            Ok(Outcome(Became::Waived(given)))
        }
    }
}

/// Asks a layer, with the time it takes.
async fn judge<L: Layer>(
    layer: &L,
    request: &Inbound,
    given: L::Given,
    record: &mut Record,
    refused: fn(Reason) -> Verdict,
) -> Result<L::Proof, Denial> {
    let outcome = layer.check(request, given).await;
    let verdict = outcome
        .as_ref()
        .map_or_else(|denial| refused(denial.reason), |_| Verdict::Passed);
    record.step(L::NAME, verdict);
    outcome
}

/// Proof that every layer the route enforces said yes, with the request it was said to. Only [`Chain::authorize`] makes one, and
/// forwarding or serving consumes it.
#[derive(Debug)]
pub struct Permit {
    request: Inbound,
    caller: Caller,
    target: Target,
    authorization: Option<HeaderValue>,
}

impl Permit {
    /// Takes what the last layer gave, so that a chain that ends earlier does not compile.
    fn new(request: Inbound, fits: Fits) -> Result<Self, Denial> {
        let caller = fits.into_identified().into_caller();
        let rule = request.rule();
        let target = rule.target.ok_or(Reason::RouteDenied)?; // The router refuses this already; a net.
        let keeps_token = match target {
            Target::Upstream(index) => request
                .snapshot()
                .upstream(index)
                .is_some_and(|upstream| upstream.authorization == Authorization::Keep),
            Target::Serve(_) => false,
        };
        let authorization = match rule.pass_credentials {
            // The route map says so, and the start prints it.
            true => request.authorization().cloned(),
            false => caller.authorization().filter(|_| keeps_token).cloned(),
        };
        Ok(Self {
            request,
            caller,
            target,
            authorization,
        })
    }

    /// The judged request.
    pub fn request(&self) -> &Inbound {
        &self.request
    }

    /// Who it is from.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Where it may go.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Takes the permit apart to use it up.
    pub(crate) fn spend(mut self) -> Spent {
        let (fields, body) = self.request.take_message();
        Spent {
            standing: Standing {
                request: self.request,
                caller: self.caller,
            },
            fields,
            body,
            authorization: self.authorization,
        }
    }
}

/// A permit that was used up.
#[derive(Debug)]
pub(crate) struct Spent {
    /// What may be judged again.
    pub(crate) standing: Standing,
    /// The fields that may pass.
    pub(crate) fields: HeaderMap,
    /// The body.
    pub(crate) body: Option<Incoming>,
    /// The `Authorization` field for the upstream.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Who asked what, of a request that was let in: enough to judge again whether its answer may go on, and nothing that could be forwarded.
#[derive(Debug)]
pub struct Standing {
    request: Inbound,
    caller: Caller,
}

impl Standing {
    /// The request, without its fields and body.
    pub fn request(&self) -> &Inbound {
        &self.request
    }

    /// Who it is from.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Until when its proof is accepted, in Unix seconds; for ever if nobody had to prove anything.
    pub fn accepted_until(&self) -> Option<i64> {
        Some(self.caller.verified()?.accepted_until())
    }
}
