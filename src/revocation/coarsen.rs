//! Coarsening: a full list replaces the tokens of a session by that session, then the tokens and
//! sessions of a subject by that subject. It may revoke more than was asked, never less.
//!
//! An entry without a known session or subject stays as it is, and a subject is never widened to
//! its issuer.

use std::collections::BTreeMap;

use super::{Kind, Name, Revocation, What};

/// Entries to be replaced by one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Coarsening {
    /// The entry that replaces them.
    pub into: Revocation,
    /// Their names, which may include the name of the replacement.
    pub from: Vec<Name>,
}

/// Coarsenings that leave at most `goal` entries, if there are enough of them; the largest first,
/// so that few users are affected.
pub fn coarsenings<'a>(
    entries: impl IntoIterator<Item = (&'a Name, &'a Revocation)>,
    into: Kind,
    goal: usize,
) -> Vec<Coarsening> {
    let mut groups: BTreeMap<(&str, &str), Vec<(&Name, &Revocation)>> = BTreeMap::new();
    let mut left = 0_usize;
    for (name, revocation) in entries {
        left += 1;
        if let Some(owner) = owner(&revocation.what, into) {
            groups.entry(owner).or_default().push((name, revocation));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.retain(|(_, group)| group.len() > 1);
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.len()));
    let mut coarsenings = Vec::new();
    for (owner, group) in groups {
        if left <= goal {
            break;
        }
        left -= group.len() - 1;
        coarsenings.push(Coarsening {
            from: group.iter().map(|(name, _)| **name).collect(),
            into: coarsened(owner, &group, into),
        });
    }
    coarsenings
}

/// The issuer, and the session or subject that the entry can be widened to.
fn owner(what: &What, into: Kind) -> Option<(&str, &str)> {
    let (issuer, session, subject) = match what {
        What::Token {
            issuer,
            session,
            subject,
            ..
        } => (issuer.as_deref()?, session.as_deref(), subject.as_deref()),
        What::Session {
            issuer,
            session,
            subject,
        } => (issuer.as_str(), Some(session.as_str()), subject.as_deref()),
        What::Subject {
            issuer, subject, ..
        } => (issuer.as_str(), None, Some(subject.as_str())),
        What::Issuer { .. } => return None,
    };
    match into {
        Kind::Session => session.map(|session| (issuer, session)),
        Kind::Subject => subject.map(|subject| (issuer, subject)),
        Kind::Token | Kind::Issuer => None,
    }
}

fn coarsened((issuer, id): (&str, &str), group: &[(&Name, &Revocation)], into: Kind) -> Revocation {
    let all = || group.iter().map(|(_, revocation)| *revocation);
    let issuer = issuer.to_owned();
    let what = match into {
        Kind::Subject => What::Subject {
            issuer,
            subject: id.to_owned(),
            not_before: all().map(not_before).max().unwrap_or_default(),
            except: exempt(all()),
            strict: all().any(|one| match one.what {
                What::Token { .. } | What::Session { .. } => true,
                What::Subject { strict, .. } => strict,
                What::Issuer { .. } => false,
            }),
        },
        Kind::Token | Kind::Session | Kind::Issuer => What::Session {
            issuer,
            session: id.to_owned(),
            subject: all().find_map(|one| match &one.what {
                What::Token { subject, .. } | What::Session { subject, .. } => subject.clone(),
                What::Subject { .. } | What::Issuer { .. } => None,
            }),
        },
    };
    Revocation {
        what,
        told: all().map(|one| one.told).max().unwrap_or_default(),
        expires: all().map(|one| one.expires).max().unwrap_or_default(),
    }
}

/// A token or session revoked at some time began before that time.
fn not_before(one: &Revocation) -> i64 {
    match one.what {
        What::Subject { not_before, .. } | What::Issuer { not_before, .. } => not_before,
        What::Token { .. } | What::Session { .. } => one.told.div_euclid(1000).saturating_add(1),
    }
}

/// The sessions that every entry exempts.
fn exempt<'a>(all: impl Iterator<Item = &'a Revocation>) -> Vec<String> {
    let mut exempt: Option<Vec<String>> = None;
    for one in all {
        match &one.what {
            What::Subject { except, .. } => {
                exempt = Some(match exempt {
                    None => except.clone(),
                    Some(before) => before
                        .into_iter()
                        .filter(|id| except.contains(id))
                        .collect(),
                });
            }
            // A token or session that is revoked must not be exempted, so no session is.
            What::Token { .. } | What::Session { .. } | What::Issuer { .. } => return Vec::new(),
        }
    }
    exempt.unwrap_or_default()
}
