//! Everything that a stranger has been seen to do, at once, beside people who only want answers.
//!
//! Twenty seconds and 300 connections; ten minutes and 2,000 with `FOREGATE_FULL=1`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client::{Connector, Door, Stream};
use crate::support::raw_h2::{END_STREAM, SETTINGS, frame};
use crate::support::{Gateway, Http, Reply, eventually};

/// How long, and with how many connections.
fn extent() -> (Duration, usize) {
    match std::env::var_os("FOREGATE_FULL") {
        Some(_) => (Duration::from_secs(600), 2000),
        None => (Duration::from_secs(20), 300),
    }
}

/// How much more memory may be in use at the end than after the first quarter.
const GROWTH: u64 = 128 << 20;

/// One kind of hostile connection: what it sends at once, what it sends again and again, and
/// whether it reads.
struct Attack {
    http: Http,
    door: Door,
    opening: Vec<u8>,
    again: Vec<u8>,
    pause: Duration,
    reads: bool,
}

fn attacks() -> Vec<Attack> {
    let head = |target: &str, fields: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n").into_bytes()
    };
    let one = |opening: Vec<u8>, again: &[u8], pause: u64, reads: bool| Attack {
        http: Http::One,
        door: Door::Plain,
        opening,
        again: again.to_vec(),
        pause: Duration::from_millis(pause),
        reads,
    };
    let get = |stream: u32, path: &[u8]| {
        let length = u8::try_from(path.len()).unwrap();
        let block = [
            &[0x82, 0x87, 0x41, 8][..],
            b"api.test",
            &[0x44, length],
            path,
        ];
        frame(1, 4 | END_STREAM, stream, &block.concat())
    };
    let mut greedy = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]),
    ]
    .concat();
    // Together they ask for as much with few connections as with many.
    for stream in 0..u32::try_from(9000 / extent().1).unwrap() {
        greedy.extend(get(stream * 2 + 1, b"/public/long"));
    }
    let upload = [head("/me", "Content-Length: 40000\r\n"), vec![b'x'; 40_000]].concat();
    vec![
        // Silence, and a head that never ends.
        one(Vec::new(), b"", 1000, true),
        one(
            b"GET /public/x HTTP/1.1\r\n".to_vec(),
            b"X: y\r\n",
            1000,
            true,
        ),
        // Bodies that do not come, or come slowly.
        one(
            head(
                "/public/x",
                "Content-Type: application/grpc\r\nContent-Length: 9\r\n",
            ),
            b"",
            1000,
            true,
        ),
        one(
            head("/public/x", "Transfer-Encoding: chunked\r\n"),
            b"1\r\nx\r\n",
            500,
            true,
        ),
        // Refused uploads, one behind the other; malformed heads; answers that nobody reads.
        one(upload.clone(), &upload, 50, true),
        one(
            head("/me", "Transfer-Encoding: , chunked\r\n"),
            b"",
            1000,
            true,
        ),
        one(
            b"GET /public/long HTTP/1.1\r\nHost: api.test\r\n\r\n".repeat(20),
            b"",
            1000,
            false,
        ),
        Attack {
            http: Http::Two,
            door: Door::Plain,
            opening: greedy.clone(),
            again: get(61, b"/public/x"),
            pause: Duration::from_secs(2),
            reads: false,
        },
        Attack {
            http: Http::Two,
            door: Door::Tls,
            opening: greedy,
            again: frame(6, 0, 0, &[7; 8]),
            pause: Duration::from_secs(2),
            reads: true,
        },
    ]
}

/// Does the same over one connection after the other, until it is over.
async fn attack(connector: Connector, attack: Arc<Attack>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        let Ok(stream) = connector.open().await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let _ = once(stream, &attack, &is_over).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn once(
    stream: Box<dyn Stream>,
    attack: &Attack,
    is_over: &AtomicBool,
) -> std::io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let reading = async {
        let mut buffer = vec![0; 8 * 1024];
        while attack.reads && read.read(&mut buffer).await? > 0 {}
        if !attack.reads {
            std::future::pending::<()>().await;
        }
        std::io::Result::Ok(())
    };
    let writing = async {
        write.write_all(&attack.opening).await?;
        while !is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(attack.pause).await;
            write.write_all(&attack.again).await?;
            write.flush().await?;
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        read = reading => read,
        written = writing => written,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_requests_and_probes_succeed_beside_every_attack_at_once() {
    let gateway = Gateway::with(|config| {
        config.set("workers", "2");
    })
    .await;
    gateway.origin.on("/public/long", |exchange| {
        exchange.reply(&Reply::ok().body("x".repeat(60_000)));
    });
    let (extent, connections) = extent();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut strangers = JoinSet::new();
    let kinds: Vec<_> = attacks().into_iter().map(Arc::new).collect();
    for (number, kind) in (0..connections).zip(kinds.iter().cycle()) {
        // Every tenth comes from the address of the honest.
        let source = match number % 10 {
            0 => "127.0.0.1".to_owned(),
            of_ten => format!("127.0.0.{}", of_ten + 1),
        };
        let connector = gateway.connector(kind.http, kind.door).coming_from(&source);
        strangers.spawn(attack(connector, kind.clone(), is_over.clone()));
    }
    // Silent connections to the admin listener.
    for _ in 0..connections / 4 {
        let (address, is_over) = (gateway.admin().replace("http://", ""), is_over.clone());
        strangers.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                if let Ok(mut silent) = TcpStream::connect(&address).await {
                    let _ = silent.read(&mut [0]).await;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    let token = gateway.issuer.token();
    let started = Instant::now();
    let mut after_a_quarter = None;
    let (mut honest, mut probes) = (0, 0);
    let mut kept = gateway.connect(Http::Two).await;
    while started.elapsed() < extent {
        for http in Http::BOTH {
            gateway.get(http, "/public/x").send().await.is_ok();
            let answer = gateway.get(http, "/me").bearer(&token).send().await;
            answer.is_ok();
            honest += 2;
        }
        kept.get("/public/x").send().await.is_ok();
        assert_eq!(gateway.admin_status("/livez"), 200);
        assert_eq!(gateway.admin_status("/readyz"), 200);
        probes += 2;
        if started.elapsed() > extent / 4 && after_a_quarter.is_none() {
            after_a_quarter = Some(gateway.rss());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (before, after) = (after_a_quarter.unwrap(), gateway.rss());
    let unsent = gateway.metrics().sum("foregate_unsent_bytes", &[]);
    eprintln!(
        "{honest} honest requests and {probes} probes in {} s; {} MiB, then {} MiB; {unsent} bytes unsent",
        extent.as_secs(),
        before >> 20,
        after >> 20,
    );
    assert!(after < before + GROWTH, "{before} grew to {after}");
    assert!(unsent < f64::from(256 << 20));
    is_over.store(true, Ordering::Relaxed);
    strangers.shutdown().await;
    drop(kept);
    eventually("nothing is left", || {
        gateway.metrics().sum("foregate_connections", &[]) == 0.0
    })
    .await;
    for http in Http::BOTH {
        gateway.get(http, "/public/x").send().await.is_ok();
    }
}
