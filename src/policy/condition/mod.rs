//! Conditions: one expression in CEL that a route may add to what its layers ask.
//!
//! Decides:  whether an expression holds for a request and its caller. Trusts: the expression, as far as `check` let it in; nothing else
//! that it computes with. Not here: what a refusal is (`when`).
//!
//! An expression reads the canonical request and the proven caller, and nothing else: no clock, no database, no body, and no query, which
//! every server reads in a way of its own. It ends at once, because it is short and has no loops: comprehensions, functions that take a
//! pattern, and everything whose cost an input could choose are refused when the configuration is read. What cannot be computed, such as
//! a claim that the token lacks, is an error and never an answer.

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

/// The operators and functions; built once, since they are the same for all.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that was checked. Cloning shares it.
#[derive(Clone)]
pub struct Condition {
    source: Arc<str>,
    expression: Arc<IdedExpr>,
    reads_caller: bool,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError {
    /// Index of the character where it is.
    pub at: usize,
    /// How many characters it is about; at least 1.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, if that can be said.
    pub instead: Option<String>,
}

impl Condition {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// The first thing in it that is not understood or not allowed.
    pub fn parse(source: &str) -> Result<Self, ConditionError> {
        let checked = check::check(source)?;
        Ok(Self {
            source: source.into(),
            expression: Arc::new(checked.expression),
            reads_caller: checked.reads_caller,
        })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it asks anything about the caller.
    pub fn reads_caller(&self) -> bool {
        self.reads_caller
    }

    /// Whether it holds.
    ///
    /// # Errors
    ///
    /// It cannot be computed for this request; in words for the operator, which name no value of the request.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, &'static str> {
        let mut context = Context::with_env(STANDARD.clone());
        context.set_variable_resolver(scope);
        match Value::resolve(&self.expression, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err("the expression is neither true nor false"),
            Err(error) => Err(told(&error)),
        }
    }
}

/// The library's own words would repeat claims, which do not belong into a log.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list is the library's and will grow; whatever is new is a failure, too"
)]
fn told(error: &ExecutionError) -> &'static str {
    match error {
        ExecutionError::UndeclaredReference(_) | ExecutionError::NoSuchKey(_) => {
            "a claim that it reads is not there"
        }
        ExecutionError::NoSuchOverload(_) | ExecutionError::ValuesNotComparable(..) => {
            "a claim that it reads has another type"
        }
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds",
        _ => "it cannot be computed",
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
