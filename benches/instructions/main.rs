//! Instructions per request of the whole gateway, and its resident memory: numbers that repeat
//! where times on a shared machine do not.
//!
//!     cargo bench --bench instructions
//!     cargo bench --bench instructions -- --save FILE
//!     cargo bench --bench instructions -- --against FILE
//!
//! The gateway is the built binary with a route map, so that the same bench runs on any commit. It
//! runs under callgrind, which reports its counters before and after a window of requests. The
//! client and the origin run outside, natively, and wait until every thread of the gateway sleeps
//! before they send anything: it then does the same for each request, however busy the machine is.
//! What the gateway does without requests in the same time is subtracted. Needs `valgrind`.
//!
//! What still varies: hash seeds, addresses, the digits of request ids, and how often within the
//! window the log is flushed and the date changes. Hash seeds are left random: with the random
//! bytes of the C library fixed, the spread was no smaller. Counts of different machines, versions
//! of valgrind or build profiles cannot be compared: valgrind hides some instructions of the
//! processor, such as those for SHA, and cryptography then does without.
//!
//! `--against` prints the ratio of each row to a saved result, marks the rows over their bound, and
//! fails if there is one. The bound is 1.02, or the spread of the runs where that is larger.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a benchmark stops at the first surprise, and waits by the clock"
)]

mod client;
mod gateway;
mod memory;
mod origin;
mod report;
mod scene;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use hyper::StatusCode;

use client::{Client, Version};
use gateway::Gateway;
use report::{Row, Unit};
use scene::Scene;

/// Each is a new process of the gateway.
const RUNS: usize = 5;

/// Requests before the window: the token is verified, HTTP/2 fills its tables of fields, and
/// buffers reach their size.
const WARM_UP: usize = 64;

/// Requests in the window.
const MEASURED: usize = 256;

/// One kind of request.
struct Case {
    name: &'static str,
    path: &'static str,
    with_token: bool,
    status: StatusCode,
}

const CASES: [Case; 4] = [
    Case {
        name: "user, token known",
        path: scene::PROJECT,
        with_token: true,
        status: StatusCode::OK,
    },
    Case {
        name: "facts and a condition",
        path: scene::NOTE,
        with_token: true,
        status: StatusCode::OK,
    },
    Case {
        name: "refused, no token",
        path: scene::PROJECT,
        with_token: false,
        status: StatusCode::UNAUTHORIZED,
    },
    Case {
        name: "public",
        path: scene::PUBLIC,
        with_token: false,
        status: StatusCode::OK,
    },
];

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    if !has_valgrind() {
        eprintln!("nothing was counted: valgrind is not installed (`apt-get install valgrind`)");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let scene = Scene::new();
    let mut rows = Vec::new();
    for run in 1..=RUNS {
        eprintln!("run {run} of {RUNS}");
        runtime.block_on(count(&scene, &mut rows));
        runtime.block_on(memory::measure(&scene, &mut rows));
    }
    report::print(&rows);
    if let Some(file) = &options.save {
        report::save(&rows, file);
    }
    match &options.against {
        Some(file) => report::compare(&rows, file),
        None => ExitCode::SUCCESS,
    }
}

/// Counts every case once, on one gateway.
async fn count(scene: &Scene, rows: &mut Vec<Row>) {
    let gateway = Gateway::counted(scene);
    let idle = gateway.idle_per_second();
    for version in [Version::H1, Version::H2] {
        for case in &CASES {
            let mut client = Client::connect(scene, gateway.address, version).await;
            for _ in 0..WARM_UP {
                client.ask(scene, case).await;
                gateway.settled().await;
            }
            let window = gateway.open_window();
            for _ in 0..MEASURED {
                client.ask(scene, case).await;
                gateway.settled().await;
            }
            let counted = gateway.close_window(&window, idle);
            report::add(
                rows,
                &format!("{}, {}", version.name(), case.name),
                Unit::Instructions,
                counted / MEASURED as f64,
            );
        }
    }
}

fn has_valgrind() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

struct Options {
    save: Option<PathBuf>,
    against: Option<PathBuf>,
}

impl Options {
    /// `None` where a test runner only asks which tests there are.
    fn parse() -> Result<Option<Self>, String> {
        let mut options = Self {
            save: None,
            against: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let file = match argument.as_str() {
                // Cargo says so to every bench.
                "--bench" => continue,
                "--test" | "--list" => return Ok(None),
                "--save" => &mut options.save,
                "--against" => &mut options.against,
                _ => return Err(format!("unknown argument {argument}")),
            };
            let name = arguments.next();
            *file = Some(name.ok_or(format!("{argument} needs a file"))?.into());
        }
        Ok(Some(options))
    }
}
