//! Who is calling, once that is proven.

use std::sync::Arc;

use hyper::header::HeaderValue;

use crate::tokens::Verified;

/// The caller of a request. Only the identity layer makes one.
#[derive(Clone)]
pub struct Caller {
    user: Option<User>,
}

#[derive(Clone)]
struct User {
    verified: Arc<Verified>,
    roles: Vec<Arc<str>>,
    /// `Bearer` and the verified token, for an upstream that judges again.
    authorization: HeaderValue,
}

impl Caller {
    /// A caller without a proven identity.
    pub const NOBODY: Self = Self { user: None };

    pub(super) fn user(
        verified: Arc<Verified>,
        roles: Vec<Arc<str>>,
        authorization: HeaderValue,
    ) -> Self {
        Self {
            user: Some(User {
                verified,
                roles,
                authorization,
            }),
        }
    }

    /// The same user with another proof: a newer token, or roles by another configuration.
    pub(super) fn proven_again(&self, verified: Arc<Verified>, roles: Vec<Arc<str>>) -> Self {
        let user = self.user.as_ref().map(|user| User {
            verified,
            roles,
            authorization: user.authorization.clone(),
        });
        Self { user }
    }

    /// The verified token's facts, unless this is nobody.
    pub fn verified(&self) -> Option<&Arc<Verified>> {
        self.user.as_ref().map(|user| &user.verified)
    }

    /// The roles that the configuration knows, `user` among them; none for nobody.
    pub fn roles(&self) -> &[Arc<str>] {
        self.user
            .as_ref()
            .map(|user| user.roles.as_slice())
            .unwrap_or_default()
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.user.as_ref().map(|user| &user.authorization)
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.user {
            None => f.write_str("Caller(nobody)"),
            Some(user) => f
                .debug_struct("Caller")
                .field("roles", &user.roles)
                .finish_non_exhaustive(),
        }
    }
}
