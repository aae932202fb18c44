//! Jobs whose owners are learned, on two replicas whose store comes and goes: whoever submitted a
//! job owns it, whatever happens to the store, and nobody else ever does.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::comparison::is_full;
use super::world::Random;
use crate::performance::is_ready;
use crate::support::world::new_id;
use crate::support::{Config, Gateway, Http, Origin, RedisServer, Reply, World};

/// The ids that the origins gave out, in order.
type Given = Arc<Mutex<Vec<String>>>;

/// How the store is away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outage {
    /// It does not answer.
    Silent,
    /// It is gone, and comes back with all that it had stored.
    Gone,
}

struct Trial {
    redis: RedisServer,
    replicas: [Gateway; 2],
    users: Vec<String>,
    given: Given,
    /// The owner of each job, by index of the user.
    owners: HashMap<String, usize>,
    jobs: Vec<String>,
    /// The jobs whose owner each replica has met.
    met: [HashSet<String>; 2],
    chance: Random,
}

fn script(origin: &Origin, given: &Given) {
    let given = given.clone();
    origin.on("/jobs", move |exchange| {
        let id = new_id();
        given.lock().unwrap().push(id.clone());
        exchange.reply(&Reply::ok().body(format!("{{\"job\":{{\"id\":\"{id}\"}}}}")));
    });
}

impl Trial {
    async fn start(world: &World, seed: u64) -> Self {
        let redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let configure = |config: &mut Config| {
            world.configure(config);
            config.store(&redis.url());
        };
        let first = Gateway::with(configure).await;
        let replicas = [first.replica(configure).await, first];
        let given = Given::default();
        for replica in &replicas {
            script(&replica.origin, &given);
            is_ready(replica).await;
        }
        let users = (0..4).map(|_| replicas[0].issuer.token_of(&world.user()));
        let users = users.collect();
        Self {
            redis,
            replicas,
            users,
            given,
            owners: HashMap::new(),
            jobs: Vec::new(),
            met: Default::default(),
            chance: Random(seed),
        }
    }

    /// A job is submitted: it runs and has its owner, or nothing has happened.
    async fn submit(&mut self, outage: Option<Outage>) {
        let user = self.chance.below(self.users.len());
        let place = self.chance.below(2);
        let replica = &self.replicas[place];
        let before = self.given.lock().unwrap().len();
        let call = replica.post(Http::One, "/jobs").bearer(&self.users[user]);
        let answer = call.send().await;
        let given = self.given.lock().unwrap()[before..].to_vec();
        match answer.status.as_u16() {
            200 => {
                let id = answer.json()["job"]["id"].as_str().unwrap().to_owned();
                assert_eq!(given, [id.as_str()]);
                self.owners.insert(id.clone(), user);
                self.met[place].insert(id.clone());
                self.jobs.push(id);
            }
            status => {
                assert_eq!(status, 503, "{outage:?}: {}", answer.text());
                assert!(outage.is_some(), "{}", answer.log_line());
                assert!(given.is_empty(), "it runs, and nobody owns it");
            }
        }
        replica.origin.take();
    }

    /// Somebody asks for some job, which may not exist.
    async fn ask(&mut self, outage: Option<Outage>) {
        let user = self.chance.below(self.users.len());
        let id = match self.jobs.is_empty() || self.chance.one_in(8) {
            true => new_id(),
            false => self.chance.one_of(&self.jobs).clone(),
        };
        let method = *self.chance.one_of(&["GET", "GET", "DELETE"]);
        let place = self.chance.below(2);
        self.check(place, user, &id, method, outage).await;
    }

    async fn check(
        &mut self,
        place: usize,
        user: usize,
        id: &str,
        method: &str,
        outage: Option<Outage>,
    ) {
        let replica = &self.replicas[place];
        let path = format!("/jobs/{id}");
        let call = replica.call(Http::One, method, &path);
        let answer = call.bearer(&self.users[user]).send().await;
        let status = answer.status.as_u16();
        let owner = self.owners.get(id).copied();
        let is_owner = owner == Some(user);
        let allowed: &[u16] = match (outage, owner) {
            (None, _) if is_owner => &[200],
            (None, _) => &[404],
            (Some(_), _) if is_owner && self.met[place].contains(id) => &[200],
            (Some(_), _) if is_owner => &[200, 503],
            (Some(_), Some(_)) => &[404, 503],
            // Nobody can know that it does not exist.
            (Some(_), None) => &[503],
        };
        let seen = replica.origin.take().len();
        assert!(
            allowed.contains(&status),
            "{outage:?}: {method} by {user} of {owner:?} on {place}: {status}\n{}",
            answer.log_line()
        );
        assert_eq!(seen, usize::from(status == 200), "{status}");
        if status == 200 {
            self.met[place].insert(id.to_owned());
        }
    }

    async fn set_away(&mut self, outage: Outage) {
        match outage {
            Outage::Silent => self.redis.pause(),
            Outage::Gone => self.redis.kill(),
        }
    }

    /// Brings the store back, and waits until every replica uses it and has stored what it kept.
    async fn set_back(&mut self, outage: Outage) {
        match outage {
            Outage::Silent => self.redis.resume(),
            Outage::Gone => self.redis.start_again(),
        }
        for replica in &self.replicas {
            for (name, value) in [
                ("foregate_store_up", 1.0),
                ("foregate_facts_learned_unstored", 0.0),
            ] {
                replica.metric_becomes(name, &[], value).await;
            }
            is_ready(replica).await;
        }
    }
}

#[tokio::test]
async fn whoever_submits_a_job_owns_it_and_nobody_else_whatever_happens_to_the_store() {
    let (worlds, rounds) = if is_full() { (8, 12) } else { (1, 3) };
    for seed in 0..worlds {
        let world = World::new();
        let mut trial = Trial::start(&world, 500 + seed).await;
        for round in 0..rounds {
            for _ in 0..10 {
                trial.submit(None).await;
                trial.ask(None).await;
            }
            let outage = match round % 2 {
                0 => Outage::Silent,
                _ => Outage::Gone,
            };
            trial.set_away(outage).await;
            for _ in 0..12 {
                trial.ask(Some(outage)).await;
                trial.submit(Some(outage)).await;
            }
            trial.set_back(outage).await;
            // Every job that runs, asked for by everybody, everywhere.
            let jobs = trial.jobs.clone();
            for id in jobs.iter().rev().take(16) {
                for user in 0..trial.users.len() {
                    for place in 0..2 {
                        trial.check(place, user, id, "GET", None).await;
                    }
                }
            }
        }
        assert_eq!(trial.jobs.len(), trial.given.lock().unwrap().len());
    }
}
