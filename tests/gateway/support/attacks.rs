//! What strangers have been seen to do, as bytes: for the tests, and for a benchmark that has
//! nothing else of the harness.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// One kind of hostile connection: what it sends at once, what it sends again and again, and
/// whether it reads.
pub struct Attack {
    /// What it does, in a few words.
    pub name: &'static str,
    /// Whether it needs a connection that speaks HTTP/2.
    pub is_h2: bool,
    pub opening: Vec<u8>,
    /// How many requests that is.
    pub requests: u64,
    pub again: Vec<u8>,
    /// How many requests that is.
    pub more_requests: u64,
    pub pause: Duration,
    pub reads: bool,
    /// One such request of a client that means well.
    pub harmless: Vec<u8>,
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A GET on HTTP/2, of a path on `api.test`, with nothing behind it.
fn get_h2(stream: u32, path: &[u8]) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    let block = [
        &[0x82, 0x87, 0x41, 8][..],
        b"api.test",
        &[0x44, length],
        path,
    ];
    // HEADERS with END_STREAM and END_HEADERS.
    frame(1, 4 | 1, stream, &block.concat())
}

/// A connection that gives each answer a window of one byte, and asks for so many.
fn greedy(streams: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]));
    for stream in 0..streams {
        bytes.extend(get_h2(stream * 2 + 1, b"/public/long"));
    }
    bytes
}

/// All of them; those that ask for many answers on HTTP/2 ask for so many.
pub fn attacks(streams: u32) -> Vec<Attack> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n").into_bytes();
    let head = |target: &str, fields: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n").into_bytes()
    };
    let upload = |target: &str| {
        let head = head(target, "Content-Length: 40000\r\n");
        [head, vec![b'x'; 40_000]].concat()
    };
    let small = [
        head("/public/x", "Content-Length: 9\r\n"),
        b"some body".to_vec(),
    ]
    .concat();
    let one = |name, opening: Vec<u8>, again: &[u8], pause: u64, harmless: Vec<u8>| Attack {
        name,
        is_h2: false,
        requests: 1,
        opening,
        again: again.to_vec(),
        more_requests: 0,
        pause: Duration::from_millis(pause),
        reads: true,
        harmless,
    };
    let two = |name, again: Vec<u8>, more_requests, reads| Attack {
        is_h2: true,
        requests: u64::from(streams),
        more_requests,
        reads,
        ..one(name, greedy(streams), &again, 2000, get("/public/long"))
    };
    vec![
        one("silence", Vec::new(), b"", 1000, get("/public/x")),
        one(
            "a head that never ends",
            b"GET /public/x HTTP/1.1\r\n".to_vec(),
            b"X: y\r\n",
            1000,
            get("/public/x"),
        ),
        one(
            "bodies that do not come",
            head(
                "/public/x",
                "Content-Type: application/grpc\r\nContent-Length: 9\r\n",
            ),
            b"",
            1000,
            small.clone(),
        ),
        one(
            "bodies that trickle",
            head("/public/x", "Transfer-Encoding: chunked\r\n"),
            b"1\r\nx\r\n",
            500,
            small.clone(),
        ),
        Attack {
            more_requests: 1,
            ..one(
                "uploads that are refused",
                upload("/me"),
                &upload("/me"),
                50,
                upload("/public/x"),
            )
        },
        one(
            "malformed heads",
            head("/me", "Transfer-Encoding: , chunked\r\n"),
            b"",
            1000,
            small,
        ),
        Attack {
            requests: 20,
            reads: false,
            ..one(
                "answers that nobody reads",
                get("/public/long").repeat(20),
                b"",
                1000,
                get("/public/long"),
            )
        },
        two("the same on HTTP/2", get_h2(61, b"/public/x"), 1, false),
        two("windows of one byte", frame(6, 0, 0, &[7; 8]), 0, true),
    ]
}

impl Attack {
    /// Does it once, until the gateway ends the connection or it is over; counts the requests.
    pub async fn once(
        &self,
        stream: impl AsyncRead + AsyncWrite,
        is_over: &AtomicBool,
        requests: &AtomicU64,
    ) -> std::io::Result<()> {
        let (mut read, mut write) = tokio::io::split(stream);
        let reading = async {
            let mut buffer = vec![0; 8 * 1024];
            while self.reads && read.read(&mut buffer).await? > 0 {}
            if !self.reads {
                std::future::pending::<()>().await;
            }
            std::io::Result::Ok(())
        };
        let writing = async {
            write.write_all(&self.opening).await?;
            requests.fetch_add(self.requests, Ordering::Relaxed);
            while !is_over.load(Ordering::Relaxed) {
                tokio::time::sleep(self.pause).await;
                write.write_all(&self.again).await?;
                write.flush().await?;
                requests.fetch_add(self.more_requests, Ordering::Relaxed);
            }
            std::io::Result::Ok(())
        };
        tokio::select! {
            read = reading => read,
            written = writing => written,
        }
    }
}
