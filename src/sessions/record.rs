//! The record of a session in the store, which seals it.
//!
//! One read returns the session, the tokens of the identity server, and the proof that the access
//! token was verified before.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::agent;
use crate::metrics::labels;
use crate::secrets::digest::{self, Digest};
use crate::secrets::secret::Secret;
use crate::tokens::Proof;

/// The name of a session: the SHA-256 of its cookie's random part, or a digest of issuer and
/// `session_id`.
pub type SessionName = Digest;

labels! {
    /// What a client presents to prove its session.
    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Carrier {
        /// A cookie; the tokens stay in the gateway.
        Cookie = "cookie",
        /// The access token itself.
        Bearer = "bearer",
    }
}

/// A session. All times are in Unix milliseconds.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// `iss` of its tokens.
    pub issuer: String,
    /// `sub` of its tokens.
    pub subject: String,
    /// `session_id` of its tokens.
    pub session: Option<String>,
    /// How its client proves it.
    pub carrier: Carrier,
    /// When it began: when the client asked for it, before the identity server was asked.
    pub created: i64,
    /// When it was last used, to within a minute.
    pub touched: i64,
    /// When it ends at the latest.
    pub ends: i64,
    /// When its tokens were issued.
    pub renewed: i64,
    /// The tokens of the identity server; `None` if the client keeps them, as with a bearer token.
    pub tokens: Option<InnerTokens>,
    /// Proof that the access token was verified before.
    pub proof: Option<Proof>,
    /// Where it began.
    pub origin: Origin,
}

/// The tokens behind a cookie.
#[derive(Clone, Deserialize, Serialize)]
pub struct InnerTokens {
    /// The access token.
    #[serde(with = "secret")]
    pub access: Secret,
    /// The refresh token.
    #[serde(with = "secret")]
    pub refresh: Secret,
}

/// Where a session began, as shown to its user: enough to recognise a device, not enough to track
/// one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Origin {
    /// The browser family, such as `Firefox`.
    pub agent: String,
    /// The network of the address: /24 of IPv4, /48 of IPv6.
    pub network: String,
}

/// The client that began a session.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The client's address.
    pub address: IpAddr,
    /// Its `User-Agent` header.
    pub user_agent: Option<String>,
}

impl ClientInfo {
    /// The part of it that is stored.
    pub fn origin(&self) -> Origin {
        Origin {
            agent: agent::family(self.user_agent.as_deref().unwrap_or_default()),
            network: agent::network(self.address),
        }
    }
}

impl Session {
    /// Serializes the record for the store, which seals it.
    pub fn to_record(&self) -> Vec<u8> {
        // Strings, numbers and lists always serialize to JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Parses a record; `None` if a newer version wrote something unknown.
    pub fn from_record(record: &[u8]) -> Option<Self> {
        serde_json::from_slice(record).ok()
    }
}

/// The name of the session of a bearer token.
pub fn of_bearer(issuer: &str, session: &str) -> SessionName {
    digest::of_parts(["bearer", issuer, session].map(str::as_bytes))
}

/// Omits the tokens and the user, which must not be logged.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("issuer", &self.issuer)
            .field("carrier", &self.carrier)
            .field("created", &self.created)
            .field("touched", &self.touched)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for InnerTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InnerTokens(…)")
    }
}

impl InnerTokens {
    /// The access token as text.
    pub fn access(&self) -> &str {
        // It was UTF-8 when it was received.
        std::str::from_utf8(self.access.expose()).unwrap_or_default()
    }
}

/// Serializes a secret into a record, which the store seals.
mod secret {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::secrets::secret::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(std::str::from_utf8(secret.expose()).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            issuer: "https://issuer.test".to_owned(),
            subject: "somebody".to_owned(),
            session: Some("s".to_owned()),
            carrier: Carrier::Cookie,
            created: 1,
            touched: 2,
            ends: 3,
            renewed: 1,
            tokens: Some(InnerTokens {
                access: Secret::new("an-access-token"),
                refresh: Secret::new("a-refresh-token"),
            }),
            proof: None,
            origin: Origin {
                agent: "Firefox".to_owned(),
                network: "192.0.2.0/24".to_owned(),
            },
        }
    }

    #[test]
    fn a_record_parses_and_an_unknown_format_does_not() {
        let record = session().to_record();
        let read = Session::from_record(&record).expect("a record");
        assert_eq!(read.to_record(), record);
        let tokens = read.tokens.expect("tokens");
        assert_eq!(tokens.access(), "an-access-token");
        assert_eq!(tokens.refresh.expose(), b"a-refresh-token");
        let text = String::from_utf8(record).expect("text");
        for strange in [
            "",
            "{}",
            "null",
            &text.replace("\"ends\":3", "\"ends\":3,\"unless\":1"),
        ] {
            assert!(
                Session::from_record(strange.as_bytes()).is_none(),
                "{strange}"
            );
        }
    }

    #[test]
    fn debug_output_shows_no_token_or_user() {
        let text = format!("{:?} {:?}", session(), session().tokens);
        for secret in ["an-access-token", "a-refresh-token", "somebody"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
