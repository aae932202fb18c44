//! What an expression may say.
//!
//! Decides:  which names, operators and functions there are, and which types go together as far as that can be known beforehand.
//! Trusts:   the parser, for the tree. Not here: what the names mean (`scope`).
//!
//! The tree is rewritten on the way: every name with its fields becomes one variable, so that a request pays for what it reads and not
//! for all the claims of its token.

use cel::common::ast::{Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, SourceInfo, operators};
use cel::parser::Parser;

use super::value_type::ValueType;
use super::variable::{CALLER, Field, REQUEST, SEPARATOR, Variable};
use super::{ConditionError, LONGEST};
use crate::policy::spelling::nearest;

/// An expression that may be computed.
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
            instead: Some("say it in a shorter way, or in several routes".to_owned()),
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

/// Brackets inside brackets. The parser descends about ten functions for each, and must not come to the end of any thread's stack.
const DEEPEST: usize = 16;

/// The parser's own limit, which counts other things, too.
const DEPTH: u16 = 32;

/// The character where brackets go too deep. Text counts like everything else: a condition full of brackets in quotes is not missed.
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

/// The parser's first complaint; further ones mostly follow from it.
fn unreadable(source: &str, errors: &cel::ParseErrors) -> ConditionError {
    let (line, column) = errors.errors.first().map_or((1, 1), |error| error.pos);
    let told = errors.errors.first().map_or("", |error| error.msg.as_str());
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
            "is not an expression in CEL: {}",
            told.lines().next().unwrap_or_default().trim()
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
                            "bytes are not compared here",
                            Some("write text, without the `b`"),
                        ));
                    }
                };
                (expression.expr.clone(), kind)
            }
            Expr::Comprehension(_) => {
                let message = "`all`, `exists`, `exists_one`, `map` and `filter` are not allowed: a condition must end at once";
                return Err(self.fault(
                    expression,
                    message,
                    Some("ask with `in`, such as `'admin' in caller.roles`"),
                ));
            }
            Expr::Map(_) | Expr::Struct(_) => {
                return Err(self.fault(expression, "a mapping is not allowed", None));
            }
            Expr::Unspecified => return Err(self.fault(expression, "is not complete", None)),
        };
        Ok((
            IdedExpr {
                id: expression.id,
                expr,
            },
            kind,
        ))
    }

    /// A name with its fields, or a field of something that is computed.
    pub(super) fn name(
        &mut self,
        expression: &IdedExpr,
    ) -> Result<(IdedExpr, ValueType), ConditionError> {
        let done = |expr, kind| {
            Ok((
                IdedExpr {
                    id: expression.id,
                    expr,
                },
                kind,
            ))
        };
        let tests = matches!(&expression.expr, Expr::Select(select) if select.test);
        let Some((root, fields)) = path_of(expression) else {
            // A field of what an index gave.
            let Expr::Select(select) = &expression.expr else {
                return Err(self.fault(expression, "is not a name", None));
            };
            let (operand, kind) = self.read(&select.operand)?;
            if !kind.is(&[ValueType::Any]) {
                let message = format!("{} has no fields", kind.name());
                return Err(self.fault(expression, message, None));
            }
            let kind = if tests {
                ValueType::Bool
            } else {
                ValueType::Any
            };
            return done(
                Expr::Select(SelectExpr {
                    operand: Box::new(operand),
                    field: select.field.clone(),
                    test: tests,
                }),
                kind,
            );
        };
        let known = match root {
            "request" => REQUEST,
            "caller" => CALLER,
            _ => {
                let instead = match nearest(root, ["request", "caller"]) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "the names here are `request` and `caller`".to_owned(),
                };
                return Err(self.fault(
                    expression,
                    format!("`{root}` is not a name"),
                    Some(&instead),
                ));
            }
        };
        self.reads_caller |= root == "caller";
        let names = || known.iter().map(|(name, _)| *name);
        let list = || {
            names()
                .map(|name| format!("`{root}.{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Some((first, rest)) = fields.split_first() else {
            let message = format!("`{root}` alone says nothing");
            return Err(self.fault(
                expression,
                message,
                Some(&format!("write one of {}", list())),
            ));
        };
        let Some((_, field)) = known.iter().find(|(name, _)| name == first) else {
            let instead = match nearest(first, names()) {
                Some(near) => format!("did you mean `{root}.{near}`?"),
                None => format!("there are {}", list()),
            };
            let message = format!("`{root}.{first}` is not a name");
            return Err(self.fault(expression, message, Some(&instead)));
        };
        if *field == Field::Claims {
            if fields.iter().any(|name| name.contains(SEPARATOR)) {
                return Err(self.fault(expression, "no claim has such a name", None));
            }
            return match (tests, rest) {
                (true, []) => Err(self.fault(
                    expression,
                    "`caller.claims` is always there",
                    Some("write the name of a claim"),
                )),
                (true, _) => done(Variable::write("has", rest), ValueType::Bool),
                (false, []) => done(Variable::write(root, &[first]), ValueType::Any),
                (false, _) => done(Variable::write("claim", rest), ValueType::Any),
            };
        }
        if !rest.is_empty() {
            let message = format!("`{root}.{first}` has no fields");
            return Err(self.fault(expression, message, None));
        }
        if tests {
            let message = format!("`{root}.{first}` is always there");
            return Err(self.fault(
                expression,
                message,
                Some("compare it, with `null` if need be"),
            ));
        }
        done(Variable::write(root, &[first]), ValueType::of(*field))
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

/// The name at the root and the fields behind it: `a.b['c']` is `a`, `b`, `c`. `None` if it is computed.
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
