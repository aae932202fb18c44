//! Settings of token issuers and of their keys.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use crate::policy::outbound_url::OutboundUrl;
use crate::policy::resources::ParamType;
use crate::secrets::secret::Secret;

/// The largest leeway of an entry of `tokens`: how long after its `exp`, or before its `iat`, a
/// token may be accepted.
pub const LARGEST_LEEWAY: Duration = Duration::from_secs(60);

/// One issuer entry: an `iss` with the algorithms and keys that are accepted for it.
#[derive(Debug)]
pub struct TokenIssuer {
    /// The exact `iss`.
    pub issuer: String,
    /// Accepted audiences, at least one; one match with `aud` is enough (RFC 7519, section 4.1.3).
    pub audience: Vec<String>,
    /// Accepted algorithms, at least one, all of the same family as the key.
    pub algorithms: Vec<Algorithm>,
    /// Where the keys come from.
    pub keys: KeySource,
    /// The type of `sub`. Default uuid for Supabase Auth, else that of `facts.subject`.
    pub subject: ParamType,
    /// Required claims besides `exp iss aud sub`, each with its allowed values. A dotted name is a
    /// path into objects.
    pub require: Vec<(String, Vec<String>)>,
    /// Allowed clock difference for `exp`, `nbf` and `iat`. Default 5 s.
    pub leeway: Duration,
    /// Applications of third parties, by the claim `client_id`, whose tokens count as their users'
    /// own on every route. Default none.
    pub clients: Vec<String>,
    /// After this instant, in Unix seconds, the entry is ignored.
    pub until: Option<i64>,
}

/// Where an issuer's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// An HMAC secret of at least the hash's length (RFC 7518, section 3.2), also if it came from
    /// `secret_file`.
    Secret(Secret),
    /// A JWK set, read from a file by `check`.
    Set {
        /// The JWK set as JSON.
        json: String,
        /// The file that holds it.
        file: PathBuf,
    },
    /// A JWK set that the issuer publishes and may change.
    Published(Publication),
}

/// Where an issuer publishes its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Publication {
    /// `jwks_url`: the JWK set itself.
    Jwks(OutboundUrl),
    /// `discovery_url`: a document with the URL of the JWK set (OpenID Connect Discovery 1.0,
    /// section 4).
    Discovery(OutboundUrl),
}

impl Publication {
    /// The URL in the configuration.
    pub fn url(&self) -> &OutboundUrl {
        match self {
            Self::Jwks(url) | Self::Discovery(url) => url,
        }
    }
}
