//! `check`: validates a configuration as `run` would, and reports every problem; with `--connect`,
//! also against the database. Prints what is public, waived, or allowed in an outage.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Config, Format, offline};
use crate::auth::snapshot::Snapshot;
use crate::clock;
use crate::config::{self, Loaded, Problem, Problems};
use crate::database::{Database, Listener};
use crate::facts::notify::{self, CoverageError};
use crate::facts::schema;
use crate::facts::trigger_coverage::{Missing, TableCoverage, WatchedQuery};
use crate::gateway::metrics::Metrics;
use crate::policy::listen::ListenKind;
use crate::policy::outage::{AccessClass, State};
use crate::policy::route::Access;
use crate::policy::storage::StoreChoice;
use crate::server::queries;

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    config: Config,
    /// Also check the queries of `facts` and `resources` against the database
    #[arg(long)]
    connect: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// How long to wait for the database to be reachable.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn check(options: &Options) -> ExitCode {
    let file = &options.config.file;
    let outcome = config::load(file).and_then(|loaded| match options.connect {
        true => connected(loaded),
        false => Ok(loaded),
    }).map_err(|problems| (problems.to_string(), problems.to_json())).and_then(|loaded| {
        // Built as `run` would, so that no problem is found only there. Nothing is bound or
        // fetched.
        build(loaded).map_err(|problem| {
            let problem = format!("{}: {problem:#}", file.display());
            let json = json!([{ "file": file, "line": 0, "column": 0, "key": "", "problem": problem, "instead": null }]);
            (problem, json)
        })
    });
    match (outcome, options.format) {
        (Ok((snapshot, warnings)), Format::Human) => {
            println!("{}", summary(&snapshot, &warnings));
            ExitCode::SUCCESS
        }
        (Ok((_, warnings)), Format::Json) => {
            println!(
                "{}",
                json!({ "valid": true, "problems": [], "warnings": warnings, "outages": outages() })
            );
            ExitCode::SUCCESS
        }
        (Err((text, _)), Format::Human) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
        (Err((_, problems)), Format::Json) => {
            println!(
                "{}",
                json!({ "valid": false, "problems": problems, "warnings": Value::Array(Vec::new()) })
            );
            ExitCode::FAILURE
        }
    }
}

/// The same configuration, if its queries fit the database; with a warning for every change that
/// would not be reported.
fn connected(mut loaded: Loaded) -> Result<Loaded, Problems> {
    let Some(config) = &loaded.config.database else {
        return Ok(loaded);
    };
    let check = || -> anyhow::Result<Result<Vec<String>, Problems>> {
        let metrics = Metrics::new()?;
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let database = Database::start(config, metrics.database.clone())?;
            let differences = schema::check(&loaded.config, &database).await?;
            if let Some(problems) = queries::problems(&loaded.name, differences) {
                return Ok(Err(problems));
            }
            let Some(listener) = Listener::new(config)? else {
                return Ok(Ok(Vec::new()));
            };
            // The pool connects in the background, and may not have yet.
            database.until_reachable(clock::now() + PATIENCE).await;
            let asked = WatchedQuery::all(&loaded.config);
            let coverage = notify::check(asked, &database, &listener).await;
            Ok(Ok(coverage_warnings(coverage)))
        })
    };
    match check() {
        Ok(Ok(warnings)) => {
            loaded.warnings.extend(warnings);
            Ok(loaded)
        }
        Ok(Err(problems)) => Err(problems),
        Err(error) => {
            let message = format!("cannot check the queries: {error:#}");
            Err(Problem::of_file(&loaded.name, message, None).into())
        }
    }
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

fn build(mut loaded: Loaded) -> anyhow::Result<(Snapshot, Vec<String>)> {
    let mut warnings = std::mem::take(&mut loaded.warnings);
    // Entered for what needs a runtime; nothing runs on it.
    let background = tokio::runtime::Builder::new_current_thread().build()?;
    let _entered = background.enter();
    let (snapshot, _follower) = offline::snapshot(loaded, 1)?;
    warnings.extend(snapshot.tokens().dropped_keys());
    Ok((snapshot, warnings))
}

fn summary(snapshot: &Snapshot, warnings: &[String]) -> String {
    let config = snapshot.config();
    let mut lines = vec![format!(
        "valid: {} routes, {} upstreams, {} issuers",
        config.routes.len(),
        config.upstreams.len(),
        config.tokens.len()
    )];
    for listen in &config.listen {
        let kind = match &listen.kind {
            ListenKind::Tls(_) => "tls".to_owned(),
            ListenKind::Plain => "clear text".to_owned(),
            ListenKind::RedirectToHttps { port } => format!("redirects to https port {port}"),
        };
        lines.push(format!("listens   {} ({kind})", listen.address));
    }
    lines.push(match &config.store {
        StoreChoice::Memory => "store     this process (one replica)".to_owned(),
        StoreChoice::Redis(redis) => format!("store     {}", redis.shown()),
    });
    if let Some(database) = &config.database {
        lines.push(format!("database  {}", database.server.shown()));
    }
    for route in config
        .routes
        .iter()
        .filter(|route| route.access == Access::Public)
    {
        let credentials = if route.pass_credentials {
            ", passes credentials"
        } else {
            ""
        };
        lines.push(format!("public    {}{credentials}", route.name));
    }
    for route in &config.routes {
        for waiver in &route.waived {
            let until = jiff::Timestamp::from_second(waiver.until)
                .map(|time| time.to_string())
                .unwrap_or_default();
            lines.push(format!(
                "waived    {}: {} {:?} until {until}: {}",
                route.name,
                waiver.layer.as_str(),
                waiver.mode,
                waiver.reason
            ));
        }
    }
    lines.extend(
        warnings
            .iter()
            .map(|warning| format!("warning   {warning}")),
    );
    for state in State::ALL {
        lines.push(format!("outage    {}", state.meaning()));
        let answers = AccessClass::ALL
            .iter()
            .map(|class| format!("{}: {}", class.as_str(), state.effect(*class).as_text()));
        lines.push(format!(
            "          {}",
            answers.collect::<Vec<_>>().join("; ")
        ));
    }
    lines.join("\n")
}

/// The failure matrix, as JSON.
fn outages() -> Value {
    let row = |state: State| {
        let answers: serde_json::Map<String, Value> = AccessClass::ALL
            .iter()
            .map(|class| {
                (
                    class.as_str().to_owned(),
                    state.effect(*class).as_text().into(),
                )
            })
            .collect();
        json!({ "state": state.as_str(), "meaning": state.meaning(), "answers": answers })
    };
    State::ALL.into_iter().map(row).collect()
}
