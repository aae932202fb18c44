//! Whether the process is ready, and what it lacks, in words.

use std::fmt::Display;

use hyper::StatusCode;

use crate::breaker::Outage;
use crate::clock;
use crate::facts::schema::QueryStatus;
use crate::gateway::process::Process;

/// The answer of `/readyz`.
///
/// Ready means that this process can authorize requests: it has the keys of every issuer and the
/// list of revocations, the database has once accepted the queries, and the process is not
/// draining. No upstream is checked.
///
/// Later outages do not count: the failure matrix says what is answered then. If they took replicas
/// out of rotation, all would leave at once, with the public routes. They are named all the same.
pub(super) fn readiness(process: &Process) -> (StatusCode, String) {
    match missing(process) {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        None => {
            let mut text = "ok\n".to_owned();
            for outage in outages(process) {
                text.push_str(&outage);
                text.push('\n');
            }
            (StatusCode::OK, text)
        }
    }
}

/// What the process has lacked since it started.
fn missing(process: &Process) -> Option<String> {
    if process.is_draining() {
        return Some("draining".to_owned());
    }
    let snapshot = process.snapshot();
    if !snapshot.tokens().has_all_keys(clock::unix_now()) {
        let failed = key_failures(process).join("; ");
        let why = Some(failed).filter(|failed| !failed.is_empty());
        return Some(because("keys of an issuer have not been fetched yet", why));
    }
    let store = process.store();
    if store.outage() == Outage::NeverSeen {
        return Some(because("the store has not answered yet", store.fault()));
    }
    if !process.revocations().is_complete() {
        let what = "the list of revocations has not been read from the store yet";
        return Some(because(what, store.fault()));
    }
    match process.queries() {
        QueryStatus::Fit => None,
        // A replica configured with a wrong address must not replace one with the right address.
        QueryStatus::Unchecked => {
            let why = process.database().and_then(|database| database.fault());
            Some(because("the database has not answered yet", why))
        }
        QueryStatus::Unfit => Some(
            "the queries of the configuration do not fit the database, or its role may not read what they need: the log and `foregate check --connect` say which".to_owned(),
        ),
    }
}

fn because(what: &str, why: Option<impl Display>) -> String {
    match why {
        Some(why) => format!("{what}: {why}"),
        None => what.to_owned(),
    }
}

/// What does not answer now.
fn outages(process: &Process) -> Vec<String> {
    let mut outages = Vec::new();
    let mut add = |what: &str, outage: Outage, why: Option<String>| {
        if outage != Outage::Reachable {
            outages.push(because(&format!("{what} is away"), why));
        }
    };
    let store = process.store();
    add(
        "the store",
        store.outage(),
        store.fault().map(|it| it.to_string()),
    );
    if let Some(database) = process.database() {
        let why = database.fault().map(|it| it.to_string());
        add("the database", database.outage(), why);
    }
    if let Some(identity) = &process.sign_in().identity {
        let why = identity.fault().map(|it| it.to_string());
        add("the identity server", identity.outage(), why);
    }
    outages.extend(key_failures(process));
    outages
}

/// The issuers whose keys could not be fetched last time.
fn key_failures(process: &Process) -> Vec<String> {
    let snapshot = process.snapshot();
    let failures = snapshot.tokens().fetch_errors(clock::unix_now());
    failures
        .into_iter()
        .map(|(issuer, error)| format!("keys of `{issuer}`: {error}"))
        .collect()
}
