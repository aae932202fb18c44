//! Unambiguous JSON: no member occurs twice in an object, at any depth; at most [`DEEPEST`] levels
//! and [`VALUES`] values, since the text may be an attacker's.
//!
//! RFC 7519, section 4, lets a reader either refuse repeated claim names or take the last one. Two
//! readers that choose differently see two tokens, so here they are refused; `serde_json` alone
//! takes the last.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The most levels of lists and objects. A choice; `serde_json` ends at 128.
pub(crate) const DEEPEST: usize = 64;

/// The most values in a document. A choice: a value takes some hundred bytes at worst, and the
/// shortest one only two of the text.
pub(crate) const VALUES: usize = 50_000;

/// The complaint about a text that begins with a byte order mark.
pub(crate) const BYTE_ORDER_MARK: &str =
    "it begins with a byte order mark, which JSON may not have (RFC 8259, section 8.1)";

/// Whether a text begins with a byte order mark, of UTF-8 or UTF-16.
pub(crate) fn has_byte_order_mark(text: &[u8]) -> bool {
    let marks: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe"];
    marks.iter().any(|mark| text.starts_with(mark))
}

/// Parses `text` as one object, to the last byte. `None` if it is anything else, is not UTF-8,
/// repeats a member, or exceeds a limit.
pub(crate) fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match value(text)? {
        Value::Object(members) => Some(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

/// Parses `text` as one value of any type, to the last byte. `None` if it is anything else, is not
/// UTF-8, repeats a member, or exceeds a limit.
pub(crate) fn value(text: &[u8]) -> Option<Value> {
    let left = Cell::new(VALUES);
    let reader = Reader {
        left: &left,
        depth: DEEPEST,
    };
    let mut text = serde_json::Deserializer::from_slice(text);
    let value = reader.deserialize(&mut text).ok()?;
    text.end().ok()?;
    Some(value)
}

/// Parses a value without repeated members.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// How many more values are allowed.
    left: &'a Cell<usize>,
    /// How many more levels are allowed.
    depth: usize,
}

impl Reader<'_> {
    /// The reader for the next level.
    fn below<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        let depth = depth.ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left
            .set(left.ok_or_else(|| D::Error::custom("too many values"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(below)?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_or_too_large_documents_are_refused() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let wide = |values: usize| format!("[{}]", vec!["1"; values - 1].join(","));
        for text in [
            "1",
            " {\"a\":[null,true,-1.5e3,\"x\"]} ",
            &deep(DEEPEST),
            &wide(VALUES),
        ] {
            assert!(value(text.as_bytes()).is_some(), "{}", text.len());
        }
        for text in [
            "",
            "1 1",
            "{\"a\":1,\"a\":1}",
            "[{\"a\":{\"b\":1,\"\\u0062\":2}}]",
            &deep(DEEPEST + 1),
            &deep(100_000),
            &wide(VALUES + 1),
        ] {
            assert!(value(text.as_bytes()).is_none(), "{}", text.len());
        }
    }
}
