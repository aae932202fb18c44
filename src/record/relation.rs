//! The relations by which a caller may act on a resource; `auth::ownership` finds the one that
//! holds.

/// The relation that gives a caller access to a resource, from the closest to the most distant.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Relation {
    /// The resource is the caller itself.
    Caller,
    /// The caller owns the resource.
    Owner,
    /// The caller owns the resource that contains it.
    OuterOwner,
    /// The resource is shared with a team of the caller's.
    Team,
    /// The resource is public.
    Public,
    /// A role of the caller's crosses ownership.
    Role,
}

impl Relation {
    /// The name in the log.
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
