//! `tokens`: who issues tokens, and with which keys they are verified.
//!
//! Decides: that an entry has one kind of algorithm and one source of keys, that a secret is long
//! enough for its algorithm, and that tokens without a signature are never accepted. Trusts: files
//! that hold keys. Not here: fetching published keys, and verifying (`tokens`).

mod subject;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::Value as Json;

pub(crate) use self::subject::SubjectContext;
use crate::config::check::Checker;
use crate::config::decode::Decode;
use crate::config::macros::wire;
use crate::config::node::{Node, Text};
use crate::config::place::Place;
use crate::config::problem::Report;
use crate::config::units::{Date, secs};
use crate::config::wire::{Field, List, Many, Named, Value};
use crate::json;
use crate::policy::outbound_url::{OutboundUrl, OutboundUrlError};
use crate::policy::resources::ParamType;
use crate::policy::spelling::nearest;
use crate::policy::tokens::{KeySource, LARGEST_LEEWAY, Publication, TokenIssuer};
use crate::secrets::secret::Secret;

wire! {
    /// One issuer.
    struct Issuer {
        issuer: Text => "write the exact `iss` of the tokens",
        audience: Many<Text> => "write who the tokens are for, such as `audience: [authenticated]`",
        algorithms: Many<Algorithm> => "write what the issuer signs with, such as `algorithms: [ES256]`",
        secret: Text,
        secret_file: Text,
        jwks_file: Text,
        jwks_url: Text,
        discovery_url: Text,
        subject: ParamType,
        require: Named<Many<Text>>,
        leeway: Duration [Duration::ZERO..=LARGEST_LEEWAY] = secs(5),
        clients: List<Text>,
        until: Date,
    }
}

/// Every algorithm that can be verified, by its name in RFC 7518 and RFC 8037.
const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("EdDSA", Algorithm::EdDSA),
];

impl Decode for Algorithm {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let text = Value::<Text>::decode(node, report)?;
        let written = text.value.value.as_str();
        let mut known = ALGORITHMS.iter().filter(|(name, _)| *name == written);
        if let Some((_, algorithm)) = known.next() {
            return Some(*algorithm);
        }
        let names = ALGORITHMS.map(|(name, _)| name);
        let message = match written.to_ascii_lowercase().as_str() {
            "none" => "tokens without a signature are never accepted".to_owned(),
            _ => format!(
                "`{}` is not an algorithm that can be verified",
                text.value.shown()
            ),
        };
        let near = nearest(written, names).filter(|_| text.value.written.is_none());
        let instead = match near {
            Some(near) if near.eq_ignore_ascii_case(written) => format!("write `{near}`"),
            Some(_) | None => format!("the algorithms are {}", names.join(", ")),
        };
        report.refuse_instead(&text.place, message, instead)
    }
}

/// The issuers, each once. With several, a subject alone identifies nobody.
pub(super) fn issuers(tokens: Option<&[TokenIssuer]>) -> Vec<&str> {
    let tokens = tokens.unwrap_or_default().iter();
    let mut issuers: Vec<&str> = tokens.map(|entry| entry.issuer.as_str()).collect();
    issuers.sort_unstable();
    issuers.dedup();
    issuers
}

impl Checker<'_> {
    /// Every issuer. Two entries may share an `iss`, which is how keys are rotated.
    pub(crate) fn tokens(
        &mut self,
        field: &Field<List<Issuer>>,
        subjects: &SubjectContext<'_>,
    ) -> Option<Vec<TokenIssuer>> {
        let tokens = field.then(|list| {
            let check =
                |checker: &mut Self, item: &Value<Issuer>| checker.issuer(&item.value, subjects);
            let tokens = self.each(&list.value, check)?;
            self.one_type_an_issuer(&list.place, &tokens);
            Some(tokens)
        });
        tokens.map(Option::unwrap_or_default)
    }

    fn issuer(&mut self, wire: &Issuer, subjects: &SubjectContext<'_>) -> Option<TokenIssuer> {
        let issuer = wire.issuer.good().and_then(|text| self.name_in(text));
        let subject = self.subject(wire, issuer.as_deref(), subjects);
        let audience = wire.audience.good();
        let audience = audience.and_then(|many| self.words(&many.value.0));
        let algorithms = self.algorithms(wire);
        let keys = self.issuer_keys(wire, algorithms.as_deref());
        let require = self.require(&wire.require);
        if let Some(until) = wire.until.good()
            && until.value.0 <= self.now
        {
            let message = "is in the past: no token of this entry is accepted; remove the entry";
            self.report.warn(&until.place, message);
        }
        Some(TokenIssuer {
            issuer: issuer?,
            audience: audience?,
            algorithms: algorithms?,
            keys: keys?,
            subject: subject?,
            require: require?,
            leeway: wire.leeway()?,
            clients: self.clients(&wire.clients)?,
            until: wire.until.optional()?.map(|until| until.value.0),
        })
    }

    fn algorithms(&mut self, wire: &Issuer) -> Option<Vec<Algorithm>> {
        let many = wire.algorithms.good()?;
        let algorithms = many.value.0.values()?;
        let mut symmetric = algorithms.iter().map(|algorithm| is_hmac(*algorithm));
        let first = symmetric.next();
        if symmetric.any(|other| Some(other) != first) {
            // With both, a public key could be taken for an HMAC secret, and everybody has the
            // public key.
            return self.report.refuse_instead(
                &many.place,
                "mixes HMAC with public-key algorithms, which would let a public key pass for a secret",
                "write two entries with the same `issuer`",
            );
        }
        Some(algorithms)
    }

    /// Exactly one source of keys, and one that goes with the algorithms.
    fn issuer_keys(
        &mut self,
        wire: &Issuer,
        algorithms: Option<&[Algorithm]>,
    ) -> Option<KeySource> {
        let (key, value) = self.one_of(
            &wire.place,
            &[
                ("secret", &wire.secret),
                ("secret_file", &wire.secret_file),
                ("jwks_file", &wire.jwks_file),
                ("jwks_url", &wire.jwks_url),
                ("discovery_url", &wire.discovery_url),
            ],
            (
                "has no keys",
                "write one of `jwks_url`, `discovery_url`, `jwks_file`, `secret_file` and `secret`",
            ),
        )?;
        let is_secret = key.starts_with("secret");
        if let Some(first) = algorithms.and_then(|algorithms| algorithms.first())
            && is_hmac(*first) != is_secret
        {
            let message = if is_secret {
                "goes with HS256, HS384 and HS512 only; the algorithms of this entry need `jwks_url`, `discovery_url` or `jwks_file`"
            } else {
                "goes with public-key algorithms only; HS256, HS384 and HS512 need `secret_file` or `secret`"
            };
            return self.report.refuse(&value.place, message);
        }
        match key {
            "secret" => self
                .hmac_secret(&value.value.value, &value.place, algorithms)
                .map(KeySource::Secret),
            "secret_file" => {
                let make_one = "generate one with `openssl rand -base64 48`";
                let text = self.secret_file(value, make_one)?;
                self.hmac_secret(&text, &value.place, algorithms)
                    .map(KeySource::Secret)
            }
            "jwks_file" => self.jwks_file(value),
            "jwks_url" => self
                .published(value, ".well-known/jwks.json")
                .map(|url| KeySource::Published(Publication::Jwks(url))),
            _ => self
                .published(value, ".well-known/openid-configuration")
                .map(|url| KeySource::Published(Publication::Discovery(url))),
        }
    }

    fn hmac_secret(
        &mut self,
        text: &str,
        place: &Place,
        algorithms: Option<&[Algorithm]>,
    ) -> Option<Secret> {
        let algorithms = algorithms.unwrap_or_default().iter();
        let least = algorithms.map(|algorithm| hash_length(*algorithm)).max();
        let least = least.unwrap_or(32);
        if text.len() < least {
            // RFC 7518, section 3.2: a key of the same size as the hash output, or larger.
            return self.report.refuse_instead(
                place,
                format!("is too short: an HMAC secret needs at least {least} bytes"),
                format!("generate one with `openssl rand -base64 {}`", least * 3 / 2),
            );
        }
        Some(Secret::new(text))
    }

    fn jwks_file(&mut self, name: &Value<Text>) -> Option<KeySource> {
        let (file, contents) = self.inputs.read(name, self.report)?;
        if json::has_byte_order_mark(&contents) {
            let message = format!("is not a JWK set: {}", json::BYTE_ORDER_MARK);
            return self.report.refuse(&name.place, message);
        }
        // Only the shape is checked here; `tokens` knows key types, and decides which keys are
        // usable.
        let is_set = |json: &String| {
            serde_json::from_str::<Json>(json)
                .is_ok_and(|set| set.get("keys").is_some_and(Json::is_array))
        };
        let json = name.parse(
            |_| String::from_utf8(contents).ok().filter(is_set),
            "is not a JWK set",
            "it should hold JSON such as `{\"keys\": [{\"kty\": …}]}`",
            self.report,
        )?;
        Some(KeySource::Set { json, file })
    }

    fn published(&mut self, text: &Value<Text>, example: &str) -> Option<OutboundUrl> {
        match OutboundUrl::parse(&text.value.value) {
            Ok(url) => Some(url),
            Err(why @ OutboundUrlError::ClearText) => {
                self.report.refuse(&text.place, why.to_string())
            }
            Err(OutboundUrlError::Malformed(why)) => {
                let instead = format!("write a URL such as `https://auth.example.com/{example}`");
                self.report.refuse_instead(&text.place, why, instead)
            }
        }
    }

    fn require(&mut self, field: &Field<Named<Many<Text>>>) -> Option<Vec<(String, Vec<String>)>> {
        self.each_of(field, |checker, claim, values| {
            let path = checker.claim_path(&claim.value, &claim.place);
            let values = checker.words(&values?.value.0);
            path.and(values).map(|values| (claim.value.clone(), values))
        })
    }

    /// The ids of applications, as in the claim `client_id`.
    pub(super) fn clients(&mut self, field: &Field<List<Text>>) -> Option<Vec<String>> {
        let clients = field.then(|list| self.each(&list.value, Self::name_in));
        clients.map(Option::unwrap_or_default)
    }

    /// A dotted path into the claims, none of whose parts a user can write.
    pub(super) fn claim_path(&mut self, text: &str, place: &Place) -> Option<Vec<String>> {
        let path: Vec<String> = text.split('.').map(str::to_owned).collect();
        let message = if path.iter().any(String::is_empty) {
            "is not a path into the claims; write names with dots between, such as `app_metadata.roles`"
        } else if path.iter().any(|name| name == "user_metadata") {
            "users can write `user_metadata` themselves; use `app_metadata`, which only the issuer writes"
        } else {
            return Some(path);
        };
        self.report.refuse(place, message)
    }
}

fn is_hmac(algorithm: Algorithm) -> bool {
    algorithm.family() == AlgorithmFamily::Hmac
}

/// Bytes of the hash of an HMAC algorithm.
fn hash_length(algorithm: Algorithm) -> usize {
    if algorithm == Algorithm::HS512 {
        64
    } else if algorithm == Algorithm::HS384 {
        48
    } else {
        32
    }
}
