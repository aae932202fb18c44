//! `check`: validates a configuration as `run` would, and reports every problem; with `--connect`,
//! also those of the servers that it names. Prints what is public, waived, or allowed in an outage.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::connect::connected;
use super::{Config, Format, offline, output};
use crate::auth::snapshot::Snapshot;
use crate::config::{self, Loaded};
use crate::policy::listen::ListenKind;
use crate::policy::outage::{AccessClass, State};
use crate::policy::route::Access;
use crate::policy::storage::StoreChoice;

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    config: Config,
    /// Also check the store, the keys of issuers, the identity server, and the database with the
    /// queries of `facts` and `resources` and the insert of `identity.profile`, which are planned and
    /// not carried out
    #[arg(long)]
    connect: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

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
            output::line(summary(&snapshot, &warnings));
            ExitCode::SUCCESS
        }
        (Ok((_, warnings)), Format::Json) => {
            output::line(
                json!({ "valid": true, "problems": [], "warnings": warnings, "outages": outages() }),
            );
            ExitCode::SUCCESS
        }
        (Err((text, _)), Format::Human) => {
            output::error(text);
            ExitCode::FAILURE
        }
        (Err((_, problems)), Format::Json) => {
            output::line(
                json!({ "valid": false, "problems": problems, "warnings": Value::Array(Vec::new()) }),
            );
            ExitCode::FAILURE
        }
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
