//! Who issues the tokens that prove a user, and where their keys are.
//!
//! Decides: nothing; these are values. Trusts: `config::check`, which makes them. Not here: verifying (`tokens`).

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use crate::policy::side_url::SideUrl;
use crate::secrets::secret::Secret;

/// The largest clock difference that an entry of `tokens` may allow: how much longer than its `exp` a token may be accepted.
pub const LARGEST_LEEWAY: Duration = Duration::from_secs(60);

/// One issuer entry: an `iss` with the algorithms and keys that may speak for it.
#[derive(Debug)]
pub struct TokenIssuer {
    /// The exact `iss`.
    pub issuer: String,
    /// At least one; one match with `aud` is enough (RFC 7519, section 4.1.3).
    pub audience: Vec<String>,
    /// At least one, all of the same family as the key.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys come from.
    pub keys: KeySource,
    /// Claims with the values they must have one of, besides `exp iss aud sub`. A dotted name is a path into objects.
    pub require: Vec<(String, Vec<String>)>,
    /// Clock difference allowed for `exp` and `nbf`. Default 5 s.
    pub leeway: Duration,
    /// After this instant, in Unix seconds, the entry is ignored.
    pub until: Option<i64>,
}

/// Where an issuer's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// An HMAC secret of at least the hash's length (RFC 7518, section 3.2). Already read if it came from `secret_file`.
    Secret(Secret),
    /// A JWK set, read from a file by `check`.
    Set {
        /// The document.
        json: String,
        /// Where it was read from.
        file: PathBuf,
    },
    /// A JWK set that the issuer publishes, and may change.
    Published(Publication),
}

/// Where an issuer publishes its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Publication {
    /// `jwks_url`: the JWK set itself.
    Jwks(SideUrl),
    /// `discovery_url`: a document that names the place of the JWK set (OpenID Connect Discovery 1.0, section 4).
    Discovery(SideUrl),
}

impl Publication {
    /// The URL that is written in the configuration.
    pub fn url(&self) -> &SideUrl {
        match self {
            Self::Jwks(url) | Self::Discovery(url) => url,
        }
    }
}
