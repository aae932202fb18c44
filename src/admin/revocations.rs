//! `/revocations`: the state of the list of revocations, and adding to it. Resolves the issuer and
//! the expiry that an operator means.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::places::Place;
use super::{AdminError, document, operators};
use crate::clock;
use crate::gateway::process::Process;
use crate::policy::Config;
use crate::policy::resources::ParamType;
use crate::policy::tokens::LARGEST_LEEWAY;
use crate::revocation::{
    Kind, Note, Revocation, RevokeOutcome, Target, canonical_id, token_digest,
};
use crate::secrets::hex;
use crate::tokens::{LONGEST_ID, Presented, Verified, is_jws};

/// The longest lifetime that an operator may request, in seconds: a year.
const MOST_SECONDS: i64 = 366 * 24 * 60 * 60;

/// The body of a call. Not `Debug`: it may contain a token.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum RevokeRequest {
    Token {
        token: Option<String>,
        /// Of the token's text before the last dot.
        token_sha256: Option<String>,
        expires_in: Option<i64>,
        reason: Option<String>,
    },
    Session {
        session: String,
        issuer: Option<String>,
        subject: Option<String>,
        expires_in: Option<i64>,
        reason: Option<String>,
    },
    Subject {
        subject: String,
        issuer: Option<String>,
        #[serde(default)]
        except_sessions: Vec<String>,
        expires_in: Option<i64>,
        reason: Option<String>,
    },
    Issuer {
        issuer: String,
        expires_in: Option<i64>,
        reason: Option<String>,
    },
}

/// The state of the list, without its entries.
pub(super) fn status(process: &Process) -> Response<Full<Bytes>> {
    let revocations = process.revocations();
    let status = revocations.status();
    let entries: serde_json::Map<String, Value> = Kind::ALL
        .into_iter()
        .zip(status.entries)
        .map(|(kind, count)| (kind.as_str().to_owned(), count.into()))
        .collect();
    let position = status.position.map(
        |position| json!({ "epoch": format!("{:032x}", position.epoch), "seq": position.seq }),
    );
    let mut entries = entries;
    let buckets = entries.remove(Kind::Bucket.as_str());
    document(
        StatusCode::OK,
        &json!({
            "complete": revocations.is_complete(),
            "entries": entries,
            "buckets": buckets,
            "queued": status.queued,
            "position": position,
        }),
    )
}

/// Adds a revocation to the list.
pub(super) async fn revoke(
    process: &Process,
    request: Request<Incoming>,
    place: &Place,
) -> Result<Response<Full<Bytes>>, AdminError> {
    if request.method() != Method::POST {
        return Err(AdminError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET or POST only",
        ));
    }
    let snapshot = process.snapshot();
    let (by, request): (_, RevokeRequest) =
        operators::call(&snapshot.config().admin, request, place).await?;
    let (revocation, reason) = request.resolve(process)?;
    let reason = reason.unwrap_or_default();
    let mut revocation = revocation.noted(Note {
        by: by.clone(),
        reason: reason.clone(),
    });
    let outcome = revoke_and_log(process, by, reason, &revocation).await;
    // The list may have had the entry, with a later expiry.
    if let Some(expires) = process.revocations().expiry(revocation.name()).await {
        revocation.expires = expires;
    }
    answer(&revocation, outcome)
}

/// Adds a revocation to the list, and logs who did.
pub(super) async fn revoke_and_log(
    process: &Process,
    operator: String,
    reason: String,
    revocation: &Revocation,
) -> RevokeOutcome {
    let revocations = process.revocations().clone();
    let revocation = revocation.clone();
    // A task of its own: a caller that disconnects while the store is slow ends the call, but
    // neither the revocation nor its log line.
    let task = tokio::spawn(async move {
        let outcome = revocations.revoke(revocation.clone()).await;
        // This line alone names what was revoked: it is what an operator looks for later.
        tracing::info!(
            operator,
            reason,
            id = hex::encode(&revocation.name()),
            revocation = %described(&revocation),
            outcome = ?outcome,
            "revoked"
        );
        outcome
    });
    task.await.unwrap_or(RevokeOutcome::Stopped)
}

/// The answer about a revocation.
pub(super) fn answer(
    revocation: &Revocation,
    outcome: RevokeOutcome,
) -> Result<Response<Full<Bytes>>, AdminError> {
    let (status, propagated) = match outcome {
        RevokeOutcome::Stored => (StatusCode::OK, true),
        RevokeOutcome::Queued => (StatusCode::SERVICE_UNAVAILABLE, false),
        RevokeOutcome::Full => {
            return Err(AdminError::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "the list is full, and this entry names no subject by which it could be merged with others; nothing was revoked: name its `subject`, or raise `revocations.capacity`",
            ));
        }
        RevokeOutcome::Stopped => {
            return Err(AdminError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the list of revocations has stopped; nothing was revoked: restart this replica",
            ));
        }
    };
    Ok(document(
        status,
        &json!({
            "revoked": described(revocation),
            "id": hex::encode(&revocation.name()),
            "expires": revocation.expires,
            "propagated": propagated,
        }),
    ))
}

impl RevokeRequest {
    /// The revocation that the call means, and the operator's reason.
    fn resolve(self, process: &Process) -> Result<(Revocation, Option<String>), AdminError> {
        let snapshot = process.snapshot();
        let config = snapshot.config();
        let now = clock::unix_now();
        let tokens_live = config.revocations.remembers_tokens();
        let sessions_live = config.revocations.remembers_sessions();
        let (target, expires, reason) = match self {
            Self::Token {
                token,
                token_sha256,
                expires_in,
                reason,
            } => {
                let (target, ends) = one_token(process, token, token_sha256, now)?;
                let ends = ends.map(|ends| ends - now);
                let expires = expiry(now, expires_in, ends.unwrap_or(tokens_live))?;
                (target, expires, reason)
            }
            Self::Session {
                session,
                issuer,
                subject,
                expires_in,
                reason,
            } => {
                let issuer = issuer_of(config, issuer)?;
                let subject = subject.map(|subject| subject_of(config, &issuer, subject));
                let target = Target::Session {
                    session: id("session", session)?,
                    subject: subject.transpose()?,
                    issuer,
                };
                (target, expiry(now, expires_in, sessions_live)?, reason)
            }
            Self::Subject {
                subject,
                issuer,
                except_sessions,
                expires_in,
                reason,
            } => {
                let issuer = issuer_of(config, issuer)?;
                let target = Target::Subject {
                    subject: subject_of(config, &issuer, subject)?,
                    issuer,
                    not_before: now,
                    except: sessions(except_sessions)?,
                    strict: false,
                };
                (target, expiry(now, expires_in, sessions_live)?, reason)
            }
            Self::Issuer {
                issuer,
                expires_in,
                reason,
            } => {
                let target = Target::Issuer {
                    issuer: issuer_of(config, Some(issuer))?,
                    not_before: now,
                };
                (target, expiry(now, expires_in, sessions_live)?, reason)
            }
        };
        check_reason(reason.as_deref())?;
        let revocation = Revocation::new(target, clock::unix_millis(), expires);
        Ok((revocation, reason))
    }
}

pub(super) fn check_reason(reason: Option<&str>) -> Result<(), AdminError> {
    let is_bad = |reason: &str| reason.len() > 500 || reason.contains(char::is_control);
    match reason.is_some_and(is_bad) {
        true => Err(bad_request(
            "`reason` is longer than 500 bytes, or has control characters",
        )),
        false => Ok(()),
    }
}

/// A token by its text or its digest, and when it expires.
fn one_token(
    process: &Process,
    token: Option<String>,
    token_sha256: Option<String>,
    now: i64,
) -> Result<(Target, Option<i64>), AdminError> {
    let (sha256, verified) = match (token, token_sha256) {
        (Some(token), None) => {
            let token = token.trim();
            if !is_jws(token) {
                return Err(bad_request(
                    "`token` is not a signed token (JWS): send the text after `Bearer `, or as `token_sha256` the SHA-256 of its text before the last dot",
                ));
            }
            let verified = match process.snapshot().tokens().verify(token, now) {
                Ok(Presented::User(verified)) => Some(verified),
                // The token is revoked all the same, but its claims are not trusted.
                Ok(Presented::Nobody) | Err(_) => None,
            };
            (token_digest(token), verified)
        }
        (None, Some(digest)) => {
            let digest = hex::decode(&digest)
                .ok_or_else(|| bad_request("`token_sha256` is not 64 hexadecimal digits"))?;
            (digest, None)
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(bad_request("send either `token` or `token_sha256`"));
        }
    };
    let verified = verified.as_deref();
    let target = Target::Token {
        sha256,
        issuer: verified.map(|verified| verified.issuer().to_owned()),
        session: verified.and_then(Verified::session).map(str::to_owned),
        subject: verified.map(|verified| verified.subject().to_owned()),
    };
    // Covers whatever leeway the issuer's entry has after a reload.
    let ends = verified.map(|verified| {
        let leeway = LARGEST_LEEWAY.as_secs().cast_signed();
        verified.expires().saturating_add(leeway)
    });
    Ok((target, ends))
}

/// The issuer that the call means: the named one, or the only one.
fn issuer_of(config: &Config, named: Option<String>) -> Result<String, AdminError> {
    let mut known: Vec<&str> = config
        .tokens
        .iter()
        .map(|entry| entry.issuer.as_str())
        .collect();
    known.sort_unstable();
    known.dedup();
    let named = named.map(|named| named.trim().to_owned());
    match (named, known.as_slice()) {
        (Some(named), _) if known.contains(&named.as_str()) => Ok(named),
        (Some(named), _) => Err(bad_request(format!(
            "`{named}` is not an issuer of `tokens`"
        ))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => Err(bad_request(format!(
            "there are several issuers; send `issuer`, one of {}",
            known.join(", ")
        ))),
    }
}

fn expiry(now: i64, asked: Option<i64>, default: i64) -> Result<i64, AdminError> {
    match asked {
        Some(seconds) if !(1..=MOST_SECONDS).contains(&seconds) => Err(bad_request(format!(
            "`expires_in` is not a number of seconds from 1 to {MOST_SECONDS}"
        ))),
        Some(seconds) => Ok(now.saturating_add(seconds)),
        None => Ok(now.saturating_add(default)),
    }
}

pub(super) fn sessions(ids: Vec<String>) -> Result<Vec<String>, AdminError> {
    const MOST: usize = 16;
    if ids.len() > MOST {
        return Err(bad_request(format!(
            "more than {MOST} sessions are excepted"
        )));
    }
    let mut ids = ids
        .into_iter()
        .map(|session| id("session", session))
        .collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// An id in the list's spelling, if a token could have it.
pub(super) fn id(name: &str, text: String) -> Result<String, AdminError> {
    let text = canonical_id(&text);
    if text.is_empty() || text.len() > LONGEST_ID || text.contains(char::is_control) {
        return Err(bad_request(format!(
            "`{name}` is empty, longer than {LONGEST_ID} bytes, or has control characters"
        )));
    }
    Ok(text.into_owned())
}

/// A subject that a token of this issuer can have, in its canonical spelling. Another would be
/// reported as revoked and refuse nobody.
fn subject_of(config: &Config, issuer: &str, subject: String) -> Result<String, AdminError> {
    let subject = id("subject", subject)?;
    let entry = config.tokens.iter().find(|entry| entry.issuer == issuer);
    let kind = entry.map_or(ParamType::Text, |entry| entry.subject);
    match kind.canonical(&subject) {
        Some(canonical) => Ok(canonical.into_owned()),
        None => Err(bad_request(format!(
            "`subject` is not {}, as `tokens[].subject` of the issuer demands",
            match kind {
                ParamType::Uuid => "a UUID with hyphens",
                ParamType::Integer => "a decimal integer from 0 without leading zeros",
                ParamType::Text => "text",
            }
        ))),
    }
}

/// What was revoked, as JSON.
pub(super) fn described(revocation: &Revocation) -> Value {
    match &revocation.target {
        Target::Token { sha256, .. } => {
            json!({ "kind": "token", "token_sha256": hex::encode(sha256) })
        }
        Target::Session {
            issuer, session, ..
        } => json!({ "kind": "session", "issuer": issuer, "session": session }),
        Target::Subject {
            issuer,
            subject,
            not_before,
            except,
            ..
        } => {
            json!({ "kind": "subject", "issuer": issuer, "subject": subject, "not_before": not_before, "except_sessions": except })
        }
        Target::Issuer { issuer, not_before } => {
            json!({ "kind": "issuer", "issuer": issuer, "not_before": not_before })
        }
        Target::Bucket {
            issuer,
            bits,
            prefix,
            not_before,
            ..
        } => {
            json!({ "kind": "bucket", "issuer": issuer, "bits": bits, "prefix": prefix, "not_before": not_before })
        }
        Target::Undone { revocation } => described(revocation),
    }
}

pub(super) fn bad_request(why: impl Into<String>) -> AdminError {
    AdminError::new(StatusCode::BAD_REQUEST, why)
}
