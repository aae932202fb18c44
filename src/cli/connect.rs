//! `check --connect`: asks every server that the configuration names whether it can be used, and if
//! not, says why and what to do.
//!
//! Decides:  nothing; each server's own client does.
//! Not here: upstreams, which the gateway does not need to be ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::breaker::Outage;
use crate::clock;
use crate::config::{Loaded, Problem, Problems};
use crate::database::{Database, Listener};
use crate::facts::notify::{self, CoverageError};
use crate::facts::schema;
use crate::facts::trigger_coverage::{Missing, TableCoverage, WatchedQuery};
use crate::fault::Fault;
use crate::gateway::metrics::Metrics;
use crate::http_client::HttpClients;
use crate::policy::Config;
use crate::policy::storage::StoreChoice;
use crate::server::queries;
use crate::sign_in::IdentityServer;
use crate::store::{self, Memory};
use crate::tokens::{FetchContext, KeySources, Tokens, VerifiedCache};

/// How long to wait for a server whose fault may end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for keys: longer than one fetch may take.
const KEY_PATIENCE: Duration = Duration::from_secs(6);

/// How often a client is asked whether it has come through.
const POLL: Duration = Duration::from_millis(10);

/// What was found.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

/// A configuration that was loaded, and the name of its file.
struct Check<'a> {
    name: &'a str,
    config: &'a Config,
    metrics: &'a Metrics,
}

/// The same configuration, if every server can be used and its queries fit the database; with a
/// warning for every change that would not be reported, and for rows that are hidden from queries.
pub(super) fn connected(mut loaded: Loaded) -> Result<Loaded, Problems> {
    match findings(&loaded) {
        Err(error) => {
            let message = format!("cannot check the connections: {error:#}");
            Err(Problem::of_file(&loaded.name, message, None).into())
        }
        Ok(Findings { problems, warnings }) => match Problems::all(problems) {
            Some(problems) => Err(problems),
            None => {
                loaded.warnings.extend(warnings);
                Ok(loaded)
            }
        },
    }
}

fn findings(loaded: &Loaded) -> anyhow::Result<Findings> {
    let metrics = Metrics::new()?;
    let check = Check {
        name: &loaded.name,
        config: &loaded.config,
        metrics: &metrics,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let findings = runtime.block_on(async {
        let (store, keys, identity, database) = tokio::join!(
            check.store(),
            check.keys(),
            check.identity(),
            check.database()
        );
        let mut all = database?;
        all.problems.extend(keys?);
        all.problems.extend(store?.into_iter().chain(identity?));
        anyhow::Ok(all)
    });
    runtime.shutdown_background();
    findings
}

impl Check<'_> {
    fn problem(&self, key: &str, message: String) -> Problem {
        Problem::at(self.name, 0, 0, key, message, None)
    }

    async fn store(&self) -> anyhow::Result<Option<Problem>> {
        let StoreChoice::Redis(redis) = &self.config.store else {
            return Ok(None);
        };
        let store = store::open(self.config, &self.metrics.store)?;
        let fault = settled(|| store.outage(), || store.fault()).await;
        Ok(fault.map(|fault| {
            let message = format!("{} cannot be used: {fault}", redis.shown());
            self.problem("store.redis", message)
        }))
    }

    /// Fetches the keys of every issuer once.
    async fn keys(&self) -> anyhow::Result<Vec<Problem>> {
        let sources = Arc::new(KeySources::new(self.metrics.keys().clone()));
        let cache = Arc::new(VerifiedCache::new(self.config.token_cache));
        let tokens =
            Tokens::new(&self.config.tokens, cache, &sources).map_err(anyhow::Error::msg)?;
        tokio::spawn(sources.refresh_forever(FetchContext {
            calls: HttpClients::new()?,
            store: Arc::new(Memory::new(1, clock::unix_now)),
            clock: clock::unix_now,
        }));
        let deadline = clock::now() + KEY_PATIENCE;
        while tokens.awaits_keys(clock::unix_now()) && clock::now() < deadline {
            sleep(POLL).await;
        }
        let errors = tokens.fetch_errors(clock::unix_now());
        let problem = |(issuer, error)| {
            let message = format!("the keys of `{issuer}` cannot be fetched: {error}");
            self.problem("tokens", message)
        };
        Ok(errors.into_iter().map(problem).collect())
    }

    async fn identity(&self) -> anyhow::Result<Option<Problem>> {
        let Some(config) = &self.config.identity else {
            return Ok(None);
        };
        let calls = HttpClients::new()?;
        let metrics = self.metrics.identity.clone();
        let fault = IdentityServer::new(config.clone(), &calls, metrics)
            .check()
            .await;
        Ok(fault.err().map(|fault| {
            let message = format!("{} cannot be used: {fault}", config.url.site);
            self.problem("identity.supabase.url", message)
        }))
    }

    async fn database(&self) -> anyhow::Result<Findings> {
        let Some(config) = &self.config.database else {
            return Ok(Findings::default());
        };
        let database = Database::start(config, self.metrics.database.clone())?;
        if let Some(fault) = settled(|| database.outage(), || database.fault()).await {
            let message = format!("{} cannot be used: {fault}", config.server.shown());
            return Ok(Findings {
                problems: vec![self.problem("database.url", message)],
                warnings: Vec::new(),
            });
        }
        let differences = schema::check(self.config, &database).await?;
        if let Some(problems) = queries::problems(self.name, differences) {
            return Ok(Findings {
                problems: problems.iter().cloned().collect(),
                warnings: Vec::new(),
            });
        }
        let mut findings = Findings {
            problems: Vec::new(),
            warnings: schema::hidden_rows(self.config, &database).await?,
        };
        if let Some(listener) = Listener::new(config)? {
            let asked = WatchedQuery::all(self.config);
            let coverage = notify::check(asked, &database, &listener).await;
            findings.warnings.extend(coverage_warnings(coverage));
        }
        Ok(findings)
    }
}

/// Waits until a server answers. Returns why it does not, as soon as waiting is of no use.
async fn settled(outage: impl Fn() -> Outage, fault: impl Fn() -> Option<Fault>) -> Option<Fault> {
    let deadline = clock::now() + PATIENCE;
    while outage() != Outage::Reachable {
        let fault = fault();
        if clock::now() >= deadline || fault.as_ref().is_some_and(Fault::is_lasting) {
            return Some(fault.unwrap_or_else(Fault::silent));
        }
        sleep(POLL).await;
    }
    None
}

/// Warnings about changes that would not be reported. A gateway runs all the same, with the
/// lifetimes that facts have without notifications.
fn coverage_warnings(coverage: Result<Vec<TableCoverage>, CoverageError>) -> Vec<String> {
    let without_effect =
        |why: &dyn std::fmt::Display| format!("database.notify_url has no effect: {why}");
    match coverage {
        Err(why) => vec![without_effect(&why)],
        Ok(coverage) => coverage
            .iter()
            .filter_map(|query| match &query.missing {
                None => None,
                Some(Missing::Unstable) => Some(query.to_string()),
                Some(_) => Some(without_effect(query)),
            })
            .collect(),
    }
}
