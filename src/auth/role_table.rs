//! Which roles a caller has, and what they grant together.
//!
//! Decides: which role names of a token mean something. Trusts: claims that only the identity server writes (`app_metadata`) and the
//! operator's list. Not here: whether that is enough (`roles`).

use std::collections::HashMap;
use std::sync::Arc;

use hyper::header::HeaderValue;
use serde_json::Value;

use crate::policy;
use crate::policy::roles::{Action, Grants, includes};
use crate::tokens::Verified;

/// The role that every verified caller has.
pub const EVERYBODY: &str = "user";

/// The role that takes every right away.
pub const BANNED: &str = "banned";

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

    /// Whether one of them grants the action on what is the caller's own.
    pub(super) fn grants(&self, action: &str) -> bool {
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
    pub fn new(roles: &policy::roles::Roles) -> Self {
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
}

fn claim<'a>(claims: &'a serde_json::Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(claims.get(first)?, |value, name| value.get(name))
}
