//! The files a configuration is made of, and the digest by which two configurations are compared.
//!
//! A relative path begins at the folder of the configuration, and a file has at most 1 MiB.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::interpolate::Variables;
use super::node::Text;
use super::problem::{Problem, Problems, Report};
use super::wire::Value;

/// Longest file that is read. A bundle of every public root certificate is a quarter of this.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// The files that were read.
pub(crate) struct Inputs {
    dir: PathBuf,
    paths: Vec<PathBuf>,
    digest: digest::Context,
}

impl Inputs {
    /// Creates an empty set; relative paths begin at `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            paths: Vec::new(),
            digest: digest::Context::new(&digest::SHA256),
        }
    }

    /// Adds contents that were read already to the digest.
    pub(crate) fn add(&mut self, contents: &[u8]) {
        // The length in front keeps apart two pieces that would be the same when joined.
        self.digest.update(&contents.len().to_le_bytes());
        self.digest.update(contents);
    }

    /// Adds a file to those that a reload watches.
    pub(crate) fn watch(&mut self, path: PathBuf) {
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }

    /// Reads the file that a key names.
    pub(crate) fn read(
        &mut self,
        name: &Value<Text>,
        report: &mut Report,
    ) -> Option<(PathBuf, Vec<u8>)> {
        if name.value.value.is_empty() {
            report.problem(&name.place, "is empty; write the path of a file");
            return None;
        }
        let path = self.dir.join(&name.value.value);
        match read(&path) {
            Ok(contents) => {
                self.add(&contents);
                self.watch(path.clone());
                Some((path, contents))
            }
            Err(error) => {
                let message = format!("cannot read `{}`: {}", name.value.shown(), reason(&error));
                report.problem_instead(
                    &name.place,
                    message,
                    "relative paths begin at the folder of the configuration file",
                );
                None
            }
        }
    }

    /// The files, and the digest over them and over the values of the variables.
    pub(crate) fn finish(mut self, variables: &Variables<'_>) -> (Vec<PathBuf>, [u8; 32]) {
        for (name, value) in variables.used() {
            self.add(name.as_bytes());
            self.add(&[u8::from(value.is_some())]);
            self.add(value.as_deref().unwrap_or_default().as_bytes());
        }
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(self.digest.finish().as_ref()) {
            *to = *from;
        }
        (self.paths, digest)
    }
}

/// Reads a file as text. `what` is what it should hold, for messages.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<String, Problems> {
    let problem = |why: &str, instead| -> Problems {
        let name = path.display().to_string();
        Problem::of_file(&name, format!("cannot read {what}: {why}"), instead).into()
    };
    let contents = read(path).map_err(|error| problem(&reason(&error), None))?;
    String::from_utf8(contents).map_err(|_| problem("it is not UTF-8", Some("save it as UTF-8")))
}

/// A whole file of at most [`MAX_FILE`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut contents)?;
    if u64::try_from(contents.len()).is_ok_and(|length| length <= MAX_FILE) {
        return Ok(contents);
    }
    Err(io::Error::new(
        io::ErrorKind::FileTooLarge,
        "it is larger than 1 MiB",
    ))
}

/// Why a file could not be read, without the system's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::NotFound, "there is no such file"),
        (
            io::ErrorKind::PermissionDenied,
            "this process may not read it",
        ),
        (io::ErrorKind::IsADirectory, "it is a folder"),
    ];
    match known.iter().find(|(kind, _)| *kind == error.kind()) {
        Some((_, reason)) => (*reason).to_owned(),
        None => error.to_string(),
    }
}
