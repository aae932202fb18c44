//! `test`: runs policy tests against a route map.
//!
//! Decides:  how cases and their outcomes are printed, and that one difference is a failure.
//! Trusts:   [`OfflineGateway`], which authorizes by the chain of a running gateway and nothing
//!           else.
//! Not here: which keys a case has (`cases`).

mod case;
mod cases;
mod offline_gateway;
mod outcome;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{Config, Format, output};
use crate::config;
use case::{Case, Cases, Expected};
use offline_gateway::OfflineGateway;
use outcome::Outcome;

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    config: Config,
    /// Files of cases
    #[arg(value_name = "CASES", required = true)]
    cases: Vec<PathBuf>,
    /// Run only cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

pub(super) fn test(options: &Options) -> ExitCode {
    match run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            match options.format {
                Format::Human => output::error(failure.text),
                Format::Json => output::line(json!({ "valid": false, "problems": failure.json })),
            }
            ExitCode::FAILURE
        }
    }
}

/// Why no case was run.
struct Failure {
    text: String,
    json: Value,
}

impl From<config::Problems> for Failure {
    fn from(problems: config::Problems) -> Self {
        Self {
            text: problems.to_string(),
            json: problems.to_json(),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            text: format!("foregate: {error:#}"),
            json: json!([{ "problem": format!("{error:#}") }]),
        }
    }
}

fn run(options: &Options) -> Result<bool, Failure> {
    let mut results = Vec::new();
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for file in &options.cases {
        let Cases { facts, cases } = cases::load(file)?;
        let mut gateway = OfflineGateway::new(config::load(&options.config.file)?, facts)?;
        for case in cases {
            if !options
                .only
                .as_ref()
                .is_none_or(|text| case.name.contains(text))
            {
                continue;
            }
            let outcome = gateway.authorize(&case)?;
            let differences = differences(&case.expect, &outcome);
            match differences.is_empty() {
                true => passed += 1,
                false => failed += 1,
            }
            let place = format!("{}:{}", file.display(), case.line);
            match options.format {
                Format::Human => {
                    output::line(human(&case, &place, &outcome, &differences).trim_end())
                }
                Format::Json => results.push(json!({
                    "name": case.name,
                    "file": file,
                    "line": case.line,
                    "passed": differences.is_empty(),
                    "differences": differences,
                    "was": outcome.to_json(),
                })),
            }
        }
    }
    match options.format {
        Format::Human => output::line(format_args!("{passed} passed, {failed} failed")),
        Format::Json => output::line(
            json!({ "valid": true, "passed": passed, "failed": failed, "cases": results }),
        ),
    }
    if passed == 0 && failed == 0 {
        return Err(anyhow::anyhow!("no case was run: no name contains the text of --only").into());
    }
    Ok(failed == 0)
}

/// `expected …, was …` for every difference.
fn differences(expect: &Expected, outcome: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, expected: Option<&str>, was: Option<&str>| {
        if let Some(expected) = expected
            && was != Some(expected)
        {
            let was = was.map_or_else(|| "none".to_owned(), |was| format!("`{was}`"));
            found.push(format!("{what}: expected `{expected}`, was {was}"));
        }
    };
    match expect {
        Expected::Allow {
            route,
            upstream,
            serve,
        } => {
            compare("verdict", Some("allow"), Some(&outcome.verdict()));
            compare("route", route.as_deref(), outcome.route.as_deref());
            compare("upstream", upstream.as_deref(), outcome.upstream());
            compare("serve", serve.as_deref(), outcome.serve());
        }
        Expected::Deny {
            reason,
            layer,
            route,
        } => {
            let expected = format!("deny {}", reason.code());
            compare("verdict", Some(&expected), Some(&outcome.verdict()));
            compare("layer", layer.as_deref(), outcome.layer());
            compare("route", route.as_deref(), outcome.route.as_deref());
        }
    }
    found
}

fn human(case: &Case, place: &str, outcome: &Outcome, differences: &[String]) -> String {
    if differences.is_empty() {
        return format!("ok    {}\n", case.name);
    }
    let mut text = format!(
        "FAIL  {}\n      at {place}: {} {}\n",
        case.name, case.request.method, case.request.path
    );
    for difference in differences {
        text.push_str(&format!("      {difference}\n"));
    }
    text.push_str(&format!("      {outcome}\n"));
    text
}
