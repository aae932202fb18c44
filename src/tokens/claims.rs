//! Validation of the claims of a token whose signature is right: `token_expired`,
//! `token_not_yet_valid`, `token_issued_ahead`, `token_audience` and `token_claims`, in this order.
//! The issuer is trusted for what it signed, but not to set every claim, with the right type, or by
//! a clock that is right.
//!
//! `jsonwebtoken` would check these too, but it accepts a registered claim of the wrong type as an
//! absent one, and an `iss` list of which one member matches.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::denial::{Denial, Reason};
use crate::policy::resources::ParamType;
use crate::revocation::signed_in;

/// The largest integer that every JSON reader holds exactly (RFC 8259, section 6). No clock needs
/// more.
const LARGEST: i64 = (1 << 53) - 1;

/// The longest `sub` or `session_id` in bytes, so that an operator can name it to revoke it. OpenID
/// Connect Core, section 2, allows 255 for `sub`.
pub const LONGEST_ID: usize = 256;

/// The claim rules of an issuer entry.
pub(super) struct Rules {
    /// Accepted audiences.
    pub(super) audience: Vec<String>,
    /// Paths, each with the values of which one is required.
    pub(super) require: Vec<(Vec<String>, Vec<String>)>,
    /// The type of `sub`.
    pub(super) subject: ParamType,
    /// Allowed clock difference in seconds.
    pub(super) leeway: i64,
    /// Third parties' applications whose tokens count as their users' own.
    pub(super) clients: Vec<String>,
}

/// The claims of a user's token, validated.
pub(super) struct Facts {
    /// `sub`, never empty, in the canonical spelling of its type: a user has one subject.
    pub(super) subject: String,
    /// `session_id`, never empty.
    pub(super) session: Option<String>,
    /// `role`.
    pub(super) role: Option<String>,
    /// `aal` as a number, 1 or 2.
    pub(super) aal: u8,
    /// `is_anonymous`.
    pub(super) anonymous: bool,
    /// `client_id`, of an application that the entry does not name.
    pub(super) client: Option<String>,
    /// `exp`.
    pub(super) expires: i64,
    /// The validity of the token.
    pub(super) valid: Period,
}

/// The validity of a token by this entry's clock, leeway included.
#[derive(Clone, Copy)]
pub(super) struct Period {
    from: i64,
    until: i64,
}

impl Period {
    /// The first second after it.
    pub(super) fn until(self) -> i64 {
        self.until
    }

    /// The leeway in it, for a token that expires at this time.
    pub(super) fn leeway(self, expires: i64) -> i64 {
        self.until.saturating_sub(expires)
    }

    /// `exp` is exclusive (RFC 7519, section 4.1.4), `nbf` inclusive (section 4.1.5).
    pub(super) fn contains(self, now: i64) -> bool {
        self.from <= now && now < self.until
    }
}

impl Rules {
    /// Validates the claims of a token at `now`.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: i64) -> Result<Facts, Denial> {
        let expires = instant(claims, "exp")?.ok_or_else(|| wrong("`exp` is missing"))?;
        let valid = self.period(claims, expires, now)?;
        self.check_audience(claims)?;
        let facts = Facts {
            subject: self.subject(claims)?,
            session: id(claims, "session_id", "`session_id` is not a string")?.map(str::to_owned),
            role: text(claims, "role", "`role` is not a string")?.map(str::to_owned),
            aal: assurance(claims)?,
            anonymous: anonymous(claims)?,
            client: id(claims, "client_id", "`client_id` is not a string")?
                .filter(|client| !self.clients.iter().any(|known| known == client))
                .map(str::to_owned),
            expires,
            valid,
        };
        self.check_required(claims)?;
        Ok(facts)
    }

    /// When the token is valid, which includes `now`. A token that was issued or signed in for
    /// further ahead of our clock than the leeway would outlive a revocation of everything before
    /// now.
    fn period(
        &self,
        claims: &Map<String, Value>,
        expires: i64,
        now: i64,
    ) -> Result<Period, Denial> {
        let (not_before, issued) = (instant(claims, "nbf")?, instant(claims, "iat")?);
        let issued = issued.max(signed_in(claims));
        let since =
            |start: Option<i64>| start.map_or(i64::MIN, |start| start.saturating_sub(self.leeway));
        let valid = Period {
            from: since(not_before.max(issued)),
            until: expires.saturating_add(self.leeway),
        };
        if now >= valid.until {
            Err(Reason::TokenExpired.into())
        } else if now < since(not_before) {
            Err(Reason::TokenNotYetValid.into())
        } else if !valid.contains(now) {
            Err(Reason::TokenIssuedAhead.into())
        } else {
            Ok(valid)
        }
    }

    /// `sub` in its canonical spelling.
    fn subject(&self, claims: &Map<String, Value>) -> Result<String, Denial> {
        let written = id(claims, "sub", "`sub` is not a string")?
            .ok_or_else(|| wrong("`sub` is missing or empty"))?;
        // Operators name subjects without white space around them (`revocation::canonical_id`).
        let is_trimmed = written.trim().len() == written.len();
        let canonical = self.subject.canonical(written).filter(|_| is_trimmed);
        canonical.map(Cow::into_owned).ok_or_else(|| {
            wrong(match self.subject {
                ParamType::Uuid => "`sub` is not a UUID with hyphens, as `subject` of its issuer's entry demands",
                ParamType::Integer => "`sub` is not a decimal integer from 0, as `subject` of its issuer's entry demands",
                ParamType::Text => "`sub` has white space around it",
            })
        })
    }

    /// `aud` is a string or a list of strings (RFC 7519, section 4.1.3); here it is required.
    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), Denial> {
        let audience = claims.get("aud").and_then(strings).ok_or_else(|| {
            Reason::TokenAudience.because("`aud` is no string or list of strings")
        })?;
        if has_one_of(&audience, &self.audience) {
            Ok(())
        } else {
            Err(Reason::TokenAudience.into())
        }
    }

    fn check_required(&self, claims: &Map<String, Value>) -> Result<(), Denial> {
        for (path, allowed) in &self.require {
            let found = at_path(claims, path).and_then(strings).unwrap_or_default();
            if !has_one_of(&found, allowed) {
                let name = path.join(".");
                return Err(Reason::TokenClaims.because(format!("`{name}` has no required value")));
            }
        }
        Ok(())
    }
}

/// The value at a path of member names, through objects only.
fn at_path<'c>(claims: &'c Map<String, Value>, path: &[String]) -> Option<&'c Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(claims.get(first)?, |value, name| {
        value.as_object()?.get(name)
    })
}

/// A string, or a list of strings only.
fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) => several.iter().map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn has_one_of(found: &[&str], allowed: &[String]) -> bool {
    found
        .iter()
        .any(|value| allowed.iter().any(|one| one == value))
}

/// A NumericDate (RFC 7519, section 2) in whole seconds, rounded down: a fraction never prolongs a
/// token.
fn instant(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, Denial> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let Value::Number(number) = value else {
        return Err(not_an_instant(name));
    };
    let seconds = match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => whole,
        // The cast is exact in this range, which has no infinity or NaN in it.
        (None, Some(fraction)) if fraction.abs() <= LARGEST as f64 => fraction.floor() as i64,
        (None, _) => return Err(not_an_instant(name)),
    };
    if (-LARGEST..=LARGEST).contains(&seconds) {
        Ok(Some(seconds))
    } else {
        Err(not_an_instant(name))
    }
}

/// An id that may have to be revoked, so an operator must be able to name it.
fn id<'c>(
    claims: &'c Map<String, Value>,
    name: &str,
    complaint: &'static str,
) -> Result<Option<&'c str>, Denial> {
    match text(claims, name, complaint)? {
        Some(id) if id.len() > LONGEST_ID => {
            let why = format!("`{name}` is longer than {LONGEST_ID} bytes");
            Err(Reason::TokenClaims.because(why))
        }
        Some(id) if id.trim().is_empty() => Ok(None),
        id => Ok(id),
    }
}

/// Supabase's authenticator assurance level. Absent means the lowest.
fn assurance(claims: &Map<String, Value>) -> Result<u8, Denial> {
    match text(claims, "aal", "`aal` is not a string")? {
        None | Some("aal1") => Ok(1),
        Some("aal2") => Ok(2),
        Some(_) => Err(wrong("`aal` is neither `aal1` nor `aal2`")),
    }
}

fn anonymous(claims: &Map<String, Value>) -> Result<bool, Denial> {
    match claims.get("is_anonymous") {
        None => Ok(false),
        Some(Value::Bool(anonymous)) => Ok(*anonymous),
        Some(_) => Err(wrong("`is_anonymous` is not a boolean")),
    }
}

fn text<'c>(
    claims: &'c Map<String, Value>,
    name: &str,
    complaint: &'static str,
) -> Result<Option<&'c str>, Denial> {
    match claims.get(name) {
        None => Ok(None),
        // Upstreams and logs receive these texts, so they may have no line ends.
        Some(Value::String(text)) if text.contains(char::is_control) => {
            Err(Reason::TokenClaims.because(format!("`{name}` has control characters")))
        }
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(complaint)),
    }
}

fn not_an_instant(name: &str) -> Denial {
    Reason::TokenClaims.because(format!("`{name}` is not a number of seconds"))
}

fn wrong(why: &'static str) -> Denial {
    Reason::TokenClaims.because(why)
}
