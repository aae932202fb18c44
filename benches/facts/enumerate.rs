//! Whether the time of an answer tells a stranger what is there: ids of nothing and ids of somebody
//! else's things, asked for in turn, each once.

use std::time::Duration;

use crate::at;
use crate::chain::redis_port;
use crate::gate::{Gate, Parts};
use crate::redis::RedisServer;
use crate::tell;
use crate::world::{World, new_id};

const PAIRS: usize = 10_000;

pub fn run() {
    let (world, redis) = (World::new(PAIRS + 2), RedisServer::start());
    let ports = (world.database.port(), redis_port(&redis));
    for (what, redis) in [("no Redis", None), ("Redis", Some(ports.1))] {
        for (kind, place) in [("generation", 2), ("project", 1)] {
            let mut parts = Parts::new(ports.0, redis);
            // What is too late on a busy machine tells nothing.
            parts.budget = "5s";
            let gate = Gate::start(&parts);
            let [stranger, own, _] = &world.owned[PAIRS];
            let token = gate.token(stranger);
            gate.is_ready(&token, &format!("/projects/{own}"));
            let mut connection = gate.connect();
            let (mut absent, mut others) = (Vec::new(), Vec::new());
            for owned in &world.owned[..PAIRS] {
                for (id, times) in [(new_id(), &mut absent), (owned[place].clone(), &mut others)] {
                    let path = format!("/{kind}s/{id}");
                    let (status, took) = connection.ask("GET", &path, &token);
                    assert_eq!(status, 404);
                    times.push(took);
                }
            }
            let (a, b) = (median(&absent), median(&others));
            tell(&format!("{kind}, {what}: absent"), absent);
            tell(&format!("{kind}, {what}: not the caller's"), others);
            println!(
                "{:<44} medians differ by {:.1} %",
                "",
                (a - b).abs() / a.min(b) * 100.0
            );
        }
    }
}

fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    at(&sorted, 0.5)
}
