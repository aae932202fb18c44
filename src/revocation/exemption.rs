//! What the revocation of a user exempts: sessions, or tokens by what they say.
//!
//! An exemption is written into a record as a string among the ids of exempt sessions. A replica of
//! an older version takes it for the id of a session that does not exist, and so refuses more, not
//! less. So does a full list, which drops exemptions.

use serde_json::{Map, Value};

use super::target::canonical_id;

/// The level of a session with a second factor, as `aal` of its tokens has it.
pub const SECOND_FACTOR: &str = "aal2";

/// Marks what is no id of a session.
const MARK: &str = "tokens:";

/// Exempts tokens of a revoked user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Exemption {
    /// Those of one session, by its canonical id.
    Session(String),
    /// Those whose `aal` is this or higher. The identity server compares levels as text, too.
    FromLevel(String),
    /// Those whose `aal` is lower.
    BelowLevel(String),
    /// Those that were issued after the revocation, whenever their user signed in. The entry then
    /// refuses single tokens, and their sessions go on.
    IssuedLater,
    /// Those of users, and of all apps but the one with this `client_id`.
    OtherClients(String),
}

impl Exemption {
    /// How a record has it.
    pub fn into_text(self) -> String {
        match self {
            Self::Session(id) => id,
            Self::FromLevel(level) => format!("{MARK}aal>={level}"),
            Self::BelowLevel(level) => format!("{MARK}aal<{level}"),
            Self::IssuedLater => format!("{MARK}issued-later"),
            Self::OtherClients(id) => format!("{MARK}client!={id}"),
        }
    }

    /// Reads it from a record. What a newer version wrote exempts nothing.
    pub(super) fn from_text(text: &str) -> Self {
        let of = |prefix: &str| {
            let rest = text.strip_prefix(MARK)?.strip_prefix(prefix)?;
            Some(rest.to_owned())
        };
        if let Some(level) = of("aal>=") {
            Self::FromLevel(level)
        } else if let Some(level) = of("aal<") {
            Self::BelowLevel(level)
        } else if of("issued-later").is_some_and(|rest| rest.is_empty()) {
            Self::IssuedLater
        } else if let Some(id) = of("client!=") {
            Self::OtherClients(id)
        } else {
            Self::Session(text.to_owned())
        }
    }

    /// Whether it exempts a token of this session with these claims from the revocation of sign-ins
    /// up to `time`, in Unix seconds.
    pub(super) fn covers(
        &self,
        session: Option<&str>,
        claims: &Map<String, Value>,
        time: i64,
    ) -> bool {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        match self {
            Self::Session(id) => session == Some(id),
            Self::FromLevel(level) => text("aal") >= level.as_str(),
            Self::BelowLevel(level) => text("aal") < level.as_str(),
            Self::IssuedLater => {
                let issued = claims.get("iat").and_then(super::list::seconds);
                issued.is_some_and(|issued| issued > time)
            }
            Self::OtherClients(id) => canonical_id(text("client_id")) != canonical_id(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exemption_is_read_as_it_was_written() {
        for exemption in [
            Exemption::Session("0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b70".to_owned()),
            Exemption::FromLevel("aal2".to_owned()),
            Exemption::BelowLevel("aal2".to_owned()),
            Exemption::IssuedLater,
            Exemption::OtherClients("0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b71".to_owned()),
            Exemption::Session("tokens:from the future".to_owned()),
        ] {
            let text = exemption.clone().into_text();
            assert_eq!(canonical_id(&text), text);
            assert_eq!(Exemption::from_text(&text), exemption);
        }
    }
}
