//! Roles: whether what the caller is allows what the request does.
//!
//! Decides: 403 `caller_banned`, `caller_inactive`, `anonymous_refused`, `aal_insufficient`, and `role_insufficient` for an action that
//! neither a role grants nor any relation to the things of the route could.
//! Trusts: claims that only the identity server writes (`app_metadata`), the operator's list, and `facts.caller`; never `user_metadata` or a
//! role in a profile row, which users write themselves. Not here: whose a thing is (`ownership`).

use std::collections::HashMap;
use std::sync::Arc;

use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::Value;

use super::performance::Informed;
use super::{Check, Layer, LayerName};
use crate::denial::{Denial, Reason};
use crate::policy::{self, Access, Grants, Route};
use crate::request::Inbound;
use crate::tokens::Verified;

/// The role that every verified caller has.
pub const EVERYBODY: &str = "user";

/// The role that takes every right away.
pub const BANNED: &str = "banned";

/// What a request does, such as `read`; `read:any` crosses ownership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Action(String);

impl Action {
    /// Lower-case letters, digits and `_`, optionally followed by `:any`.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_suffix(":any").unwrap_or(text);
        let valid = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        valid.then(|| Self(text.to_owned()))
    }

    /// The name in the route map.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a method does unless the route says otherwise.
    pub fn of_method(method: &Method) -> &'static str {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => "read",
            Method::DELETE => "delete",
            _ => "write",
        }
    }

    /// What a request to this route does: what the route says, or else by the method.
    pub fn of<'a>(route: &'a Route, method: &Method) -> &'a str {
        match &route.action {
            Some(action) => action.as_str(),
            None => Self::of_method(method),
        }
    }
}

/// The roles of one caller, [`EVERYBODY`]'s first, and what they grant.
#[derive(Debug)]
pub struct RoleSet {
    names: Vec<Arc<str>>,
    field: Option<HeaderValue>,
    grants: Vec<Arc<Grants>>,
}

/// Nobody's.
pub static NO_ROLES: RoleSet = RoleSet {
    names: Vec::new(),
    field: Some(HeaderValue::from_static("")),
    grants: Vec::new(),
};

impl RoleSet {
    fn new(names: Vec<Arc<str>>, table: &HashMap<Arc<str>, Arc<Grants>>) -> Self {
        Self {
            field: HeaderValue::from_bytes(names.join(",").as_bytes()).ok(),
            grants: names
                .iter()
                .filter_map(|role| table.get(role).cloned())
                .collect(),
            names,
        }
    }

    /// Their names.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Their names with commas between them, as upstreams read it; none if one has what would end the field.
    pub fn field(&self) -> Option<&HeaderValue> {
        self.field.as_ref()
    }

    /// Whether one of them takes every right away.
    pub fn is_banned(&self) -> bool {
        self.names.iter().any(|role| **role == *BANNED)
    }

    /// Whether one of them grants the action on what is somebody else's.
    pub fn crosses(&self, action: &str) -> bool {
        let name = action.strip_suffix(":any").unwrap_or(action);
        let crossing = |granted: &Action| granted.as_str().strip_suffix(":any") == Some(name);
        self.grants.iter().any(|grants| match &**grants {
            Grants::All => true,
            Grants::Actions(actions) => actions.iter().any(crossing),
        })
    }

    fn grants(&self, action: &str) -> bool {
        self.grants.iter().any(|grants| match &**grants {
            Grants::All => true,
            Grants::Actions(actions) => includes(actions, action),
        })
    }
}

/// Which roles a caller has, and what they grant.
#[derive(Debug)]
pub struct RoleTable {
    from: Vec<String>,
    listed: HashMap<String, Vec<Arc<str>>>,
    grants: HashMap<Arc<str>, Arc<Grants>>,
    /// What nearly every caller has, and nothing else.
    ordinary: Arc<RoleSet>,
}

impl RoleTable {
    /// Builds the table.
    pub fn new(roles: &policy::Roles) -> Self {
        let mut listed: HashMap<String, Vec<Arc<str>>> = HashMap::new();
        for (role, subjects) in &roles.list {
            let role: Arc<str> = role.as_str().into();
            for subject in subjects {
                listed
                    .entry(subject.clone())
                    .or_default()
                    .push(role.clone());
            }
        }
        let grants = roles
            .grants
            .iter()
            .map(|(role, grants)| (role.as_str().into(), Arc::new(grants.clone())))
            .collect();
        Self {
            from: roles.from.clone(),
            listed,
            ordinary: Arc::new(RoleSet::new(vec![EVERYBODY.into()], &grants)),
            grants,
        }
    }

    /// The roles of a caller that grant or take something; unknown names in a token mean nothing.
    pub fn of(&self, verified: &Verified) -> Arc<RoleSet> {
        let mut roles: Vec<Arc<str>> = Vec::new();
        let mut add = |name: &str| {
            if name == EVERYBODY {
                return;
            }
            let known = self
                .grants
                .get_key_value(name)
                .map(|(role, _)| role.clone());
            let role = known.or_else(|| (name == BANNED).then(|| BANNED.into()));
            if let Some(role) = role.filter(|role| !roles.contains(role)) {
                roles.push(role);
            }
        };
        match claim(verified.claims(), &self.from) {
            Some(Value::String(role)) => add(role),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).for_each(add),
            _ => {}
        }
        for role in self.listed.get(verified.subject()).into_iter().flatten() {
            if **role != *EVERYBODY && !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        if roles.is_empty() {
            return Arc::clone(&self.ordinary);
        }
        roles.splice(..0, self.ordinary.names().iter().cloned());
        Arc::new(RoleSet::new(roles, &self.grants))
    }

    /// Whether no role may do this but those that may do everything.
    pub fn is_for_admins(&self, action: &str) -> bool {
        !self.grants.values().any(|grants| match &**grants {
            Grants::All => false,
            Grants::Actions(actions) => includes(actions, action),
        })
    }
}

/// A grant across ownership includes the grant on one's own.
fn includes(granted: &[Action], action: &str) -> bool {
    granted.iter().any(|granted| {
        granted.as_str() == action || granted.as_str().strip_suffix(":any") == Some(action)
    })
}

fn claim<'a>(claims: &'a serde_json::Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(claims.get(first)?, |value, name| value.get(name))
}

/// The layer.
#[derive(Debug)]
pub struct Roles;

/// Proof that the caller's roles allow the action, or a relation to the things that it names may.
#[derive(Clone, Copy, Debug)]
pub struct Granted(());

impl Layer for Roles {
    const NAME: LayerName = LayerName::Roles;
    type Proof = Granted;
}

impl Check for Roles {
    type Given<'a> = &'a Informed;

    fn check(&self, request: &Inbound, informed: &Informed) -> Result<Granted, Denial> {
        let rule = request.rule();
        let caller = informed.caller();
        let Some(verified) = caller.verified() else {
            // Identity lets a stranger through only on public and optional routes.
            return Ok(Granted(()));
        };
        if caller.roles().is_banned() {
            return Err(Reason::CallerBanned.into());
        }
        if informed.known().is_active == Some(false) {
            return Err(Reason::CallerInactive.into());
        }
        // An optional route lets a stranger in, so a known caller may not be worse off for having said who it is.
        if rule.access == Access::Optional {
            return Ok(Granted(()));
        }
        if verified.aal() < rule.aal {
            return Err(Reason::AalInsufficient.because(format!(
                "aal{} of aal{}",
                verified.aal(),
                rule.aal
            )));
        }
        if verified.is_anonymous() && !rule.anonymous {
            return Err(Reason::AnonymousRefused.into());
        }
        let action = Action::of(rule, request.method());
        let things = &informed.known().things;
        // What a body names beside is judged by its own action; it does not grant the route's.
        if rule.resources.is_empty() && !caller.roles().grants(action) {
            return Err(Reason::RoleInsufficient.because(format!("`{action}`")));
        }
        // A relation may grant what no role does, but nothing across ownership. Which it is, is for `ownership` to say.
        let beyond = things
            .iter()
            .map(|thing| thing.named.action.as_str())
            .find(|action| action.ends_with(":any") && !caller.roles().crosses(action));
        if let Some(action) = beyond {
            return Err(Reason::RoleInsufficient.because(format!("`{action}`")));
        }
        Ok(Granted(()))
    }
}
