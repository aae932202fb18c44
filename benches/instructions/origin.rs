//! The upstream server. It answers a gateway under callgrind only when that one sleeps: an answer
//! that arrives while the gateway still polls for it saves a wait, and how often that happens is
//! chance.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::gateway::wait_for_sleep;

#[path = "../support/message.rs"]
mod message;

/// The date never changes, so that what the gateway does with it does not, either.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: application/json\r\n\
    content-length: 44\r\n\
    date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n\
    {\"name\":\"a project\",\"visibility\":\"private\"} ";

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    counted: Arc<AtomicU32>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            counted: Arc::default(),
        };
        let counted = origin.counted.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let counted = counted.clone();
                thread::spawn(move || answer(stream.unwrap(), &counted));
            }
        });
        origin
    }

    /// Names the process that must sleep before it gets an answer; 0 for none.
    pub(crate) fn wait_for(&self, process: u32) {
        self.counted.store(process, Ordering::Relaxed);
    }
}

fn answer(stream: TcpStream, counted: &AtomicU32) {
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while message::read(&mut reader).is_some() {
        let process = counted.load(Ordering::Relaxed);
        if process != 0 {
            wait_for_sleep(process);
        }
        if writer.write_all(ANSWER).is_err() {
            return;
        }
    }
}
