//! The layers by name, and how a route waives one.
//!
//! Decides: which layers there are, and which of them a route may waive. Trusts: nothing. Not here: what a layer decides (`auth`).

/// A layer that judges but does not refuse, or does not judge, for a time.
#[derive(Clone, Debug)]
pub struct Waiver {
    /// Which layer.
    pub layer: LayerName,
    /// How it is waived.
    pub mode: WaivedMode,
    /// When it enforces again, in Unix seconds; at most 30 days ahead.
    pub until: i64,
    /// Why, for the start and the log.
    pub reason: String,
}

/// How a layer is waived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaivedMode {
    /// Judge, record what would have been refused, let pass.
    Shadow,
    /// Do not judge.
    Off,
}

/// The layers, by the names of the route map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerName {
    /// Who is calling.
    Identity,
    /// Whether typed path parameters have their type.
    Identifiers,
    /// Whether tables behind PostgREST are granted.
    Rest,
    /// What is known for judging.
    Performance,
    /// Whether the caller's roles allow the action.
    Roles,
    /// Whether the route's own condition holds.
    When,
    /// Whether the caller may touch the things that the request names.
    Ownership,
    /// Whether what they were made from is in order.
    Lineage,
}

impl LayerName {
    /// Every layer, in the order of the chain.
    pub const ALL: &[Self] = &[
        Self::Identity,
        Self::Identifiers,
        Self::Rest,
        Self::Performance,
        Self::Roles,
        Self::When,
        Self::Ownership,
        Self::Lineage,
    ];

    /// The name in the route map, the log and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Identifiers => "identifiers",
            Self::Rest => "rest",
            Self::Performance => "performance",
            Self::Roles => "roles",
            Self::When => "when",
            Self::Ownership => "ownership",
            Self::Lineage => "lineage",
        }
    }

    /// Whether a route may put the layer into shadow or switch it off.
    pub const fn can_be_waived(self) -> bool {
        match self {
            Self::Identity | Self::Identifiers | Self::Rest | Self::Performance | Self::When => {
                false
            }
            Self::Roles | Self::Ownership | Self::Lineage => true,
        }
    }
}
