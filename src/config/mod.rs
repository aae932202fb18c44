//! The configuration: YAML text in, a checked [`Config`] out, or every problem at once.
//!
//! Decides: whether a file is a configuration. Trusts: nothing in it. Not here: what the gateway
//! builds from one, and when a changed file is read again (`server::reload`).
//!
//! `yaml` reads text into a tree with places, putting in `${NAME}` through `interpolate`; `wire`
//! decodes the tree into the wire structs of `sections`; their checks make the values of `policy`,
//! in which nothing invalid can be written down. Each step notes problems and goes on, so that
//! [`Problems`] holds all of them, with line, column and what to write instead.
//!
//! To add a key, write one line into the `wire!` of its section (type, range, default, or what to
//! write if it is missing), use it in the check below, and show it in `config/foregate.yaml`: a
//! test asks for it.
//!
//! To add a section, write a file in `sections` with its `wire!`, its check on [`check::Checker`]
//! and its tests, the checked type in `policy`, and one line each in `sections/mod.rs`, in
//! `file::File`, in `policy::Config`, and in the check of `file` that leads from one to the other.

pub(crate) mod check;
pub(crate) mod decode;
pub(crate) mod excerpt;
pub(crate) mod field;
pub(crate) mod file;
pub(crate) mod inputs;
pub(crate) mod interpolate;
pub(crate) mod lists;
pub(crate) mod macros;
pub(crate) mod node;
pub(crate) mod notation;
pub(crate) mod place;
pub(crate) mod problem;
mod range;
pub(crate) mod sections;
#[cfg(test)]
mod tests;
pub(crate) mod units;
pub(crate) mod wire;
pub(crate) mod yaml;

use std::path::{Path, PathBuf};

pub use problem::{Problem, Problems};

use self::check::Checker;
use self::decode::Decode;
use self::file::File;
use self::inputs::Inputs;
use self::interpolate::Variables;
use self::problem::Report;
use crate::policy::Config;

/// A configuration, and what it was made of.
#[derive(Debug)]
pub struct Loaded {
    /// How messages name the configuration.
    pub name: String,
    /// The configuration.
    pub config: Config,
    /// Every file that was read: the configuration itself (not if it was given as text),
    /// certificates, keys, client CAs, key sets and secrets. Whoever reloads watches these.
    pub inputs: Vec<PathBuf>,
    /// SHA-256 over the contents of all files and the values of all variables: equal means that
    /// nothing changed.
    pub digest: [u8; 32],
    /// What is allowed but worth reporting at every start; ready to be printed, without secrets.
    pub warnings: Vec<String>,
}

/// Loads a file, with variables from the environment. Relative paths in it begin at its folder.
///
/// # Errors
///
/// Every problem at once.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let text = inputs::read_text(path, "the configuration")?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut loaded = load_str(&name, &text, dir, &|name| std::env::var(name).ok())?;
    loaded.inputs.insert(0, path.to_owned());
    Ok(loaded)
}

/// Loads a configuration from text. `name` stands for the file in messages, relative paths begin at
/// `dir`, and `vars` takes the place of the environment.
///
/// # Errors
///
/// Every problem at once.
pub fn load_str(
    name: &str,
    text: &str,
    dir: &Path,
    vars: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    load_at(name, text, dir, vars, crate::clock::unix_now())
}

/// Loads at a given time, in Unix seconds: whether a date is past or too far ahead depends on it.
pub(crate) fn load_at(
    name: &str,
    text: &str,
    dir: &Path,
    vars: &dyn Fn(&str) -> Option<String>,
    now: i64,
) -> Result<Loaded, Problems> {
    let mut report = Report::default();
    let mut variables = Variables::new(vars);
    let mut inputs = Inputs::new(dir);
    inputs.add(text.as_bytes());

    let file = yaml::parse(text, &mut variables, &mut report)
        .and_then(|node| File::decode(node, &mut report));
    let config = file.and_then(|file| {
        let mut checker = Checker {
            report: &mut report,
            inputs: &mut inputs,
            now,
        };
        checker.check(&file)
    });
    let warnings = report.finish(name, text)?;
    let Some(config) = config else {
        // Unreachable: every function that gives nothing notes why. Kept as defence in depth.
        return Err(Problem::of_file(
            name,
            "the configuration is refused, but the reason was lost",
            None,
        )
        .into());
    };
    let (inputs, digest) = inputs.finish(&variables);
    Ok(Loaded {
        name: name.to_owned(),
        config,
        inputs,
        digest,
        warnings,
    })
}
