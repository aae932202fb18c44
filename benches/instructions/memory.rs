//! Resident memory, without valgrind: of a gateway that has just started, and of an idle TLS
//! connection, with what is kept for resuming its session.
//!
//! Each is measured twice: as a gateway runs, and with pages of the usual size only. The allocator
//! asks the kernel for huge pages, of which a part is never used, and memory grows by 2 MiB at a
//! time: an idle connection then differs by a tenth from run to run. Without them the numbers
//! repeat within 2 %.

use std::thread::sleep;
use std::time::Duration;

use crate::client::{Client, Version};
use crate::gateway::{Gateway, Pages};
use crate::report::{Row, Unit, add};
use crate::scene::Scene;
use crate::{CASES, Case};

/// How long a gateway runs before it counts as started.
const START: Duration = Duration::from_millis(500);

/// Connections that are open before the first reading, so that what grows only once has grown.
const BEFORE: usize = 100;

/// Connections between the two readings. With those before, they fit into 1,024 file descriptors,
/// the usual limit of a process.
const MEASURED: usize = 800;

/// How often, and how long after each other, requests come on one connection before a reading. The
/// allocator gives memory back after a while, and only when it is called.
const REQUESTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// Each connection has carried one request, on the public route, so that it holds nothing of a
/// caller.
const CASE: &Case = &CASES[3];

pub(crate) async fn measure(scene: &Scene, rows: &mut Vec<Row>) {
    for pages in [Pages::AsItRuns, Pages::Small] {
        for version in [Version::H1, Version::H2] {
            measure_one(scene, pages, version, rows).await;
        }
    }
}

async fn measure_one(scene: &Scene, pages: Pages, version: Version, rows: &mut Vec<Row>) {
    let (unit, note) = match pages {
        Pages::AsItRuns => (Unit::HugePages, ""),
        Pages::Small => (Unit::Memory, ", small pages"),
    };
    let gateway = Gateway::native(scene, pages);
    if version == Version::H1 {
        sleep(START);
        add(rows, &format!("at start{note}"), unit, gateway.resident());
    }
    let mut open = Vec::new();
    for _ in 0..BEFORE {
        open.push(connect(scene, &gateway, version).await);
    }
    wait_for_purge(scene, &mut open[0]).await;
    let before = gateway.resident();
    for _ in 0..MEASURED {
        open.push(connect(scene, &gateway, version).await);
    }
    wait_for_purge(scene, &mut open[0]).await;
    let each = (gateway.resident() - before) / MEASURED as f64;
    let name = format!("{}, idle connection{note}", version.name());
    add(rows, &name, unit, each);
    drop(open);
}

async fn wait_for_purge(scene: &Scene, client: &mut Client) {
    for _ in 0..REQUESTS {
        sleep(PAUSE);
        client.ask(scene, CASE).await;
    }
}

async fn connect(scene: &Scene, gateway: &Gateway, version: Version) -> Client {
    let mut client = Client::connect(scene, gateway.address, version).await;
    client.ask(scene, CASE).await;
    client
}
