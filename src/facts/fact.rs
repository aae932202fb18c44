//! Facts, as they are remembered, stored and judged.
//!
//! Decides:  what the words of the database mean, and what an unknown word means: the least.
//! Trusts:   the shape of rows, which was checked against the live schema. What does not fit all the same is an error, never a guess.
//! Not here: how facts are come by (`shelf`), and what they allow (`auth::ownership`, `auth::lineage`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::relations::{Level, Visibility};
use crate::policy::resources::StaticRow;

/// The most parents that are walked.
pub const DEEPEST: usize = 10;

/// The most memberships of one caller.
pub(super) const MEMBERSHIPS: usize = 10_000;

/// Something that was found out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Fact {
    /// Whether a caller may do anything at all. Who has no row may not.
    Caller(bool),
    /// The teams of a caller, with the level in each.
    Memberships(Vec<(String, Level)>),
    /// The row of a thing; `None` if there is none.
    Row(Option<Row>),
}

/// The row of a thing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Row {
    /// The owner's subject.
    pub owner: Option<String>,
    /// Who else may see it; `None` if the thing does not say.
    pub visibility: Option<Visibility>,
    /// Teams it is shared with, and how far.
    pub teams: Vec<(String, Level)>,
    /// The id of what it lies in.
    pub within: Option<String>,
    /// What became of the walk up its parents.
    pub lineage: Lineage,
}

/// What became of a walk up the parents of a thing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Lineage {
    /// It came to an end, or there was nothing to walk.
    #[default]
    Whole,
    /// It came back to where it had been.
    Cycle,
    /// A parent is not there.
    Missing,
    /// It would have gone on after [`DEEPEST`] parents.
    TooDeep,
}

/// Rows that mean nothing: a query that gives several for one id, or a value of another type. An outage to whoever asked, never "absent".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

impl Fact {
    /// A caller's fact, from the rows of its query.
    pub(super) fn caller(rows: &[Option<&str>]) -> Result<Self, Unreadable> {
        match rows {
            [] => Ok(Self::Caller(false)),
            [Some(row)] => {
                let row: Value = serde_json::from_str(row).map_err(|_| Unreadable)?;
                match row.get("active") {
                    Some(Value::Bool(active)) => Ok(Self::Caller(*active)),
                    Some(Value::Null) => Ok(Self::Caller(false)),
                    _ => Err(Unreadable),
                }
            }
            _ => Err(Unreadable),
        }
    }

    /// A caller's memberships, from the rows of their query.
    pub(super) fn memberships(rows: &[Option<&str>]) -> Result<Self, Unreadable> {
        if rows.len() > MEMBERSHIPS {
            return Err(Unreadable);
        }
        let mut memberships = Vec::with_capacity(rows.len());
        for row in rows {
            let row: Value =
                serde_json::from_str(row.ok_or(Unreadable)?).map_err(|_| Unreadable)?;
            let (team, role) = (text(row.get("team"))?, text(row.get("role"))?);
            if let (Some(team), Some(role)) = (team, role) {
                memberships.push((team, Level::of_member(&role)));
            }
        }
        Ok(Self::Memberships(memberships))
    }

    /// A thing's row, which may be absent.
    pub(super) fn row(row: Option<&str>, lineage: Lineage) -> Result<Self, Unreadable> {
        let Some(row) = row else {
            return Ok(Self::Row(None));
        };
        let row: Value = serde_json::from_str(row).map_err(|_| Unreadable)?;
        Ok(Self::Row(Some(Row {
            owner: text(row.get("owner"))?,
            visibility: text(row.get("visibility"))?.map(|word| Visibility::of(&word)),
            teams: teams(row.get("teams"))?,
            within: text(row.get("within"))?,
            lineage,
        })))
    }

    /// The row of a thing that is written down.
    pub(super) fn written(row: &StaticRow, lineage: Lineage) -> Self {
        Self::Row(Some(Row {
            owner: row.owner.clone(),
            visibility: row.visibility.as_deref().map(Visibility::of),
            teams: row
                .teams
                .iter()
                .map(|(team, level)| (team.clone(), Level::of_access(level)))
                .collect(),
            within: row.within.clone(),
            lineage,
        }))
    }
}

/// Text, or a number as text; a missing key is NULL.
fn text(value: Option<&Value>) -> Result<Option<String>, Unreadable> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => Err(Unreadable),
    }
}

/// A list of `{"team": …, "access": …}`.
fn teams(value: Option<&Value>) -> Result<Vec<(String, Level)>, Unreadable> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            return Err(Unreadable);
        }
    };
    let mut teams = Vec::with_capacity(list.len());
    for item in list {
        let (team, access) = (text(item.get("team"))?, text(item.get("access"))?);
        let access = access.as_deref().map_or(Level::NONE, Level::of_access);
        teams.push((team.ok_or(Unreadable)?, access));
    }
    Ok(teams)
}

/// What became of a walk: the ids that were met, from the thing itself, and whether each was there. A walk goes one step further than
/// [`DEEPEST`], to see whether it would have gone on.
pub(super) fn walked<'a>(steps: impl IntoIterator<Item = (&'a str, bool)>) -> Lineage {
    let mut seen: Vec<&str> = Vec::new();
    for (id, is_there) in steps {
        if seen.contains(&id) {
            return Lineage::Cycle;
        }
        // That the thing itself is not there is told by its absence.
        if !is_there && !seen.is_empty() {
            return Lineage::Missing;
        }
        if seen.len() > DEEPEST {
            return Lineage::TooDeep;
        }
        seen.push(id);
    }
    Lineage::Whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_means_the_least() {
        for word in [
            "private",
            "",
            "PUBLIC",
            "public_full",
            "team_open",
            "Team",
            "x",
        ] {
            assert_eq!(Visibility::of(word), Visibility::Private, "{word}");
        }
        for word in ["", "Owner", "superuser", "write"] {
            assert_eq!(Level::of_member(word), Level::NONE, "{word}");
        }
        for word in ["", "owner", "READ"] {
            assert_eq!(Level::of_access(word), Level::NONE, "{word}");
        }
    }

    #[test]
    fn the_smaller_of_role_and_access_level_counts() {
        let may = |role: &str, access: &str, action: &str| {
            Level::of_member(role)
                .min(Level::of_access(access))
                .allows(action)
        };
        for (role, access, read, write, delete) in [
            ("viewer", "admin", true, false, false),
            ("contributor", "admin", true, true, false),
            ("editor", "admin", true, true, true),
            ("owner", "admin", true, true, true),
            ("editor", "write", true, true, false),
            ("owner", "read", true, false, false),
            ("owner", "none", false, false, false),
            ("nobody", "admin", false, false, false),
        ] {
            let got = ["read", "write", "delete"].map(|action| may(role, access, action));
            assert_eq!(got, [read, write, delete], "{role} {access}");
        }
        assert!(!may("owner", "admin", "read:any"));
        assert!(!may("owner", "admin", "admin"));
    }

    #[test]
    fn a_walk_ends_whole_or_says_why_not() {
        let ids: Vec<String> = (0..20).map(|index| index.to_string()).collect();
        let chain = |length: usize| walked(ids.iter().take(length).map(|id| (id.as_str(), true)));
        assert_eq!(chain(0), Lineage::Whole);
        assert_eq!(chain(1), Lineage::Whole);
        assert_eq!(chain(1 + DEEPEST), Lineage::Whole);
        assert_eq!(chain(2 + DEEPEST), Lineage::TooDeep);
        assert_eq!(walked([("a", true), ("a", true)]), Lineage::Cycle);
        assert_eq!(
            walked([("a", true), ("b", true), ("a", true)]),
            Lineage::Cycle
        );
        assert_eq!(walked([("a", true), ("b", false)]), Lineage::Missing);
        assert_eq!(walked([("a", false)]), Lineage::Whole);
    }

    #[test]
    fn rows_of_another_shape_are_unreadable_and_not_absent() {
        assert_eq!(Fact::caller(&[]), Ok(Fact::Caller(false)));
        assert_eq!(
            Fact::caller(&[Some(r#"{"active":null}"#)]),
            Ok(Fact::Caller(false))
        );
        for rows in [
            &[Some(r#"{"active":"yes"}"#)][..],
            &[Some("{}")],
            &[None],
            &[Some(r#"{"active":true}"#), Some(r#"{"active":true}"#)],
        ] {
            assert_eq!(Fact::caller(rows), Err(Unreadable), "{rows:?}");
        }
        let row = |text: &str| Fact::row(Some(text), Lineage::Whole);
        assert!(row(r#"{"owner":"a","teams":[{"team":"t","access":"read"}]}"#).is_ok());
        for text in [
            r#"{"owner":["a"]}"#,
            r#"{"teams":"t"}"#,
            r#"{"teams":[{"access":"read"}]}"#,
            "[",
        ] {
            assert_eq!(row(text), Err(Unreadable), "{text}");
        }
        assert_eq!(Fact::row(None, Lineage::Whole), Ok(Fact::Row(None)));
    }
}
