//! Digests as text: 64 lower-case hexadecimal digits.

use serde::{Deserialize as _, Deserializer, Serializer};

use super::digest::Digest;

/// Encodes bytes.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes a digest. Upper-case digits are accepted.
pub fn decode(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != digest.len() * 2 {
        return None;
    }
    let mut digits = text.chars().map(|digit| digit.to_digit(16));
    for byte in &mut digest {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(digest)
}

pub(crate) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(digest))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    decode(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::super::digest;
    use super::*;

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let digest = digest::of(b"a");
        assert_eq!(decode(&encode(&digest)), Some(digest));
        assert_eq!(decode(&encode(&digest).to_uppercase()), Some(digest));
        for bad in ["", "ab", &"g".repeat(64), &"é".repeat(32), &"a".repeat(65)] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
