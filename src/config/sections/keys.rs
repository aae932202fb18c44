//! `keys`: the gateway's own secrets, from which the keys that seal and sign are derived.
//!
//! A secret that could be guessed is refused, and ids and secrets must all be different.

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, List, Value};
use crate::secrets::MasterKey;
use crate::secrets::secret::Secret;

wire! {
    /// One secret.
    struct Key {
        id: Text => "write a short name, such as `k1`; it is stored with every record that the key seals",
        secret: Text,
        secret_file: Text,
    }
}

/// Shortest secret: as many bytes as the keys that are derived from it.
const SHORTEST: usize = 32;

/// Least estimated entropy in bits. An estimate sees what a person typed, not what a bad generator
/// made.
const LEAST_ENTROPY: f64 = 96.0;

const MAKE_ONE: &str = "make one with `openssl rand -base64 32`";

impl Checker<'_> {
    /// Every key, in the order of the list; the first seals.
    pub(crate) fn keys(&mut self, field: &Field<List<Key>>) -> Option<Vec<MasterKey>> {
        let Some(list) = field.optional()? else {
            return Some(Vec::new());
        };
        let keys = self.each(&list.value, |checker, item| checker.key(&item.value))?;
        for (index, (key, item)) in keys.iter().zip(&list.value.items).enumerate() {
            for other in keys.iter().take(index) {
                let message = if other.id == key.id {
                    "has the `id` of another key; records name by it the key that opens them"
                } else if other.secret.expose() == key.secret.expose() {
                    "has the secret of another key; a new key needs a new secret"
                } else {
                    continue;
                };
                return self.report.refuse(&item.place, message);
            }
        }
        Some(keys)
    }

    fn key(&mut self, wire: &Key) -> Option<MasterKey> {
        let id = wire.id.good().and_then(|id| self.key_id(id));
        let secret = self.key_secret(wire);
        Some(MasterKey {
            id: id?,
            secret: secret?,
        })
    }

    fn key_id(&mut self, id: &Value<Text>) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fits = |text: &str| (1..=32).contains(&text.len()) && text.bytes().all(plain);
        id.parse(
            |text| fits(text).then(|| text.to_owned()),
            "is not the name of a key",
            "write 1 to 32 letters, digits, `-` and `_`",
            self.report,
        )
    }

    fn key_secret(&mut self, wire: &Key) -> Option<Secret> {
        let (key, value) = self.one_of(
            &wire.place,
            &[("secret", &wire.secret), ("secret_file", &wire.secret_file)],
            ("has no `secret_file` and no `secret`", MAKE_ONE),
        )?;
        match key {
            "secret" => self.strong(&value.value.value, &value.place),
            _ => {
                let text = self.secret_file(value, MAKE_ONE)?;
                self.strong(&text, &value.place)
            }
        }
    }

    fn strong(&mut self, text: &str, place: &Place) -> Option<Secret> {
        let message = if text.len() < SHORTEST {
            "is too short: a key needs at least 32 bytes"
        } else if is_repetition(text) || entropy(text) < LEAST_ENTROPY {
            "is easy to guess: a key needs to be random"
        } else {
            return Some(Secret::new(text));
        };
        self.report.refuse_instead(place, message, MAKE_ONE)
    }
}

/// Whether it is a shorter text, again and again.
fn is_repetition(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=bytes.len() / 2).any(|period| {
        bytes
            .iter()
            .zip(bytes.iter().skip(period))
            .all(|(one, other)| one == other)
    })
}

/// Bits, as if each byte were drawn by how often it occurs in the text.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let length = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let bits = |count: &u32| f64::from(*count) * (length / f64::from(*count)).log2();
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]
mod tests {
    use crate::config::tests::*;

    use super::*;

    #[test]
    fn a_typed_secret_is_distinguished_from_a_random_one() {
        for random in [
            "q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ] {
            assert!(
                entropy(random) >= LEAST_ENTROPY && !is_repetition(random),
                "{random}"
            );
        }
        for typed in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "0123456789abcdef0123456789abcdef0123456789abcdef",
            "passwordpasswordpasswordpasswordpassword",
            "000000000000000000000000000000000000001",
        ] {
            assert!(
                entropy(typed) < LEAST_ENTROPY || is_repetition(typed),
                "{typed}"
            );
        }
    }

    #[test]
    fn a_key_that_is_weak_or_unclear_is_refused_and_never_shown() {
        let rest = "routes: [{ path: /a, access: public }]\nstore: { redis: 'redis://h' }\n";
        let strong = "q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=";
        let same = format!("keys: [{{ id: a, secret: {strong} }}, {{ id: b, secret: {strong} }}]");
        let twice =
            format!("keys: [{{ id: a, secret: {strong} }}, {{ id: a, secret: x{strong} }}]");
        let both = format!("keys: [{{ id: a, secret: {strong}, secret_file: x }}]");
        let cases = [
            ("keys: []", "keys", "empty list"),
            ("keys: [{ id: a }]", "keys[0]", "has no `secret_file`"),
            (
                "keys: [{ id: a, secret: short }]",
                "keys[0].secret",
                "at least 32 bytes",
            ),
            (
                "keys: [{ id: a, secret: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa }]",
                "keys[0].secret",
                "easy to guess",
            ),
            (
                "keys: [{ id: a, secret: correcthorsecorrecthorsecorrecthorse }]",
                "keys[0].secret",
                "easy to guess",
            ),
            (
                "keys: [{ id: a, secret_file: missing }]",
                "keys[0].secret_file",
                "no such file",
            ),
            (same.as_str(), "keys[1]", "has the secret of another"),
            (twice.as_str(), "keys[1]", "has the `id` of another"),
            (
                both.as_str(),
                "keys[0].secret_file",
                "cannot be combined with",
            ),
        ];
        each_refused(&format!("{BASE}{rest}"), &cases);
        let no_id = format!("keys: [{{ secret: {strong} }}]");
        let bad_id = format!("keys: [{{ id: 'a b', secret: {strong} }}]");
        each_refused(
            &format!("{BASE}{rest}"),
            &[
                (no_id.as_str(), "keys[0].id", "is missing"),
                (bad_id.as_str(), "keys[0].id", "not the name of a key"),
            ],
        );
        for (text, ..) in cases {
            let problems = load_in(Path::new("."), &format!("{BASE}{rest}{text}")).unwrap_err();
            let shown = format!("{problems:?}");
            for secret in [strong, "correcthorse"] {
                // The excerpt shows the file's own text only where it holds no secret.
                assert!(
                    !shown.contains(secret) && !problems.to_json().to_string().contains(secret),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_secret_file_may_end_with_a_newline() {
        let dir = certificates();
        let text = format!(
            "{BASE}keys: [{{ id: k1, secret_file: key }}]\nstore: {{ redis: 'redis://h' }}\nroutes: [{{ path: /a, access: public }}]\n"
        );
        let loaded = load_in(dir.path(), &text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.config.keys[0].secret.expose().len(), 44);
        assert!(!format!("{:?}", loaded.config).contains("q8Vb"));
    }
}
