//! Bytes and frames that a generator makes: close to requests, and never quite.
//!
//! The generator is seeded, so a failure repeats. Each connection gets a part of the total, which
//! is 400,000 with `FOREGATE_FULL=1`.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::client::Door;
use crate::support::raw_h2::frame;
use crate::support::{Gateway, Http, eventually, in_time};

/// How many pieces are sent over either protocol.
fn total() -> usize {
    match std::env::var_os("FOREGATE_FULL") {
        Some(_) => 200_000,
        None => 20_000,
    }
}

/// Pieces per connection, unless the gateway ends it before.
const PIECES: usize = 100;

/// xorshift64*: repeatable, and good enough to choose pieces.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    fn of<'a>(&mut self, choices: &[&'a [u8]]) -> &'a [u8] {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// A piece of HTTP/1.1: usually grammar, sometimes noise.
fn text(random: &mut Random) -> Vec<u8> {
    const WORDS: &[&[u8]] = &[
        b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"/public/x", b"/me", b"/public/x?a=<b>", b"*",
        b"https://api.test/me", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n",
        b"Host: api.test\r\n", b"Host:", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n",
        b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"TE: trailers\r\n", b" folded\r\n", b"X: y\r\n", b": \r\n",
        b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"3;a=b\r\nabc\r\n",
        b"abc", b"GET /public/x HTTP/1.1\r\nHost: api.test\r\n\r\n",
        b"POST /public/x HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /public/x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST /me HTTP/1.1\r\nHost: api.test\r\nContent-Length: 9\r\n\r\n",
    ];
    match random.below(20) {
        0 => random.bytes(40),
        1 => vec![b'x'; random.below(40_000)],
        _ => {
            let mut word = random.of(WORDS).to_vec();
            if random.below(10) == 0 && !word.is_empty() {
                let at = random.below(word.len());
                word[at] = random.next().to_le_bytes()[5];
            }
            word
        }
    }
}

/// A frame of HTTP/2: usually a possible one, sometimes noise.
fn any_frame(random: &mut Random) -> Vec<u8> {
    const BLOCKS: &[&[u8]] = &[
        // GET https / from the static table; with a path and a host as literals; nonsense.
        &[
            0x82, 0x87, 0x84, 0x41, 8, b'a', b'p', b'i', b'.', b't', b'e', b's', b't',
        ],
        &[
            0x82, 0x87, 0x44, 9, b'/', b'p', b'u', b'b', b'l', b'i', b'c', b'/', b'x', 0x41, 8,
            b'a', b'p', b'i', b'.', b't', b'e', b's', b't',
        ],
        &[
            0x83, 0x87, 0x44, 9, b'/', b'p', b'u', b'b', b'l', b'i', b'c', b'/', b'x', 0x41, 8,
            b'a', b'p', b'i', b'.', b't', b'e', b's', b't',
        ],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x3f, 0xe1, 0x1f],
        &[0x40, 0x03, b'A', b'b', b'c', 0x01, 0x00],
        &[],
    ];
    let stream = u32::try_from(random.below(40)).unwrap();
    let flags = [0, 1, 4, 5, 0x25, 0x2d, 0xff][random.below(7)];
    match random.below(14) {
        0..=4 => frame(1, flags, stream | 1, random.of(BLOCKS)),
        5 => frame(0, flags, stream, &random.bytes(2000)),
        6 => frame(3, 0, stream | 1, &[0, 0, 0, 8]),
        7 => frame(
            4,
            flags & 1,
            0,
            &[0, 4, 0, 0, 0, u8::try_from(random.below(256)).unwrap()],
        ),
        8 => frame(6, flags & 1, 0, &[7; 8]),
        9 => frame(
            8,
            0,
            stream,
            &u32::try_from(random.below(70_000)).unwrap().to_be_bytes(),
        ),
        10 => frame(9, flags, stream | 1, random.of(BLOCKS)),
        11 => frame(2, 0, stream | 1, &[0, 0, 0, 1, 16]),
        12 => {
            let kind = u8::try_from(random.below(256)).unwrap();
            let payload = random.bytes(60);
            frame(kind, flags, stream, &payload)
        }
        _ => random.bytes(30),
    }
}

/// Sends pieces over connections of this protocol until all are sent.
async fn send_all(gateway: &Gateway, http: Http, seed: u64) {
    let mut random = Random(seed);
    let mut left = total();
    while left > 0 {
        let door = match random.below(2) {
            0 => Door::Tls,
            _ => Door::Plain,
        };
        let (mut read, mut write) =
            tokio::io::split(gateway.connector(http, door).open().await.unwrap());
        let reading = tokio::spawn(async move {
            let mut answers = vec![0; 16 * 1024];
            while read.read(&mut answers).await.is_ok_and(|read| read > 0) {}
        });
        if http == Http::Two {
            let opening = [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                &frame(4, 0, 0, &[])[..],
            ]
            .concat();
            let _ = write.write_all(&opening).await;
        }
        for _ in 0..PIECES {
            let piece = match http {
                Http::One => text(&mut random),
                Http::Two => any_frame(&mut random),
            };
            left = left.saturating_sub(1);
            let sent = in_time("writing", write.write_all(&piece)).await;
            if sent.is_err() || reading.is_finished() {
                break;
            }
        }
        let _ = write.shutdown().await;
        drop(write);
        in_time("the end of the connection", reading).await.unwrap();
    }
}

#[tokio::test]
async fn random_bytes_and_frames_break_nothing_and_reach_the_origin_as_requests_or_not_at_all() {
    let gateway = Gateway::with(|config| {
        config.set("hosts", "[api.test]").set(
            "connections",
            "{ head: 2s, idle: 2s, body_idle: 2s, handshake: 5s, handshakes_per_address: 100000/s }",
        );
    })
    .await;
    for http in Http::BOTH {
        send_all(&gateway, http, 0x5EED_0001).await;
    }
    gateway.is_quiet().await;
    eventually("nothing is held", || {
        let metrics = gateway.metrics();
        metrics.sum("foregate_unsent_bytes", &[]) == 0.0
            && metrics.sum("foregate_h2_streams", &[]) == 0.0
    })
    .await;
    let panics = gateway.log().all(|entry| entry["message"] == "panic");
    assert!(panics.is_empty(), "{panics:#?}");
    for seen in gateway.origin.take() {
        assert!(seen.target.starts_with("/public/"), "{seen:?}");
        // Changed bytes may make another method.
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert!(seen.method.bytes().all(is_token), "{seen:?}");
        assert_eq!(seen.all("host"), ["api.test"], "{seen:?}");
        assert!(seen.all("content-length").len() + seen.all("transfer-encoding").len() <= 1);
    }
    for http in Http::BOTH {
        gateway.get(http, "/public/x").send().await.is_ok();
    }
}
