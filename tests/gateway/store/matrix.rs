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

/// A gateway in this process with such a store.
struct Place {
    issuer: Issuer,
    origin: Origin,
    store: Arc<Absent>,
    address: String,
    log: Log,
    _folder: tempfile::TempDir,
    _server: Server,
}

async fn place(change: impl FnOnce(&mut Config)) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (issuer, origin) = (Issuer::new(), Origin::start());
    issuer.write(folder.path());
    let mut config = Config::new(&origin.url());
    config.set("listen", "[{ address: \"127.0.0.1:0\", tls: off }]");
    change(&mut config);
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
    Place {
        issuer,
        origin,
        store,
        address,
        log,
        _folder: folder,
        _server: server,
    }
}

#[tokio::test]
async fn a_write_whose_inspected_body_outlasts_a_brief_outage_is_refused() {
    let (owner, note) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    let facts = format!("{{ resources: {{ note: {{ {note}: {{ owner: {owner} }} }} }} }}");
    let place = place(|config| {
        config.set("resources", "{ note: {} }").set("static_facts", &facts).more_routes(
            "- { path: /notes, methods: [POST], access: user, resource: none, body: { ids: [{ field: note_id, kind: note }] } }",
        );
    })
    .await;
    let token = place.issuer.token_of(&owner.to_string());
    let body = format!("{{\"note_id\":\"{note}\"}}");
    for (outage, is_permitted) in [
        (Outage::Reachable, true),
        (away(0), true),
        (away(40), false),
        (Outage::NeverSeen, false),
    ] {
        *place.store.outage.lock().unwrap() = Outage::Reachable;
        let connector = Connector::new(&place.address, None, Http::One, place.log.clone());
        let mut raw = connector.raw().await;
        raw.write(format!(
            "POST /notes HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {token}\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ))
        .await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(raw.read().await);
        }
        // It is authenticated now, and its body is awaited.
        assert!(head.starts_with(b"HTTP/1.1 100 "));
        *place.store.outage.lock().unwrap() = outage;
        raw.write(&body).await;
        let answer = raw.answer().await.answer();
        if is_permitted {
            assert_eq!(answer.status, 200, "{outage:?}");
            place.origin.only();
        } else {
            answer.is_denied(Reason::StoreUnavailable);
            place.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn every_row_about_the_store_is_what_a_request_gets() {
    let place = place(|config| {
        config.more_routes(
            "- { path: /any, access: user }\n- { path: /reading, access: user, action: read }",
        );
    })
    .await;
    let (issuer, origin, store) = (&place.issuer, &place.origin, &place.store);
    let call = |http: Http, method: &str, path: &str, token: &str| {
        let connector = Connector::new(&place.address, None, http, place.log.clone());
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
