//! The test harness: a gateway, the origin behind it, the clients in front of it, and the issuer of
//! their tokens.

pub mod admin;
pub mod answer;
pub mod attacks;
pub mod auth_server;
pub mod client;
pub mod config;
pub mod curl;
pub mod desk;
pub mod forwarder;
pub mod gate;
pub mod gateway;
pub mod load;
pub mod log;
pub mod metrics;
pub mod openssl;
pub mod origin;
pub mod pki;
pub mod port;
pub mod postgres;
pub mod raw;
pub mod raw_h2;
pub mod redis;
pub mod server;
pub mod tokens;
pub mod velro;
pub mod world;

use std::time::{Duration, Instant};

pub use answer::Answer;
#[allow(unused_imports, reason = "a shorter way, for modules that want it")]
pub use auth_server::AuthServer;
#[allow(unused_imports, reason = "a shorter way, for modules that want it")]
pub use client::{Body, Client, Door, Http};
pub use config::Config;
pub use desk::{Desk, SignedIn};
pub use gate::Gate;
pub use gateway::Gateway;
#[allow(unused_imports, reason = "a shorter way, for modules that want it")]
pub use origin::{Exchange, Origin, Reply, Seen};
#[allow(unused_imports, reason = "a shorter way, for modules that want it")]
pub use postgres::Postgres;
pub use redis::RedisServer;
pub use tokens::Issuer;
pub use world::World;

/// How long anything may take before a test fails instead of hanging. Generous: only a failing test
/// waits for it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until a condition holds. For work that another process does in its own time; never to hide
/// a race.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let mut pause = Duration::from_millis(2);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(pause).await;
        // Most conditions scrape the metrics, which takes time from the processes that must make
        // the condition true.
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}

/// A future that must end before the deadline.
pub async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("took too long: {what}"),
    }
}

/// Says that a test proves nothing without a Debian package that is not installed. `tests/all.sh`
/// installs these packages and sets the variable, so there it fails.
pub fn not_proven(package: &str) {
    eprintln!("NOT PROVEN: {package} is not installed");
    for variable in ["FOREGATE_NEEDS_PACKAGES", "FOREGATE_FULL"] {
        let is_needed = std::env::var_os(variable).is_some();
        assert!(!is_needed, "{variable} is set, and {package} is missing");
    }
}
