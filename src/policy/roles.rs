//! Actions, and what roles grant. `auth::role_table` knows the roles of a caller.

use hyper::Method;

/// Where roles come from, and what each grants.
#[derive(Debug)]
pub struct Roles {
    /// Path into the token's claims to a string or a list of strings. Default `app_metadata.roles`.
    pub from: Vec<String>,
    /// Roles given by the operator to subjects: (role, subjects).
    pub list: Vec<(String, Vec<String>)>,
    /// The actions that each role grants. Default: `user: [read, write]`, `admin: ["*"]`. Every
    /// user has the role `user`.
    pub grants: Vec<(String, Grants)>,
}

impl Roles {
    /// Whether only roles with `"*"` grant this action.
    pub fn is_for_admins(&self, action: &str) -> bool {
        !self.grants.iter().any(|(_, grants)| match grants {
            Grants::All => false,
            Grants::Actions(actions) => includes(actions, action),
        })
    }
}

/// The actions that one role grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// `"*"`: every action.
    All,
    /// These actions.
    Actions(Vec<Action>),
}

/// The action of a request, such as `read`; `read:any` crosses ownership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Action(String);

impl Action {
    /// Parses lower-case letters, digits and `_`, optionally followed by `:any`.
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

    /// The action of a method, unless the route names another.
    pub fn of_method(method: &Method) -> &'static str {
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => "read",
            Method::DELETE => "delete",
            _ => "write",
        }
    }
}

/// Whether a list of granted actions includes this one. A grant across ownership includes the grant
/// on the caller's own resources.
pub(crate) fn includes(granted: &[Action], action: &str) -> bool {
    granted.iter().any(|granted| {
        granted.as_str() == action || granted.as_str().strip_suffix(":any") == Some(action)
    })
}
