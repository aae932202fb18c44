//! The names that an expression can read, and the variables to which they are rewritten.

use cel::common::ast::Expr;

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

pub(super) const REQUEST: &[(&str, Field)] = &[
    ("method", Field::Method),
    ("path", Field::Path),
    ("host", Field::Host),
    ("address", Field::Address),
];

pub(super) const CALLER: &[(&str, Field)] = &[
    ("known", Field::Known),
    ("anonymous", Field::Anonymous),
    ("subject", Field::Subject),
    ("issuer", Field::Issuer),
    ("session", Field::Session),
    ("aal", Field::Aal),
    ("roles", Field::Roles),
    ("claims", Field::Claims),
];

/// What a rewritten variable stands for.
pub(super) enum Variable<'a> {
    Field(Field),
    /// A claim, by the names on the way to it.
    Claim(Vec<&'a str>),
    /// Whether there is such a claim.
    Has(Vec<&'a str>),
}

/// Between the parts of a rewritten name. No identifier has it, and the name of a claim that does is refused.
pub(super) const SEPARATOR: char = '\u{1f}';

impl<'a> Variable<'a> {
    /// Reads a name that [`Variable::write`] wrote.
    pub(super) fn read(variable: &'a str) -> Option<Self> {
        let mut parts = variable.split(SEPARATOR);
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

    pub(super) fn write(kind: &str, parts: &[&str]) -> Expr {
        let mut name = kind.to_owned();
        for part in parts {
            name.push(SEPARATOR);
            name.push_str(part);
        }
        Expr::Ident(name)
    }
}
