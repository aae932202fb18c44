//! How long a verdict takes that needs facts, with real servers on this machine: remembered, from
//! Redis, from PostgreSQL, and both some way off; what is answered in what time while PostgreSQL
//! stalls; whether the time of an answer tells what is there; and how often facts are found.
//!
//! A request about a generation needs four facts: the caller, its memberships, the generation with
//! its parents, and the project it lies in. Each part runs alone if its name is given: `cargo bench
//! --bench facts -- chain` (or `stall`, `enumerate`, `ratio`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::wildcard_enum_match_arm,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, and borrows the servers of the tests"
)]

mod chain;
mod distant;
mod enumerate;
mod gate;
mod ratio;
mod stall;
mod world;

#[path = "../support/lines.rs"]
mod lines;
#[path = "../../tests/gateway/support/port.rs"]
mod port;
#[path = "../../tests/gateway/support/postgres.rs"]
mod postgres;
#[path = "../../tests/gateway/support/redis.rs"]
mod redis;

use std::time::Duration;

/// How long a server may take to start.
pub const DEADLINE: Duration = Duration::from_secs(20);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .iter()
        .any(|argument| argument == "--test" || argument == "--list")
    {
        return;
    }
    let parts: [(&str, fn()); 4] = [
        ("chain", chain::run),
        ("stall", stall::run),
        ("enumerate", enumerate::run),
        ("ratio", ratio::run),
    ];
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let is_chosen = parts.iter().any(|(name, _)| named(name));
    for (name, run) in parts {
        if named(name) || !is_chosen {
            println!("=== {name} ===");
            run();
        }
    }
}

/// The time at a share of sorted times, in microseconds.
pub fn at(sorted: &[Duration], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted[index.min(sorted.len() - 1)].as_secs_f64() * 1e6
}

/// Prints a row.
pub fn tell(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!(
        "{name:<44} p50 {:>8.0} µs   p99 {:>8.0} µs   max {:>8.0} µs   ({})",
        at(&times, 0.5),
        at(&times, 0.99),
        at(&times, 1.0),
        times.len()
    );
}
