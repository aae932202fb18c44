//! The store: one promise, kept in memory and in Redis; what an attacker in Redis can and cannot
//! do; and what a request is answered while Redis is away.

mod attack;
mod away;
mod connection;
mod contract;
mod failover;
mod faults;
mod matrix;
mod passwords;
mod rotation;
mod stopped;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foregate::breaker::Outage;
use foregate::config::{self, Loaded};
use foregate::gateway::metrics::Metrics;
use foregate::store::{self, Store};

use crate::support::config::KEY;
use crate::support::tokens::now;
use crate::support::{RedisServer, eventually};

/// A store as a gateway with this configuration opens it, and what it counts.
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub metrics: Metrics,
}

/// One key, `k1`.
pub fn one_key() -> String {
    format!("[{{ id: k1, secret: \"{KEY}\" }}]")
}

/// Opens the store of a configuration with these values of `keys` and `store`.
pub fn open(folder: &Path, keys: &str, store: &str) -> Opened {
    let loaded = load(folder, keys, store);
    let metrics = Metrics::new().unwrap();
    Opened {
        store: store::open(&loaded.config, &metrics.store).unwrap(),
        metrics,
    }
}

fn load(folder: &Path, keys: &str, store: &str) -> Loaded {
    let text = format!(
        "listen: [{{ address: 127.0.0.1:0, tls: off }}]\nkeys: {keys}\nstore: {store}\nroutes: [{{ path: /health, access: public, serve: health }}]\n"
    );
    config::load_str("test.yaml", &text, folder, &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// Opens the store in this server, and waits until it answers.
pub async fn in_redis(server: &RedisServer) -> Opened {
    with_keys(server, &one_key()).await
}

/// The same, with these keys.
pub async fn with_keys(server: &RedisServer, keys: &str) -> Opened {
    let opened = open(
        Path::new("."),
        keys,
        &format!("{{ redis: \"{}\" }}", server.url()),
    );
    opened.answers().await;
    opened
}

impl Opened {
    /// Waits until it answers.
    pub async fn answers(&self) {
        eventually("the store answers", || {
            self.store.outage() == Outage::Reachable
        })
        .await;
    }

    /// Waits until it counts as away.
    pub async fn is_away(&self) {
        eventually("the store is away", || {
            matches!(self.store.outage(), Outage::Away { .. })
        })
        .await;
    }

    /// The sum of the samples whose series begins with this.
    pub fn counted(&self, series: &str) -> f64 {
        let cache = foregate::tokens::VerifiedCache::new(std::num::NonZeroUsize::MIN);
        let text = String::from_utf8(self.metrics.render(&cache).unwrap()).unwrap();
        text.lines()
            .filter(|line| line.starts_with(series))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }
}

/// Some time ahead.
pub fn later() -> i64 {
    now() + 3600
}

/// How long something took.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let output = future.await;
    (output, started.elapsed())
}
