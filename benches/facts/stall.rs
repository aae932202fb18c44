//! What clients meet while PostgreSQL stands still, or a table is locked: how long each answer
//! takes, with the way through the socket.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::gate::{Gate, Parts};
use crate::postgres::Postgres;
use crate::tell;
use crate::world::World;

/// How long each stall is looked at.
const STALL: Duration = Duration::from_secs(4);

/// Between two requests of a connection.
const PACE: Duration = Duration::from_millis(10);

type Asked = (&'static str, String, String);
type Met = Vec<(&'static str, u16, Duration)>;

pub fn run() {
    let world = World::new(2000);
    let gate = Gate::start(&Parts::new(world.database.port(), None));
    let [owner, project, _] = &world.owned[0];
    let token = gate.token(owner);
    let path = format!("/projects/{project}");
    gate.is_ready(&token, &path);
    for (part, (name, stall)) in [
        ("nothing is wrong", None),
        ("a table is locked", Some(lock as fn(&Postgres) -> Held)),
        ("stopped (SIGSTOP)", Some(stop as fn(&Postgres) -> Held)),
    ]
    .into_iter()
    .enumerate()
    {
        println!("{name}");
        // Read within half a minute: facts.
        let mut warm = gate.connect();
        assert_eq!(warm.ask("GET", &path, &token).0, 200);
        let held = stall.map(|stall| stall(&world.database));
        let known = vec![("known", path.clone(), token.clone())];
        let nothing = vec![("no facts", "/health".to_owned(), String::new())];
        // Cold ones, of which nothing was ever known.
        let colds: Vec<Vec<Asked>> = (0..4)
            .map(|client| {
                let first = 1 + (part * 4 + client) * 160;
                world.owned[first..first + 160]
                    .iter()
                    .map(|[user, project, _]| {
                        ("cold", format!("/projects/{project}"), gate.token(user))
                    })
                    .collect()
            })
            .collect();
        let met = clients(&gate, [vec![known, nothing], colds].concat());
        drop(held);
        let mut rows: BTreeMap<(&str, u16), Vec<Duration>> = BTreeMap::new();
        for (what, status, took) in met {
            rows.entry((what, status)).or_default().push(took);
        }
        for ((what, status), times) in rows {
            tell(&format!("  {what}: {status}"), times);
        }
        // Until the database is asked again, and what was learned is old.
        gate.is_ready(&token, &format!("/projects/{}", world.owned[1999][1]));
        thread::sleep(Duration::from_secs(31));
    }
}

/// Each client asks its own questions, one after the other, over its own connection.
fn clients(gate: &Gate, asked: Vec<Vec<Asked>>) -> Met {
    let over = AtomicBool::new(false);
    let client = |asked: &[Asked]| {
        let mut met = Vec::new();
        let mut connection = gate.connect();
        for (what, path, token) in asked.iter().cycle() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let started = Instant::now();
            let (status, took) = connection.ask("GET", path, token);
            met.push((*what, status, took));
            thread::sleep(PACE.saturating_sub(started.elapsed()));
        }
        met
    };
    thread::scope(|scope| {
        let running: Vec<_> = asked
            .iter()
            .map(|asked| scope.spawn(|| client(asked)))
            .collect();
        thread::sleep(STALL);
        over.store(true, Ordering::Relaxed);
        running
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    })
}

/// What ends a stall when it is dropped.
struct Held(Option<Box<dyn FnOnce()>>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

fn lock(server: &Postgres) -> Held {
    let script = "begin; lock table projects in access exclusive mode; select pg_sleep(60)";
    let mut holder = Command::new("psql")
        .args(["-X", "-q", "-c", script])
        .arg(server.url())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and relation = 'projects'::regclass and granted";
    while server.value(held) == "0" {
        thread::sleep(Duration::from_millis(5));
    }
    let url = server.url();
    Held(Some(Box::new(move || {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'begin; lock%'";
        let ended = Command::new("psql")
            .args(["-X", "-q", "-c", end])
            .arg(&url)
            .stdout(Stdio::null())
            .status();
        assert!(ended.unwrap().success());
        let _ = holder.wait();
    })))
}

fn stop(server: &Postgres) -> Held {
    server.pause();
    let resume = server.resuming();
    Held(Some(Box::new(resume)))
}
