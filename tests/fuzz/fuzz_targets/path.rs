//! Bytes as a path: no panic, one spelling, and nothing in it that two servers read differently.
//!
//! The checks decode by themselves, without the code under test.

#![no_main]

use foregate::denial::Reason;
use foregate::policy::path::{Canonical, Pattern, canonicalise, fold};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    judge(text);
    judge(&format!("/{text}"));
    let _ = fold(text);
    if let Ok(pattern) = Pattern::parse(text) {
        let _ = pattern.shape(true);
        if pattern.is_literal() {
            let shape = pattern.shape(false);
            assert_eq!(
                canonicalise(&shape).map(|canonical| canonical.tail_only),
                Ok(None),
                "a route that can never be requested: {text}"
            );
        }
    }
});

fn judge(raw: &str) {
    let Ok(Canonical { text, tail_only }) = canonicalise(raw) else {
        return;
    };
    let again = Canonical {
        text: text.clone(),
        tail_only,
    };
    assert_eq!(
        canonicalise(&text),
        Ok(again),
        "canonicalising twice: {raw}"
    );
    match tail_only {
        None => assert_plain(&text),
        Some((reason, segment)) => {
            assert!(matches!(
                reason,
                Reason::PathEmptySegment
                    | Reason::PathDoubleEncoded
                    | Reason::PathParameters
                    | Reason::PathUtf8
            ));
            assert!(segment < text.split('/').skip(1).count());
            assert_harmless_at_every_level(&text);
        }
    }
}

/// What every server must read alike.
fn assert_plain(text: &str) {
    assert!(text.starts_with('/') && !text.contains("//"), "{text}");
    assert!(text.is_ascii() && !text.contains([';', '\\']), "{text}");
    for segment in text.split('/') {
        let decoded = decode(segment.as_bytes());
        assert!(decoded != b"." && decoded != b"..", "{text}");
        assert!(std::str::from_utf8(&decoded).is_ok(), "{text}");
        assert!(!decoded.iter().any(|byte| is_refused(*byte)), "{text}");
        assert_eq!(decode(&decoded), decoded, "decoded twice: {text}");
    }
    // A near miss, in case or by a trailing slash, folds to the same.
    let folded = |path: &str| fold(path).unwrap_or_else(|| path.to_owned());
    assert_eq!(folded(text), folded(&text.to_ascii_uppercase()), "{text}");
    if !text.ends_with('/') {
        assert_eq!(folded(text), folded(&format!("{text}/")), "{text}");
    }
}

/// What even an opaque tail may not hold.
fn assert_harmless_at_every_level(text: &str) {
    for segment in text.split('/') {
        let mut decoded = segment.as_bytes().to_vec();
        for _ in 0..4 {
            decoded = decode(&decoded);
            let name = decoded.split(|byte| *byte == b';').next();
            assert!(
                name != Some(b".".as_slice()) && name != Some(b"..".as_slice()),
                "{text}"
            );
            assert!(
                !decoded
                    .iter()
                    .any(|byte| is_refused(*byte) && *byte != b';'),
                "{text}"
            );
        }
    }
}

fn is_refused(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\' | b';' | 0..=0x1f | 0x7f)
}

/// Every valid escape, once; anything else stays.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut place = 0;
    while let Some(&byte) = bytes.get(place) {
        let digits = bytes
            .get(place + 1..place + 3)
            .filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(digits.unwrap_or(byte));
        place += if digits.is_some() { 3 } else { 1 };
    }
    decoded
}
