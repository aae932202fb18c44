//! By which relation a caller may act on a resource.
//!
//! Decides: nothing; it is a list. Trusts: nothing. Not here: which relation holds (`auth::ownership`).

/// Why a caller may touch a thing, from the nearest to the farthest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Via {
    /// The thing is the caller.
    Caller,
    /// The caller owns it.
    Owner,
    /// The caller owns what it lies in.
    OuterOwner,
    /// It is shared with a team of the caller's.
    Team,
    /// Everybody may.
    Public,
    /// A role of the caller's crosses ownership.
    Role,
}

impl Via {
    /// The word for it in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "self",
            Self::Owner => "owner",
            Self::OuterOwner => "outer_owner",
            Self::Team => "team",
            Self::Public => "public",
            Self::Role => "role",
        }
    }
}
