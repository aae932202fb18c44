//! Messages of Phoenix channels, versions 1 and 2, as clients of Supabase Realtime send them:
//! whether a message carries a token, and which.
//!
//! Version 1 is an object with `topic`, `event`, `payload`; version 2 an array `[join_ref, ref,
//! topic, event, payload]`, or binary with the same parts in a header. A token is in the payload of
//! `phx_join` and of `access_token`, and nowhere else.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::json;

/// The topic of messages about the socket itself.
const SOCKET: &str = "phoenix";

/// What a message is about.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// The speaker: a token, or none.
    Token(Option<String>),
    /// The socket itself, such as a heartbeat.
    Socket,
    /// Anything else.
    Other,
}

impl std::fmt::Debug for MessageKind {
    /// A token is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(Some(_)) => "Token(…)",
            Self::Token(None) => "Token(none)",
            Self::Socket => "Socket",
            Self::Other => "Other",
        })
    }
}

/// Reads a complete text message. `None` if it is malformed or ambiguous.
pub(super) fn text(message: &[u8]) -> Option<MessageKind> {
    match json::value(message)? {
        Value::Array(parts) => match parts.as_slice() {
            [_, _, Value::String(topic), Value::String(event), payload] => {
                kind(topic, event, payload)
            }
            _ => None,
        },
        Value::Object(members) => {
            let (topic, event) = (members.get("topic")?, members.get("event")?);
            let payload = members.get("payload").unwrap_or(&Value::Null);
            kind(topic.as_str()?, event.as_str()?, payload)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn kind(topic: &str, event: &str, payload: &Value) -> Option<MessageKind> {
    if !carries_token(event) {
        return Some(without_token(topic));
    }
    match payload {
        Value::Object(members) => token(members).map(MessageKind::Token),
        Value::Null => Some(MessageKind::Token(None)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => None,
    }
}

fn carries_token(event: &str) -> bool {
    matches!(event, "phx_join" | "access_token")
}

fn without_token(topic: &str) -> MessageKind {
    match topic {
        SOCKET => MessageKind::Socket,
        _ => MessageKind::Other,
    }
}

/// The token of a payload, for which servers look under two names.
fn token(members: &Map<String, Value>) -> Option<Option<String>> {
    let mut found = None;
    for name in ["access_token", "user_token"] {
        match members.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(token)) if found.as_ref().is_none_or(|other| other == token) => {
                found = Some(token.clone());
            }
            Some(_) => return None,
        }
    }
    Some(found)
}

/// Reads the beginning of a text message; `None` if it is not enough. Version 2 has the topic and
/// the event before its payload.
pub(super) fn text_prefix(message: &[u8]) -> Option<MessageKind> {
    let mut rest = message.trim_ascii_start().strip_prefix(b"[")?;
    let mut parts = [None, None, None, None];
    for part in &mut parts {
        let (value, after) = string_or_null(rest.trim_ascii_start())?;
        *part = value;
        rest = after.trim_ascii_start().strip_prefix(b",")?;
    }
    let [_, _, topic, event] = parts;
    let (topic, event) = (topic?, event?);
    (!carries_token(&event)).then(|| without_token(&topic))
}

/// A complete string, or `null`, at the beginning.
fn string_or_null(text: &[u8]) -> Option<(Option<Cow<'_, str>>, &[u8])> {
    if let Some(rest) = text.strip_prefix(b"null") {
        return Some((None, rest));
    }
    let inside = text.strip_prefix(b"\"")?;
    let mut escaped = false;
    let end = inside.iter().position(|byte| {
        let is_end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    })?;
    let (string, rest) = text.split_at_checked(end + 2)?;
    let string = serde_json::from_slice::<String>(string).ok()?;
    Some((Some(Cow::Owned(string)), rest))
}

/// Reads a binary message, as far as it was received; `None` if that is not enough yet.
pub(super) fn binary(message: &[u8]) -> Option<Result<MessageKind, InvalidMessage>> {
    let (kind, rest) = message.split_first()?;
    let (topic, event): (&[u8], &[u8]) = match kind {
        // A push: sizes of join_ref, ref, topic and event; then these.
        0 => {
            let (sizes, rest) = rest.split_at_checked(4)?;
            let [join, reference, topic, event] = sizes else {
                return None;
            };
            let before = usize::from(*join) + usize::from(*reference);
            let (topic, rest) = rest.get(before..)?.split_at_checked((*topic).into())?;
            (topic, rest.get(..usize::from(*event))?)
        }
        // A broadcast of a user: sizes of join_ref, ref, topic, the user's event and its metadata;
        // then an encoding, and these.
        3 => {
            let (sizes, rest) = rest.split_at_checked(6)?;
            let [join, reference, topic, ..] = sizes else {
                return None;
            };
            let before = usize::from(*join) + usize::from(*reference);
            (
                rest.get(before..)?.get(..usize::from(*topic))?,
                b"broadcast",
            )
        }
        _ => return Some(Err(InvalidMessage)),
    };
    let (Ok(topic), Ok(event)) = (std::str::from_utf8(topic), std::str::from_utf8(event)) else {
        return Some(Err(InvalidMessage));
    };
    // A token in a binary payload could not be read here.
    Some(match carries_token(event) {
        true => Err(InvalidMessage),
        false => Ok(without_token(topic)),
    })
}

/// The message is malformed, or could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidMessage;

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]
mod tests {
    use super::*;

    fn token(token: &str) -> Option<MessageKind> {
        Some(MessageKind::Token(Some(token.to_owned())))
    }

    #[test]
    fn a_token_is_found_under_every_name_and_in_every_version() {
        for event in ["phx_join", "access_token", "phx\\u005fjoin"] {
            let v2 = format!(
                r#"["1","2","realtime:a","{event}",{{"config":{{"private":true}},"access_token":"t"}}]"#
            );
            let v1 = format!(
                r#"{{"ref":"1","payload":{{"user_token":"t"}},"event":"{event}","topic":"realtime:a"}}"#
            );
            assert_eq!(text(v2.as_bytes()), token("t"), "{v2}");
            assert_eq!(text(v1.as_bytes()), token("t"), "{v1}");
            assert_eq!(text_prefix(v2.as_bytes()), None, "{v2}");
        }
        for none in [
            r#"[null,"1","realtime:a","phx_join",{"config":{}}]"#,
            r#"[null,"1","realtime:a","phx_join",{"access_token":null}]"#,
            r#"{"topic":"a","event":"phx_join"}"#,
        ] {
            assert_eq!(
                text(none.as_bytes()),
                Some(MessageKind::Token(None)),
                "{none}"
            );
        }
    }

    #[test]
    fn an_ambiguous_message_is_refused() {
        for message in [
            "",
            "[]",
            "1",
            r#"["1","2","a","phx_join",{"access_token":"t","user_token":"u"}]"#,
            r#"["1","2","a","phx_join",{"access_token":"t","access_token":"u"}]"#,
            r#"["1","2","a","phx_join",{"access_token":["t"]}]"#,
            r#"["1","2","a","phx_join",{},{"access_token":"t"}]"#,
            r#"["1","2","a","phx_join","t"]"#,
            r#"["1","2","a",["phx_join"],{}]"#,
            r#"{"topic":"a","event":"broadcast","event":"phx_join"}"#,
            r#"["1","2","a","broadcast",{}]["1","2","a","phx_join",{}]"#,
        ] {
            assert_eq!(text(message.as_bytes()), None, "{message}");
        }
    }

    #[test]
    fn the_beginning_of_a_message_is_enough_if_it_has_topic_and_event() {
        let message = br#" [ "1" , null,"realtime:\"a\\", "broadcast" ,{"payload":"#;
        assert_eq!(text_prefix(message), Some(MessageKind::Other));
        for end in 0..message.len() - 12 {
            assert_eq!(text_prefix(&message[..end]), None, "{end}");
        }
        assert_eq!(
            text_prefix(br#"[null,"1","phoenix","heartbeat",{}]"#),
            Some(MessageKind::Socket)
        );
        assert_eq!(text_prefix(br#"{"topic":"a","event":"broadcast","#), None);
        assert_eq!(text_prefix(br#"["1","2","a","phx_join","#), None);
    }

    #[test]
    fn the_header_of_a_binary_message_has_its_topic_and_event() {
        let push = |event: &str| {
            let size = u8::try_from(event.len()).expect("short");
            [&[0, 1, 1, 1, size][..], b"12a", event.as_bytes(), b"data"].concat()
        };
        assert_eq!(binary(&push("image")), Some(Ok(MessageKind::Other)));
        assert_eq!(binary(&push("phx_join")), Some(Err(InvalidMessage)));
        assert_eq!(binary(&push("access_token")), Some(Err(InvalidMessage)));
        for end in 0..11 {
            assert_eq!(binary(&push("image")[..end]), None, "{end}");
        }
        let broadcast = [&[3, 1, 1, 1, 1, 0, 0][..], b"12ae{}"].concat();
        assert_eq!(binary(&broadcast), Some(Ok(MessageKind::Other)));
        assert_eq!(binary(&[1, 0, 0]), Some(Err(InvalidMessage)));
    }
}
