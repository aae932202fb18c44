//! Redis fails over behind an address that stays the same: connections that exist lead to a
//! read-only replica, or to a server that is gone, and new ones to the new primary.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foregate::denial::Reason;
use foregate::store::Notice;
use serde_json::json;
use tempfile::TempDir;

use super::{in_redis, one_key, open};
use crate::support::admin::Post;
use crate::support::forwarder::Forwarder;
use crate::support::port::ReservedPort;
use crate::support::redis::Connection;
use crate::support::{
    Client, DEADLINE, Gateway, Http, Issuer, RedisServer, eventually, in_time, not_proven,
};

/// How soon authenticated requests are served after the failover is done.
const SOON: Duration = Duration::from_secs(5);

/// A primary and its replica, in step.
fn pair() -> (RedisServer, RedisServer) {
    let (primary, replica) = (RedisServer::start(), RedisServer::start());
    follow(&replica, &primary);
    let deadline = Instant::now() + DEADLINE;
    while !replica
        .say("INFO replication")
        .text()
        .contains("master_link_status:up")
    {
        assert!(Instant::now() < deadline, "the replica never follows");
        std::thread::sleep(Duration::from_millis(20));
    }
    (primary, replica)
}

fn follow(replica: &RedisServer, primary: &RedisServer) {
    replica.say(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
}

/// Swaps the roles, as a failover does that leaves the old primary running.
fn swap(primary: &RedisServer, replica: &RedisServer) {
    replica.say("REPLICAOF NO ONE");
    follow(primary, replica);
}

async fn behind(forwarder: &Forwarder) -> Gateway {
    let url = format!("redis://127.0.0.1:{}", forwarder.port());
    let gateway = Gateway::with(|config| {
        config.store(&url);
    })
    .await;
    eventually("ready", || gateway.admin_status("/readyz") == 200).await;
    gateway
}

/// Asks until it is over, with tokens that are known and tokens that are new. No answer says that
/// a token is bad.
async fn ask(mut client: Client, issuer: Issuer, over: Arc<AtomicBool>) -> usize {
    let mut asked = 0;
    while !over.load(Ordering::Relaxed) {
        let token = issuer.token();
        let answer = client.get("/me").bearer(&token).send().await;
        assert!(
            answer.status == 200 || answer.status == 503,
            "{}",
            answer.text()
        );
        asked += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    asked
}

/// Asks for what needs the store until it is given, and says when that was.
async fn served_again(gateway: &Gateway) -> Instant {
    let admin = gateway
        .issuer
        .sign(&gateway.issuer.claims().roles(["admin"]));
    let mut client = gateway.connect(Http::Two).await;
    let asking = async {
        loop {
            let answer = client.get("/admin").bearer(&admin).send().await;
            if answer.status == 200 {
                return Instant::now();
            }
            answer.is_denied(Reason::StoreUnavailable);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time("being served again", asking).await
}

/// A gateway under requests while its store fails over.
struct Load {
    over: Arc<AtomicBool>,
    asking: tokio::task::JoinHandle<usize>,
}

impl Load {
    async fn on(gateway: &Gateway) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let client = gateway.connect(Http::One).await;
        let asking = tokio::spawn(ask(client, gateway.issuer.clone(), over.clone()));
        Self { over, asking }
    }

    async fn ends(self) {
        self.over.store(true, Ordering::Relaxed);
        let asked = in_time("the end of the load", self.asking).await.unwrap();
        assert!(asked > 0);
    }
}

/// The gateway uses the new primary for everything: it revokes there, and is told of revocations.
async fn works(gateway: &Gateway, primary: &RedisServer) {
    gateway.metric_becomes("foregate_store_up", &[], 1.0).await;
    eventually("ready", || gateway.admin_status("/readyz") == 200).await;
    let issuer = &gateway.issuer;
    let claims = issuer.claims();
    let token = issuer.sign(&claims);
    gateway
        .get(Http::One, "/me")
        .bearer(&token)
        .send()
        .await
        .is_ok();
    // Sentinel has the new primary close its clients once more, a moment later. What was not
    // accepted says so, and is stored later.
    let revoked = || {
        let revocation = json!({ "kind": "token", "token": token });
        let (status, answer) = Post::revoke(gateway.admin(), &revocation).send();
        assert_eq!(answer["propagated"], status == 200, "{answer}");
        status == 200
    };
    eventually("it is revoked everywhere", revoked).await;
    let answer = gateway.get(Http::One, "/me").bearer(&token).send().await;
    answer.is_denied(Reason::TokenRevoked);
    assert_ne!(primary.say("ZCARD foregate:{revocations}:log").text(), "0");
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left_and_users_are_served_within_five_seconds() {
    let (old, new) = pair();
    let forwarder = Forwarder::to(old.port());
    let gateway = behind(&forwarder).await;
    let load = Load::on(&gateway).await;
    for (from, to) in [(&old, &new), (&new, &old)] {
        // The roles change first, and the address follows later.
        swap(from, to);
        gateway.metric_becomes("foregate_store_up", &[], 0.0).await;
        let log = gateway.log();
        let cause = |word: &str| {
            let says = |line: &serde_json::Value| {
                line["cause"]
                    .as_str()
                    .is_some_and(|cause| cause.contains(word))
            };
            !log.all(says).is_empty()
        };
        eventually("it is logged", || cause("read-only replica")).await;
        let (status, text) = crate::support::metrics::get(gateway.admin(), "/readyz");
        assert_eq!(status, 200, "{text}");
        forwarder.point_to(to.port());
        let done = Instant::now();
        let took = served_again(&gateway).await - done;
        println!("served again {took:?} after the failover was done");
        assert!(took < SOON, "{took:?}");
        works(&gateway, to).await;
    }
    load.ends().await;
}

#[tokio::test]
async fn messages_of_other_replicas_arrive_over_the_new_primary() {
    let (old, new) = pair();
    let forwarder = Forwarder::to(old.port());
    let store = format!("{{ redis: \"redis://127.0.0.1:{}\" }}", forwarder.port());
    let opened = open(Path::new("."), &one_key(), &store);
    opened.answers().await;
    // The old server keeps running, keeps its connections, and follows nobody.
    old.say("CONFIG SET min-replicas-to-write 9");
    new.say("REPLICAOF NO ONE");
    opened.is_away().await;
    forwarder.point_to(new.port());
    opened.answers().await;
    let other = in_redis(&new).await;
    let mut notices = opened.store.notices();
    in_time("a message of the other", async {
        loop {
            other.store.publish(b"news").await.unwrap();
            let waiting = tokio::time::timeout(Duration::from_millis(200), notices.recv());
            if let Ok(Ok(Notice::Message(message))) = waiting.await
                && message == b"news"
            {
                return;
            }
        }
    })
    .await;
}

/// A running Sentinel that watches one primary. Dropping it ends the process.
struct Sentinel {
    child: Child,
    port: ReservedPort,
    _folder: TempDir,
}

impl Sentinel {
    /// `None` if the program is not installed.
    fn watching(primary: &RedisServer) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = ReservedPort::new();
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            folder.path().display(),
            primary.port()
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new("redis-sentinel")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self {
            child,
            port,
            _folder: folder,
        })
    }

    /// One command, once it answers.
    fn say(&self, command: &str) -> crate::support::redis::Resp {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = Connection::to(self.port.number()).and_then(|mut it| it.call(&words));
            if let Ok(answer) = answer {
                return answer;
            }
            assert!(Instant::now() < deadline, "the sentinel does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The port of the primary, as it tells clients.
    fn primary(&self) -> u16 {
        let address = self.say("SENTINEL get-master-addr-by-name main");
        address.list()[1].text().parse().unwrap()
    }

    /// Whether it knows the replica, so that it can fail over.
    fn knows_a_replica(&self) -> bool {
        self.say("SENTINEL replicas main").list().len() == 1
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn after_a_failover_by_sentinel_users_are_served_within_five_seconds() {
    let (old, new) = pair();
    let Some(sentinel) = Sentinel::watching(&old) else {
        return not_proven("redis-sentinel");
    };
    eventually("it knows the replica", || sentinel.knows_a_replica()).await;
    let forwarder = Forwarder::to(old.port());
    let gateway = behind(&forwarder).await;
    let load = Load::on(&gateway).await;
    // The primary stands still; its connections stay open.
    old.pause();
    eventually("the failover", || sentinel.primary() == new.port()).await;
    eventually("the new primary", || new.is_primary() == Some(true)).await;
    forwarder.point_to(new.port());
    let done = Instant::now();
    let took = served_again(&gateway).await - done;
    println!("served again {took:?} after the failover was done");
    assert!(took < SOON, "{took:?}");
    works(&gateway, &new).await;
    // The old primary comes back as a replica, and nothing changes.
    old.resume();
    eventually("it follows", || old.is_primary() == Some(false)).await;
    works(&gateway, &new).await;
    load.ends().await;
}

#[tokio::test]
async fn the_name_of_the_server_is_resolved_again_for_every_connection() {
    let Some(wrapper) = name_wrapper() else {
        return not_proven("libnss-wrapper");
    };
    // Two servers on one port of two addresses.
    let [old, new] = RedisServer::two_at(["127.0.0.1", "127.0.0.2"]);
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 redis.test\n").unwrap();
    let environment = [
        ("LD_PRELOAD", wrapper),
        ("NSS_WRAPPER_HOSTS", hosts.to_str().unwrap()),
    ];
    let url = format!("redis://redis.test:{}", old.port());
    let gateway = Gateway::within(&environment, crate::support::Origin::start(), |config| {
        config.store(&url);
    })
    .await;
    eventually("ready", || gateway.admin_status("/readyz") == 200).await;
    std::fs::write(&hosts, "127.0.0.2 redis.test\n").unwrap();
    // The library reads the file again when the second of its last change is another.
    let file = std::fs::File::options().append(true).open(&hosts).unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    file.set_modified(later).unwrap();
    // The old server refuses writes from now on, and keeps its connections.
    old.say("CONFIG SET min-replicas-to-write 1");
    gateway.metric_becomes("foregate_store_up", &[], 0.0).await;
    gateway.metric_becomes("foregate_store_up", &[], 1.0).await;
    served_again(&gateway).await;
    gateway.revoke(&json!({ "kind": "token", "token": gateway.issuer.token() }));
    assert_eq!(new.say("ZCARD foregate:{revocations}:log").text(), "1");
}

/// The library that lets a test change what a name resolves to.
fn name_wrapper() -> Option<&'static str> {
    let places = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
    ];
    let library = "libnss_wrapper.so";
    let is_installed = places
        .iter()
        .any(|place| Path::new(place).join(library).exists());
    is_installed.then_some(library)
}
