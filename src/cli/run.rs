//! `run`: the gateway.
//!
//! Decides: which threads there are besides the workers: one for everything that is not a request. Trusts: the configuration, once it is checked. Not
//! here: what starts and ends, and in which order (`server`).

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

/// The runtime of everything that is not a request: reloads, keys, the admin listener, signals.
pub(super) fn background() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("background")
        .enable_all()
        .build()
}
