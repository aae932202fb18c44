//! Reloads: whether the configuration on disk is applied, unchanged, or refused. A running request
//! keeps its snapshot.
//!
//! Every input of a configuration is watched: the file, certificates, key files. One path handles
//! them all, so a renewed certificate is a reload. *Folders* are watched, since editors and
//! Kubernetes replace files instead of writing them; a digest over the contents detects changes.
//! SIGHUP does the same at once. A file that changes what needs a restart (`restart`) is refused
//! with these words, and the last good configuration stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::sleep;

use crate::auth::snapshot::{Shared, Snapshot};
use crate::clock;
use crate::config::{Loaded, Problems, load};
use crate::facts::schema;
use crate::gateway::metrics::Reload;
use crate::gateway::process::Process;
use crate::listen::tls;
use crate::policy::Config;
use crate::policy::in_force::InForce;
use crate::server::descriptors::Division;
use crate::server::queries;
use crate::server::restart::needs_restart;

/// How long to wait for a burst of file events to end. Two hundred milliseconds is a choice.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How many times that a burst may last: someone may write to a watched folder without end, and the
/// files must be read all the same.
const LONGEST_BURST: usize = 10;

/// The outcome of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In force now, under this generation.
    Applied(u64),
    /// The same as what is in force.
    Unchanged,
    /// Refused for this reason; the last good configuration stays.
    Refused(String),
}

/// Loads the configuration and applies it if it is valid and different.
pub fn reload(process: &Process, path: &Path) -> (Outcome, Option<Vec<PathBuf>>) {
    let (outcome, inputs) = load_and_apply(process, path);
    report(process, &outcome);
    (outcome, inputs)
}

fn load_and_apply(process: &Process, path: &Path) -> (Outcome, Option<Vec<PathBuf>>) {
    // One at a time: SIGHUP and a file event may come together, and the configuration that was read
    // first must not be applied last.
    let _turn = process.reloading();
    match load(path) {
        Err(problems) => (Outcome::Refused(problems.to_string()), None),
        Ok(loaded) => apply(process, loaded),
    }
}

fn report(process: &Process, outcome: &Outcome) {
    match outcome {
        Outcome::Applied(generation) => {
            process.metrics().reloaded(Reload::Applied);
            tracing::info!(generation, "configuration applied");
        }
        Outcome::Unchanged => {
            process.metrics().reloaded(Reload::Unchanged);
            tracing::info!("configuration unchanged");
        }
        Outcome::Refused(problem) => {
            process.metrics().reloaded(Reload::Refused);
            tracing::error!(%problem, "configuration refused; keeping the last good one");
        }
    }
}

fn apply(process: &Process, mut loaded: Loaded) -> (Outcome, Option<Vec<PathBuf>>) {
    let current = process.snapshot();
    let inputs = Some(loaded.inputs);
    if loaded.digest == *current.in_force().digest() {
        return (Outcome::Unchanged, inputs);
    }
    if let Some(problem) = needs_restart(current.config(), &loaded.config) {
        return (Outcome::Refused(problem), inputs);
    }
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "configuration");
    }
    let fits = match check_queries(process, &loaded.name, &loaded.config) {
        Ok(fits) => fits,
        Err(problems) => return (Outcome::Refused(problems.to_string()), inputs),
    };
    Division::again(process.max_connections(), &loaded.config).fit(&mut loaded.config);
    let generation = current.generation() + 1;
    let built = build(loaded.config, loaded.digest, generation, process.shared());
    match built {
        Err(problem) => (Outcome::Refused(format!("{problem:#}")), inputs),
        Ok(snapshot) => {
            announce(&snapshot);
            process.metrics().configured(
                generation,
                snapshot.in_force().waived_layers(clock::unix_now()),
            );
            if let (Some(server), Some(config)) = (
                process.sign_in().identity.as_ref(),
                &snapshot.config().identity,
            ) {
                server.change_key(config);
            }
            process.replace(snapshot);
            if fits {
                process.found_queries(schema::QueryStatus::Fit);
            }
            process
                .metrics()
                .forget(current.config(), process.snapshot().config());
            (Outcome::Applied(generation), inputs)
        }
    }
}

/// Checks the queries against the database. `false` if it cannot be asked, or if there is none.
fn check_queries(process: &Process, name: &str, config: &Config) -> Result<bool, Problems> {
    let Some(database) = process.database() else {
        return Ok(false);
    };
    match database.wait(schema::check(config, database)) {
        Ok(differences) => match queries::problems(name, differences) {
            None => Ok(true),
            Some(problems) => Err(problems),
        },
        Err(why) => {
            tracing::warn!(%why, "cannot check the queries: the database is unreachable");
            Ok(false)
        }
    }
}

/// Builds the snapshot of a configuration, and the TLS of its listeners.
///
/// # Errors
///
/// What only building can find: an issuer without a usable key, paths the router cannot hold, TLS
/// that rustls refuses.
pub(crate) fn build(
    config: Config,
    digest: [u8; 32],
    generation: u64,
    shared: &Shared,
) -> anyhow::Result<Snapshot> {
    let tls = tls::server_configs(&config)?;
    Snapshot::build(InForce::new(config, digest, generation)?, tls, shared)
}

/// Logs what an operator must not overlook: unusable keys, public routes, and layers that do not
/// enforce.
pub fn announce(snapshot: &Snapshot) {
    for key in snapshot.tokens().dropped_keys() {
        tracing::warn!(%key, "unusable key");
    }
    for route in &snapshot.config().routes {
        if route.access == crate::policy::route::Access::Public {
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
    let watcher = notify::recommended_watcher(move |event| {
        if is_change(&event) {
            // The channel holds one event, which is enough.
            let _ = events.try_send(());
        }
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => return tracing::error!(%error, "files are not watched; reload with SIGHUP"),
    };
    let mut folders = Vec::new();
    follow(&mut watcher, &mut folders, &inputs);
    let mut refused = None;
    // A change between reading a file and watching its folder raised no event.
    let mut may_have_missed = true;
    loop {
        if !may_have_missed {
            if changes.recv().await.is_none() {
                return;
            }
            debounce(&mut changes).await;
        }
        let (process, path) = (process.clone(), path.clone());
        let before = refused.take();
        // Reading files and parsing them blocks.
        let result =
            tokio::task::spawn_blocking(move || reload_if_changed(&process, &path, before));
        let (inputs, now) = result.await.unwrap_or_default();
        refused = now;
        may_have_missed = follow(&mut watcher, &mut folders, &inputs.unwrap_or_default());
    }
}

/// What was read and not applied: the digest of a valid configuration, or the problems of an
/// invalid one.
type RejectedInput = Result<[u8; 32], String>;

/// Reloads if the files are neither in force nor refused before: folders see many events that
/// concern no input, and a refusal is logged once. Returns the files to watch, which a SIGHUP may
/// have changed in the meantime.
fn reload_if_changed(
    process: &Process,
    path: &Path,
    refused: Option<RejectedInput>,
) -> (Option<Vec<PathBuf>>, Option<RejectedInput>) {
    let (found, inputs) = match load(path) {
        Ok(loaded) => (Ok(loaded.digest), Some(loaded.inputs)),
        Err(problems) => (Err(problems.to_string()), None),
    };
    if found.as_ref() == Ok(process.snapshot().in_force().digest()) {
        return (inputs, None);
    }
    if refused.as_ref() == Some(&found) {
        return (inputs, refused);
    }
    let (outcome, inputs) = load_and_apply(process, path);
    // A file was being written at the first read: nothing has changed, so nothing is logged.
    if outcome != Outcome::Unchanged {
        report(process, &outcome);
    }
    match (outcome, inputs) {
        (Outcome::Refused(_), inputs) => (inputs, Some(found)),
        (Outcome::Applied(_) | Outcome::Unchanged, inputs) => (inputs, None),
    }
}

/// Whether a file may have changed. Reading one is an event, too, and the gateway's own reading
/// must not trigger a reload.
fn is_change(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => !event.kind.is_access() || event.kind == CLOSED_AFTER_WRITE,
        // Events were lost; read the files.
        Err(_) => true,
    }
}

/// The only access event that is a change.
const CLOSED_AFTER_WRITE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

async fn debounce(changes: &mut Receiver<()>) {
    for _ in 0..LONGEST_BURST {
        sleep(DEBOUNCE).await;
        if changes.try_recv().is_err() {
            return;
        }
    }
}

/// Watches the folders of these files. Returns whether one of them was not watched before.
fn follow(
    watcher: &mut notify::RecommendedWatcher,
    folders: &mut Vec<PathBuf>,
    inputs: &[PathBuf],
) -> bool {
    let before = folders.len();
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
    folders.len() > before
}
