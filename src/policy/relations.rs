//! What a team may do, and who may see a resource.
//!
//! Decides: what the words of the operator's tables mean. Trusts: nothing; an unknown word grants nothing. Not here: whose a resource is
//! (`facts`), and what follows from it (`auth::ownership`).

use serde::{Deserialize, Serialize};

/// Who may see a thing besides its owner.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Visibility {
    /// Nobody; also what an unknown word means.
    Private,
    /// The teams it is shared with.
    TeamOnly,
    /// Everybody.
    Public,
}

impl Visibility {
    /// What a word of the database means.
    pub fn of(word: &str) -> Self {
        match word {
            "team-only" | "team_only" | "team" | "team_restricted" => Self::TeamOnly,
            "public" | "public_read" => Self::Public,
            _ => Self::Private,
        }
    }

    /// Whether the word means what it says.
    pub fn is_known(word: &str) -> bool {
        word == "private" || Self::of(word) != Self::Private
    }
}

/// How much somebody in a team may do, or how far a thing is shared with one. The smaller of the two counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Level(u8);

impl Level {
    /// Nothing; also what an unknown word means.
    pub const NONE: Self = Self(0);

    /// What a role in a team allows.
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

    /// How far an access level lets the members of a team go.
    pub fn of_access(word: &str) -> Self {
        Self(match word {
            "read" => 1,
            "write" => 2,
            "admin" => 5,
            _ => 0,
        })
    }

    /// Whether it allows an action.
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
