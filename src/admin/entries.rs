//! `/revocations/entries`: the entries of the list of revocations; `/revocations/undo`: undoing
//! one. Both name users, so both are for operators.

use std::str::FromStr as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::places::{Place, Stage};
use super::revocations::{bad_request, check_reason, described};
use super::{AdminError, document, operators};
use crate::gateway::process::Process;
use crate::request::query::decoded;
use crate::revocation::replica::CannotUndo;
use crate::revocation::{Found, Kind, Note, Query, Revocation, RevokeOutcome, UndoOutcome};
use crate::secrets::hex;

/// The most entries of one answer, and how many there are by default.
const MOST: usize = 1000;
const DEFAULT: usize = 100;

/// Hexadecimal digits of an id that must be given at least.
const SHORTEST_ID: usize = 8;

/// Hexadecimal digits of a whole id.
const LONGEST_ID: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UndoRequest {
    id: String,
    reason: Option<String>,
}

/// The entries that an operator asks for, newest first.
pub(super) async fn list(
    process: &Process,
    request: Request<Incoming>,
    place: &Place,
) -> Result<Response<Full<Bytes>>, AdminError> {
    let snapshot = process.snapshot();
    operators::caller(&snapshot.config().admin, &request)?;
    place.enter(Stage::Call);
    let query = query(request.uri().query().unwrap_or_default())?;
    let revocations = process.revocations();
    let (found, count) = revocations.entries(query).await.ok_or_else(stopped)?;
    let shown: Vec<Value> = found.iter().map(shown).collect();
    Ok(document(
        StatusCode::OK,
        &json!({
            "complete": revocations.is_complete(),
            "count": count,
            "entries": shown,
        }),
    ))
}

/// Undoes a revocation.
pub(super) async fn undo(
    process: &Process,
    request: Request<Incoming>,
    place: &Place,
) -> Result<Response<Full<Bytes>>, AdminError> {
    if request.method() != Method::POST {
        return Err(AdminError::new(StatusCode::METHOD_NOT_ALLOWED, "POST only"));
    }
    let snapshot = process.snapshot();
    let (by, asked): (_, UndoRequest) =
        operators::call(&snapshot.config().admin, request, place).await?;
    check_reason(asked.reason.as_deref())?;
    let id = id(&asked.id)?;
    let revocations = process.revocations().clone();
    if !revocations.is_complete() {
        let why = "the list of revocations is not complete yet; nothing was undone: try again";
        return Err(AdminError::new(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    let note = Note {
        by,
        reason: asked.reason.unwrap_or_default(),
    };
    // A task of its own: a caller that disconnects ends the call, but not its log line.
    let task = tokio::spawn(async move {
        let outcome = revocations.undo(&id, note.clone()).await;
        if let Some(UndoOutcome::Undone(revocation, outcome)) = &outcome {
            tracing::info!(
                operator = note.by,
                reason = note.reason,
                id = hex::encode(&revocation.name()),
                revocation = %described(revocation),
                outcome = ?outcome,
                "revocation undone"
            );
        }
        outcome
    });
    match task.await.ok().flatten() {
        Some(UndoOutcome::Undone(revocation, outcome)) => undone(&revocation, outcome),
        Some(UndoOutcome::Refused(why)) => Err(not_undone(&why)),
        None => Err(stopped()),
    }
}

fn undone(
    revocation: &Revocation,
    outcome: RevokeOutcome,
) -> Result<Response<Full<Bytes>>, AdminError> {
    let (status, propagated) = match outcome {
        RevokeOutcome::Stored => (StatusCode::OK, true),
        RevokeOutcome::Queued => (StatusCode::SERVICE_UNAVAILABLE, false),
        RevokeOutcome::Full | RevokeOutcome::Stopped => return Err(stopped()),
    };
    Ok(document(
        status,
        &json!({
            "undone": described(revocation),
            "id": hex::encode(&revocation.name()),
            "propagated": propagated,
        }),
    ))
}

fn not_undone(why: &CannotUndo) -> AdminError {
    let conflict = |why: String| AdminError::new(StatusCode::CONFLICT, why);
    match why {
        CannotUndo::Unknown => AdminError::new(
            StatusCode::NOT_FOUND,
            "no revocation in force has this id: it has expired, or never existed; nothing was undone",
        ),
        CannotUndo::Ambiguous => {
            conflict("several revocations have an id that begins like this; nothing was undone: send more of it".to_owned())
        }
        CannotUndo::Merged { expires } => conflict(format!(
            "the list was full, so this revocation was merged into a wider one, which cannot be undone; nothing was undone: it ends by itself at {}",
            time(*expires)
        )),
        CannotUndo::Wide(revocation) => conflict(format!(
            "the list was full, so this entry stands for several revocations, and cannot be undone; nothing was undone: it ends by itself at {}",
            time(revocation.expires)
        )),
        CannotUndo::Undone(revocation) => conflict(format!(
            "this revocation was undone already{}",
            revocation
                .note
                .as_ref()
                .map(|note| format!(" by {}", note.by))
                .unwrap_or_default()
        )),
    }
}

fn stopped() -> AdminError {
    AdminError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the list of revocations has stopped: restart this replica",
    )
}

fn time(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds);
    time.map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// The beginning of an id, in lower case.
fn id(text: &str) -> Result<String, AdminError> {
    let id = text.trim().to_ascii_lowercase();
    let is_hex = id.bytes().all(|digit| digit.is_ascii_hexdigit());
    match is_hex && (SHORTEST_ID..=LONGEST_ID).contains(&id.len()) {
        true => Ok(id),
        false => Err(bad_request(format!(
            "`id` is not {SHORTEST_ID} to {LONGEST_ID} hexadecimal digits"
        ))),
    }
}

fn query(text: &str) -> Result<Query, AdminError> {
    let mut query = Query {
        most: DEFAULT,
        ..Query::default()
    };
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        match &*decoded(key) {
            "all" => {
                query.all = bool::from_str(&value)
                    .map_err(|_| bad_request("`all` is neither `true` nor `false`"))?;
            }
            "kind" => query.kind = Some(kind(&value)?),
            "of" => query.of = Some(value.into_owned()),
            "limit" => {
                let number = value.parse().ok().filter(|most| (1..=MOST).contains(most));
                query.most =
                    number.ok_or_else(|| bad_request(format!("`limit` is not 1 to {MOST}")))?;
            }
            key => return Err(bad_request(format!("`{key}` is not a parameter"))),
        }
    }
    Ok(query)
}

fn kind(word: &str) -> Result<Kind, AdminError> {
    let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
    known.ok_or_else(|| {
        bad_request("`kind` is not one of `token`, `session`, `subject`, `issuer` and `bucket`")
    })
}

/// An entry, as JSON. Times are in Unix seconds.
fn shown(found: &Found) -> Value {
    let entry = &found.revocation;
    let revocation = entry.undone().unwrap_or(entry);
    let undone = entry.target.is_undone().then_some(entry);
    let by = |one: &Revocation| one.note.as_ref().map(|note| note.by.clone());
    let reason = |one: &Revocation| one.note.as_ref().map(|note| note.reason.clone());
    let at = |one: &Revocation| one.received_at.div_euclid(1000);
    json!({
        "id": hex::encode(&revocation.name()),
        "revoked": described(revocation),
        "at": at(revocation),
        "expires": revocation.expires,
        "by": by(revocation),
        "reason": reason(revocation),
        "merged": found.merged,
        "undone": undone.map(|undone| json!({
            "by": by(undone),
            "reason": reason(undone),
            "at": at(undone),
        })),
    })
}
