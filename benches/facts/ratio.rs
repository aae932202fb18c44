//! How many facts are found in memory when a fifth of the users and of the things takes four fifths
//! of the requests, a thousand a second: with ages of half a minute, and with notifications. Time
//! is simulated; the cache, the database and its triggers are real.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use foregate::breaker::Outage;
use foregate::config;
use foregate::database::{Database, Listener, Param};
use foregate::facts::trigger_coverage::WatchedQuery;
use foregate::facts::{
    FactCache, Facts, Invalidation, LookupContext, NamedResource, WriterKey, notify,
};
use foregate::gateway::metrics::Metrics;
use foregate::policy::Config;
use foregate::policy::outage::AccessClass;
use foregate::policy::resources::DemandTarget;
use foregate::store;
use foregate::tokens::VerifiedCache;
use uuid::Uuid;

use crate::gate::FACTS;
use crate::world::World;

/// As many users and five times as many projects.
const USERS: usize = 10_000;
const PROJECTS: usize = 5;

/// Between two requests.
const STEP: Duration = Duration::from_millis(1);

static STARTED: OnceLock<Instant> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

fn simulated() -> Instant {
    // Far enough from the machine's start that any age can be looked back.
    *STARTED.get_or_init(Instant::now) + Duration::from_micros(PASSED.load(Ordering::Relaxed))
}

pub fn run() {
    let world = World::new(USERS);
    world.database.sql(&format!(
        "insert into projects (id, user_id, visibility) select gen_random_uuid(), id, 'private' from users, generate_series(2, {PROJECTS}); analyze"
    ));
    world
        .database
        .sql(include_str!("../../deploy/sql/notify.sql"));
    let rows = world
        .database
        .rows("select user_id, id from projects order by md5(id::text)");
    let owned: Vec<(String, String)> = rows
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let url = format!("{}?sslmode=disable", world.database.url());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let minutes = |minutes: u64| usize::try_from(minutes * 60_000).unwrap();
    for (name, notified, writes, before, counted) in [
        ("ages of 30 s, only reads", false, 0, minutes(2), minutes(2)),
        (
            "notifications, only reads",
            true,
            0,
            minutes(60),
            minutes(20),
        ),
        (
            "notifications, 1 of 20 a write",
            true,
            20,
            minutes(10),
            minutes(5),
        ),
    ] {
        let (ratio, by) =
            runtime.block_on(simulate(&url, &owned, notified, writes, before, counted));
        println!(
            "{name:<32} {:.2} % of facts in memory   ({by})",
            ratio * 100.0
        );
    }
}

async fn simulate(
    url: &str,
    owned: &[(String, String)],
    notified: bool,
    writes: u64,
    before: usize,
    counted: usize,
) -> (f64, String) {
    let notify = if notified {
        format!(", notify_url: \"{url}\"")
    } else {
        String::new()
    };
    let text = format!(
        "listen: [{{ address: 127.0.0.1:0, tls: off }}]\ndatabase: {{ url: \"{url}\"{notify} }}\n{FACTS}\nroutes: [{{ path: /health, access: public, serve: health }}]\n"
    );
    let config: Config = config::load_str("bench.yaml", &text, Path::new(""), &|_| None)
        .unwrap()
        .config;
    let metrics = Metrics::new().unwrap();
    let store = store::open(&config, &metrics.store).unwrap();
    let configured = config.database.as_ref().unwrap();
    let database = Database::start(configured, metrics.database.clone()).unwrap();
    while database.outage() != Outage::Reachable {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let of_facts = metrics.facts.clone();
    let fact_cache = FactCache::timed(
        store,
        false,
        Some(database.clone()),
        of_facts,
        WriterKey::new(&config.keys).unwrap(),
        simulated,
    );
    fact_cache.set_queries(WatchedQuery::all(&config));
    notify::follow(&fact_cache, Listener::new(configured).unwrap());
    while notified && sample(&metrics, "foregate_facts_listening") < 1.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let facts = Facts::new(&config, fact_cache);
    let mut chance = Chance(1);
    let mut start = Vec::new();
    for number in 0..before + counted {
        if number == before {
            start = tiers(&metrics);
        }
        PASSED.fetch_add(u64::try_from(STEP.as_micros()).unwrap(), Ordering::Relaxed);
        // Whose thing it is decides who asks, so that both are as skewed.
        let hot = owned.len() / 5;
        let index = match chance.below(5) {
            0 => hot + chance.below(owned.len() - hot),
            _ => chance.below(hot),
        };
        let (user, project) = &owned[index];
        let is_write = writes > 0 && chance.below(usize::try_from(writes).unwrap()) == 0;
        ask(&facts, user, project, is_write).await;
        // Somebody else changes something, six times a minute.
        if number % 10_000 == 0 {
            let (_, project) = &owned[chance.below(owned.len())];
            let id = Param::Uuid(Uuid::try_parse(project).unwrap());
            let deadline = Instant::now() + Duration::from_secs(5);
            let sql = "update projects set visibility = 'private' where id = $1";
            database.execute(sql, &[id], deadline).await.unwrap();
        }
    }
    let found: Vec<f64> = tiers(&metrics)
        .iter()
        .zip(start)
        .map(|(now, before)| now - before)
        .collect();
    let by = format!("memory {}, database {}", found[0], found[1]);
    (found[0] / (found[0] + found[1]), by)
}

async fn ask(facts: &Facts, user: &str, project: &str, is_write: bool) {
    let asking = LookupContext {
        row_since: Some(foregate::clock::now()),
        caller: Some(("issuer", user)),
        client: None,
        class: match is_write {
            true => AccessClass::Write,
            false => AccessClass::Read,
        },
        deadline: Instant::now() + Duration::from_secs(5),
    };
    let named = NamedResource {
        of: DemandTarget::Resource(0),
        id: project.to_owned(),
        within: None,
        action: "read".to_owned(),
    };
    let known = facts.gather(asking, vec![named]).await.unwrap();
    if is_write {
        let touched = Invalidation::new(facts, facts.touched(&known, Some(user)), asking.caller);
        touched.begin().await;
        touched.end().await;
    }
}

fn tiers(metrics: &Metrics) -> Vec<f64> {
    ["memory", "database"]
        .map(|tier| {
            sample(
                metrics,
                &format!("foregate_facts_lookups_total{{tier=\"{tier}\"}}"),
            )
        })
        .to_vec()
}

fn sample(metrics: &Metrics, name: &str) -> f64 {
    static CACHE: OnceLock<Arc<VerifiedCache>> = OnceLock::new();
    let cache = CACHE.get_or_init(|| {
        let config = config::load_str(
            "cache.yaml",
            "listen: [{ address: 127.0.0.1:0, tls: off }]\nroutes: [{ path: /health, access: public, serve: health }]\n",
            Path::new(""),
            &|_| None,
        );
        Arc::new(VerifiedCache::new(config.unwrap().config.token_cache))
    });
    let text = String::from_utf8(metrics.render(cache).unwrap()).unwrap();
    let value = |line: &str| line.strip_prefix(name)?.trim().parse::<f64>().ok();
    text.lines().filter_map(value).sum()
}

/// The same numbers in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}
