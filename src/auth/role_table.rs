//! Which roles a caller has, and what they grant together. Reads only claims that the identity
//! server alone writes (`app_metadata`), and the operator's list.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::header::HeaderValue;
use serde_json::Value;

use crate::policy;
use crate::policy::roles::{Action, Grants, includes};
use crate::tokens::Verified;

/// The role that every verified caller has.
pub const EVERYBODY: &str = "user";

/// The role that revokes every right.
pub const BANNED: &str = "banned";

/// The roles of one caller, [`EVERYBODY`] first, and what they grant.
#[derive(Debug)]
pub struct RoleSet {
    names: Vec<Arc<str>>,
    field: Option<HeaderValue>,
    grants: Vec<Arc<Grants>>,
}

/// The empty set, for requests without a user.
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

    /// The names of the roles, in the order of [`RoleSet`].
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The names, separated by commas, as upstreams read them; `None` if a name has bytes that a
    /// header field cannot hold.
    pub fn field(&self) -> Option<&HeaderValue> {
        self.field.as_ref()
    }

    /// Whether [`BANNED`] is among them.
    pub fn is_banned(&self) -> bool {
        self.names.iter().any(|role| **role == *BANNED)
    }

    /// Whether one of them grants the action on resources that other users own.
    pub fn crosses(&self, action: &str) -> bool {
        let name = action.strip_suffix(":any").unwrap_or(action);
        let crossing = |granted: &Action| granted.as_str().strip_suffix(":any") == Some(name);
        self.grants.iter().any(|grants| match &**grants {
            Grants::All => true,
            Grants::Actions(actions) => actions.iter().any(crossing),
        })
    }

    /// Whether one of them grants the action on the caller's own resources.
    pub(super) fn grants(&self, action: &str) -> bool {
        self.grants.iter().any(|grants| match &**grants {
            Grants::All => true,
            Grants::Actions(actions) => includes(actions, action),
        })
    }
}

/// The roles of one configuration: where a caller's roles come from, and what each grants.
#[derive(Debug)]
pub struct RoleTable {
    from: Vec<String>,
    listed: HashMap<String, Vec<Arc<str>>>,
    grants: HashMap<Arc<str>, Arc<Grants>>,
    /// The set of a caller who has no role but [`EVERYBODY`], which is nearly every caller.
    ordinary: Arc<RoleSet>,
}

impl RoleTable {
    /// Builds the table from the `roles` of the route map.
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

    /// The roles of a caller that the configuration knows, or [`BANNED`]; unknown names in a token
    /// are ignored.
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
