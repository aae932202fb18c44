//! `/webhooks/identity`: the identity server reports that a user was changed, banned or deleted,
//! which ends the user's sign-ins.
//!
//! Messages are signed by the Standard Webhooks specification (`webhook-id`, `webhook-timestamp`,
//! `webhook-signature`), as Supabase's hooks are. A holder of one of the webhook's secrets is
//! trusted about the users of the webhook's issuer and about no others.
//!
//! It is a path of the admin listener and not of the clients' listeners, so that strangers cannot
//! reach it and no client's request bypasses the chain. An identity server that can only reach the
//! public address comes through a public route that leads here.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::places::{Place, Stage};
use super::revocations::{answer, bad_request, id, revoke_and_log, sessions};
use super::{AdminError, body, check_body_fields, document};
use crate::clock;
use crate::gateway::process::Process;
use crate::log::LogThrottle;
use crate::policy::revocations::Webhook;
use crate::revocation::{Revocation, Target, WebhookResult};

/// The maximum age of a message in seconds: senders retry. All effects of a message follow from
/// when it was sent, so a message that is sent again, by its sender or by an eavesdropper, to any
/// replica, is the same revocation and changes nothing.
const MAX_AGE: i64 = 5 * 60;

/// How many seconds the sender's clock may be ahead. Sign-ins until then are refused, too.
const MAX_AHEAD: i64 = 60;

/// The deadline of a whole message: whoever sends it may be a stranger.
const BODY_DEADLINE: Duration = Duration::from_secs(3);

/// Bytes of a signature, HMAC-SHA-256.
const SIGNATURE: usize = 32;

/// Limits the warning about refused messages, which strangers can cause where a public route leads
/// here. All are counted.
static REFUSED: LogThrottle = LogThrottle::new();

/// Columns of `auth.users` whose change ends sign-ins. Columns that every sign-in changes, such as
/// `last_sign_in_at`, are not among them.
const COLUMNS: [&str; 9] = [
    "aud",
    "banned_until",
    "deleted_at",
    "email",
    "encrypted_password",
    "is_anonymous",
    "phone",
    "raw_app_meta_data",
    "role",
];

/// The effect of a message.
#[derive(Debug, Eq, PartialEq)]
enum WebhookEffect {
    /// The user's sign-ins until now end.
    Ended {
        subject: String,
        except: Vec<String>,
        /// The user gets no further tokens, so the revocation need not be kept for long.
        deleted: bool,
    },
    /// Nothing ends, for this reason.
    Ignored(&'static str),
}

/// Handles a message.
pub(super) async fn receive(
    process: &Process,
    request: Request<Incoming>,
    place: &Place,
) -> Result<Response<Full<Bytes>>, AdminError> {
    if request.method() != Method::POST {
        return Err(AdminError::new(StatusCode::METHOD_NOT_ALLOWED, "POST only"));
    }
    let outcome = handle(process, request, place).await;
    let result = match &outcome {
        Ok((result, _)) => *result,
        Err(error) => {
            if REFUSED.may_log(clock::unix_now()) {
                tracing::warn!(why = %error.why, "refused a message to the webhook");
            }
            WebhookResult::Refused
        }
    };
    process.metrics().revocations.webhook(result);
    outcome.map(|(_, response)| response)
}

async fn handle(
    process: &Process,
    request: Request<Incoming>,
    place: &Place,
) -> Result<(WebhookResult, Response<Full<Bytes>>), AdminError> {
    let snapshot = process.snapshot();
    let config = &snapshot.config().revocations;
    let webhook = config.webhook.as_ref().ok_or_else(|| {
        AdminError::new(
            StatusCode::NOT_FOUND,
            "the configuration has no `revocations.webhook`",
        )
    })?;
    let now = clock::unix_now();
    check_body_fields(request.headers())?;
    let head = SignedHead::read(request.headers(), now)?;
    place.enter(Stage::Webhook);
    let body = body(request, BODY_DEADLINE).await?;
    head.verify(webhook, &body)?;
    place.enter(Stage::Call);
    let sent = head.sent;
    let message: Value =
        serde_json::from_slice(&body).map_err(|error| bad_request(error.to_string()))?;
    let (subject, except, deleted) = match effect(&message, now)? {
        WebhookEffect::Ended {
            subject,
            except,
            deleted,
        } => (subject, except, deleted),
        WebhookEffect::Ignored(why) => {
            let response = document(StatusCode::OK, &json!({ "ignored": why }));
            return Ok((WebhookResult::Ignored, response));
        }
    };
    let remembered = match deleted {
        true => config.remembers_tokens(),
        false => config.remembers_sessions(),
    };
    let target = Target::Subject {
        issuer: webhook.issuer.clone(),
        subject,
        not_before: sent,
        except,
        strict: false,
    };
    let expires = sent.saturating_add(remembered);
    let revocation = Revocation::new(target, clock::unix_millis(), expires);
    let outcome = revoke_and_log(process, "webhook".to_owned(), String::new(), &revocation).await;
    Ok((WebhookResult::Revoked, answer(&revocation, outcome)?))
}

/// What the head of a message says about its signature.
struct SignedHead {
    id: String,
    /// As it was written, which is what was signed.
    timestamp: String,
    /// When the message was sent.
    sent: i64,
    signatures: Vec<Vec<u8>>,
}

impl SignedHead {
    /// Reads the head of a message that was sent recently. A stranger whose head is no such head is
    /// refused before the body is read.
    fn read(headers: &HeaderMap, now: i64) -> Result<Self, AdminError> {
        let field = |name: &str| {
            let mut fields = headers.get_all(name).iter();
            match (fields.next(), fields.next()) {
                (Some(only), None) => only.to_str().ok(),
                _ => None,
            }
        };
        let id = field("webhook-id").ok_or_else(|| refused("`webhook-id` is missing"))?;
        let timestamp =
            field("webhook-timestamp").ok_or_else(|| refused("`webhook-timestamp` is missing"))?;
        let signatures =
            field("webhook-signature").ok_or_else(|| refused("`webhook-signature` is missing"))?;
        // The signed parts are joined by dots, so a dot in the id would let a part of the body pass
        // for the timestamp.
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':');
        if id.is_empty() || id.len() > 256 || !id.bytes().all(is_plain) {
            return Err(refused(
                "`webhook-id` is empty, too long, or has unexpected characters",
            ));
        }
        if !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused("`webhook-timestamp` is not a number of seconds"));
        }
        let sent: i64 = timestamp
            .parse()
            .map_err(|_| refused("`webhook-timestamp` is not a number of seconds"))?;
        let age = now.saturating_sub(sent);
        if !(-MAX_AHEAD..=MAX_AGE).contains(&age) {
            return Err(refused("the message is too old, or from the future"));
        }
        let signatures: Vec<_> = signatures
            .split(' ')
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
            .filter(|signature| signature.len() == SIGNATURE)
            // A sender that rotates its secret sends two.
            .take(8)
            .collect();
        if signatures.is_empty() {
            return Err(refused("`webhook-signature` has no signature `v1,…`"));
        }
        Ok(Self {
            id: id.to_owned(),
            timestamp: timestamp.to_owned(),
            sent,
            signatures,
        })
    }

    /// Whether one of the secrets signed the message.
    fn verify(&self, webhook: &Webhook, body: &[u8]) -> Result<(), AdminError> {
        let (id, timestamp) = (self.id.as_bytes(), self.timestamp.as_bytes());
        let content = [id, b".", timestamp, b".", body].concat();
        let is_good = self.signatures.iter().any(|signature| {
            webhook
                .secrets
                .iter()
                .any(|secret| hmac::verify(secret, &content, signature).is_ok())
        });
        match is_good {
            true => Ok(()),
            false => Err(refused("no signature matches a secret of the webhook")),
        }
    }
}

fn refused(why: &str) -> AdminError {
    AdminError::new(StatusCode::UNAUTHORIZED, why)
}

/// Reads a message: an event (`{"type": "user.banned", "data": {…}}`), or a changed row of
/// `auth.users` as Supabase's database webhooks send it (`{"type": "UPDATE", "schema": "auth",
/// "table": "users", "record": {…}, "old_record": {…}}`).
fn effect(message: &Value, now: i64) -> Result<WebhookEffect, AdminError> {
    let kind = message
        .get("type")
        .and_then(Value::as_str)
        .ok_or_else(|| bad_request("the message has no `type`"))?;
    if message.get("table").is_some() {
        return row_change(message, kind, now);
    }
    let deleted = match kind {
        "user.updated" | "user.banned" => false,
        "user.deleted" => true,
        _ => {
            return Ok(WebhookEffect::Ignored(
                "not about a change, a ban or a deletion",
            ));
        }
    };
    let data = message
        .get("data")
        .ok_or_else(|| bad_request("the message has no `data`"))?;
    let user = data.get("user").unwrap_or(data);
    let except = match (data.get("except_sessions"), data.get("session_id")) {
        (Some(Value::Array(sessions)), _) => sessions
            .iter()
            .map(|session| session.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| bad_request("`data.except_sessions` is not a list of strings"))?,
        (Some(_), _) => {
            return Err(bad_request(
                "`data.except_sessions` is not a list of strings",
            ));
        }
        // The session in which a user changed their own password stays.
        (None, Some(Value::String(session))) if kind == "user.updated" => vec![session.clone()],
        (None, _) => Vec::new(),
    };
    ended(user.get("id").or(data.get("user_id")), except, deleted)
}

fn row_change(message: &Value, kind: &str, now: i64) -> Result<WebhookEffect, AdminError> {
    let is = |member: &str, value: &str| message.get(member).and_then(Value::as_str) == Some(value);
    if !(is("schema", "auth") && is("table", "users")) {
        return Ok(WebhookEffect::Ignored("not a row of `auth.users`"));
    }
    let null = Value::Null;
    let new = message.get("record").unwrap_or(&null);
    let old = message.get("old_record").unwrap_or(&null);
    match kind {
        "DELETE" => ended(old.get("id"), Vec::new(), true),
        "UPDATE" => {
            let changed = |column: &&str| {
                let (new, old) = (new.get(*column), old.get(*column));
                let is_null = |value: Option<&Value>| value.is_none_or(Value::is_null);
                // Without the old row, only the new values can tell.
                let differs = match message.get("old_record") {
                    Some(Value::Object(_)) => new != old && !(is_null(new) && is_null(old)),
                    _ => matches!(*column, "banned_until" | "deleted_at"),
                };
                match *column {
                    // Lifting a ban, or a ban that is over, ends nothing.
                    "banned_until" => differs && is_in_force(new, now),
                    "deleted_at" => differs && !is_null(new),
                    _ => differs,
                }
            };
            if !COLUMNS.iter().any(changed) {
                return Ok(WebhookEffect::Ignored("no change that ends a sign-in"));
            }
            ended(new.get("id"), Vec::new(), false)
        }
        _ => Ok(WebhookEffect::Ignored("not an update or a deletion")),
    }
}

/// Whether a ban until then is in force. An unreadable one is.
fn is_in_force(until: Option<&Value>, now: i64) -> bool {
    match until {
        None | Some(Value::Null) => false,
        Some(value) => value
            .as_str()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .is_none_or(|until| until.as_second() >= now),
    }
}

fn ended(
    subject: Option<&Value>,
    except: Vec<String>,
    deleted: bool,
) -> Result<WebhookEffect, AdminError> {
    let subject = subject
        .and_then(Value::as_str)
        .ok_or_else(|| bad_request("the message does not say which user it is about"))?;
    Ok(WebhookEffect::Ended {
        subject: id("id", subject.to_owned())?,
        except: sessions(except)?,
        deleted,
    })
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
