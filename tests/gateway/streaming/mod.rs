//! Bodies in motion: nothing is held back, nothing is piled up, and nobody may stop for ever.

mod bodies;
mod frames;
mod load;
mod patience;

use crate::support::Gateway;

/// What memory may grow by, however much passes through.
const GROWTH: u64 = 16 << 20;

/// Remembers how much memory the gateway has after something like the load to come.
struct Memory(u64);

impl Memory {
    fn of(gateway: &Gateway) -> Self {
        Self(gateway.rss())
    }

    #[track_caller]
    fn is_flat(&self, gateway: &Gateway) -> u64 {
        let growth = gateway.rss().saturating_sub(self.0);
        assert!(growth < GROWTH, "grew by {} KiB", growth >> 10);
        growth
    }
}

/// Every path, for everybody, without a limit that matters.
const LARGE: &str = r#"- { path: "/{*rest}", access: public, body: { limit: 4GiB } }"#;
