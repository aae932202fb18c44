//! Streaming bodies: nothing is held back, nothing is buffered without a bound, and no side may
//! stall forever.

mod bodies;
mod early;
mod frames;
mod load;
mod patience;
mod unsent;

use crate::support::Gateway;

/// How much memory may grow, however many bytes pass.
const GROWTH: u64 = 16 << 20;

/// Remembers how much memory the gateway uses after a load like the one to come.
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

/// A public route for every path, with a limit that does not matter.
const LARGE: &str = r#"- { path: "/{*rest}", access: public, body: { limit: 4GiB } }"#;
