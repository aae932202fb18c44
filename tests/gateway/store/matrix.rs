//! The failure matrix, row by row and end to end, with a store whose outage the test chooses.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foregate::breaker::Outage;
use foregate::config;
use foregate::denial::Reason;
use foregate::log::Log as ServerLog;
use foregate::policy::outage::{AccessClass, Effect, State};
use foregate::server::Server;
use foregate::store::{
    Answer, Bucket, Entry, Kind, Level, Logged, Memory, Position, Store, Swap, Version,
};
use tokio::sync::watch;

use crate::support::client::Connector;
use crate::support::log::Log;
use crate::support::tokens::now;
use crate::support::{Config, Http, Issuer, Origin};

/// Memory that says it is away.
#[derive(Debug)]
struct Absent {
    memory: Memory,
    outage: Mutex<Outage>,
}

impl Store for Absent {
    fn get<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, Option<Vec<u8>>> {
        self.memory.get(kind, name)
    }

    fn put<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, ()> {
        self.memory.put(kind, name, value, expires)
    }

    fn read<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, (Option<Vec<u8>>, Version)> {
        self.memory.read(kind, name)
    }

    fn swap<'a>(
        &'a self,
        kind: Kind,
        name: &'a [u8],
        version: &'a Version,
        value: &'a [u8],
        expires: i64,
    ) -> Answer<'a, Swap> {
        self.memory.swap(kind, name, version, value, expires)
    }

    fn remove<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Answer<'a, ()> {
        self.memory.remove(kind, name)
    }

    fn admit<'a>(&'a self, buckets: &'a [Bucket<'a>]) -> Answer<'a, Vec<Level>> {
        self.memory.admit(buckets)
    }

    fn append<'a>(&'a self, entries: &'a [Entry<'a>]) -> Answer<'a, Position> {
        self.memory.append(entries)
    }

    fn position(&self, at: i64) -> Answer<'_, (Position, u64)> {
        self.memory.position(at)
    }

    fn log_after(&self, seq: u64, limit: usize) -> Answer<'_, (Vec<Logged>, Option<u64>)> {
        self.memory.log_after(seq, limit)
    }

    fn pushes(&self) -> watch::Receiver<u64> {
        self.memory.pushes()
    }

    fn outage(&self) -> Outage {
        *self.outage.lock().unwrap()
    }
}

fn away(seconds: u64) -> Outage {
    let since = Instant::now().checked_sub(Duration::from_secs(seconds));
    Outage::Away {
        since: since.unwrap(),
    }
}

#[tokio::test]
async fn every_row_about_the_store_is_what_a_request_gets() {
    let folder = tempfile::tempdir().unwrap();
    let (issuer, origin) = (Issuer::new(), Origin::start());
    issuer.write(folder.path());
    let mut config = Config::new(&origin.url());
    config.set("listen", "[{ address: \"127.0.0.1:0\", tls: off }]");
    config.more_routes(
        "- { path: /any, access: user }\n- { path: /reading, access: user, action: read }",
    );
    let loaded =
        config::load_str("test.yaml", &config.to_yaml(), folder.path(), &|_| None).unwrap();
    let store = Arc::new(Absent {
        memory: Memory::new(10, now),
        outage: Mutex::new(Outage::Reachable),
    });
    let (lines, sink) = std::io::pipe().unwrap();
    let log = Log::default();
    log.collect(lines);
    let given = store.clone();
    let server = Server::start_with(loaded, ServerLog::start(sink).unwrap(), move |_, _| {
        Ok(given)
    })
    .await
    .unwrap();
    let address = server.addresses().listeners[0]
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let call = |http: Http, method: &str, path: &str, token: &str| {
        let connector = Connector::new(&address, None, http, log.clone());
        connector.call(method, path).bearer(token).send()
    };

    for (outage, state) in [
        (Outage::Reachable, None),
        (away(0), Some(State::StoreLeft)),
        (away(40), Some(State::StoreAway)),
        (away(6 * 60), Some(State::StoreGone)),
        (Outage::NeverSeen, Some(State::StoreGone)),
    ] {
        *store.outage.lock().unwrap() = outage;
        for http in Http::BOTH {
            for (method, path, class) in [
                ("GET", "/public/x", AccessClass::Public),
                ("GET", "/any", AccessClass::Read),
                ("HEAD", "/any", AccessClass::Read),
                ("GET", "/optional", AccessClass::Read),
                ("POST", "/reading", AccessClass::Read),
                ("POST", "/any", AccessClass::Write),
                ("DELETE", "/any", AccessClass::Write),
                ("GET", "/admin", AccessClass::Admin),
            ] {
                let token = match class {
                    AccessClass::Admin => issuer.sign(&issuer.claims().roles(["admin"])),
                    _ => issuer.token(),
                };
                origin.take();
                let answer = call(http, method, path, &token).await;
                match state.map_or(Effect::Allow, |state| state.effect(class)) {
                    Effect::Allow => {
                        assert_eq!(answer.status, 200, "{outage:?} {http:?} {method} {path}");
                    }
                    // Nobody here was known before an outage that began in the past.
                    Effect::Degrade => {
                        answer.is_denied(Reason::StoreUnavailable);
                        origin.saw_nothing();
                    }
                    Effect::Refuse(reason) => {
                        answer.is_denied(reason);
                        origin.saw_nothing();
                    }
                }
            }
        }
    }
}
