//! When another configuration comes into force.
//!
//! Decides: whether what is on disk now is applied, is the same, or is refused. Trusts: `load` for whether it is valid. Not here:
//! anything that a running request sees; it keeps its snapshot.
//!
//! Everything a configuration was read from is watched: the file, certificates, key files. One path handles them all, so a renewed
//! certificate is a reload. *Folders* are watched, since editors and Kubernetes replace files instead of writing them; what changed is
//! told by a digest over the contents. SIGHUP does the same at once. What listens, and how many workers there are, cannot change without
//! a restart; a file that changes them is refused with those words, and the last good configuration stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::sleep;

use super::checked::{Config, ListenKind};
use super::snapshot::Snapshot;
use super::{Loaded, load};
use crate::process::Process;

/// How long to wait for a burst of file events to end. Two hundred milliseconds is a choice.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In force now, under this generation.
    Applied(u64),
    /// The same as what is in force.
    Unchanged,
    /// Kept the last good one, because of this.
    Refused(String),
}

/// Reads the configuration again and puts it into force if it is good and different.
pub fn reload(process: &Process, path: &Path) -> (Outcome, Option<Vec<PathBuf>>) {
    let (outcome, inputs) = match load(path) {
        Err(problems) => (Outcome::Refused(problems.to_string()), None),
        Ok(loaded) => apply(process, loaded),
    };
    match &outcome {
        Outcome::Applied(generation) => {
            process.metrics().reloaded("applied");
            tracing::info!(generation, "configuration applied");
        }
        Outcome::Unchanged => {
            process.metrics().reloaded("unchanged");
            tracing::info!("configuration unchanged");
        }
        Outcome::Refused(problem) => {
            process.metrics().reloaded("refused");
            tracing::error!(%problem, "configuration refused; the last good one stays");
        }
    }
    (outcome, inputs)
}

fn apply(process: &Process, loaded: Loaded) -> (Outcome, Option<Vec<PathBuf>>) {
    let current = process.snapshot();
    let inputs = Some(loaded.inputs);
    if loaded.digest == *current.digest() {
        return (Outcome::Unchanged, inputs);
    }
    if let Some(problem) = needs_restart(current.config(), &loaded.config) {
        return (Outcome::Refused(problem), inputs);
    }
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "configuration");
    }
    let generation = current.generation() + 1;
    let built = Snapshot::build(
        loaded.config,
        loaded.digest,
        generation,
        process.metrics(),
        process.token_cache(),
        process.key_sources(),
    );
    match built {
        Err(problem) => (Outcome::Refused(format!("{problem:#}")), inputs),
        Ok(snapshot) => {
            announce(&snapshot);
            process
                .metrics()
                .configured(generation, snapshot.waived_layers(crate::clock::unix_now()));
            process.replace(snapshot);
            process
                .metrics()
                .forget(current.config(), process.snapshot().config());
            (Outcome::Applied(generation), inputs)
        }
    }
}

/// What a running process cannot change.
fn needs_restart(old: &Config, new: &Config) -> Option<String> {
    let sockets = |config: &Config| -> Vec<_> {
        let kind = |kind: &ListenKind| match kind {
            ListenKind::Tls(_) => "tls".to_owned(),
            ListenKind::Plain => "plain".to_owned(),
            ListenKind::RedirectToHttps { port } => format!("redirect {port}"),
        };
        config
            .listen
            .iter()
            .map(|listen| (listen.address, kind(&listen.kind)))
            .collect()
    };
    let changed = [
        ("listen", sockets(old) != sockets(new)),
        ("admin.address", old.admin.address != new.admin.address),
        ("workers", old.workers != new.workers),
        (
            "connections.max",
            old.connections.max != new.connections.max,
        ),
        ("token_cache", old.token_cache != new.token_cache),
    ];
    let keys: Vec<&str> = changed
        .iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| *key)
        .collect();
    (!keys.is_empty()).then(|| format!("`{}` cannot change without a restart", keys.join("`, `")))
}

/// Tells what an operator must not overlook: who gets in without a user, and which layers do not enforce.
pub fn announce(snapshot: &Snapshot) {
    for route in &snapshot.config().routes {
        if route.access == super::checked::Access::Public {
            tracing::info!(route = %route.name, pass_credentials = route.pass_credentials, "public route");
        }
        for waiver in &route.waived {
            let until = jiff::Timestamp::from_second(waiver.until)
                .map(|time| time.to_string())
                .unwrap_or_default();
            tracing::warn!(route = %route.name, layer = waiver.layer.as_str(), mode = ?waiver.mode, until, reason = %waiver.reason, "waived layer");
        }
    }
}

/// Reloads on every change of an input, until the process ends.
pub async fn watch(process: Arc<Process>, path: PathBuf, inputs: Vec<PathBuf>) {
    let (events, mut changes) = channel::<()>(1);
    let watcher = notify::recommended_watcher(move |_| {
        // One waiting event says it all.
        let _ = events.try_send(());
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => return tracing::error!(%error, "files are not watched; reload with SIGHUP"),
    };
    let mut folders = Vec::new();
    follow(&mut watcher, &mut folders, &inputs);
    while changes.recv().await.is_some() {
        settle(&mut changes).await;
        let (process, path) = (process.clone(), path.clone());
        // Reading files and parsing blocks.
        let reloaded = tokio::task::spawn_blocking(move || match differs(&process, &path) {
            true => reload(&process, &path).1,
            false => None,
        });
        if let Ok(Some(inputs)) = reloaded.await {
            follow(&mut watcher, &mut folders, &inputs);
        }
    }
}

/// Whether a reload would do anything. Folders see many events that concern no input.
fn differs(process: &Process, path: &Path) -> bool {
    load(path).map_or(true, |loaded| loaded.digest != *process.snapshot().digest())
}

async fn settle(changes: &mut Receiver<()>) {
    loop {
        sleep(DEBOUNCE).await;
        if changes.try_recv().is_err() {
            return;
        }
    }
}

fn follow(
    watcher: &mut notify::RecommendedWatcher,
    folders: &mut Vec<PathBuf>,
    inputs: &[PathBuf],
) {
    for input in inputs {
        let folder = match input.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        if folders.contains(&folder) {
            continue;
        }
        match watcher.watch(&folder, RecursiveMode::NonRecursive) {
            Ok(()) => folders.push(folder),
            Err(error) => {
                tracing::error!(%error, folder = %folder.display(), "folder is not watched; reload with SIGHUP")
            }
        }
    }
}
