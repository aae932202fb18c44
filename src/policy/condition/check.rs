//! Checks an expression when the configuration is read: its names, operators, functions and, as far
//! as they are known, its types.
//!
//! The check also rewrites the tree: every name with its fields becomes one variable, so that a
//! request pays only for the claims that it reads.

use cel::common::ast::{Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, SourceInfo, operators};
use cel::parser::Parser;

use super::value_type::ValueType;
use super::variable::{CALLER, Field, REQUEST, SEPARATOR, Variable};
use super::{ConditionError, LONGEST};
use crate::policy::spelling::nearest;

/// An expression that may be evaluated.
pub(super) struct Checked {
    pub(super) expression: IdedExpr,
    pub(super) reads_caller: bool,
}

/// Reads and checks an expression.
pub(super) fn check(source: &str) -> Result<Checked, ConditionError> {
    if source.len() > LONGEST {
        return Err(ConditionError {
            at: LONGEST,
            width: 1,
            message: format!("is longer than {LONGEST} bytes"),
            instead: Some("shorten it, or split it over several routes".to_owned()),
        });
    }
    if source.trim().is_empty() {
        return Err(ConditionError {
            at: 0,
            width: 1,
            message: "is empty".to_owned(),
            instead: Some(
                "write an expression such as `caller.aal == 'aal2'`, or remove the key".to_owned(),
            ),
        });
    }
    if let Some(at) = too_deep(source) {
        return Err(ConditionError {
            at,
            width: 1,
            message: format!("is nested more than {DEEPEST} brackets deep"),
            instead: None,
        });
    }
    let (expression, places) = Parser::default()
        .max_recursion_depth(DEPTH)
        .parse_with_source_info(source)
        .map_err(|errors| unreadable(source, &errors))?;
    let mut reader = Reader {
        source,
        places,
        reads_caller: false,
    };
    let (checked, kind) = reader.read(&expression)?;
    if !kind.is(&[ValueType::Bool]) {
        let message = format!("is {}, but must be true or false", kind.name());
        return Err(reader.fault(&expression, message, Some("compare it with something")));
    }
    Ok(Checked {
        expression: checked,
        reads_caller: reader.reads_caller,
    })
}

/// The deepest nesting of brackets. The parser descends about ten functions for each bracket, and
/// must not overflow the stack of any thread.
const DEEPEST: usize = 16;

/// The parser's own limit, which also counts other nesting than brackets.
const DEPTH: u16 = 32;

/// The index of the first bracket that is nested too deep. Brackets inside string literals count,
/// too; no useful condition has that many.
fn too_deep(source: &str) -> Option<usize> {
    let mut depth: usize = 0;
    source.chars().position(|letter| {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEEPEST
    })
}

/// The first error of the parser; further errors mostly follow from it.
fn unreadable(source: &str, errors: &cel::ParseErrors) -> ConditionError {
    let (line, column) = errors.errors.first().map_or((1, 1), |error| error.pos);
    let message = errors.errors.first().map_or("", |error| error.msg.as_str());
    let before: usize = source
        .split_inclusive('\n')
        .take(usize::try_from(line.saturating_sub(1)).unwrap_or(0))
        .map(|line| line.chars().count())
        .sum();
    let column = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
    ConditionError {
        at: before.saturating_add(column),
        width: 1,
        message: format!(
            "is not a CEL expression: {}",
            message.lines().next().unwrap_or_default().trim()
        ),
        instead: None,
    }
}

pub(super) struct Reader<'a> {
    source: &'a str,
    places: SourceInfo,
    reads_caller: bool,
}

impl Reader<'_> {
    pub(super) fn read(
        &mut self,
        expression: &IdedExpr,
    ) -> Result<(IdedExpr, ValueType), ConditionError> {
        let (expr, kind) = match &expression.expr {
            Expr::Call(call) => return self.call(expression, call),
            Expr::Select(_) | Expr::Ident(_) => return self.name(expression),
            Expr::List(list) => {
                let elements = list
                    .elements
                    .iter()
                    .map(|element| self.read(element).map(|(element, _)| element))
                    .collect::<Result<_, _>>()?;
                (Expr::List(ListExpr::new(elements)), ValueType::List)
            }
            Expr::Literal(literal) => {
                let kind = match literal {
                    LiteralValue::Boolean(_) => ValueType::Bool,
                    LiteralValue::String(_) => ValueType::Text,
                    LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => {
                        ValueType::Number
                    }
                    LiteralValue::Null => ValueType::Null,
                    LiteralValue::Bytes(_) => {
                        return Err(self.fault(
                            expression,
                            "bytes are not supported",
                            Some("write text, without the `b`"),
                        ));
                    }
                };
                (expression.expr.clone(), kind)
            }
            Expr::Comprehension(_) => {
                let message = "`all`, `exists`, `exists_one`, `map` and `filter` are not allowed: a condition has no loops";
                return Err(self.fault(
                    expression,
                    message,
                    Some("use `in`, such as `'admin' in caller.roles`"),
                ));
            }
            Expr::Map(_) | Expr::Struct(_) => {
                return Err(self.fault(expression, "a map is not allowed", None));
            }
            Expr::Unspecified => return Err(self.fault(expression, "is incomplete", None)),
        };
        Ok((
            IdedExpr {
                id: expression.id,
                expr,
            },
            kind,
        ))
    }

    /// Checks a name with its fields, or a field of a computed value.
    pub(super) fn name(
        &mut self,
        expression: &IdedExpr,
    ) -> Result<(IdedExpr, ValueType), ConditionError> {
        let tests = matches!(&expression.expr, Expr::Select(select) if select.test);
        let (expr, value_type) = match path_of(expression) {
            Some((root, fields)) => self.known_name(expression, root, &fields, tests)?,
            None => self.field_of_value(expression, tests)?,
        };
        let id = expression.id;
        Ok((IdedExpr { id, expr }, value_type))
    }

    /// Checks a field of a computed value, such as an item of a list.
    fn field_of_value(
        &mut self,
        expression: &IdedExpr,
        tests: bool,
    ) -> Result<(Expr, ValueType), ConditionError> {
        let Expr::Select(select) = &expression.expr else {
            return Err(self.fault(expression, "is not a name", None));
        };
        let (operand, value_type) = self.read(&select.operand)?;
        if !value_type.is(&[ValueType::Any]) {
            let message = format!("{} has no fields", value_type.name());
            return Err(self.fault(expression, message, None));
        }
        let value_type = if tests {
            ValueType::Bool
        } else {
            ValueType::Any
        };
        let select = SelectExpr {
            operand: Box::new(operand),
            field: select.field.clone(),
            test: tests,
        };
        Ok((Expr::Select(select), value_type))
    }

    /// Checks a field of `request` or `caller`.
    fn known_name(
        &mut self,
        expression: &IdedExpr,
        root: &str,
        fields: &[&str],
        tests: bool,
    ) -> Result<(Expr, ValueType), ConditionError> {
        let known = match root {
            "request" => REQUEST,
            "caller" => CALLER,
            _ => return Err(self.unknown_root(expression, root)),
        };
        self.reads_caller |= root == "caller";
        let Some((first, rest)) = fields.split_first() else {
            let message = format!("`{root}` alone is not a value");
            let instead = format!("write one of {}", list(root, known));
            return Err(self.fault(expression, message, Some(&instead)));
        };
        let Some((_, field)) = known.iter().find(|(name, _)| name == first) else {
            let instead = match nearest(first, known.iter().map(|(name, _)| *name)) {
                Some(near) => format!("did you mean `{root}.{near}`?"),
                None => format!("there are {}", list(root, known)),
            };
            let message = format!("`{root}.{first}` is not a name");
            return Err(self.fault(expression, message, Some(&instead)));
        };
        if *field == Field::Claims {
            return self.claim(expression, root, fields, tests);
        }
        if !rest.is_empty() {
            let message = format!("`{root}.{first}` has no fields");
            return Err(self.fault(expression, message, None));
        }
        if tests {
            let message = format!("`{root}.{first}` is always present");
            return Err(self.fault(
                expression,
                message,
                Some("compare it, with `null` if necessary"),
            ));
        }
        Ok((Variable::write(root, &[first]), ValueType::of(*field)))
    }

    /// Checks `caller.claims` with its fields.
    fn claim(
        &self,
        expression: &IdedExpr,
        root: &str,
        fields: &[&str],
        tests: bool,
    ) -> Result<(Expr, ValueType), ConditionError> {
        if fields.iter().any(|name| name.contains(SEPARATOR)) {
            return Err(self.fault(expression, "no claim has such a name", None));
        }
        match (tests, fields) {
            (true, [] | [_]) => Err(self.fault(
                expression,
                "`caller.claims` is always present",
                Some("write the name of a claim"),
            )),
            (true, [_, rest @ ..]) => Ok((Variable::write("has", rest), ValueType::Bool)),
            (false, [] | [_]) => Ok((Variable::write(root, fields), ValueType::Any)),
            (false, [_, rest @ ..]) => Ok((Variable::write("claim", rest), ValueType::Any)),
        }
    }

    fn unknown_root(&self, expression: &IdedExpr, root: &str) -> ConditionError {
        let instead = match nearest(root, ["request", "caller"]) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "the names here are `request` and `caller`".to_owned(),
        };
        let message = format!("`{root}` is not a name");
        self.fault(expression, message, Some(&instead))
    }

    pub(super) fn fault(
        &self,
        expression: &IdedExpr,
        message: impl Into<String>,
        instead: Option<&str>,
    ) -> ConditionError {
        let (start, stop) = self.places.offset_for(expression.id).unwrap_or((0, 0));
        let index = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
        let length = self.source.chars().count();
        let at = index(start).min(length.saturating_sub(1));
        let end = index(stop).saturating_add(1).min(length);
        ConditionError {
            at,
            width: end.saturating_sub(at).max(1),
            message: message.into(),
            instead: instead.map(str::to_owned),
        }
    }
}

/// The fields of `request` or `caller`, for a message.
fn list(root: &str, known: &[(&str, Field)]) -> String {
    let names: Vec<String> = known
        .iter()
        .map(|(name, _)| format!("`{root}.{name}`"))
        .collect();
    names.join(", ")
}

/// The name at the root and its fields: `a.b['c']` is `a`, `b`, `c`. `None` for a computed value.
pub(super) fn path_of(expression: &IdedExpr) -> Option<(&str, Vec<&str>)> {
    match &expression.expr {
        Expr::Ident(name) => Some((name, Vec::new())),
        Expr::Select(select) => {
            let (root, mut fields) = path_of(&select.operand)?;
            fields.push(&select.field);
            Some((root, fields))
        }
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [of, index] = &call.args[..] else {
                return None;
            };
            let Expr::Literal(LiteralValue::String(name)) = &index.expr else {
                return None;
            };
            let (root, mut fields) = path_of(of)?;
            fields.push(name.inner());
            Some((root, fields))
        }
        Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_)
        | Expr::Unspecified => None,
    }
}
