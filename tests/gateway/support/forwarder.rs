//! A TCP forwarder, as a managed service puts in front of a database: new connections go to its
//! present target, and those that exist stay where they are. It can also answer for its target.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running forwarder on a port of the loopback.
#[derive(Clone, Debug)]
pub struct Forwarder {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    target: u16,
    accepted: usize,
    /// What every command gets instead of its answer.
    answer: Option<String>,
}

impl Forwarder {
    /// Starts one in front of this port.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let forwarder = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(State {
                target,
                accepted: 0,
                answer: None,
            })),
        };
        let accepting = forwarder.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = {
                    let mut state = accepting.state.lock().unwrap();
                    state.accepted += 1;
                    state.target
                };
                // If the target is gone, the client is closed.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)) {
                    accepting.join(client, server);
                }
            }
        });
        forwarder
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends new connections to this port from now on.
    pub fn point_to(&self, target: u16) {
        self.state.lock().unwrap().target = target;
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.state.lock().unwrap().accepted
    }

    /// Answers every command of the Redis protocol with this error, such as `READONLY …`; `None`
    /// passes commands on again.
    pub fn answer(&self, error: Option<&str>) {
        self.state.lock().unwrap().answer = error.map(str::to_owned);
    }

    fn join(&self, client: TcpStream, server: TcpStream) {
        let (to_client, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || copy(from_server, to_client));
        let forwarder = self.clone();
        thread::spawn(move || forwarder.pass_on(client, server));
    }

    fn pass_on(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            let bytes = &buffer[..length];
            let answer = self.state.lock().unwrap().answer.clone();
            let is_passed = match answer {
                None => server.write_all(bytes),
                // A command begins with the number of its words, at the beginning of a line.
                Some(error) => {
                    let commands = bytes.split(|byte| *byte == b'\n');
                    let count = commands.filter(|line| line.first() == Some(&b'*')).count();
                    client.write_all(format!("-{error}\r\n").repeat(count).as_bytes())
                }
            };
            if is_passed.is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
