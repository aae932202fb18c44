//! The body of a pass-through request: what it must be, and the members that are read.
//!
//! The identity server is written in Go, whose JSON reader takes `Email` for `email`. So a member
//! whose name folds onto that of a member that is read here is refused: the two servers could read
//! different values. All other members pass, in any spelling.

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::denial::{Denial, Reason};
use crate::json;
use crate::request::body::{Body, BodyBudget, CollectedBody, says_json};
use crate::request::memory::Reservation;
use crate::sign_in::operation::BodyRule;

const FORM: &str = "application/x-www-form-urlencoded";

/// A member of a JSON body that the gateway reads. It can read no other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Member {
    Email,
    Phone,
    Password,
    CurrentPassword,
    Nonce,
    RefreshToken,
    Data,
}

impl Member {
    const ALL: [Self; 7] = [
        Self::Email,
        Self::Phone,
        Self::Password,
        Self::CurrentPassword,
        Self::Nonce,
        Self::RefreshToken,
        Self::Data,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Password => "password",
            Self::CurrentPassword => "current_password",
            Self::Nonce => "nonce",
            Self::RefreshToken => "refresh_token",
            Self::Data => "data",
        }
    }

    /// Whether a reader in Go takes this name for the member's, although it is another.
    fn is_mistaken_for(self, name: &str) -> bool {
        let folded = |text: &str| -> Vec<char> { text.chars().map(folded).collect() };
        name != self.as_str() && folded(name) == folded(self.as_str())
    }
}

/// The letter as Go's `encoding/json` compares it with a name in ASCII: without case. Two letters
/// outside of ASCII fold into it: the long s and the sign for kelvin.
const fn folded(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    }
}

/// A body, as bytes and parsed.
#[derive(Default)]
pub(super) struct RequestBody {
    bytes: Option<Bytes>,
    members: Map<String, Value>,
    is_form: bool,
    /// The memory of these bytes.
    _reservation: Option<Reservation>,
}

impl RequestBody {
    /// Reads the body of a request, as its operation requires.
    pub(super) async fn read(
        rule: BodyRule,
        body: Option<Body>,
        fields: &HeaderMap,
        budget: &BodyBudget,
    ) -> Result<Self, Denial> {
        let body = match (rule, body) {
            (BodyRule::None, _) | (BodyRule::JsonOrNone, None) => return Ok(Self::default()),
            (BodyRule::Json | BodyRule::Form, None) => return Err(Reason::BodyMalformed.into()),
            (BodyRule::Json | BodyRule::JsonOrNone | BodyRule::Form, Some(body)) => body,
        };
        let collected = body.collect(budget).await?;
        if rule == BodyRule::JsonOrNone && collected.bytes.is_empty() {
            return Ok(Self::default());
        }
        if rule == BodyRule::Form {
            says_form(fields)?;
            return Ok(Self::form(collected));
        }
        says_json(fields)?;
        Self::json(collected)
    }

    /// Parses a JSON object. No member may be repeated: the identity server would take the last,
    /// and the first might have been checked here.
    pub(super) fn json(collected: CollectedBody) -> Result<Self, Denial> {
        let CollectedBody { bytes, reservation } = collected;
        let members = json::object(&bytes).ok_or(Reason::BodyMalformed)?;
        for name in members.keys() {
            let is_mistaken = |member: &Member| member.is_mistaken_for(name);
            if let Some(member) = Member::ALL.iter().find(|member| is_mistaken(member)) {
                return Err(Reason::MemberSpelling.because(member.as_str()));
            }
        }
        Ok(Self {
            members,
            bytes: Some(bytes),
            is_form: false,
            _reservation: reservation,
        })
    }

    /// A body that the gateway writes.
    pub(super) fn written(members: Map<String, Value>) -> Self {
        Self {
            bytes: Some(Value::Object(members.clone()).to_string().into()),
            members,
            is_form: false,
            _reservation: None,
        }
    }

    fn form(collected: CollectedBody) -> Self {
        Self {
            bytes: Some(collected.bytes),
            members: Map::new(),
            is_form: true,
            _reservation: collected.reservation,
        }
    }

    /// What is sent.
    pub(super) fn bytes(&self) -> Option<Bytes> {
        self.bytes.clone()
    }

    /// The type to send, if it is not JSON.
    pub(super) fn content_type(&self) -> Option<HeaderValue> {
        self.is_form.then_some(HeaderValue::from_static(FORM))
    }

    /// A member that is a text, and not empty.
    pub(super) fn text(&self, member: Member) -> Option<&str> {
        let text = self.members.get(member.as_str()).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    }

    /// A member that is an object.
    pub(super) fn object(&self, member: Member) -> Option<&Map<String, Value>> {
        self.members.get(member.as_str()).and_then(Value::as_object)
    }

    /// Every member, to check what holds for all, whatever their names mean.
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// Whether there is a member of this name, whatever its value.
    pub(super) fn has(&self, member: Member) -> bool {
        self.members.contains_key(member.as_str())
    }

    /// Whether there is one with a value: in Go, `null` is like none.
    pub(super) fn gives(&self, member: Member) -> bool {
        let value = self.members.get(member.as_str());
        value.is_some_and(|value| !value.is_null())
    }
}

/// Checks that a request says once that its body is a form, without compression.
fn says_form(fields: &HeaderMap) -> Result<(), Denial> {
    let only = |name: &HeaderName| {
        let mut values = fields.get_all(name).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        value.filter(|_| values.next().is_none())
    };
    let kind = only(&CONTENT_TYPE).unwrap_or_default();
    let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let is_utf8 =
        parameters.trim().is_empty() || parameters.trim().eq_ignore_ascii_case("charset=utf-8");
    let is_plain = !fields.contains_key(CONTENT_ENCODING);
    match essence.trim().eq_ignore_ascii_case(FORM) && is_utf8 && is_plain {
        true => Ok(()),
        false => Err(Reason::BodyType.because("it is not a form")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<RequestBody, Denial> {
        RequestBody::json(CollectedBody {
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            reservation: None,
        })
    }

    #[test]
    fn only_a_name_that_folds_onto_one_that_is_read_is_refused() {
        for name in [
            "Email",
            "EMAIL",
            "pa\u{17f}\u{17f}word",
            "PA\u{17f}SWORD",
            "refre\u{17f}h_token",
            "refresh_to\u{212a}en",
            "Refresh_Token",
            "current_Password",
            "Nonce",
            "phonE",
            "Data",
        ] {
            let refused = parsed(&format!(r#"{{"{name}":"x"}}"#)).err();
            let reason = refused.map(|denial| denial.reason);
            assert_eq!(reason, Some(Reason::MemberSpelling), "{name}");
        }
        for name in [
            "email",
            "factorId",
            "FactorID",
            "friendlyName",
            "e-mail",
            "émail",
            "email ",
            "e\u{301}mail",
            "refreshToken",
            "currentPassword",
            "emai\u{131}",
            "",
        ] {
            assert!(parsed(&format!(r#"{{"{name}":"x"}}"#)).is_ok(), "{name}");
        }
        // Inside of another member the names are free.
        assert!(parsed(r#"{"data":{"Email":"x","PASSWORD":1}}"#).is_ok());
    }

    #[test]
    fn a_form_is_named_as_one() {
        for (kind, is_good) in [
            (FORM, true),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", true),
            ("application/json", false),
            ("application/x-www-form-urlencoded; charset=utf-16", false),
            ("multipart/form-data; boundary=x", false),
            ("", false),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(says_form(&fields).is_ok(), is_good, "{kind}");
            fields.append(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert!(says_form(&fields).is_err(), "{kind} twice");
        }
        assert!(says_form(&HeaderMap::new()).is_err());
    }
}
