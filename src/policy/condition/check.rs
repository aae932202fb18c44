//! What an expression may say.
//!
//! Decides:  which names, operators and functions there are, and which types go together as far as that can be known beforehand.
//! Trusts:   the parser, for the tree. Not here: what the names mean (`scope`).
//!
//! The tree is rewritten on the way: every name with its fields becomes one variable, so that a request pays for what it reads and not
//! for all the claims of its token.

use cel::common::ast::{
    CallExpr, Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, SourceInfo, operators,
};
use cel::parser::Parser;

use super::{Fault, LONGEST};
use crate::policy::spelling::nearest;

/// An expression that may be computed.
pub(super) struct Checked {
    pub(super) expression: IdedExpr,
    pub(super) reads_caller: bool,
}

/// The fields of `request` and `caller`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Method,
    Path,
    Host,
    Address,
    Known,
    Anonymous,
    Subject,
    Issuer,
    Session,
    Aal,
    Roles,
    Claims,
}

const REQUEST: &[(&str, Field)] = &[
    ("method", Field::Method),
    ("path", Field::Path),
    ("host", Field::Host),
    ("address", Field::Address),
];

const CALLER: &[(&str, Field)] = &[
    ("known", Field::Known),
    ("anonymous", Field::Anonymous),
    ("subject", Field::Subject),
    ("issuer", Field::Issuer),
    ("session", Field::Session),
    ("aal", Field::Aal),
    ("roles", Field::Roles),
    ("claims", Field::Claims),
];

const FUNCTIONS: [&str; 5] = ["size", "startsWith", "endsWith", "contains", "has"];

/// What a rewritten variable stands for.
pub(super) enum Name<'a> {
    Field(Field),
    /// A claim, by the names on the way to it.
    Claim(Vec<&'a str>),
    /// Whether there is such a claim.
    Has(Vec<&'a str>),
}

/// Between the parts of a rewritten name. No identifier has it, and the name of a claim that does is refused.
const BETWEEN: char = '\u{1f}';

impl<'a> Name<'a> {
    /// Reads a name that [`Name::write`] wrote.
    pub(super) fn read(variable: &'a str) -> Option<Self> {
        let mut parts = variable.split(BETWEEN);
        let field = |fields: &[(&str, Field)], name: Option<&str>| {
            let (_, field) = fields.iter().find(|(known, _)| Some(*known) == name)?;
            Some(Self::Field(*field))
        };
        match parts.next()? {
            "request" => field(REQUEST, parts.next()),
            "caller" => field(CALLER, parts.next()),
            "claim" => Some(Self::Claim(parts.collect())),
            "has" => Some(Self::Has(parts.collect())),
            _ => None,
        }
    }

    fn write(kind: &str, parts: &[&str]) -> Expr {
        let mut name = kind.to_owned();
        for part in parts {
            name.push(BETWEEN);
            name.push_str(part);
        }
        Expr::Ident(name)
    }
}

/// What can be known about a value before there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Truth,
    Text,
    /// Text, or `null` for nobody.
    TextOrNull,
    Number,
    List,
    Null,
    /// A claim, or a part of one.
    Any,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Truth => "true or false",
            Self::Text | Self::TextOrNull => "text",
            Self::Number => "a number",
            Self::List => "a list",
            Self::Null => "`null`",
            Self::Any => "a claim",
        }
    }

    const fn of(field: Field) -> Self {
        match field {
            Field::Method | Field::Path | Field::Host | Field::Address => Self::Text,
            Field::Known | Field::Anonymous => Self::Truth,
            Field::Subject | Field::Issuer | Field::Session | Field::Aal => Self::TextOrNull,
            Field::Roles => Self::List,
            Field::Claims => Self::Any,
        }
    }

    /// Whether it can be one of these.
    fn is(self, kinds: &[Self]) -> bool {
        match self {
            Self::Any => true,
            Self::TextOrNull => kinds.contains(&Self::Text) || kinds.contains(&Self::Null),
            Self::Truth | Self::Text | Self::Number | Self::List | Self::Null => {
                kinds.contains(&self)
            }
        }
    }

    /// Whether two values can be equal.
    fn meets(self, other: Self) -> bool {
        match other {
            Self::Any => true,
            Self::TextOrNull => self.is(&[Self::Text, Self::Null, Self::TextOrNull]),
            Self::Truth | Self::Text | Self::Number | Self::List | Self::Null => self.is(&[other]),
        }
    }
}

/// Reads and checks an expression.
pub(super) fn check(source: &str) -> Result<Checked, Fault> {
    if source.len() > LONGEST {
        return Err(Fault {
            at: LONGEST,
            width: 1,
            message: format!("is longer than {LONGEST} bytes"),
            instead: Some("say it in a shorter way, or in several routes".to_owned()),
        });
    }
    if source.trim().is_empty() {
        return Err(Fault {
            at: 0,
            width: 1,
            message: "is empty".to_owned(),
            instead: Some(
                "write an expression such as `caller.aal == 'aal2'`, or remove the key".to_owned(),
            ),
        });
    }
    if let Some(at) = too_deep(source) {
        return Err(Fault {
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
    if !kind.is(&[Kind::Truth]) {
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
fn unreadable(source: &str, errors: &cel::ParseErrors) -> Fault {
    let (line, column) = errors.errors.first().map_or((1, 1), |error| error.pos);
    let told = errors.errors.first().map_or("", |error| error.msg.as_str());
    let before: usize = source
        .split_inclusive('\n')
        .take(usize::try_from(line.saturating_sub(1)).unwrap_or(0))
        .map(|line| line.chars().count())
        .sum();
    let column = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
    Fault {
        at: before.saturating_add(column),
        width: 1,
        message: format!(
            "is not an expression in CEL: {}",
            told.lines().next().unwrap_or_default().trim()
        ),
        instead: None,
    }
}

struct Reader<'a> {
    source: &'a str,
    places: SourceInfo,
    reads_caller: bool,
}

impl Reader<'_> {
    fn read(&mut self, expression: &IdedExpr) -> Result<(IdedExpr, Kind), Fault> {
        let (expr, kind) = match &expression.expr {
            Expr::Call(call) => return self.call(expression, call),
            Expr::Select(_) | Expr::Ident(_) => return self.name(expression),
            Expr::List(list) => {
                let elements = list
                    .elements
                    .iter()
                    .map(|element| self.read(element).map(|(element, _)| element))
                    .collect::<Result<_, _>>()?;
                (Expr::List(ListExpr::new(elements)), Kind::List)
            }
            Expr::Literal(literal) => {
                let kind = match literal {
                    LiteralValue::Boolean(_) => Kind::Truth,
                    LiteralValue::String(_) => Kind::Text,
                    LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => {
                        Kind::Number
                    }
                    LiteralValue::Null => Kind::Null,
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
    fn name(&mut self, expression: &IdedExpr) -> Result<(IdedExpr, Kind), Fault> {
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
            if !kind.is(&[Kind::Any]) {
                let message = format!("{} has no fields", kind.name());
                return Err(self.fault(expression, message, None));
            }
            let kind = if tests { Kind::Truth } else { Kind::Any };
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
            if fields.iter().any(|name| name.contains(BETWEEN)) {
                return Err(self.fault(expression, "no claim has such a name", None));
            }
            return match (tests, rest) {
                (true, []) => Err(self.fault(
                    expression,
                    "`caller.claims` is always there",
                    Some("write the name of a claim"),
                )),
                (true, _) => done(Name::write("has", rest), Kind::Truth),
                (false, []) => done(Name::write(root, &[first]), Kind::Any),
                (false, _) => done(Name::write("claim", rest), Kind::Any),
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
        done(Name::write(root, &[first]), Kind::of(*field))
    }

    fn call(&mut self, expression: &IdedExpr, call: &CallExpr) -> Result<(IdedExpr, Kind), Fault> {
        // An index by a name is a field with another spelling.
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
        kinds: &[Kind],
    ) -> Result<Kind, Fault> {
        use operators as op;
        let all = |of: &[Kind]| kinds.iter().all(|kind| kind.is(of));
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
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT, _) => match all(&[Kind::Truth]) {
                true => Ok(Kind::Truth),
                false => Err(needs("`&&`, `||` and `!` need true or false")),
            },
            (op::CONDITIONAL, [condition, yes, no]) => match condition.is(&[Kind::Truth]) {
                true if yes == no => Ok(*yes),
                true => Ok(Kind::Any),
                false => Err(needs("`?:` begins with true or false")),
            },
            (op::EQUALS | op::NOT_EQUALS, [left, right]) => match left.meets(*right) {
                true => Ok(Kind::Truth),
                false => Err(self.fault(
                    expression,
                    format!("{} is never equal to {}", left.name(), right.name()),
                    None,
                )),
            },
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [left, right]) => {
                let fits = all(&[Kind::Text]) || all(&[Kind::Number]);
                match fits && left.meets(*right) {
                    true => Ok(Kind::Truth),
                    false => Err(needs("an order needs two numbers or two texts")),
                }
            }
            (op::IN, [_, right]) => match right.is(&[Kind::List]) {
                true => Ok(Kind::Truth),
                false => Err(needs("`in` needs a list on its right")),
            },
            (op::INDEX, [of, _]) => match of.is(&[Kind::List]) {
                true => Ok(Kind::Any),
                false => Err(needs("only a list or a claim has an index")),
            },
            (op::ADD, _) if all(&[Kind::Text]) => Ok(Kind::Text),
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO | op::NEGATE, _) => {
                match all(&[Kind::Number]) {
                    true => Ok(Kind::Number),
                    false => Err(needs("arithmetic needs numbers")),
                }
            }
            ("size", [_]) => match all(&[Kind::Text, Kind::List]) {
                true => Ok(Kind::Number),
                false => Err(needs("`size` is of text or a list")),
            },
            ("startsWith" | "endsWith" | "contains", [_, _]) if call.target.is_some() => {
                match all(&[Kind::Text]) {
                    true => Ok(Kind::Truth),
                    false => Err(needs(&format!("`{name}` looks into text"))),
                }
            }
            _ => Err(self.unknown_function(expression, name)),
        }
    }

    fn unknown_function(&self, expression: &IdedExpr, name: &str) -> Fault {
        if FUNCTIONS.contains(&name) {
            let instead = match name {
                "size" => "write `size(LIST)` or `size(TEXT)`",
                "has" => "write `has(caller.claims.NAME)`",
                _ => "write `TEXT.startsWith(TEXT)`, and `endsWith` and `contains` likewise",
            };
            return self.fault(
                expression,
                format!("`{name}` is not called so"),
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

    fn fault(
        &self,
        expression: &IdedExpr,
        message: impl Into<String>,
        instead: Option<&str>,
    ) -> Fault {
        let (start, stop) = self.places.offset_for(expression.id).unwrap_or((0, 0));
        let index = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
        let length = self.source.chars().count();
        let at = index(start).min(length.saturating_sub(1));
        let end = index(stop).saturating_add(1).min(length);
        Fault {
            at,
            width: end.saturating_sub(at).max(1),
            message: message.into(),
            instead: instead.map(str::to_owned),
        }
    }
}

/// The name at the root and the fields behind it: `a.b['c']` is `a`, `b`, `c`. `None` if it is computed.
fn path_of(expression: &IdedExpr) -> Option<(&str, Vec<&str>)> {
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
