//! Authorizes the request of a case as a running gateway would: `gateway::accept` and the chain are
//! the same code.
//!
//! There is no network and no back door. The caller's token is signed with a key made for this run,
//! which replaces the issuers' keys in this process, and is then verified like any other. An
//! allowed request is not forwarded.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Version};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::case::{BEFORE_LAYERS, Caller, Case};
use super::outcome::{Decision, Outcome};
use crate::auth::Permit;
use crate::auth::snapshot::Snapshot;
use crate::cli::offline;
use crate::clock;
use crate::config::Loaded;
use crate::denial::Denial;
use crate::facts::learned::Binding;
use crate::gateway;
use crate::policy::Config;
use crate::policy::resources::{RowSource, StaticFacts};
use crate::policy::route::{Serve, Target};
use crate::policy::tokens::KeySource;
use crate::record::{Record, Verdict};
use crate::request::Connection;
use crate::request::body::Body;
use crate::revocation::Follower;
use crate::secrets::hex;
use crate::secrets::secret::Secret;
use crate::tokens::mint::{Claims, Signer};

/// How many learned owners a run may have; arbitrary, and more than anybody writes by hand.
const BINDINGS: usize = 100_000;

/// A gateway without sockets.
pub(super) struct OfflineGateway {
    snapshot: Arc<Snapshot>,
    signer: Signer,
    /// Keeps the list of revocations, which is empty.
    follower: Follower,
    runtime: tokio::runtime::Runtime,
}

impl OfflineGateway {
    /// A gateway with this route map, which knows only these facts.
    pub(super) fn new(mut loaded: Loaded, facts: StaticFacts) -> anyhow::Result<Self> {
        let mut secret = [0; 48];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| anyhow!("no random bytes"))?;
        let secret = hex::encode(&secret);
        let signer = Signer::secret(secret.as_bytes(), Algorithm::HS256)
            .map_err(|problem| anyhow!(problem))?;
        for issuer in &mut loaded.config.tokens {
            issuer.keys = KeySource::Secret(Secret::new(secret.as_str()));
            issuer.algorithms = vec![Algorithm::HS256];
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let bound = replace_database(&mut loaded.config, facts)?;
        let entered = runtime.enter();
        let (snapshot, follower) = offline::snapshot(loaded, BINDINGS)?;
        drop(entered);
        runtime.block_on(bind(&snapshot, &bound))?;
        Ok(Self {
            snapshot: Arc::new(snapshot),
            signer,
            follower,
            runtime,
        })
    }

    pub(super) fn authorize(&mut self, case: &Case) -> anyhow::Result<Outcome> {
        let head = self
            .head(case)
            .with_context(|| format!("the case at line {}", case.line))?;
        let connection = Connection::new(
            SocketAddr::new(case.request.address, 50_000),
            true,
            Rc::default(),
        );
        let mut record = Record::begin(
            self.snapshot.in_force().clone(),
            head.method.clone(),
            head.version,
        );
        let result = self.runtime.block_on(async {
            // The list of revocations is empty, but must be fresh: otherwise every caller would
            // meet an outage.
            self.follower.catch_up().await;
            let body = case.request.body.clone().map(Body::Whole);
            let read = gateway::accept(
                head,
                body,
                &connection,
                self.snapshot.in_force(),
                &mut record,
            )?;
            match read {
                None => Ok(None),
                Some(request) => {
                    let chain = self.snapshot.chain();
                    chain.authorize(request, &mut record).await.map(Some)
                }
            }
        });
        Ok(self.outcome(result, &record))
    }

    /// The head of a case's request, with a signed token of its caller.
    fn head(&self, case: &Case) -> anyhow::Result<Parts> {
        let config = self.snapshot.config();
        let host = match (&case.request.host, config.hosts.first()) {
            (Some(host), _) | (None, Some(host)) => host.as_str(),
            (None, None) => "gateway.test",
        };
        let mut request = Request::builder()
            .method(&case.request.method)
            .version(Version::HTTP_11)
            .uri(&case.request.path)
            .body(())?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(host)?);
        if let Some(caller) = &case.caller {
            let token = self.token(caller, config)?;
            let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            headers.insert(AUTHORIZATION, value);
        }
        for (name, value) in &case.request.headers {
            headers.append(name, value.clone());
        }
        let (head, ()) = request.into_parts();
        Ok(head)
    }

    fn token(&self, caller: &Caller, config: &Config) -> anyhow::Result<String> {
        let entry = match &caller.issuer {
            None => config.tokens.first(),
            Some(issuer) => config.tokens.iter().find(|entry| entry.issuer == *issuer),
        };
        let issuer = match (entry, &caller.issuer) {
            (Some(entry), _) => entry.issuer.as_str(),
            // An unknown issuer: the token must be refused, and that may be what the case is about.
            (None, Some(issuer)) => issuer.as_str(),
            (None, None) => return Err(anyhow!("a caller needs an entry of `tokens`")),
        };
        let mut claims = Claims::new(issuer, &caller.subject, clock::unix_now()).aal(caller.aal);
        if let Some(audience) = entry.and_then(|entry| entry.audience.first()) {
            claims = claims.audience(audience);
        }
        if caller.anonymous {
            claims = claims.anonymous();
        }
        if let Some(session) = &caller.session {
            claims = claims.session(session);
        }
        let mut all = claims.as_object().clone();
        for (name, values) in entry.map_or(&[][..], |entry| &entry.require) {
            let path: Vec<&str> = name.split('.').collect();
            if let Some(value) = values.first() {
                put(&mut all, &path, value.as_str().into());
            }
        }
        if !caller.roles.is_empty() {
            let path: Vec<&str> = config.roles.from.iter().map(String::as_str).collect();
            put(&mut all, &path, caller.roles.clone().into());
        }
        for (name, value) in all {
            claims = claims.with(&name, value);
        }
        for (name, value) in &caller.claims {
            claims = match value.is_null() {
                true => claims.without(name),
                false => claims.with(name, value.clone()),
            };
        }
        self.signer
            .sign(&claims)
            .map_err(|problem| anyhow!(problem))
    }

    fn outcome(&self, result: Result<Option<Permit>, Denial>, record: &Record) -> Outcome {
        let decision = match result {
            Ok(None) => Decision::Preflight,
            Ok(Some(permit)) => match permit.target() {
                Target::Upstream(index) => Decision::Upstream(
                    self.snapshot
                        .in_force()
                        .upstream(index)
                        .map_or_else(String::new, |upstream| upstream.name.clone()),
                ),
                Target::Serve(Serve::Health) => Decision::Served("health"),
                Target::Serve(Serve::Panic) => Decision::Served("panic"),
                Target::Serve(Serve::IdentityServer) => Decision::Served("identity_server"),
                Target::Serve(Serve::SignIn(_)) => Decision::Served("sign_in"),
            },
            Err(denial) => Decision::Denied {
                reason: denial.reason,
                layer: match record.steps.last() {
                    Some(step) if step.verdict == Verdict::Denied(denial.reason) => {
                        step.layer.as_str()
                    }
                    Some(_) | None => BEFORE_LAYERS,
                },
                detail: denial.detail.map(|detail| detail.into_owned()),
            },
        };
        Outcome {
            decision,
            route: record.route.map(|_| record.route_name().to_owned()),
            steps: record
                .steps
                .iter()
                .map(|step| match step.verdict {
                    Verdict::Passed => format!("{} passed", step.layer.as_str()),
                    Verdict::Denied(reason) => {
                        format!("{} refused: {}", step.layer.as_str(), reason.code())
                    }
                    Verdict::Waived(reason) => {
                        format!("{} waived: {}", step.layer.as_str(), reason.code())
                    }
                    Verdict::Off => format!("{} off", step.layer.as_str()),
                    Verdict::Idle => format!("{} had nothing to check", step.layer.as_str()),
                })
                .collect(),
        }
    }
}

/// Sets the value at a path, and creates missing objects on the way.
fn put(object: &mut Map<String, Value>, path: &[&str], value: Value) {
    match path {
        [] => {}
        [name] => {
            object.insert((*name).to_owned(), value);
        }
        [name, rest @ ..] => {
            let inner = object
                .entry(*name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Replaces the database by the facts of a file. Returns the owners that answers would have taught.
fn replace_database(
    config: &mut Config,
    facts: StaticFacts,
) -> anyhow::Result<Vec<(usize, String, String)>> {
    let mut facts = facts.with_subjects(config.facts.subject);
    for (kind, id) in facts.rows.keys() {
        if !config.resources.iter().any(|known| known.name == *kind) {
            return Err(anyhow!(
                "`facts.resources.{kind}` has `{id}`, but the route map has no resource type `{kind}`"
            ));
        }
    }
    let mut bound = Vec::new();
    for (index, kind) in config.resources.iter_mut().enumerate() {
        match kind.rows {
            RowSource::Query(_) | RowSource::Static => kind.rows = RowSource::Static,
            RowSource::Learned => bound.extend(
                facts
                    .rows
                    .extract_if(|(of, _), _| *of == kind.name)
                    .filter_map(|((_, id), row)| Some((index, id, row.owner?))),
            ),
        }
    }
    config.facts.caller = None;
    config.facts.memberships = None;
    config.static_facts = Arc::new(facts);
    Ok(bound)
}

/// Stores the owners that answers would have taught.
async fn bind(snapshot: &Snapshot, bound: &[(usize, String, String)]) -> anyhow::Result<()> {
    let issuer = snapshot.config().tokens.first();
    for (kind, id, subject) in bound {
        let owner = Binding {
            issuer: issuer.map(|entry| entry.issuer.clone()).unwrap_or_default(),
            subject: subject.clone(),
        };
        let facts = snapshot.chain().facts();
        facts
            .bind(*kind, id, &owner, Duration::from_secs(3600))
            .await
            .map_err(|why| anyhow!("cannot store the owner of `{id}`: {why:?}"))?;
    }
    Ok(())
}
