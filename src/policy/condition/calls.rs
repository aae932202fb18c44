//! Checks operators and functions.

use cel::common::ast::{CallExpr, Expr, IdedExpr, operators};

use super::ConditionError;
use super::check::{Reader, path_of};
use super::value_type::ValueType;
use crate::policy::spelling::nearest;

const FUNCTIONS: [&str; 5] = ["size", "startsWith", "endsWith", "contains", "has"];

impl Reader<'_> {
    pub(super) fn call(
        &mut self,
        expression: &IdedExpr,
        call: &CallExpr,
    ) -> Result<(IdedExpr, ValueType), ConditionError> {
        // An index with a string is another spelling of a field.
        if path_of(expression).is_some() {
            return self.name(expression);
        }
        let mut parts = Vec::with_capacity(3);
        let mut kinds = Vec::with_capacity(3);
        for part in call.target.as_deref().into_iter().chain(&call.args) {
            let (part, kind) = self.read(part)?;
            parts.push(part);
            kinds.push(kind);
        }
        let kind = self.kind_of_call(expression, call, &kinds)?;
        let target = call.target.is_some().then(|| Box::new(parts.remove(0)));
        Ok((
            IdedExpr {
                id: expression.id,
                expr: Expr::Call(CallExpr {
                    func_name: call.func_name.clone(),
                    target,
                    args: parts,
                }),
            },
            kind,
        ))
    }

    fn kind_of_call(
        &self,
        expression: &IdedExpr,
        call: &CallExpr,
        kinds: &[ValueType],
    ) -> Result<ValueType, ConditionError> {
        use operators as op;
        let all = |of: &[ValueType]| kinds.iter().all(|kind| kind.is(of));
        let needs = |what: &str| {
            let first = kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>();
            self.fault(
                expression,
                format!("{what}, not {}", first.join(" and ")),
                None,
            )
        };
        let name = call.func_name.as_str();
        match (name, kinds) {
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT, _) => {
                match all(&[ValueType::Bool]) {
                    true => Ok(ValueType::Bool),
                    false => Err(needs("`&&`, `||` and `!` need true or false")),
                }
            }
            (op::CONDITIONAL, [condition, yes, no]) => match condition.is(&[ValueType::Bool]) {
                true if yes == no => Ok(*yes),
                true => Ok(ValueType::Any),
                false => Err(needs("`?:` needs true or false as its condition")),
            },
            (op::EQUALS | op::NOT_EQUALS, [left, right]) => match left.meets(*right) {
                true => Ok(ValueType::Bool),
                false => Err(self.fault(
                    expression,
                    format!("{} is never equal to {}", left.name(), right.name()),
                    None,
                )),
            },
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [left, right]) => {
                let fits = all(&[ValueType::Text]) || all(&[ValueType::Number]);
                match fits && left.meets(*right) {
                    true => Ok(ValueType::Bool),
                    false => Err(needs("a comparison needs two numbers or two texts")),
                }
            }
            (op::IN, [_, right]) => match right.is(&[ValueType::List]) {
                true => Ok(ValueType::Bool),
                false => Err(needs("`in` needs a list on its right")),
            },
            (op::INDEX, [of, _]) => match of.is(&[ValueType::List]) {
                true => Ok(ValueType::Any),
                false => Err(needs("only a list or a claim has an index")),
            },
            (op::ADD, _) if all(&[ValueType::Text]) => Ok(ValueType::Text),
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO | op::NEGATE, _) => {
                match all(&[ValueType::Number]) {
                    true => Ok(ValueType::Number),
                    false => Err(needs("arithmetic needs numbers")),
                }
            }
            ("size", [_]) => match all(&[ValueType::Text, ValueType::List]) {
                true => Ok(ValueType::Number),
                false => Err(needs("`size` needs text or a list")),
            },
            ("startsWith" | "endsWith" | "contains", [_, _]) if call.target.is_some() => {
                match all(&[ValueType::Text]) {
                    true => Ok(ValueType::Bool),
                    false => Err(needs(&format!("`{name}` needs text"))),
                }
            }
            _ => Err(self.unknown_function(expression, name)),
        }
    }

    fn unknown_function(&self, expression: &IdedExpr, name: &str) -> ConditionError {
        if FUNCTIONS.contains(&name) {
            let instead = match name {
                "size" => "write `size(LIST)` or `size(TEXT)`",
                "has" => "write `has(caller.claims.NAME)`",
                _ => "write `TEXT.startsWith(TEXT)`, and `endsWith` and `contains` likewise",
            };
            return self.fault(
                expression,
                format!("`{name}` is called with the wrong arguments"),
                Some(instead),
            );
        }
        let instead = match nearest(name, FUNCTIONS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "the functions here are {}",
                FUNCTIONS.map(|name| format!("`{name}`")).join(", ")
            ),
        };
        self.fault(
            expression,
            format!("`{name}` is not a function here"),
            Some(&instead),
        )
    }
}
