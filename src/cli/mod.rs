//! The commands.
//!
//! Decides:  what is printed where, and the exit status: 0 for success, 1 for a failure, 2 for
//!           invalid arguments.
//! Trusts:   the user who runs them and may read the configuration's files.
//! Not here: anything a running gateway does.

#![deny(clippy::print_stdout, clippy::print_stderr)] // `output` survives a closed pipe.

mod admin_call;
mod check;
mod connect;
mod demo;
pub mod offline;
mod output;
mod revocations;
mod revoke;
mod run;
mod test;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An auth gateway: a reverse proxy that forwards only authorized requests.
#[derive(Debug, Parser)]
#[command(name = "foregate", version, about, max_term_width = 100)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the gateway
    ///
    /// Log lines go to standard output as JSON, one per request. SIGHUP reloads the configuration,
    /// and so does a change of any file it was read from. SIGTERM and SIGINT drain the process and
    /// end it.
    Run(Config),
    /// Validate a configuration and report every problem
    ///
    /// Exit status 0 means that `run` would accept it.
    Check(check::Options),
    /// Try the gateway on this machine, with a certificate, an upstream and tokens
    Demo(demo::Options),
    /// Revoke a token, a session, a user or an issuer on every replica of a running gateway
    ///
    /// Exit status 0 means that every replica refuses it within a second.
    Revoke(revoke::Options),
    /// List the revocations of a running gateway, or undo one
    Revocations(revocations::Options),
    /// Run policy tests against a route map
    ///
    /// Nothing is sent and nothing listens: the callers' tokens are signed and verified in this
    /// process. Exit status 0 means that every case had its expected outcome.
    Test(test::Options),
    /// Mint a token for development
    ///
    /// Works only with a configuration that says `environment: development`.
    Token(token::Options),
}

#[derive(Args, Debug)]
struct Config {
    /// The route map
    #[arg(long = "config", value_name = "FILE")]
    file: PathBuf,
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// For programs: one JSON document on one line
    Json,
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> ExitCode {
        let outcome = match self.action {
            Action::Run(config) => run::run(&config.file),
            Action::Check(options) => return check::check(&options),
            Action::Demo(options) => demo::demo(&options),
            Action::Revoke(options) => revoke::revoke(&options),
            Action::Revocations(options) => revocations::revocations(&options),
            Action::Test(options) => return test::test(&options),
            Action::Token(options) => token::token(&options),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                output::error(format_args!("foregate: {error:#}"));
                ExitCode::FAILURE
            }
        }
    }
}
