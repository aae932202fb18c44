//! The gateway's own secrets.
//!
//! Decides: which of them could be guessed, and are refused; that ids and secrets are all different. Trusts: files that hold them. Not here: what is
//! derived from them (`store::seal`).

use super::Checker;
use crate::config::file;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, List, Value};
use crate::secrets::MasterKey;
use crate::secrets::secret::Secret;

/// Shortest secret: as many bytes as the keys that are derived from it.
const SHORTEST: usize = 32;

/// Least estimated entropy in bits. An estimate sees what a person typed, not what a bad generator made.
const LEAST_ENTROPY: f64 = 96.0;

const MAKE_ONE: &str = "make one with `openssl rand -base64 32`";

impl Checker<'_> {
    /// Every key, in the order of the list; the first seals.
    pub(super) fn master_keys(&mut self, field: &Field<List<file::Key>>) -> Option<Vec<MasterKey>> {
        let list = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(list) => list,
        };
        list.value.at_least_one(&list.place, self.report);
        let keys = self.each(&list.value, |checker, item| checker.master_key(&item.value))?;
        for (index, (key, item)) in keys.iter().zip(&list.value.items).enumerate() {
            for other in keys.iter().take(index) {
                let message = if other.id == key.id {
                    "has the `id` of another key; records say by it which key opens them"
                } else if other.secret.expose() == key.secret.expose() {
                    "has the secret of another key; a new key needs a new secret"
                } else {
                    continue;
                };
                self.report.problem(&item.place, message);
                return None;
            }
        }
        Some(keys)
    }

    fn master_key(&mut self, wire: &file::Key) -> Option<MasterKey> {
        let example =
            "write a short name, such as `k1`; it stands in every record that the key seals";
        let id = wire
            .id
            .required(&wire.place, "id", example, self.report)
            .and_then(|id| self.key_id(id));
        let secret = match (&wire.secret, &wire.secret_file) {
            (Field::Good(secret), Field::Absent) => self.strong(&secret.value.value, &secret.place),
            (Field::Absent, Field::Good(name)) => self
                .secret_text(name, MAKE_ONE)
                .and_then(|text| self.strong(&text, &name.place)),
            (Field::Absent, Field::Absent) => {
                self.report.problem_instead(
                    &wire.place,
                    "has no `secret_file` and no `secret`",
                    MAKE_ONE,
                );
                None
            }
            (Field::Good(_), Field::Good(file)) => {
                self.report.problem(
                    &file.place,
                    "cannot stand beside `secret`; remove one of the two",
                );
                None
            }
            (Field::Bad, _) | (_, Field::Bad) => None,
        };
        Some(MasterKey {
            id: id?,
            secret: secret?,
        })
    }

    fn key_id(&mut self, id: &Value<Text>) -> Option<String> {
        let text = &id.value.value;
        let fits = (1..=32).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !fits {
            let message = format!("`{}` is not the name of a key", id.value.shown());
            let instead = "write 1 to 32 letters, digits, `-` and `_`";
            self.report.problem_instead(&id.place, message, instead);
        }
        fits.then(|| text.clone())
    }

    fn strong(&mut self, text: &str, place: &Place) -> Option<Secret> {
        let why = if text.len() < SHORTEST {
            "is too short: a key needs at least 32 bytes"
        } else if is_repetition(text) || entropy(text) < LEAST_ENTROPY {
            "is easy to guess: a key needs to be random"
        } else {
            return Some(Secret::new(text));
        };
        self.report.problem_instead(place, why, MAKE_ONE);
        None
    }

    /// The secret in a file.
    pub(super) fn secret_text(&mut self, name: &Value<Text>, make_one: &str) -> Option<String> {
        let (_, contents) = self.inputs.read(name, self.report)?;
        let Ok(text) = String::from_utf8(contents) else {
            self.report
                .problem_instead(&name.place, "the file does not hold text", make_one);
            return None;
        };
        // Editors and `echo` end a file with a newline that nobody means as part of the secret; one is cut, not more.
        let cut = text.strip_suffix('\n').map_or(text.as_str(), |text| {
            text.strip_suffix('\r').unwrap_or(text)
        });
        Some(cut.to_owned())
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
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_a_person_typed_is_told_from_a_random_one() {
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
}
