//! Tests of inspected messages.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::*;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x11, 0x22, 0x33, 0x44];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).expect("short")),
        middling @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(middling).expect("middling").to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(long).expect("long").to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

const JOIN: &[u8] = br#"["1","1","realtime:a","phx_join",{"access_token":"good"}]"#;
const HEARTBEAT: &[u8] = br#"[null,"2","phoenix","heartbeat",{}]"#;

fn broadcast(length: usize) -> Vec<u8> {
    format!(
        r#"["1","3","realtime:a","broadcast",{{"x":"{}"}}]"#,
        "y".repeat(length)
    )
    .into_bytes()
}

/// Takes everything in pieces; every token but `bad` is good. Returns the bytes that were
/// forwarded, and the refusal.
fn run(messages: &mut Messages, wire: &[u8], step: usize) -> (Vec<u8>, Option<Reason>) {
    let mut forwarded = Vec::new();
    for piece in wire.chunks(step) {
        messages.take(piece);
        loop {
            match messages.next() {
                Next::Pass(bytes) => {
                    forwarded.extend(bytes);
                    break;
                }
                Next::Authorize(Some(token)) if token == "bad" => {
                    return (forwarded, Some(Reason::TokenSignature));
                }
                Next::Authorize(token) => forwarded.extend(messages.allow(token.is_some())),
                Next::Refuse(reason) => return (forwarded, Some(reason)),
            }
        }
    }
    (forwarded, None)
}

#[test]
fn nothing_of_a_message_with_a_bad_token_is_forwarded() {
    let bad = br#"{"topic":"a","event":"access_token","payload":{"access_token":"bad"}}"#;
    let before = [frame(0x81, JOIN), frame(0x81, &broadcast(9000))].concat();
    for wire in [
        [before.clone(), frame(0x81, bad)].concat(),
        [
            before.clone(),
            frame(0x01, &bad[..9]),
            frame(0x89, b"ping"),
            frame(0x80, &bad[9..]),
        ]
        .concat(),
    ] {
        for step in [1, 7, 4096, wire.len()] {
            let (forwarded, refused) = run(&mut Messages::new(10_000, true), &wire, step);
            assert_eq!(refused, Some(Reason::TokenSignature));
            assert!(before.starts_with(&forwarded), "{step}");
        }
    }
}

#[test]
fn only_heartbeats_are_forwarded_before_a_needed_token() {
    let run = |wire: &[u8]| run(&mut Messages::new(1000, true), wire, 5).1;
    assert_eq!(
        run(&[frame(0x81, HEARTBEAT), frame(0x89, b"x")].concat()),
        None
    );
    assert_eq!(
        run(&[frame(0x81, JOIN), frame(0x81, &broadcast(9))].concat()),
        None
    );
    assert_eq!(run(&frame(0x81, &broadcast(9))), Some(Reason::TokenMissing));
    assert_eq!(
        run(&frame(0x81, &broadcast(900))),
        Some(Reason::TokenMissing)
    );
}

#[test]
fn malformed_frames_and_messages_are_refused() {
    let refused = |wire: &[u8]| run(&mut Messages::new(300, false), wire, 3).1;
    let invalid = Some(Reason::MessageInvalid);
    assert_eq!(refused(b"\x81\x02hi"), invalid, "not masked");
    assert_eq!(refused(&frame(0xc1, HEARTBEAT)), invalid, "a reserved bit");
    assert_eq!(
        refused(&frame(0x83, HEARTBEAT)),
        invalid,
        "a reserved opcode"
    );
    assert_eq!(
        refused(&frame(0x80, HEARTBEAT)),
        invalid,
        "a continuation of nothing"
    );
    assert_eq!(
        refused(&[frame(0x01, HEARTBEAT), frame(0x81, HEARTBEAT)].concat()),
        invalid
    );
    assert_eq!(refused(&frame(0x09, b"")), invalid, "a ping in pieces");
    assert_eq!(refused(&frame(0x89, &[0; 126])), invalid, "a long ping");
    assert_eq!(refused(&frame(0x81, b"hello")), invalid);
    assert_eq!(
        refused(&frame(0x82, b"\x00\x00\x00\x01\x08aphx_join")),
        invalid
    );
    assert_eq!(
        refused(&frame(0x82, b"\x00\x00\x00\x01\x03aimg.....")),
        None
    );
    let long = format!(
        r#"{{"payload":"{}","topic":"a","event":"b"}}"#,
        "x".repeat(400)
    );
    assert_eq!(
        refused(&frame(0x81, long.as_bytes())),
        Some(Reason::BodyTooLarge)
    );
    assert_eq!(
        refused(&frame(0x81, &broadcast(4000))),
        None,
        "passes unread"
    );
    let long = frame(0x81, long.repeat(60).as_bytes());
    let unauthenticated = run(&mut Messages::new(1 << 20, true), &long, 1000).1;
    assert_eq!(
        unauthenticated,
        Some(Reason::BodyTooLarge),
        "not 1 MiB before authentication"
    );
    // Frames that end where a read ends are counted, too: a message that never ends, and control
    // frames between its parts.
    for part in [frame(0x89, &[b'x'; 10]), frame(0x00, b"")] {
        let endless = [frame(0x01, b"[")].into_iter().chain(vec![part; 4000]);
        let mut messages = Messages::new(1 << 20, true);
        let mut refusals = endless.flat_map(|frame| run(&mut messages, &frame, frame.len()).1);
        assert_eq!(refusals.next(), Some(Reason::BodyTooLarge));
    }
    // Bytes after a close frame are ignored.
    let mut messages = Messages::new(300, false);
    let close = frame(0x88, b"\x03\xe8");
    let (forwarded, refused) = run(
        &mut messages,
        &[close.clone(), b"anything".to_vec()].concat(),
        4,
    );
    assert_eq!((forwarded, refused), (close, None));
}

/// The forwarded bytes, for a server that reads them and whose answers are dropped.
struct Forwarded(Cursor<Vec<u8>>);

impl Read for Forwarded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Forwarded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a server finds a bad token in the forwarded bytes. It parses frames, JSON and tokens
/// independently of the code under test.
fn server_finds_bad_token(forwarded: Vec<u8>) -> bool {
    let mut socket =
        WebSocket::from_raw_socket(Forwarded(Cursor::new(forwarded)), Role::Server, None);
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let message: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let event = message.get(3).or_else(|| message.get("event"));
                let joins =
                    event.is_some_and(|event| event == "phx_join" || event == "access_token");
                let payload = message.get(4).or_else(|| message.get("payload"));
                let has = |name| {
                    let token = payload.and_then(|payload| payload.get(name));
                    token.is_some_and(|token| token == "bad")
                };
                if joins && (has("access_token") || has("user_token")) {
                    return true;
                }
            }
            Ok(Message::Binary(bytes)) => {
                let size = |place: usize| bytes.get(place).map_or(0, |size| usize::from(*size));
                let from = 5 + size(1) + size(2) + size(3);
                let event = bytes.get(from..from + size(4)).unwrap_or_default();
                if bytes.first() == Some(&0) && (event == b"phx_join" || event == b"access_token") {
                    return true;
                }
            }
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

#[test]
fn the_independent_parser_finds_a_bad_token() {
    let bad = br#"["1","1","a","phx_join",{"access_token":"bad"}]"#;
    let wire = [
        frame(0x81, HEARTBEAT),
        frame(0x01, &bad[..9]),
        frame(0x80, &bad[9..]),
    ]
    .concat();
    assert!(server_finds_bad_token(wire));
    assert!(server_finds_bad_token(frame(
        0x82,
        b"\x00\x00\x00\x01\x08aphx_join"
    )));
    assert!(!server_finds_bad_token(frame(0x81, JOIN)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn no_forwarded_bytes_contain_a_token_that_was_not_accepted(
        parts in prop::collection::vec((0_u8..8, 1_usize..60, any::<u8>()), 1..6),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        step in 1_usize..200,
    ) {
        let mut wire = Vec::new();
        for (kind, cut, opcode) in parts {
            let payload: &[u8] = match kind {
                0 => JOIN,
                1 => HEARTBEAT,
                2 => br#"["1","1","a","phx_join",{"access_token":"bad"}]"#,
                3 => br#"{"event":"access_token","topic":"a","payload":{"access_token":"bad"}}"#,
                4 => br#"["1","1","a","phx_join",{"access_token":"good","user_token":"bad"}]"#,
                5 => b"\x00\x00\x00\x01\x08aphx_joinbad",
                6 => br#"{"event":"broadcast","topic":"a","event":"phx_join","payload":{"access_token":"bad"}}"#,
                _ => br#"["1","1","a","access\u005ftoken",{"access_token":"bad"}]"#,
            };
            let data = if kind == 5 { 2 } else { 1 };
            // Now and then an opcode and bits that no client sends.
            let first = if opcode < 8 { opcode << 4 | data } else { data };
            let (head, tail) = payload.split_at(cut.min(payload.len()));
            wire.extend(frame(first, head));
            if opcode % 3 == 0 { wire.extend(frame(0x8a, b"pong")); }
            wire.extend(frame(0x80, tail));
        }
        for (place, flip) in flips {
            let length = wire.len();
            wire[place.index(length)] ^= flip;
        }
        let (forwarded, _) = run(&mut Messages::new(10_000, false), &wire, step);
        prop_assert!(wire.starts_with(&forwarded));
        prop_assert!(!server_finds_bad_token(forwarded));
    }

    #[test]
    fn accepted_messages_are_forwarded_byte_for_byte_in_pieces_of_any_size(
        kinds in prop::collection::vec((0_u8..5, 0_usize..3000, 1_usize..400), 1..8),
        step in 1_usize..2000,
    ) {
        let mut wire = Vec::new();
        for (kind, length, cut) in kinds {
            let payload = match kind {
                0 => JOIN.to_vec(),
                1 => HEARTBEAT.to_vec(),
                2 => [b"\x00\x01\x01\x01\x03".to_vec(), b"12aimg".to_vec(), vec![7; length]].concat(),
                _ => broadcast(length),
            };
            let opcode = if kind == 2 { 2 } else { 1 };
            let pieces: Vec<&[u8]> = payload.chunks(cut.max(payload.len() / 5)).collect();
            for (place, piece) in pieces.iter().enumerate() {
                let first = if place == 0 { opcode } else { 0 };
                let last = if place + 1 == pieces.len() { 0x80 } else { 0 };
                wire.extend(frame(first | last, piece));
                if place % 2 == 0 {
                    wire.extend(frame(0x89, b"ping"));
                }
            }
        }
        let (forwarded, refused) = run(&mut Messages::new(10_000, false), &wire, step);
        prop_assert_eq!(refused, None);
        prop_assert!(forwarded == wire);
    }
}
