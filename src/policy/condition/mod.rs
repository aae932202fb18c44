//! Conditions: a CEL expression that a route may add to the checks of its layers.
//!
//! Decides:  whether an expression holds for a request and its caller.
//! Trusts:   expressions that passed `check`; no value that they read.
//! Not here: the refusal (`auth::when`).
//!
//! An expression reads the canonical request and the proven caller, and nothing else: no clock, no
//! database, no body, and no query, which servers parse in different ways. Its cost is bounded,
//! because it is short and has no loops: comprehensions, functions that take a pattern, and
//! everything else whose cost depends on the input are refused when the configuration is read. An
//! expression that cannot be evaluated, for example because the token lacks a claim, is an error
//! and neither true nor false.

mod calls;
mod check;
mod scope;
mod value_type;
mod variable;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::{Context, Env, ExecutionError, Value};

pub use scope::{CallerFields, Scope};

/// Longest expression, in bytes.
pub const LONGEST: usize = 512;

/// The operators and functions; built once, since all expressions share them.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A checked expression. Clones share it.
#[derive(Clone)]
pub struct Condition {
    source: Arc<str>,
    expression: Arc<IdedExpr>,
    reads_caller: bool,
}

/// Why a text is not a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    /// Index of the first character of the error.
    pub at: usize,
    /// How many characters the error spans; at least 1.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, if there is a suggestion.
    pub instead: Option<String>,
}

impl Condition {
    /// Parses and checks an expression.
    ///
    /// # Errors
    ///
    /// The first part of it that cannot be parsed or is not allowed.
    pub fn parse(source: &str) -> Result<Self, ConditionError> {
        let checked = check::check(source)?;
        Ok(Self {
            source: source.into(),
            expression: Arc::new(checked.expression),
            reads_caller: checked.reads_caller,
        })
    }

    /// The text of the expression, as the operator wrote it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the expression reads a field of `caller`.
    pub fn reads_caller(&self) -> bool {
        self.reads_caller
    }

    /// Evaluates the expression.
    ///
    /// # Errors
    ///
    /// It cannot be evaluated for this request; the text is for the operator and names no value of
    /// the request.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, &'static str> {
        let mut context = Context::with_env(STANDARD.clone());
        context.set_variable_resolver(scope);
        match Value::resolve(&self.expression, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err("the expression is neither true nor false"),
            Err(error) => Err(description(&error)),
        }
    }
}

/// A description for the log. The library's own messages repeat claims, which must not be logged.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list is the library's and will grow; every new error is a failure, too"
)]
fn description(error: &ExecutionError) -> &'static str {
    match error {
        ExecutionError::UndeclaredReference(_) | ExecutionError::NoSuchKey(_) => {
            "a claim that it reads is missing"
        }
        ExecutionError::NoSuchOverload(_) | ExecutionError::ValuesNotComparable(..) => {
            "a claim that it reads has another type"
        }
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds",
        _ => "it cannot be evaluated",
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({:?})", self.source)
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test fails"
)]
mod tests;
