//! What is kept of a session.
//!
//! Decides:  how a session is written down. Trusts: the store to seal it. Not here: under which name it is kept, and for how long (`lookup`).
//!
//! One read of a record gives the session, the tokens that the identity server gave for it, and the proof that the access token was verified
//! before.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::agent;
use crate::secrets::digest::{self, Digest};
use crate::secrets::secret::Secret;
use crate::tokens::Proof;

/// What a session is called: the SHA-256 of its cookie's random part, or a digest of issuer and `session_id`.
pub type SessionName = Digest;

/// What a client carries to prove its session.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// A cookie; the tokens stay here.
    Cookie,
    /// Its own access token.
    Bearer,
}

impl Carrier {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cookie, Self::Bearer];

    /// The word in metrics and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Bearer => "bearer",
        }
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
    /// When it began.
    pub created: i64,
    /// When it was last used, to within a minute.
    pub touched: i64,
    /// When it ends whatever happens.
    pub ends: i64,
    /// When its tokens came.
    pub renewed: i64,
    /// What the identity server gave; a client with a bearer token keeps its own.
    pub tokens: Option<InnerTokens>,
    /// That the access token was verified before.
    pub proof: Option<Proof>,
    /// From where it began.
    pub origin: Origin,
}

/// The tokens behind a cookie.
#[derive(Clone, Deserialize, Serialize)]
pub struct InnerTokens {
    /// Proves the user.
    #[serde(with = "secret")]
    pub access: Secret,
    /// Gets the next pair.
    #[serde(with = "secret")]
    pub refresh: Secret,
}

/// From where a session began, as far as its user is shown: enough to recognise a device, not enough to follow one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Origin {
    /// The family of the user agent, such as `Firefox`.
    pub agent: String,
    /// The network of the address: /24 of IPv4, /48 of IPv6.
    pub network: String,
}

/// Who began a session.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The client's address.
    pub address: IpAddr,
    /// Its `User-Agent`.
    pub user_agent: Option<String>,
}

impl Seen {
    /// What is kept of it.
    pub fn origin(&self) -> Origin {
        Origin {
            agent: agent::family(self.user_agent.as_deref().unwrap_or_default()),
            network: agent::network(self.address),
        }
    }
}

impl Session {
    /// The bytes for the store.
    pub fn to_record(&self) -> Vec<u8> {
        // Strings, numbers and lists: nothing in it can fail to be JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the bytes of a replica. `None` if they say something this version does not know.
    pub fn from_record(record: &[u8]) -> Option<Self> {
        serde_json::from_slice(record).ok()
    }
}

/// What the session of a bearer token is called.
pub fn of_bearer(issuer: &str, session: &str) -> SessionName {
    digest::of_parts(["bearer", issuer, session].map(str::as_bytes))
}

/// Neither tokens nor whose session it is: what is for no log.
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
        // It was text when it came.
        std::str::from_utf8(self.access.expose()).unwrap_or_default()
    }
}

/// A secret in a record, which is sealed.
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
    fn a_record_reads_back_and_anything_else_does_not() {
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
    fn no_debug_text_shows_a_token_or_a_user() {
        let text = format!("{:?} {:?}", session(), session().tokens);
        for secret in ["an-access-token", "a-refresh-token", "somebody"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
