//! Facts, and how they are parsed from the rows of the operator's queries.
//!
//! An unknown word in a row grants the least. A row of an unexpected shape is an error, never a
//! guess.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::relations::{Level, Visibility};
use crate::policy::resources::StaticRow;

/// How many parents are walked at most.
pub const DEEPEST: usize = 10;

/// How many memberships one caller may have.
pub(super) const MEMBERSHIPS: usize = 10_000;

/// A fact about a caller or a resource.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Fact {
    /// Whether a caller is active.
    Caller(bool),
    /// The caller has no row. Replicas of older versions cannot read it and ask the database.
    CallerAbsent,
    /// The teams of a caller, with the level in each.
    Memberships(Vec<(String, Level)>),
    /// The row of a resource; `None` if there is none.
    Row(Option<Row>),
}

/// The row of a resource.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Row {
    /// The owner's subject.
    pub owner: Option<String>,
    /// Who else may see it; `None` if the row does not say.
    pub visibility: Option<Visibility>,
    /// Teams it is shared with, with the access level of each.
    pub teams: Vec<(String, Level)>,
    /// The id of the resource that contains it.
    pub within: Option<String>,
    /// The result of walking up its parents.
    pub lineage: Lineage,
}

/// The result of walking up the parents of a resource.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Lineage {
    /// The walk reached the last parent, or there was none.
    #[default]
    Whole,
    /// A parent appears twice.
    Cycle,
    /// A parent does not exist.
    Missing,
    /// There are more than [`DEEPEST`] parents.
    TooDeep,
}

/// Invalid rows: several for one id, or a value of an unexpected type. Treated as an outage, never
/// as an absent row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InvalidRows;

impl Fact {
    /// Parses whether a caller is active.
    pub(super) fn caller(rows: &[Option<&str>]) -> Result<Self, InvalidRows> {
        match rows {
            [] => Ok(Self::CallerAbsent),
            [Some(row)] => {
                let row: Value = serde_json::from_str(row).map_err(|_| InvalidRows)?;
                match row.get("active") {
                    Some(Value::Bool(active)) => Ok(Self::Caller(*active)),
                    Some(Value::Null) => Ok(Self::Caller(false)),
                    _ => Err(InvalidRows),
                }
            }
            _ => Err(InvalidRows),
        }
    }

    /// Parses the memberships of a caller.
    pub(super) fn memberships(rows: &[Option<&str>]) -> Result<Self, InvalidRows> {
        if rows.len() > MEMBERSHIPS {
            return Err(InvalidRows);
        }
        let mut memberships = Vec::with_capacity(rows.len());
        for row in rows {
            let row: Value =
                serde_json::from_str(row.ok_or(InvalidRows)?).map_err(|_| InvalidRows)?;
            let (team, role) = (text(row.get("team"))?, text(row.get("role"))?);
            if let (Some(team), Some(role)) = (team, role) {
                memberships.push((team, Level::of_member(&role)));
            }
        }
        Ok(Self::Memberships(memberships))
    }

    /// Parses the row of a resource, which may be absent.
    pub(super) fn row(row: Option<&str>, lineage: Lineage) -> Result<Self, InvalidRows> {
        let Some(row) = row else {
            return Ok(Self::Row(None));
        };
        let row: Value = serde_json::from_str(row).map_err(|_| InvalidRows)?;
        Ok(Self::Row(Some(Row {
            owner: text(row.get("owner"))?,
            visibility: text(row.get("visibility"))?.map(|word| Visibility::of(&word)),
            teams: teams(row.get("teams"))?,
            within: text(row.get("within"))?,
            lineage,
        })))
    }

    /// The fact of a row in the configuration.
    pub(super) fn configured(row: &StaticRow, lineage: Lineage) -> Self {
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
fn text(value: Option<&Value>) -> Result<Option<String>, InvalidRows> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => Err(InvalidRows),
    }
}

/// A list of `{"team": …, "access": …}`.
fn teams(value: Option<&Value>) -> Result<Vec<(String, Level)>, InvalidRows> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            return Err(InvalidRows);
        }
    };
    let mut teams = Vec::with_capacity(list.len());
    for item in list {
        let (team, access) = (text(item.get("team"))?, text(item.get("access"))?);
        let access = access.as_deref().map_or(Level::NONE, Level::of_access);
        teams.push((team.ok_or(InvalidRows)?, access));
    }
    Ok(teams)
}

/// The result of a walk, by the ids that it met, from the resource itself, and whether each exists.
/// A walk goes one step beyond [`DEEPEST`], to see whether there are more parents.
pub(super) fn lineage_of<'a>(steps: impl IntoIterator<Item = (&'a str, bool)>) -> Lineage {
    let mut seen: Vec<&str> = Vec::new();
    for (id, exists) in steps {
        if seen.contains(&id) {
            return Lineage::Cycle;
        }
        // The absence of the resource itself is a fact of its own.
        if !exists && !seen.is_empty() {
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
    fn an_unknown_word_grants_the_least() {
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
        for (role, access, download, share) in [
            ("viewer", "admin", false, false),
            ("contributor", "admin", true, false),
            ("editor", "admin", true, true),
            ("owner", "write", true, false),
            ("owner", "read", false, false),
        ] {
            let got = ["download", "share"].map(|action| may(role, access, action));
            assert_eq!(got, [download, share], "{role} {access}");
        }
        for action in ["read:any", "admin", "approve"] {
            assert!(!may("owner", "admin", action), "{action}");
        }
    }

    #[test]
    fn a_walk_is_whole_or_names_what_is_wrong() {
        let ids: Vec<String> = (0..20).map(|index| index.to_string()).collect();
        let chain =
            |length: usize| lineage_of(ids.iter().take(length).map(|id| (id.as_str(), true)));
        assert_eq!(chain(0), Lineage::Whole);
        assert_eq!(chain(1), Lineage::Whole);
        assert_eq!(chain(1 + DEEPEST), Lineage::Whole);
        assert_eq!(chain(2 + DEEPEST), Lineage::TooDeep);
        assert_eq!(lineage_of([("a", true), ("a", true)]), Lineage::Cycle);
        assert_eq!(
            lineage_of([("a", true), ("b", true), ("a", true)]),
            Lineage::Cycle
        );
        assert_eq!(lineage_of([("a", true), ("b", false)]), Lineage::Missing);
        assert_eq!(lineage_of([("a", false)]), Lineage::Whole);
    }

    #[test]
    fn rows_of_an_unexpected_shape_are_invalid_and_not_absent() {
        assert_eq!(Fact::caller(&[]), Ok(Fact::CallerAbsent));
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
            assert_eq!(Fact::caller(rows), Err(InvalidRows), "{rows:?}");
        }
        let row = |text: &str| Fact::row(Some(text), Lineage::Whole);
        assert!(row(r#"{"owner":"a","teams":[{"team":"t","access":"read"}]}"#).is_ok());
        for text in [
            r#"{"owner":["a"]}"#,
            r#"{"teams":"t"}"#,
            r#"{"teams":[{"access":"read"}]}"#,
            "[",
        ] {
            assert_eq!(row(text), Err(InvalidRows), "{text}");
        }
        assert_eq!(Fact::row(None, Lineage::Whole), Ok(Fact::Row(None)));
    }
}
