//! Who issues tokens, and with which keys.
//!
//! Decides: that an entry has one kind of algorithm and one place for its keys, that a secret is long enough for its algorithm, and that what is not
//! signed is never accepted. Trusts: files that hold keys; what is published is fetched later. Not here: verifying (`tokens`).

use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::Value as Json;

use super::{Checker, secs};
use crate::config::file::Issuer;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, List, Value};
use crate::policy::side_url::{SideUrl, SideUrlError};
use crate::policy::spelling::nearest;
use crate::policy::tokens::{KeySource, LARGEST_LEEWAY, Publication, TokenIssuer};
use crate::secrets::secret::Secret;

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

impl Checker<'_> {
    /// Every issuer. Two entries may share an `iss`, which is how keys are rotated.
    pub(super) fn tokens(&mut self, field: &Field<List<Issuer>>) -> Option<Vec<TokenIssuer>> {
        let list = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(list) => list,
        };
        list.value.at_least_one(&list.place, self.report);
        self.each(&list.value, |checker, item| checker.issuer(&item.value))
    }

    fn issuer(&mut self, wire: &Issuer) -> Option<TokenIssuer> {
        let issuer = wire.issuer.required(
            &wire.place,
            "issuer",
            "write the exact `iss` of the tokens",
            self.report,
        );
        let issuer = issuer.and_then(|text| self.name(&text.value.value, &text.place));
        let example = "write who the tokens are for, such as `audience: [authenticated]`";
        let audience = wire
            .audience
            .required(&wire.place, "audience", example, self.report);
        let audience = audience.and_then(|many| {
            many.value.0.at_least_one(&many.place, self.report);
            self.words(&many.value.0)
        });
        let algorithms = self.algorithms(wire);
        let keys = self.keys(wire, algorithms.as_deref());
        let require = self.require(wire);
        let leeway = self.duration(&wire.leeway, Duration::ZERO..=LARGEST_LEEWAY, secs(5));
        let until = match &wire.until {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Good(until) => {
                if until.value.0 <= self.now {
                    self.report.warn(
                        &until.place,
                        "is in the past: no token of this entry is accepted; remove the entry",
                    );
                }
                Some(Some(until.value.0))
            }
        };
        Some(TokenIssuer {
            issuer: issuer?,
            audience: audience?,
            algorithms: algorithms?,
            keys: keys?,
            require: require?,
            leeway: leeway?,
            until: until?,
        })
    }

    fn algorithms(&mut self, wire: &Issuer) -> Option<Vec<Algorithm>> {
        let example = "write what the issuer signs with, such as `algorithms: [ES256]`";
        let many = wire
            .algorithms
            .required(&wire.place, "algorithms", example, self.report)?;
        many.value.0.at_least_one(&many.place, self.report);
        let algorithms = self.each(&many.value.0, Self::algorithm)?;
        let symmetric = algorithms
            .iter()
            .filter(|algorithm| is_hmac(**algorithm))
            .count();
        if symmetric != 0 && symmetric != algorithms.len() {
            // With both, a public key could be taken for an HMAC secret, and everybody has the public key.
            let message = "mixes HMAC with public-key algorithms, which would let a public key pass for a secret";
            self.report.problem_instead(
                &many.place,
                message,
                "write two entries with the same `issuer`",
            );
            return None;
        }
        Some(algorithms)
    }

    fn algorithm(&mut self, text: &Value<Text>) -> Option<Algorithm> {
        let written = text.value.value.as_str();
        let known = ALGORITHMS
            .iter()
            .find(|(name, _)| *name == written)
            .map(|(_, algorithm)| *algorithm);
        if known.is_none() {
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
            self.report.problem_instead(&text.place, message, instead);
        }
        known
    }

    /// Exactly one source of keys, and one that goes with the algorithms.
    fn keys(&mut self, wire: &Issuer, algorithms: Option<&[Algorithm]>) -> Option<KeySource> {
        let sources = [
            ("secret", &wire.secret),
            ("secret_file", &wire.secret_file),
            ("jwks_file", &wire.jwks_file),
            ("jwks_url", &wire.jwks_url),
            ("discovery_url", &wire.discovery_url),
        ];
        let mut written = sources.into_iter().filter(|(_, field)| field.is_written());
        let Some((name, field)) = written.next() else {
            let choice =
                "write one of `jwks_url`, `discovery_url`, `jwks_file`, `secret_file` and `secret`";
            self.report
                .problem_instead(&wire.place, "has no keys", choice);
            return None;
        };
        if let Some((other, field)) = written.next() {
            let place = field
                .good()
                .map_or_else(|| wire.place.below(other), |value| value.place.clone());
            self.report.problem(
                &place,
                format!("cannot stand beside `{name}`; remove one of the two"),
            );
            return None;
        }
        let value = field.good()?;
        let hmac = name.starts_with("secret");
        if let Some(first) = algorithms.and_then(|algorithms| algorithms.first())
            && is_hmac(*first) != hmac
        {
            let message = match hmac {
                true => {
                    "goes with HS256, HS384 and HS512 only; the algorithms of this entry need `jwks_url`, `discovery_url` or `jwks_file`"
                }
                false => {
                    "goes with public-key algorithms only; HS256, HS384 and HS512 need `secret_file` or `secret`"
                }
            };
            self.report.problem(&value.place, message);
            return None;
        }
        match name {
            "secret" => self
                .secret(&value.value.value, &value.place, algorithms)
                .map(KeySource::Secret),
            "secret_file" => self.secret_file(value, algorithms).map(KeySource::Secret),
            "jwks_file" => self.jwks_file(value),
            "jwks_url" => self
                .published(value, ".well-known/jwks.json")
                .map(|url| KeySource::Published(Publication::Jwks(url))),
            _ => self
                .published(value, ".well-known/openid-configuration")
                .map(|url| KeySource::Published(Publication::Discovery(url))),
        }
    }

    fn secret(
        &mut self,
        text: &str,
        place: &Place,
        algorithms: Option<&[Algorithm]>,
    ) -> Option<Secret> {
        let least = algorithms
            .unwrap_or_default()
            .iter()
            .map(|algorithm| hash_length(*algorithm))
            .max()
            .unwrap_or(32);
        if text.len() < least {
            // RFC 7518, section 3.2: a key of the same size as the hash output, or larger.
            let message = format!("is too short: an HMAC secret needs at least {least} bytes");
            self.report.problem_instead(
                place,
                message,
                format!("generate one with `openssl rand -base64 {}`", least * 3 / 2),
            );
            return None;
        }
        Some(Secret::new(text))
    }

    fn secret_file(
        &mut self,
        name: &Value<Text>,
        algorithms: Option<&[Algorithm]>,
    ) -> Option<Secret> {
        let text = self.secret_text(name, "generate one with `openssl rand -base64 48`")?;
        self.secret(&text, &name.place, algorithms)
    }

    fn jwks_file(&mut self, name: &Value<Text>) -> Option<KeySource> {
        let (file, contents) = self.inputs.read(name, self.report)?;
        // Only the shape is looked at here; what each key is good for is judged by `tokens`, which knows key types.
        let json = String::from_utf8(contents).ok().filter(|json| {
            serde_json::from_str::<Json>(json)
                .is_ok_and(|set| set.get("keys").is_some_and(Json::is_array))
        });
        if json.is_none() {
            let message = format!("`{}` is not a JWK set", name.value.shown());
            self.report.problem_instead(
                &name.place,
                message,
                "it should hold JSON such as `{\"keys\": [{\"kty\": …}]}`",
            );
        }
        Some(KeySource::Set { json: json?, file })
    }

    fn published(&mut self, text: &Value<Text>, example: &str) -> Option<SideUrl> {
        match SideUrl::parse(&text.value.value) {
            Ok(url) => Some(url),
            Err(why @ SideUrlError::ClearText) => {
                self.report.problem(&text.place, why.to_string());
                None
            }
            Err(SideUrlError::Malformed(why)) => {
                let instead = format!("write a URL such as `https://auth.example.com/{example}`");
                self.report.problem_instead(&text.place, why, instead);
                None
            }
        }
    }

    fn require(&mut self, wire: &Issuer) -> Option<Vec<(String, Vec<String>)>> {
        let named = match &wire.require {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(named) => &named.value.0,
        };
        let mut require = Vec::with_capacity(named.len());
        for (claim, values) in named {
            let path = self.claim_path(&claim.value, &claim.place);
            let values = values.as_ref().and_then(|values| {
                values.value.0.at_least_one(&values.place, self.report);
                self.words(&values.value.0)
            });
            require.extend(path.and(values).map(|values| (claim.value.clone(), values)));
        }
        (require.len() == named.len()).then_some(require)
    }

    /// A dotted path into the claims, none of whose parts a user can write.
    pub(super) fn claim_path(&mut self, text: &str, place: &Place) -> Option<Vec<String>> {
        let path: Vec<String> = text.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            self.report.problem(place, "is not a path into the claims; write names with dots between, such as `app_metadata.roles`");
            return None;
        }
        if path.iter().any(|name| name == "user_metadata") {
            self.report.problem(place, "users can write `user_metadata` themselves; use `app_metadata`, which only the issuer writes");
            return None;
        }
        Some(path)
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
