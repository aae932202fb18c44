//! The table in the module's header, row by row, and the properties of canonical paths.

use proptest::prelude::*;

use super::fold::{fold_all, is_folded};
use super::*;

fn text(raw: &str) -> String {
    let canonical = canonicalise(raw).expect("canonical");
    assert_eq!(canonical.tail_only, None, "{raw}");
    canonical.text.into_owned()
}

fn refusal(raw: &str) -> Reason {
    match canonicalise(raw) {
        Err(reason) => reason,
        Ok(canonical) => canonical.tail_only.expect(raw).0,
    }
}

#[test]
fn equivalent_spellings_become_one() {
    assert_eq!(text("/%61%2d%7E%5f"), "/a-~_");
    assert_eq!(text("/a%3Ab%2Bc%40d%2c"), "/a:b+c@d,");
    assert_eq!(text("/caf%c3%a9"), "/caf%C3%A9");
    assert_eq!(text("/a[1]|b"), "/a%5B1%5D%7Cb");
    assert_eq!(text("/100%25"), "/100%25");
    assert_eq!(text("/a/"), "/a/");
    assert_eq!(text("/"), "/");
    assert_eq!(text("/.well-known/x"), "/.well-known/x");
    assert_eq!(text("/...."), "/....");
}

#[test]
fn a_path_that_servers_read_differently_is_refused() {
    for (raw, reason) in [
        ("/a%2fb", Reason::PathSlashEncoded),
        ("/a\\b", Reason::PathBackslash),
        ("/a%5cb", Reason::PathBackslash),
        ("/a%00", Reason::PathControl),
        ("/a%0d%0ab", Reason::PathControl),
        ("/a%7f", Reason::PathControl),
        ("/a/../b", Reason::PathDotSegment),
        ("/a/.", Reason::PathDotSegment),
        ("/a/%2e%2E/b", Reason::PathDotSegment),
        ("/a/..;x/b", Reason::PathDotSegment),
        ("/a//b", Reason::PathEmptySegment),
        ("//a", Reason::PathEmptySegment),
        ("/a%252fb", Reason::PathSlashEncoded),
        ("/a%25%32%46b", Reason::PathSlashEncoded),
        ("/a%25u002fb", Reason::PathSlashEncoded),
        ("/a%2541", Reason::PathDoubleEncoded),
        ("/a%zz", Reason::PathEscape),
        ("/a%4", Reason::PathEscape),
        ("/a%", Reason::PathEscape),
        ("/%c0%af", Reason::PathUtf8),
        ("/%e0%80%af", Reason::PathUtf8),
        ("/%ff", Reason::PathUtf8),
        ("/%ed%a0%80", Reason::PathUtf8),
        ("/é", Reason::PathNonAscii),
        ("/a;b", Reason::PathParameters),
        ("/a%3bb", Reason::PathParameters),
        ("*", Reason::TargetForm),
        ("", Reason::TargetForm),
    ] {
        assert_eq!(refusal(raw), reason, "{raw}");
    }
}

#[test]
fn an_opaque_tail_may_hold_unusual_segments_but_no_traversal_at_any_level() {
    for raw in ["/o/a%2541", "/o/a;v=1", "/o//a", "/o/%ff", "/o/x%253By"] {
        assert_eq!(
            canonicalise(raw)
                .expect("kept for an opaque tail")
                .tail_only
                .map(|(_, index)| index),
            Some(1),
            "{raw}"
        );
    }
    for raw in [
        "/o/%252e%252e",
        "/o/a%252fb",
        "/o/a%25255cb",
        "/o/%2500",
        "/o/..",
        "/o/%c0%ae%c0%ae",
        "/o/%25%2532%2566",
    ] {
        assert!(canonicalise(raw).is_err(), "{raw}");
    }
}

#[test]
fn folding_reads_a_path_as_the_most_lenient_server() {
    assert_eq!(fold("/api/items"), None);
    assert_eq!(fold("/Api//ITEMS;v=1/").as_deref(), Some("/api/items"));
    assert_eq!(fold("/%C5%BFecret").as_deref(), Some("/secret"));
    assert_eq!(fold("/a%2541").as_deref(), Some("/aa"));
    assert_eq!(fold("/x/"), Some("/x".to_owned()));
}

#[test]
fn an_invalid_pattern_is_refused_with_a_message() {
    for (pattern, words) in [
        ("a", "begins with"),
        ("/a/", "trailing"),
        ("/a//b", "empty"),
        ("/{*rest}/b", "last"),
        ("/x{id}", "whole segment"),
        ("/{id:uid}", "uuid"),
        ("/{a}/{a}", "same name"),
        ("/a/../b", "never be requested"),
        ("/{}", "letters"),
    ] {
        let problem = Pattern::parse(pattern).expect_err(pattern);
        assert!(problem.contains(words), "{pattern}: {problem}");
    }
    assert_eq!(
        Pattern::parse("/caf\u{e9}/{id:uuid}")
            .expect("valid")
            .shape(false),
        "/caf%C3%A9/{p1}"
    );
}

#[test]
fn folding_removes_trailing_dots_and_spaces_of_every_segment() {
    assert_eq!(
        fold("/api/admin./users").as_deref(),
        Some("/api/admin/users")
    );
    assert_eq!(
        fold("/api/admin%20/users.").as_deref(),
        Some("/api/admin/users")
    );
    assert_eq!(fold("/v1.0/x"), None);
    assert_eq!(without_suffix("/api/keys.json"), Some("/api/keys"));
    assert_eq!(without_suffix("/api/v1.0/keys"), None);
    assert_eq!(without_suffix("/api/.json"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_fast_check_for_folded_paths_agrees_with_folding(raw in "/[a-cA./]{0,24}") {
        if is_folded(raw.as_bytes()) {
            prop_assert_eq!(fold_all(&raw), raw);
        }
    }

    #[test]
    fn canonicalising_twice_changes_nothing(raw in "/[ -~]{0,40}") {
        if let Ok(Canonical { text, tail_only: None }) = canonicalise(&raw) {
            let again = canonicalise(&text);
            prop_assert_eq!(again, Ok(Canonical { text: text.clone(), tail_only: None }));
        }
    }

    #[test]
    fn a_canonical_path_has_one_reading(raw in "/([a-c./;\\\\]|%[0-9a-f]{2}|%25){0,24}") {
        if let Ok(Canonical { text, tail_only: None }) = canonicalise(&raw) {
            prop_assert!(!text.contains("//") && !text.contains(';') && !text.contains('\\'));
            prop_assert!(text.split('/').all(|segment| segment != "." && segment != ".."));
            // One segment at a time: across a slash, `%25/41` is not an escape.
            for segment in text.split('/') {
                let decoded = decode(segment.as_bytes()).expect("valid escapes");
                prop_assert!(std::str::from_utf8(&decoded).is_ok() && !has_escape(&decoded));
                prop_assert!(!decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | b';' | 0..=0x1f | 0x7f)));
            }
        }
    }
}
