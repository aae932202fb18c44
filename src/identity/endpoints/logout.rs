//! `logout`: this session ends, or the others, or all.
//!
//! Decides:  what is revoked. Trusts: `sessions`, to refuse it everywhere. Not here: how replicas learn of it.
//!
//! What ends is refused here first; the identity server is told behind the answer, and told again until it knows. So a user is signed out within a
//! moment even while the identity server is away.

use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::input::invalid;
use super::login::text;
use super::{Guest, Visit, reply};
use crate::answer::Answer;
use crate::clock;
use crate::denial::{Denial, FieldError, Reason};
use crate::identity::Operation;
use crate::identity::later::Again;
use crate::request::query::decoded;
use crate::sessions::revocation::of_token;
use crate::sessions::{Revocation, Revoked, What};

/// Which sessions end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    /// The one that asks.
    Local,
    /// The user's others.
    Others,
    /// All of the user's.
    Global,
}

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Others => "others",
            Self::Global => "global",
        }
    }

    /// Reads a query. Whatever is not understood is refused: ending too little would be believed to be done.
    fn read(query: Option<&str>) -> Result<Self, Denial> {
        let odd = || {
            invalid(vec![FieldError {
                field: "scope",
                detail: "is not one of `local`, `others` and `global`, once".into(),
            }])
        };
        let mut scopes = query
            .unwrap_or_default()
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(key, _)| decoded(key) == "scope");
        let Some((_, scope)) = scopes.next() else {
            return Ok(Self::Local);
        };
        match (decoded(scope).as_ref(), scopes.next()) {
            ("local", None) => Ok(Self::Local),
            ("others", None) => Ok(Self::Others),
            ("global", None) => Ok(Self::Global),
            _ => Err(odd()),
        }
    }
}

pub(super) async fn logout(
    visit: &Visit,
    guest: Guest,
    query: Option<&str>,
) -> Result<Response<Answer>, Denial> {
    let scope = Scope::read(query)?;
    let revocation = visit.revocation(&guest, scope);
    let at_work = visit.clone();
    let revoked = visit
        .to_the_end(async move {
            let revoked = at_work.process.revocations().revoke(revocation).await;
            let path = format!("/logout?scope={}", scope.as_str());
            let call = at_work
                .call(Operation::Logout, Method::POST, &path)
                .for_user(guest.access_token);
            let later = at_work.process.later();
            if !later.call(&at_work.identity, call, Again::UntilDone) {
                tracing::error!("the identity server is not told of a logout: too many wait");
            }
            Ok(revoked)
        })
        .await?;
    match revoked {
        Revoked::Stored => reply::json(
            StatusCode::OK,
            &json!({ "message": "Logged out successfully" }),
        ),
        Revoked::Queued => Err(Reason::LogoutIncomplete.because("not stored yet")),
        Revoked::Full => {
            Err(Reason::LogoutIncomplete.because("the list is full; raise `revocations.capacity`"))
        }
        Revoked::Stopped => Err(Reason::LogoutIncomplete.because("the list is not kept any more")),
    }
}

impl Visit {
    fn revocation(&self, guest: &Guest, scope: Scope) -> Revocation {
        let verified = &guest.verified;
        let (issuer, subject) = (verified.issuer().to_owned(), verified.subject().to_owned());
        let session = verified.session().map(str::to_owned);
        let now = clock::unix_now();
        let remembered = &self.snapshot.config().revocations;
        let sessions_end = now.saturating_add(remembered.remembers_sessions());
        let of_subject = |except| What::Subject {
            issuer: issuer.clone(),
            subject: subject.clone(),
            not_before: now,
            except,
            strict: false,
        };
        let (what, expires) = match (scope, session) {
            (Scope::Local, Some(session)) => (
                What::Session {
                    session,
                    subject: Some(subject),
                    issuer,
                },
                sessions_end,
            ),
            // A token that names no session is all there is of its session.
            (Scope::Local, None) => (
                What::Token {
                    sha256: of_token(&text(guest.access_token.expose())),
                    session: None,
                    subject: Some(subject),
                    issuer: Some(issuer),
                },
                verified.accepted_until(),
            ),
            (Scope::Others, session) => (of_subject(session.into_iter().collect()), sessions_end),
            (Scope::Global, _) => (of_subject(Vec::new()), sessions_end),
        };
        Revocation::new(what, clock::unix_millis(), expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_one_of_three_words_once() {
        for (query, scope) in [
            (None, Scope::Local),
            (Some(""), Scope::Local),
            (Some("x=1"), Scope::Local),
            (Some("scope=local"), Scope::Local),
            (Some("x=1&scope=others"), Scope::Others),
            (Some("scope=global"), Scope::Global),
            (Some("sc%6fpe=gl%6fbal"), Scope::Global),
        ] {
            assert_eq!(Scope::read(query).expect("a scope"), scope, "{query:?}");
        }
        for query in [
            "scope",
            "scope=",
            "scope=all",
            "scope=Global",
            "scope=global&scope=global",
            "scope=local&sc%6fpe=global",
        ] {
            let denial = Scope::read(Some(query)).unwrap_err();
            assert_eq!(denial.reason, Reason::InputInvalid, "{query}");
        }
    }
}
