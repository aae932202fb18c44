//! Coarsening: a full list replaces the tokens of a session by that session, then the tokens and
//! sessions of a subject by that subject. It may revoke more than was asked, never less.
//!
//! An entry without a known session or subject stays as it is, and a subject is never widened to
//! its issuer.

use std::collections::BTreeMap;

use super::target::{Kind, Name, Revocation, Target};

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
        if let Some(owner) = owner(&revocation.target, into) {
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
fn owner(target: &Target, into: Kind) -> Option<(&str, &str)> {
    let (issuer, session, subject) = match target {
        Target::Token {
            issuer,
            session,
            subject,
            ..
        } => (issuer.as_deref()?, session.as_deref(), subject.as_deref()),
        Target::Session {
            issuer,
            session,
            subject,
        } => (issuer.as_str(), Some(session.as_str()), subject.as_deref()),
        Target::Subject {
            issuer, subject, ..
        } => (issuer.as_str(), None, Some(subject.as_str())),
        Target::Issuer { .. } => return None,
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
    let target = match into {
        Kind::Subject => Target::Subject {
            issuer,
            subject: id.to_owned(),
            not_before: all().map(not_before).max().unwrap_or_default(),
            except: exempt(all()),
            strict: all().any(|one| match one.target {
                Target::Token { .. } | Target::Session { .. } => true,
                Target::Subject { strict, .. } => strict,
                Target::Issuer { .. } => false,
            }),
        },
        Kind::Token | Kind::Session | Kind::Issuer => Target::Session {
            issuer,
            session: id.to_owned(),
            subject: all().find_map(|one| match &one.target {
                Target::Token { subject, .. } | Target::Session { subject, .. } => subject.clone(),
                Target::Subject { .. } | Target::Issuer { .. } => None,
            }),
        },
    };
    Revocation {
        target,
        received_at: all().map(|one| one.received_at).max().unwrap_or_default(),
        expires: all().map(|one| one.expires).max().unwrap_or_default(),
    }
}

/// A token or session revoked at some time began before that time.
fn not_before(one: &Revocation) -> i64 {
    match one.target {
        Target::Subject { not_before, .. } | Target::Issuer { not_before, .. } => not_before,
        Target::Token { .. } | Target::Session { .. } => {
            one.received_at.div_euclid(1000).saturating_add(1)
        }
    }
}

/// The sessions that every entry exempts.
fn exempt<'a>(all: impl Iterator<Item = &'a Revocation>) -> Vec<String> {
    let mut exempt: Option<Vec<String>> = None;
    for one in all {
        match &one.target {
            Target::Subject { except, .. } => {
                exempt = Some(match exempt {
                    None => except.clone(),
                    Some(before) => before
                        .into_iter()
                        .filter(|id| except.contains(id))
                        .collect(),
                });
            }
            // A token or session that is revoked must not be exempted, so no session is.
            Target::Token { .. } | Target::Session { .. } | Target::Issuer { .. } => {
                return Vec::new();
            }
        }
    }
    exempt.unwrap_or_default()
}
