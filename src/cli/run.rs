//! `run`: starts the gateway, with one background thread besides the workers. The order of start
//! and end is in `server`.

use std::io;
use std::path::Path;

use anyhow::anyhow;
use tokio::runtime::{Builder, Runtime};

use crate::config;
use crate::log::Log;
use crate::panics::log_panics;
use crate::server::Server;

pub(super) fn run(file: &Path) -> anyhow::Result<()> {
    let loaded = config::load(file).map_err(|problems| anyhow!("{problems}"))?;
    let inputs = loaded.inputs.clone();
    let log = Log::start(io::stdout())?;
    log.subscribe();
    log_panics();
    background()?.block_on(async {
        let server = Server::start(loaded, log).await?;
        server.follow(file.to_owned(), inputs)?;
        server.run().await
    })
}

/// The background runtime, for everything that is not a request: reloads, keys, the admin listener,
/// signals.
pub(super) fn background() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .enable_all()
        .build()
}
