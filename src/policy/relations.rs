//! The values of visibility, team roles and access levels in the operator's tables. An unknown
//! value grants nothing.

use serde::{Deserialize, Serialize};

/// Who may see a resource besides its owner.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Visibility {
    /// Nobody; also the meaning of an unknown value.
    Private,
    /// The teams with which it is shared.
    TeamOnly,
    /// Everybody.
    Public,
}

impl Visibility {
    /// Parses a value of the database.
    pub fn of(word: &str) -> Self {
        match word {
            "team-only" | "team_only" | "team" | "team_restricted" => Self::TeamOnly,
            "public" | "public_read" => Self::Public,
            _ => Self::Private,
        }
    }

    /// Whether the value is one of the known ones.
    pub fn is_known(word: &str) -> bool {
        word == "private" || Self::of(word) != Self::Private
    }
}

/// The level of a member in a team, or of a share with a team. The lower of the two applies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Level(u8);

impl Level {
    /// Allows nothing; also the meaning of an unknown value.
    pub const NONE: Self = Self(0);

    /// The level of a role in a team.
    pub fn of_member(word: &str) -> Self {
        Self(match word {
            "viewer" => 1,
            "contributor" => 2,
            "editor" => 3,
            "admin" => 4,
            "owner" => 5,
            _ => 0,
        })
    }

    /// The level up to which a share lets members act.
    pub fn of_access(word: &str) -> Self {
        Self(match word {
            "read" => 1,
            "write" => 2,
            "admin" => 5,
            _ => 0,
        })
    }

    /// Whether the level allows an action.
    pub fn allows(self, action: &str) -> bool {
        let least = match action {
            "read" => 1,
            "write" | "download" => 2,
            "delete" | "share" => 3,
            _ => return false,
        };
        self.0 >= least
    }
}
