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

/// The meaning of a rewritten variable.
pub(super) enum Variable<'a> {
    Field(Field),
    /// A claim, by its path.
    Claim(Vec<&'a str>),
    /// Whether the claim exists.
    Has(Vec<&'a str>),
}

/// Separates the parts of a rewritten name. No identifier contains it, and a claim whose name
/// contains it is refused.
pub(super) const SEPARATOR: char = '\u{1f}';

impl<'a> Variable<'a> {
    /// Parses a name that [`Variable::write`] wrote.
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

    /// The variable with this prefix and these parts.
    pub(super) fn write(kind: &str, parts: &[&str]) -> Expr {
        let mut name = kind.to_owned();
        for part in parts {
            name.push(SEPARATOR);
            name.push_str(part);
        }
        Expr::Ident(name)
    }
}
