//! Coarsening: a full list replaces the tokens of a session by that session, then the tokens and
//! sessions of a subject by that subject, then the entries of many subjects by one bucket of their
//! issuer. It may revoke more than was asked, never less.
//!
//! An entry without a known session or subject stays as it is.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::target::{Name, Revocation, Target, bucket_of, widened};

/// What a full list widens its entries to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// The session of a token.
    Session,
    /// The subject of a token or session.
    Subject,
    /// A bucket of subjects, given by this many bits.
    Bucket(u8),
}

/// Entries to be replaced by one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Coarsening {
    /// The entry that replaces them.
    pub into: Revocation,
    /// Their names, which may include the name of the replacement.
    pub from: Vec<Name>,
}

/// What entries have in common that can be replaced by one.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Owner<'a> {
    Session(&'a str, &'a str),
    Subject(&'a str, &'a str),
    Bucket(&'a str, u8, u16),
}

/// How many bits give a bucket in a list of `capacity` entries. All buckets of one issuer together
/// are at most a sixteenth of the list, so that it always has room for them; with the default
/// capacity, a bucket has one user in 4,096.
pub fn bucket_bits(capacity: usize) -> u8 {
    const MOST: u32 = 12;
    let bits = (capacity / 16).checked_ilog2().unwrap_or(0).min(MOST);
    u8::try_from(bits).unwrap_or(0)
}

/// Whether a full list can take this entry, because it can be merged with others.
pub fn can_be_merged(target: &Target) -> bool {
    match target {
        Target::Token {
            issuer, subject, ..
        } => issuer.is_some() && subject.is_some(),
        Target::Session { subject, .. } => subject.is_some(),
        Target::Subject { .. } | Target::Bucket { .. } => true,
        // There are few of them: only an operator makes one.
        Target::Issuer { .. } | Target::Undone { .. } => true,
    }
}

/// Coarsenings that leave at most `goal` entries, if there are enough of them; the largest first,
/// so that few users are affected.
pub fn coarsenings<'a>(
    entries: impl IntoIterator<Item = (&'a Name, &'a Revocation)>,
    into: Width,
    goal: usize,
) -> Vec<Coarsening> {
    let mut groups: BTreeMap<Owner<'_>, Vec<(&Name, &Revocation)>> = BTreeMap::new();
    let mut left = 0_usize;
    for (name, revocation) in entries {
        left += 1;
        if let Some(owner) = owner(&revocation.target, into) {
            groups.entry(owner).or_default().push((name, revocation));
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.retain(|(_, group)| group.len() > 1);
    groups.sort_by_key(|(_, group)| Reverse(group.len()));
    let mut coarsenings = Vec::new();
    for (owner, group) in groups {
        if left <= goal {
            break;
        }
        left -= group.len() - 1;
        coarsenings.push(Coarsening {
            from: group.iter().map(|(name, _)| **name).collect(),
            into: coarsened(&owner, &group),
        });
    }
    coarsenings
}

/// What the entry can be widened to.
fn owner(target: &Target, into: Width) -> Option<Owner<'_>> {
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
        Target::Bucket {
            issuer,
            bits,
            prefix,
            ..
        } => {
            return match into {
                // One that is wider already stays.
                Width::Bucket(to) if *bits >= to => {
                    Some(Owner::Bucket(issuer, to, widened(*prefix, *bits, to)))
                }
                Width::Session | Width::Subject | Width::Bucket(_) => None,
            };
        }
        Target::Issuer { .. } | Target::Undone { .. } => return None,
    };
    match into {
        Width::Session => session.map(|session| Owner::Session(issuer, session)),
        Width::Subject => subject.map(|subject| Owner::Subject(issuer, subject)),
        Width::Bucket(bits) => subject.map(|subject| {
            let prefix = widened(bucket_of(issuer, subject), 16, bits);
            Owner::Bucket(issuer, bits, prefix)
        }),
    }
}

fn coarsened(owner: &Owner<'_>, group: &[(&Name, &Revocation)]) -> Revocation {
    let all = || group.iter().map(|(_, revocation)| *revocation);
    let not_before = || all().map(not_before).max().unwrap_or_default();
    let strict = || all().any(is_strict);
    let target = match owner {
        Owner::Session(issuer, session) => Target::Session {
            issuer: (*issuer).to_owned(),
            session: (*session).to_owned(),
            subject: all().find_map(|one| match &one.target {
                Target::Token { subject, .. } | Target::Session { subject, .. } => subject.clone(),
                Target::Subject { .. }
                | Target::Issuer { .. }
                | Target::Bucket { .. }
                | Target::Undone { .. } => None,
            }),
        },
        Owner::Subject(issuer, subject) => Target::Subject {
            issuer: (*issuer).to_owned(),
            subject: (*subject).to_owned(),
            not_before: not_before(),
            except: exempt(all()),
            strict: strict(),
        },
        Owner::Bucket(issuer, bits, prefix) => Target::Bucket {
            issuer: (*issuer).to_owned(),
            bits: *bits,
            prefix: *prefix,
            not_before: not_before(),
            strict: strict(),
        },
    };
    let received_at = all().map(|one| one.received_at).max().unwrap_or_default();
    let expires = all().map(|one| one.expires).max().unwrap_or_default();
    Revocation::new(target, received_at, expires)
}

/// A token or session revoked at some time began before that time.
fn not_before(one: &Revocation) -> i64 {
    match one.target {
        Target::Subject { not_before, .. }
        | Target::Issuer { not_before, .. }
        | Target::Bucket { not_before, .. } => not_before,
        Target::Token { .. } | Target::Session { .. } => {
            one.received_at.div_euclid(1000).saturating_add(1)
        }
        Target::Undone { .. } => i64::MIN,
    }
}

fn is_strict(one: &Revocation) -> bool {
    match one.target {
        Target::Token { .. } | Target::Session { .. } => true,
        Target::Subject { strict, .. } | Target::Bucket { strict, .. } => strict,
        Target::Issuer { .. } | Target::Undone { .. } => false,
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
            Target::Token { .. }
            | Target::Session { .. }
            | Target::Issuer { .. }
            | Target::Bucket { .. }
            | Target::Undone { .. } => {
                return Vec::new();
            }
        }
    }
    exempt.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_buckets_of_an_issuer_fit_into_the_list() {
        for (capacity, bits) in [
            (0, 0),
            (15, 0),
            (100, 2),
            (1000, 5),
            (100_000, 12),
            (1_000_000, 12),
        ] {
            assert_eq!(bucket_bits(capacity), bits, "{capacity}");
            assert!((1 << bits) <= (capacity / 16).max(1));
        }
    }
}
