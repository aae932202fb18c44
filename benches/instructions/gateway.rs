//! The gateway as a process of its own, natively or under callgrind.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::scene::Scene;

/// How long the gateway is left alone to see what it does by itself.
const IDLE: Duration = Duration::from_secs(2);

/// How long it may take to start; valgrind reads the binary first.
const START: Duration = Duration::from_secs(120);

/// How often in a row every thread must be found asleep.
const LOOKS: usize = 3;

/// Between two of these looks, so that they leave the processor to the gateway.
const PAUSE: Duration = Duration::from_micros(50);

/// Ended when dropped.
pub(crate) struct Gateway {
    process: Child,
    pub(crate) address: SocketAddr,
    /// Where valgrind has its pipes.
    pipes: PathBuf,
}

/// The pages of memory that the kernel gives a gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    AsItRuns,
    /// No huge ones.
    Small,
}

/// The counters at the beginning of a window.
pub(crate) struct Window {
    counted: u64,
    opened: Instant,
}

impl Gateway {
    pub(crate) fn native(scene: &Scene, pages: Pages) -> Self {
        scene.origin.wait_for(0);
        let mut command = Command::new(env!("CARGO_BIN_EXE_foregate"));
        if pages == Pages::Small {
            command.env("MIMALLOC_ALLOW_THP", "0");
        }
        Self::start(scene, command)
    }

    pub(crate) fn counted(scene: &Scene) -> Self {
        let mut command = Command::new("valgrind");
        command
            .arg("--tool=callgrind")
            .arg("--callgrind-out-file=/dev/null")
            // The counters of each thread, to be added up.
            .arg("--separate-threads=yes")
            .arg(format!("--vgdb-prefix={}", pipes(scene).display()))
            .arg(env!("CARGO_BIN_EXE_foregate"));
        let gateway = Self::start(scene, command);
        scene.origin.wait_for(gateway.process.id());
        gateway
    }

    fn start(scene: &Scene, mut command: Command) -> Self {
        let folder = scene.folder.path();
        let (log, errors) = (folder.join("log"), folder.join("errors"));
        // As in production, every request writes its line.
        let process = command
            .args(["run", "--config"])
            .arg(scene.map())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let mut gateway = Self {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            pipes: pipes(scene),
        };
        gateway.address = gateway.wait_for_address(&log, &errors);
        gateway
    }

    /// Port 0 takes a free port; the log says which.
    fn wait_for_address(&mut self, log: &Path, errors: &Path) -> SocketAddr {
        let started = Instant::now();
        while started.elapsed() < START && self.process.try_wait().unwrap().is_none() {
            let text = fs::read_to_string(log).unwrap();
            if let Some((_, rest)) = text.split_once("\"listeners\":\"https://") {
                return rest.split_once('"').unwrap().0.parse().unwrap();
            }
            sleep(Duration::from_millis(10));
        }
        panic!(
            "the gateway does not start: {}{}",
            fs::read_to_string(log).unwrap(),
            fs::read_to_string(errors).unwrap()
        );
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.unwrap().trim().strip_suffix(" kB").unwrap();
        number.parse().unwrap()
    }

    /// Waits until the gateway has done everything that a request leaves to do, so that the next
    /// one always finds it asleep.
    pub(crate) async fn settled(&self) {
        let mut asleep = 0;
        while asleep < LOOKS {
            // The client's own connection may still have something to send.
            tokio::task::yield_now().await;
            asleep = look_again(self.process.id(), asleep);
        }
    }

    /// Instructions a second without any request: timers and polls.
    pub(crate) fn idle_per_second(&self) -> f64 {
        sleep(IDLE);
        let window = self.open_window();
        sleep(IDLE);
        let counted = self.close_window(&window, 0.0);
        counted / IDLE.as_secs_f64()
    }

    pub(crate) fn open_window(&self) -> Window {
        Window {
            counted: self.instructions(),
            opened: Instant::now(),
        }
    }

    /// Instructions since the window was opened, less what the gateway does by itself in that time.
    pub(crate) fn close_window(&self, window: &Window, idle: f64) -> f64 {
        let by_itself = idle * window.opened.elapsed().as_secs_f64();
        (self.instructions() - window.counted) as f64 - by_itself
    }

    /// Instructions of all threads since the start.
    fn instructions(&self) -> u64 {
        let answer = Command::new("vgdb")
            .arg(format!("--pid={}", self.process.id()))
            .arg(format!("--vgdb-prefix={}", self.pipes.display()))
            .args(["status", "internal"])
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(answer.stdout).unwrap();
        // `events-THREAD: COUNT`; further lines have the functions that the thread is in.
        let counts: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("events-")?.split_once(": "))
            .filter(|(thread, _)| thread.parse::<u32>().is_ok())
            .map(|(_, count)| count.trim().parse().unwrap())
            .collect();
        assert!(!counts.is_empty(), "callgrind does not answer: {text}");
        counts.iter().sum()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pipes(scene: &Scene) -> PathBuf {
    scene.folder.path().join("vgdb")
}

/// Waits until a process sleeps.
pub(crate) fn wait_for_sleep(process: u32) {
    let mut asleep = 0;
    while asleep < LOOKS {
        asleep = look_again(process, asleep);
    }
}

/// How often in a row a process was found asleep, after one more look.
fn look_again(process: u32, asleep: usize) -> usize {
    sleep(PAUSE);
    if sleeps(process) { asleep + 1 } else { 0 }
}

/// Whether every thread of a process sleeps. What was sent to it is then dealt with, since data
/// that arrives wakes a thread at once.
fn sleeps(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else {
            return true;
        };
        // The second field, the name in parentheses, may hold spaces.
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('S'))
    })
}
