//! The values that an expression can read of a request and its caller.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::common::types::{CelBool, CelNull, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use serde_json::{Map, Value as Json};

use super::variable::{Field, Variable};

/// One request and its caller, as an expression sees them. A value is copied only when the
/// expression reads it.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The method, with HEAD as GET.
    pub method: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The host, without a port.
    pub host: &'a str,
    /// The client's address.
    pub address: &'a str,
    /// The proven caller; `None` without one.
    pub caller: Option<CallerFields<'a>>,
    /// The roles that the configuration knows.
    pub roles: &'a [Arc<str>],
}

/// The fields of a verified token.
#[derive(Clone, Copy, Debug)]
pub struct CallerFields<'a> {
    /// `sub`.
    pub subject: &'a str,
    /// `iss`.
    pub issuer: &'a str,
    /// `session_id`, if the token names one.
    pub session: Option<&'a str>,
    /// The authenticator assurance level, 1 or 2.
    pub aal: u8,
    /// Whether the caller is one of Supabase's anonymous users.
    pub is_anonymous: bool,
    /// All claims of the token.
    pub claims: &'a Map<String, Json>,
}

impl<'a> Scope<'a> {
    fn claim(&self, path: &[&str]) -> Option<&'a Json> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.caller?.claims.get(*first)?, |value, name| {
                value.get(*name)
            })
    }

    fn field(&self, field: Field) -> Option<CowVal<'_, '_>> {
        let known = self.caller;
        Some(match field {
            Field::Method => text(self.method),
            Field::Path => text(self.path),
            Field::Host => text(self.host),
            Field::Address => text(self.address),
            Field::Known => truth(known.is_some()),
            Field::Anonymous => truth(known.is_some_and(|caller| caller.is_anonymous)),
            Field::Subject => text_or_null(known.map(|caller| caller.subject)),
            Field::Issuer => text_or_null(known.map(|caller| caller.issuer)),
            Field::Session => text_or_null(known.and_then(|caller| caller.session)),
            Field::Aal => match known.map(|caller| caller.aal) {
                None => CowVal::owned(CelNull),
                Some(2) => text("aal2"),
                Some(_) => text("aal1"),
            },
            Field::Roles => {
                let roles = self.roles.iter().map(|role| Value::from(role.as_ref()));
                converted(roles.collect::<Vec<_>>().into())?
            }
            Field::Claims => match known.map(|caller| caller.claims) {
                Some(claims) => converted(map_of(claims))?,
                None => converted(map_of(&Map::new()))?,
            },
        })
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match Variable::read(variable)? {
            Variable::Field(field) => self.field(field),
            Variable::Has(path) => Some(truth(self.claim(&path).is_some())),
            // Strings are borrowed; numbers, lists and objects are converted.
            Variable::Claim(path) => match self.claim(&path)? {
                Json::String(value) => Some(text(value)),
                Json::Bool(value) => Some(truth(*value)),
                Json::Null => Some(CowVal::owned(CelNull)),
                other @ (Json::Number(_) | Json::Array(_) | Json::Object(_)) => {
                    converted(value_of(other))
                }
            },
        }
    }
}

fn text<'b>(text: &'b str) -> CowVal<'b, 'b> {
    CowVal::owned(CelString::from(text))
}

fn text_or_null(text: Option<&str>) -> CowVal<'_, '_> {
    match text {
        Some(text) => CowVal::owned(CelString::from(text)),
        None => CowVal::owned(CelNull),
    }
}

fn truth<'b>(value: bool) -> CowVal<'b, 'b> {
    CowVal::owned(CelBool::from(value))
}

/// A number, a list or an object. Every integer has one type, so that arithmetic works on all of
/// them.
fn converted<'b>(value: Value) -> Option<CowVal<'b, 'b>> {
    value.try_into().ok().map(CowVal::Owned)
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(number)) => number.into(),
            (None, None) => Value::Null,
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(value_of).collect::<Vec<_>>().into(),
        Json::Object(members) => map_of(members),
    }
}

fn map_of(members: &Map<String, Json>) -> Value {
    let members: HashMap<String, Value> = members
        .iter()
        .map(|(name, value)| (name.clone(), value_of(value)))
        .collect();
    members.into()
}
