//! The verification of one token, from text to user: the order of refusals, and which entry of
//! `tokens` is used. It refuses with `service_key_refused` and `token_issuer`; of a token it trusts
//! only the claims, and those only after the signature was checked.
//!
//! The order is structure, `crit`, Supabase's keys, issuer, algorithm, key, signature, time,
//! audience, other claims. Before the signature is checked, the token's content may do two things
//! only: lead to a refusal, and choose the entry.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Presented;
use super::issuer::{Issuer, Progress, Refusal};
use super::jws::{self, Jws, Named};
use super::source::Missing;
use crate::denial::{Denial, Reason};

/// Recognizes Supabase's opaque keys by their prefix (`sb_publishable_…`, `sb_secret_…`). `None`
/// for anything else.
pub(super) fn opaque_key(text: &str) -> Option<Result<(), Denial>> {
    let kind = text.strip_prefix("sb_")?;
    Some(if text.len() > jws::MAX_LENGTH {
        Err(Reason::TokenTooLarge.into())
    } else if kind.starts_with("publishable_") {
        Ok(())
    } else if kind.starts_with("secret_") {
        Err(Reason::ServiceKeyRefused.because("an `sb_secret_` key"))
    } else {
        Err(Reason::TokenMalformed.because("an unknown kind of `sb_` key"))
    })
}

/// Whether a text is one of Supabase's keys that bypass all rules. Whether it is genuine does not
/// matter: it must not come from outside.
pub fn is_service_key(text: &str) -> bool {
    match opaque_key(text) {
        Some(_) => text.starts_with("sb_secret_"),
        None => Jws::parse(text)
            .and_then(|jws| jws.claims())
            .is_ok_and(|claims| claims.get("role").and_then(Value::as_str) == Some("service_role")),
    }
}

/// Whether a text is a key of Supabase that anybody may have, of whatever project. Whether it is
/// genuine does not matter.
pub fn is_public_api_key(text: &str) -> bool {
    match opaque_key(text) {
        Some(outcome) => outcome.is_ok(),
        None => Jws::parse(text)
            .and_then(|jws| is_public_key(&jws.claims()?))
            .unwrap_or(false),
    }
}

/// The claims of a token, whether it is valid or not. Only for a token that was verified before.
pub(crate) fn claims_of(text: &str) -> Option<Map<String, Value>> {
    Jws::parse(text).ok()?.claims().ok()
}

/// Whether a text has the form of a token. Any other text is refused.
pub fn is_jws(text: &str) -> bool {
    Jws::parse(text).is_ok()
}

/// Why a token is refused now, and what could change that.
pub(super) struct Refused {
    pub(super) denial: Denial,
    /// Keys that may yet arrive. Empty if the refusal is final.
    pub(super) missing: Vec<Missing>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self {
            denial,
            missing: Vec::new(),
        }
    }
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Denial::from(reason).into()
    }
}

/// Verifies a token at `now` with `issuers` and the cached keys.
pub(super) fn verify(issuers: &[Issuer], token: &str, now: i64) -> Result<Presented, Refused> {
    let jws = Jws::parse(token)?;
    let claims = jws.claims()?;
    if is_public_key(&claims)? {
        return Ok(Presented::Nobody);
    }
    let (iss, named) = named_by(issuers, &claims, now)?;
    let Named::Known(algorithm) = jws.algorithm else {
        return Err(algorithm_refused(iss, &jws.algorithm).into());
    };
    let mut farthest: Option<Refusal> = None;
    let mut missing = Vec::new();
    for issuer in named.into_iter().filter(|issuer| issuer.allows(algorithm)) {
        match issuer.verify(&jws, algorithm, &claims, now) {
            Ok(verified) => return Ok(Presented::User(Arc::new(verified))),
            Err(refusal) => {
                if refusal.0 == Progress::Unavailable {
                    missing.extend(issuer.missing(jws.kid.as_deref()));
                }
                if farthest
                    .as_ref()
                    .is_none_or(|(progress, _)| *progress < refusal.0)
                {
                    farthest = Some(refusal);
                }
            }
        }
    }
    Err(match farthest {
        Some((Progress::Unavailable, denial)) => Refused { denial, missing },
        Some((Progress::Key | Progress::Signature | Progress::Claims, denial)) => denial.into(),
        None => algorithm_refused(iss, &jws.algorithm).into(),
    })
}

/// Supabase's legacy API keys are tokens without a user. Whether they are genuine does not matter:
/// a `service_role` key from outside is refused either way, and the sender of an `anon` key is
/// anonymous, which anyone can be.
fn is_public_key(claims: &Map<String, Value>) -> Result<bool, Denial> {
    match claims.get("role").and_then(Value::as_str) {
        Some("service_role") => {
            Err(Reason::ServiceKeyRefused.because("a token with the role `service_role`"))
        }
        Some("anon") => Ok(!claims.contains_key("sub")),
        Some(_) | None => Ok(false),
    }
}

/// The entries in force for the token's `iss`; at least one.
fn named_by<'i, 'c>(
    issuers: &'i [Issuer],
    claims: &'c Map<String, Value>,
    now: i64,
) -> Result<(&'c str, Vec<&'i Issuer>), Denial> {
    let iss = claims
        .get("iss")
        .and_then(Value::as_str)
        .ok_or_else(|| Reason::TokenIssuer.because("`iss` is not a string"))?;
    let named: Vec<_> = issuers
        .iter()
        .filter(|issuer| issuer.is_named(iss, now))
        .collect();
    if named.is_empty() {
        return Err(Reason::TokenIssuer.because("no entry of `tokens` in force has this `iss`"));
    }
    Ok((iss, named))
}

/// `iss` is a configured name here, so it may be reported.
fn algorithm_refused(iss: &str, named: &Named) -> Denial {
    let name = match named {
        Named::Known(algorithm) => format!("{algorithm:?}"),
        Named::Unknown(name) => name.clone(),
    };
    Reason::TokenAlgorithm.because(format!("issuer `{iss}` does not use `{name}`"))
}
