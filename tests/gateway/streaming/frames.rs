//! Frame by frame: bytes of one side reach the other before the next are sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::{LARGE, Memory};
use crate::support::client::Door;
use crate::support::{DEADLINE, Exchange, Gate, Gateway, Http, Reply, in_time};

#[tokio::test]
async fn events_arrive_one_by_one() {
    let gateway = Gateway::with_routes(LARGE).await;
    for http in Http::BOTH {
        let gates: [Gate; 20] = std::array::from_fn(|_| Gate::new());
        let received = gates.clone();
        gateway.origin.on("/events", move |exchange| {
            exchange.begin(200, &[("content-type", "text/event-stream")]);
            for (number, received) in received.iter().enumerate() {
                exchange.event(&number.to_string());
                // The next event is sent only when the client has this one.
                received.pass();
            }
            exchange.end(&[]);
        });
        let mut answer = gateway.get(http, "/events").begin().await;
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        for (number, gate) in gates.iter().enumerate() {
            let event = answer.chunk().await.unwrap().unwrap();
            assert_eq!(event, format!("data: {number}\n\n"));
            gate.open();
        }
        assert!(answer.chunk().await.is_none());
    }
}

#[tokio::test]
async fn the_head_of_an_answer_does_not_wait_for_its_body() {
    let gateway = Gateway::with_routes(LARGE).await;
    for http in Http::BOTH {
        let gate = Gate::new();
        let closed = gate.clone();
        gateway.origin.on("/slow", move |exchange| {
            exchange.begin(200, &[]);
            closed.pass();
            exchange.chunk("at last");
            exchange.end(&[]);
        });
        let answer = gateway.get(http, "/slow").begin().await;
        gate.open();
        assert_eq!(answer.finish().await.text(), "at last");
    }
}

/// Passes the size of every read to the test.
fn report(exchange: &mut Exchange, sizes: &mpsc::Sender<usize>) {
    while let Some(size) = exchange.read_some() {
        sizes.send(size).unwrap();
        if size == 0 {
            return exchange.reply(&Reply::ok());
        }
    }
}

#[tokio::test]
async fn an_upload_arrives_piece_by_piece() {
    let gateway = Gateway::with_routes(LARGE).await;
    for http in Http::BOTH {
        let (sender, sizes) = mpsc::channel();
        gateway
            .origin
            .on("/up", move |exchange| report(exchange, &sender));
        let connector = gateway.connector(http, Door::Tls);
        let (call, body) = connector.call("POST", "/up").streaming();
        let answer = tokio::spawn(call.send());
        let mut sizes = Some(sizes);
        for length in 1..20 {
            assert!(body.chunk("x".repeat(length)).await);
            // The next piece is sent only when the origin has this one.
            let waiting = sizes.take().unwrap();
            let (size, waiting) =
                tokio::task::spawn_blocking(move || (waiting.recv_timeout(DEADLINE), waiting))
                    .await
                    .unwrap();
            assert_eq!(size, Ok(length));
            sizes = Some(waiting);
        }
        drop(body);
        answer.await.unwrap().is_ok();
    }
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let gateway = Gateway::with_routes(LARGE).await;
    gateway.origin.on("/echo", |exchange| {
        exchange.begin(200, &[]);
        let mut echoed = 0;
        while let Some(1..) = exchange.read_some() {
            let piece = exchange.request().body[echoed..].to_vec();
            echoed += piece.len();
            exchange.chunk(piece);
        }
        exchange.end(&[]);
    });
    for http in Http::BOTH {
        let (call, body) = gateway.post(http, "/echo").streaming();
        // The head of the answer arrives before the first byte of the upload.
        let mut answer = call.begin().await;
        for number in 0..50 {
            let piece = format!("piece {number}");
            assert!(body.chunk(piece.clone()).await);
            assert_eq!(answer.chunk().await.unwrap().unwrap(), piece);
        }
        drop(body);
        assert!(answer.chunk().await.is_none());
    }
}

/// The bound that tests allow: buffers of both kernels, of TLS and of the gateway, with room to
/// spare.
const BOUND: u64 = 48 << 20;

/// Waits until a count has stopped growing, and returns it.
async fn settled(count: &AtomicU64) -> u64 {
    in_time("a standstill", async {
        let (mut last, mut calm) = (0, 0);
        while calm < 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = count.load(Ordering::Relaxed);
            calm = if now == last && now > 0 { calm + 1 } else { 0 };
            last = now;
        }
        last
    })
    .await
}

#[tokio::test]
async fn an_origin_that_does_not_read_stops_the_client() {
    let gateway = Gateway::with_routes(LARGE).await;
    for http in Http::BOTH {
        let gate = Gate::new();
        let closed = gate.clone();
        gateway.origin.on("/up", move |exchange| {
            closed.pass();
            exchange.reply(&Reply::ok());
        });
        let memory = Memory::of(&gateway);
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let (call, body) = gateway.post(http, "/up").streaming();
        let total = 2 * BOUND;
        let sending = tokio::spawn(async move {
            let piece = bytes::Bytes::from(vec![b'x'; 64 << 10]);
            while count.load(Ordering::Relaxed) < total && body.chunk(piece.clone()).await {
                count.fetch_add(64 << 10, Ordering::Relaxed);
            }
        });
        let watch = async {
            let taken = settled(&accepted).await;
            assert!(taken < BOUND, "{http:?}: {taken} bytes were taken");
            memory.is_flat(&gateway);
            gate.open();
        };
        let (answer, ()) = tokio::join!(call.begin(), watch);
        answer.finish().await.is_ok();
        sending.await.unwrap();
        assert_eq!(gateway.origin.only().length, total);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_origin() {
    let gateway = Gateway::with_routes(LARGE).await;
    for http in Http::BOTH {
        let written = Arc::new(AtomicU64::new(0));
        let count = written.clone();
        let total = 2 * BOUND;
        gateway.origin.on("/down", move |exchange| {
            exchange.begin(200, &[]);
            while count.load(Ordering::Relaxed) < total && exchange.chunk([b'x'; 16 << 10]) {
                count.fetch_add(16 << 10, Ordering::Relaxed);
            }
            exchange.end(&[]);
        });
        let memory = Memory::of(&gateway);
        let answer = gateway.get(http, "/down").begin().await;
        let taken = settled(&written).await;
        assert!(taken < BOUND, "{http:?}: {taken} bytes were taken");
        memory.is_flat(&gateway);
        let answer = answer.finish().await;
        assert_eq!(answer.is_ok().body.len() as u64, total);
    }
}
