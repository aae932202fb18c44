//! Identifiers: every typed path parameter has its type.
//!
//! Decides: 400 `identifier_invalid` for a parameter that does not, and for the nil UUID. Trusts: the canonical path. Not here: whether
//! the thing exists, and whose it is.

use uuid::Uuid;

use super::{Caller, Layer, LayerName};
use crate::denial::{Denial, Reason};
use crate::request::Inbound;
use crate::request::path::ParameterKind;

/// The layer.
#[derive(Debug)]
pub struct Identifiers;

/// Proof that a caller asks for identifiers that could exist.
#[derive(Clone, Debug)]
pub struct Identified {
    caller: Caller,
}

impl Identified {
    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Who asked.
    pub fn into_caller(self) -> Caller {
        self.caller
    }
}

impl Layer for Identifiers {
    const NAME: LayerName = LayerName::Identifiers;
    type Given = Caller;
    type Proof = Identified;

    async fn check(&self, request: &Inbound, caller: Caller) -> Result<Identified, Denial> {
        for (name, kind, text) in request.typed_parameters() {
            if !is_valid(kind, text) {
                return Err(Reason::IdentifierInvalid.because(format!("`{name}`")));
            }
        }
        Ok(Identified { caller })
    }
}

fn is_valid(kind: ParameterKind, text: &str) -> bool {
    match kind {
        ParameterKind::Text => !text.is_empty(),
        // Only the hyphenated form: braces, URNs and bare digits are other spellings of the same thing. Any version may be asked for.
        ParameterKind::Uuid => {
            text.len() == 36 && Uuid::try_parse(text).is_ok_and(|uuid| !uuid.is_nil())
        }
        ParameterKind::Integer => {
            let plain = text == "0" || !text.starts_with('0');
            plain && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_of_an_identifier_is_valid() {
        for text in [
            "018f5b5e-0000-7000-8000-000000000001",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ] {
            assert!(is_valid(ParameterKind::Uuid, text), "{text}");
        }
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "018f5b5e000070008000000000000001",
            "{018f5b5e-0000-7000-8000-000000000001}",
            "018f5b5e-0000-7000-8000-00000000000g",
            "018f5b5e-0000-7000-8000-00000000001",
            "",
            "1",
        ] {
            assert!(!is_valid(ParameterKind::Uuid, text), "{text}");
        }
        for text in ["0", "7", "9223372036854775807"] {
            assert!(is_valid(ParameterKind::Integer, text), "{text}");
        }
        for text in ["", "-1", "+1", "01", "1.0", "9223372036854775808", "1e3"] {
            assert!(!is_valid(ParameterKind::Integer, text), "{text}");
        }
    }
}
