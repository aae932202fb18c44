//! All layers of a request together, on a route that the gateway answers itself: one request after
//! the other, each of another user about another thing. Where it is not said that tokens are known,
//! each is new, and its signature is verified.

use std::time::Duration;

use crate::distant::distant;
use crate::gate::{Gate, Parts};
use crate::redis::RedisServer;
use crate::tell;
use crate::world::World;

const REQUESTS: usize = 2000;

/// How many of them where servers are some way off.
const FEWER: usize = 500;

pub fn run() {
    let (world, redis) = (World::new(REQUESTS + 1), RedisServer::start());
    let (postgres, redis) = (world.database.port(), redis_port(&redis));
    let alone = Parts::new(postgres, None);
    let gate = Gate::start(&alone);
    asks(&gate, &world, "from PostgreSQL, no Redis", REQUESTS);
    asks(&gate, &world, "remembered", REQUESTS);
    let tokens = tokens(&gate, &world, REQUESTS);
    ask(&gate, &world, "remembered, again", &tokens);
    ask(&gate, &world, "remembered, known tokens", &tokens);
    drop(gate);
    let shared = Parts::new(postgres, Some(redis));
    let first = Gate::start(&shared);
    asks(&first, &world, "from PostgreSQL, not in Redis", REQUESTS);
    // What is written back is written behind.
    std::thread::sleep(Duration::from_secs(1));
    let second = Gate::start(&shared);
    asks(&second, &world, "from Redis", REQUESTS);
    drop((first, second));
    for (what, each_way) in [
        ("5 ms away", Duration::from_micros(2500)),
        ("10 ms away", Duration::from_millis(5)),
    ] {
        let (postgres, redis) = (distant(postgres, each_way), distant(redis, each_way));
        let parts = Parts::new(postgres, Some(redis));
        let gate = Gate::start(&parts);
        asks(
            &gate,
            &world,
            &format!("both {what}, from PostgreSQL"),
            FEWER,
        );
        std::thread::sleep(Duration::from_secs(1));
        let other = Gate::start(&parts);
        asks(&other, &world, &format!("both {what}, from Redis"), FEWER);
        asks(&other, &world, &format!("both {what}, remembered"), FEWER);
        drop((gate, other));
        // So that the next does not find what this one left.
        std::thread::sleep(Duration::from_secs(61));
    }
}

pub fn redis_port(redis: &RedisServer) -> u16 {
    redis.url().rsplit(':').next().unwrap().parse().unwrap()
}

/// A token of each of the first so many users.
fn tokens(gate: &Gate, world: &World, count: usize) -> Vec<String> {
    let users = world.owned[..count].iter();
    users.map(|[user, ..]| gate.token(user)).collect()
}

fn asks(gate: &Gate, world: &World, name: &str, count: usize) {
    ask(gate, world, name, &tokens(gate, world, count));
}

fn ask(gate: &Gate, world: &World, name: &str, tokens: &[String]) {
    let count = tokens.len();
    let [user, _, generation] = &world.owned[REQUESTS];
    gate.is_ready(&gate.token(user), &format!("/generations/{generation}"));
    let things = world.owned.iter();
    let paths = things.map(|[.., generation]| format!("/generations/{generation}"));
    let asked: Vec<(&String, String)> = tokens.iter().zip(paths).collect();
    gate.forget();
    let trips = || gate.sample("foregate_facts_round_trips_sum");
    let before = trips();
    let mut connection = gate.connect();
    let mut late = 0;
    for (token, path) in &asked {
        match connection.ask("GET", path, token).0 {
            200 => {}
            // The budget was spent, or three in a row were and the database is not asked for a
            // moment.
            503 => late += 1,
            status => panic!("{name}: {status}"),
        }
    }
    let name = match late {
        0 => name.to_owned(),
        late => format!("{name} ({late} 503)"),
    };
    let each = (trips() - before) / count as f64;
    let (layers, answered) = gate.verdicts(count);
    tell(&format!("{name}, {each:.2} trips"), layers);
    tell("  with reading the head and answering", answered);
}
