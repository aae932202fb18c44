//! The name of a layer, and how a route waives one.

/// A layer that a route puts in shadow or switches off, for a limited time.
#[derive(Clone, Debug)]
pub struct Waiver {
    /// The waived layer.
    pub layer: LayerName,
    /// How it is waived.
    pub mode: WaivedMode,
    /// When it enforces again, in Unix seconds; at most 30 days ahead.
    pub until: i64,
    /// The reason, which the gateway prints at startup and logs.
    pub reason: String,
}

/// How a layer is waived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaivedMode {
    /// The layer runs and its refusals are recorded, but the request passes.
    Shadow,
    /// The layer does not run.
    Off,
}

/// The name of a layer, as the route map, the record and the metrics write it. The table of layers
/// is in `auth::chain`.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct LayerName {
    position: u8,
    name: &'static str,
    can_be_waived: bool,
}

impl LayerName {
    /// Names the layer at this position of the table, counted from 0.
    pub const fn new(position: u8, name: &'static str, can_be_waived: bool) -> Self {
        Self {
            position,
            name,
            can_be_waived,
        }
    }

    /// The position of the layer in the table, counted from 0.
    pub fn position(self) -> usize {
        self.position.into()
    }

    /// The name in the route map, the log and the metrics.
    pub const fn as_str(self) -> &'static str {
        self.name
    }

    /// Whether a route may put the layer in shadow or switch it off.
    pub const fn can_be_waived(self) -> bool {
        self.can_be_waived
    }
}

impl std::fmt::Debug for LayerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
