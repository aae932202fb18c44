//! How long the facts of one request take: remembered, from Redis, and from PostgreSQL, with real servers on this machine.
//!
//! A request about a generation needs four facts: the caller, its memberships, the generation with its parents, and the project it lies in.
//! They are asked for one request after another, and what is told are percentiles, since the slowest are what a budget is about.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, and borrows the servers of the tests"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foregate::config::checked::DemandOf;
use foregate::config::{self, Loaded};
use foregate::database::Database;
use foregate::facts::{Asking, Facts, Named, Seen, Shelf};
use foregate::metrics::Metrics;
use foregate::outage::AccessClass;
use foregate::store::{self, Outage, Store};
use uuid::Uuid;

#[path = "../tests/gateway/support/postgres.rs"]
mod postgres;
#[path = "../tests/gateway/support/redis.rs"]
mod redis;

/// How long a server may take to start.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How many requests.
const REQUESTS: usize = 2000;

fn load(database: &str, redis: &str) -> Loaded {
    let text = format!(
        "
listen: [{{ address: 127.0.0.1:0, tls: off }}]
admin: {{ address: 127.0.0.1:0 }}
keys: [{{ id: k1, secret: \"q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=\" }}]
store: {{ redis: \"{redis}\" }}
database: {{ url: \"{database}?sslmode=disable\" }}
facts:
  caller: select is_active as active from users where id = $1
  memberships: select m.team_id as team, m.role from team_members m join teams t on t.id = m.team_id where m.user_id = $1 and m.is_active and t.is_active
resources:
  project:
    query: select user_id as owner, visibility, (select jsonb_agg(jsonb_build_object('team', team_id, 'access', access_level)) from project_teams where project_id = $1) as teams from projects where id = $1
  generation:
    query: select user_id as owner, project_id as within, parent_generation_id as parent from generations where id = $1
    within: project
    parent: generation
routes: [{{ path: /health, access: public, serve: health }}]
"
    );
    config::load_str("bench.yaml", &text, Path::new(""), &|_| None).unwrap()
}

/// Users with a project and a generation each, the generation with one parent.
fn world(server: &postgres::Postgres) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let (mut users, mut projects, mut generations) = (String::new(), String::new(), String::new());
    for _ in 0..REQUESTS {
        let [user, project, parent, child] = [(); 4].map(|()| Uuid::now_v7().to_string());
        writeln!(users, "{user}\t{user}@example.com").unwrap();
        writeln!(projects, "{project}\t{user}\tprivate").unwrap();
        writeln!(generations, "{parent}\t{user}\t{project}\t\\N").unwrap();
        writeln!(generations, "{child}\t{user}\t{project}\t{parent}").unwrap();
        all.push((user, child));
    }
    server.copy("users", "id, email", &users);
    server.copy("projects", "id, user_id, visibility", &projects);
    let columns = "id, user_id, project_id, parent_generation_id";
    server.copy("generations", columns, &generations);
    server.sql("analyze");
    all
}

async fn ask(facts: &Facts, user: &str, generation: &str) -> Duration {
    let started = Instant::now();
    let asking = Asking {
        caller: Some(("issuer", user)),
        class: AccessClass::Read,
        deadline: started + Duration::from_secs(5),
    };
    let named = Named {
        of: DemandOf::Kind(1),
        id: generation.to_owned(),
        within: None,
        action: "read".to_owned(),
    };
    let known = facts.gather(asking, vec![named]).await.unwrap();
    let took = started.elapsed();
    assert!(matches!(known.things[0].seen(), Seen::Row(_, Some(_))));
    took
}

fn tell(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times[index.min(times.len() - 1)].as_secs_f64() * 1e6
    };
    println!(
        "{name:<28} p50 {:>8.1} us   p99 {:>8.1} us   p99.9 {:>8.1} us   ({} requests)",
        at(0.5),
        at(0.99),
        at(0.999),
        times.len()
    );
}

fn main() {
    let (server, redis) = (postgres::Postgres::start(), redis::RedisServer::start());
    let world = world(&server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let loaded = load(&server.url(), &redis.url());
        let metrics = Metrics::new().unwrap();
        let store: Arc<dyn Store> = store::open(&loaded.config, &metrics.store).unwrap();
        let configured = loaded.config.database.as_ref().unwrap();
        let database = Database::start(configured, metrics.database.clone()).unwrap();
        while store.outage() != Outage::Reachable || database.outage() != Outage::Reachable {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let shelf = |is_shared| {
            let shelf = Shelf::new(
                store.clone(),
                is_shared,
                Some(database.clone()),
                metrics.facts.clone(),
            );
            Facts::new(&loaded.config, shelf)
        };
        let each = async |facts: &Facts| {
            let mut times = Vec::with_capacity(world.len());
            for (user, generation) in &world {
                times.push(ask(facts, user, generation).await);
            }
            times
        };
        let alone = shelf(false);
        tell("from PostgreSQL", each(&alone).await);
        tell("remembered", each(&alone).await);
        let first = shelf(true);
        tell("from PostgreSQL, not in Redis", each(&first).await);
        // What is written back is written behind.
        tokio::time::sleep(Duration::from_secs(1)).await;
        tell("from Redis", each(&shelf(true)).await);
    });
}
