//! The caller of a request, as the identity layer proved it, and the credential that proved it.

use std::sync::Arc;

use hyper::header::HeaderValue;

use super::role_table::{NO_ROLES, RoleSet};
use crate::sessions::sign_in::OwnSession;
use crate::sessions::{CachedSession, VerifiedAccess};
use crate::tokens::Verified;

/// The caller of a request. Only the identity layer makes one.
#[derive(Clone)]
pub struct Caller {
    user: Option<User>,
}

#[derive(Clone)]
struct User {
    verified: Arc<Verified>,
    roles: Arc<RoleSet>,
    /// `Bearer` and the verified token, for an upstream that verifies it, too.
    authorization: HeaderValue,
    /// The session, if a cookie led to it.
    session: Option<Arc<CachedSession>>,
}

impl Caller {
    /// The caller of a request that proved no user.
    pub const NOBODY: Self = Self { user: None };

    pub(super) fn user(
        verified: Arc<Verified>,
        roles: Arc<RoleSet>,
        authorization: HeaderValue,
    ) -> Self {
        Self {
            user: Some(User {
                verified,
                roles,
                authorization,
                session: None,
            }),
        }
    }

    /// The user of a session that a cookie led to.
    pub(super) fn of_session(
        live: Arc<CachedSession>,
        proven: &VerifiedAccess,
        roles: Arc<RoleSet>,
    ) -> Self {
        Self {
            user: Some(User {
                verified: proven.verified.clone(),
                roles,
                authorization: proven.authorization.clone(),
                session: Some(live),
            }),
        }
    }

    /// The same user with a newer bearer token, or with the roles of another configuration.
    pub(super) fn proven_again(&self, verified: Arc<Verified>, roles: Arc<RoleSet>) -> Self {
        let user = self.user.as_ref().map(|user| User {
            verified,
            roles,
            authorization: user.authorization.clone(),
            session: None,
        });
        Self { user }
    }

    /// The verified token; `None` if the request proved no user.
    pub fn verified(&self) -> Option<&Arc<Verified>> {
        self.user.as_ref().map(|user| &user.verified)
    }

    /// The roles that the configuration knows, `user` among them; empty without a user.
    pub fn roles(&self) -> &RoleSet {
        self.user.as_ref().map_or(&NO_ROLES, |user| &*user.roles)
    }

    /// The session that a cookie led to, if that is what proved the user.
    pub fn cookie_session(&self) -> Option<&Arc<CachedSession>> {
        self.user.as_ref().and_then(|user| user.session.as_ref())
    }

    /// The ids of the caller's own session: of the cookie, of the token, or both.
    pub fn own_session(&self) -> OwnSession {
        OwnSession {
            cookie: self.cookie_session().map(|live| *live.name()),
            session: self
                .verified()
                .and_then(|verified| verified.session())
                .map(str::to_owned),
        }
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
                .field("roles", &user.roles.names())
                .finish_non_exhaustive(),
        }
    }
}
