//! Problems of a configuration, for people and for programs: what is wrong, where, and what to
//! write instead.
//!
//! A loader that stops at the first mistake makes its reader run it ten times. Here every step
//! notes what it finds in one [`Report`] and goes on, and the end of the run decides whether there
//! is a configuration. A line of the file is shown only after everything in it that may be a secret
//! was replaced by `…`.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value as Json, json};

use super::excerpt::{Excerpt, Source};
use super::place::Place;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, by the name it was loaded under.
    pub file: String,
    /// Line, from 1; 0 if the problem is about the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 if the problem is about the file as a whole.
    pub column: u32,
    /// Path of the key, such as `routes[3].timeouts.total`; empty at the top.
    pub key: String,
    /// What is wrong. Never holds a secret or an interpolated value.
    pub message: String,
    /// What to write instead, if that can be said.
    pub instead: Option<String>,
    excerpt: Option<Excerpt>,
}

impl Problem {
    /// A problem of the file as a whole, such as one that cannot be read.
    pub(crate) fn of_file(file: &str, message: impl Into<String>, instead: Option<&str>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message: message.into(),
            instead: instead.map(str::to_owned),
            excerpt: None,
        }
    }

    /// A problem at a place that is found after the file was read, such as a query that the
    /// database refuses.
    pub(crate) fn at(
        file: &str,
        line: u32,
        column: u32,
        key: &str,
        message: String,
        instead: Option<String>,
    ) -> Self {
        Self {
            line,
            column,
            key: key.to_owned(),
            instead,
            ..Self::of_file(file, message, None)
        }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let title = match self.key.as_str() {
            "" => self.message.clone(),
            key => format!("{key}: {}", self.message),
        };
        let mut group = Group::with_title(Level::ERROR.primary_title(title));
        match &self.excerpt {
            Some(excerpt) => {
                let caret = AnnotationKind::Primary.span(excerpt.marked.clone());
                group = group.element(
                    Snippet::source(excerpt.line.as_str())
                        .line_start(usize::try_from(self.line).unwrap_or(usize::MAX))
                        .path(self.file.as_str())
                        .annotation(caret),
                );
            }
            None => {
                let place = match self.line {
                    0 => self.file.clone(),
                    line => format!("{}:{line}:{}", self.file, self.column),
                };
                group = group.element(Origin::path(place));
            }
        }
        if let Some(instead) = &self.instead {
            group = group.element(Level::HELP.message(instead.as_str()));
        }
        renderer.render(&[group])
    }

    fn to_json(&self) -> Json {
        json!({
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "problem": self.message,
            "instead": self.instead,
        })
    }
}

/// Every problem of one configuration, in the order of its lines; never empty.
///
/// Its `Display` is for people: each problem with its line and a mark under the place, in plain
/// text.
#[derive(Debug)]
pub struct Problems {
    first: Box<Problem>,
    rest: Vec<Problem>,
}

impl Problems {
    /// All of these, if there are any.
    pub(crate) fn all(problems: Vec<Problem>) -> Option<Self> {
        let mut problems = problems.into_iter();
        Some(Self {
            first: Box::new(problems.next()?),
            rest: problems.collect(),
        })
    }

    /// The problems, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        std::iter::once(self.first.as_ref()).chain(&self.rest)
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one")]
    pub fn len(&self) -> usize {
        self.rest.len().saturating_add(1)
    }

    /// For programs: a list of objects with `file`, `line`, `column`, `key`, `problem` and
    /// `instead`.
    pub fn to_json(&self) -> Json {
        self.iter().map(Problem::to_json).collect()
    }
}

impl From<Problem> for Problems {
    fn from(first: Problem) -> Self {
        Self {
            first: Box::new(first),
            rest: Vec::new(),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for problem in self.iter() {
            writeln!(f, "{}\n", problem.render(&renderer))?;
        }
        match self.len() {
            1 => write!(f, "{}: 1 problem", self.first.file),
            count => write!(f, "{}: {count} problems", self.first.file),
        }
    }
}

impl std::error::Error for Problems {}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    problems: Vec<(Place, String, Option<String>)>,
    warnings: Vec<(Place, String)>,
}

impl Report {
    /// Notes a problem whose message already says what to write.
    pub(crate) fn problem(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.push((place.clone(), message.into(), None));
    }

    /// Notes a problem and what to write instead.
    pub(crate) fn problem_instead(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.problems
            .push((place.clone(), message.into(), Some(instead.into())));
    }

    /// Notes a problem, and gives nothing in place of the value.
    pub(crate) fn refuse<T>(&mut self, place: &Place, message: impl Into<String>) -> Option<T> {
        self.problem(place, message);
        None
    }

    /// Notes a problem and what to write instead, and gives nothing in place of the value.
    pub(crate) fn refuse_instead<T>(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) -> Option<T> {
        self.problem_instead(place, message, instead);
        None
    }

    /// Notes what is allowed, but worth knowing at every start.
    pub(crate) fn warn(&mut self, place: &Place, message: impl Into<String>) {
        self.warnings.push((place.clone(), message.into()));
    }

    /// The warnings, if there was no problem; the problems of `file`, whose text is `source`,
    /// otherwise.
    pub(crate) fn finish(self, file: &str, source: &str) -> Result<Vec<String>, Problems> {
        let source = Source::new(source);
        let mut problems: Vec<Problem> = self
            .problems
            .into_iter()
            .map(|(place, message, instead)| Problem {
                excerpt: source.cut(&place),
                file: file.to_owned(),
                line: place.line,
                column: place.column,
                key: place.key,
                message,
                instead,
            })
            .collect();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        let mut problems = problems.into_iter();
        match problems.next() {
            Some(first) => Err(Problems {
                first: Box::new(first),
                rest: problems.collect(),
            }),
            None => Ok(self
                .warnings
                .into_iter()
                .map(|(place, message)| format!("{file}:{}: {}: {message}", place.line, place.key))
                .collect()),
        }
    }
}
