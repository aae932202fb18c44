//! Which tokens the list refuses.

use serde_json::json;

use super::*;
use crate::revocation::target::token_digest;

const NOW: i64 = 1_800_000_000;

struct Token {
    digest: Digest,
    issuer: String,
    subject: String,
    session: Option<String>,
    claims: Map<String, Value>,
}

impl Token {
    fn new(text: &str, session: Option<&str>, claims: Value) -> Self {
        Self {
            digest: token_digest(text),
            issuer: "https://i".to_owned(),
            subject: "u".to_owned(),
            session: session.map(str::to_owned),
            claims: claims.as_object().cloned().unwrap_or_default(),
        }
    }

    fn listed(&self) -> Listed<'_> {
        Listed {
            token: &self.digest,
            issuer: &self.issuer,
            subject: &self.subject,
            session: self.session.as_deref(),
            claims: &self.claims,
            begun: None,
            leeway: 0,
        }
    }
}

fn found(list: &List, token: &Token) -> Option<Kind> {
    let hit = list.find(&CleanAt::default(), token.listed(), NOW);
    hit.map(|hit| hit.kind)
}

fn until(target: Target, expires: i64) -> Revocation {
    Revocation::new(target, NOW * 1000, expires)
}

fn revoked(target: Target) -> Revocation {
    until(target, NOW + 100)
}

fn session(issuer: &str, session: &str) -> Target {
    Target::Session {
        issuer: issuer.to_owned(),
        session: session.to_owned(),
        subject: None,
    }
}

fn subject(not_before: i64, except: &[&str], strict: bool) -> Target {
    Target::Subject {
        issuer: "https://i".to_owned(),
        subject: "u".to_owned(),
        not_before,
        except: except.iter().map(|&id| id.to_owned()).collect(),
        strict,
    }
}

#[test]
fn a_token_session_subject_or_issuer_is_found_and_no_other() {
    let token = Token::new("t", Some("s"), json!({ "iat": NOW - 50 }));
    let others = [
        Token::new("other", Some("other"), json!({ "iat": NOW - 50 })),
        Token {
            issuer: "https://j".to_owned(),
            ..Token::new("t2", Some("s"), json!({ "iat": NOW - 50 }))
        },
    ];
    let cases = [
        (
            Target::Token {
                sha256: token_digest("t"),
                issuer: None,
                session: None,
                subject: None,
            },
            Kind::Token,
        ),
        (session("https://i", "s"), Kind::Session),
        (subject(NOW, &["other"], false), Kind::Subject),
    ];
    for (target, kind) in cases {
        let list = List::new();
        assert_eq!(found(&list, &token), None);
        let revocation = revoked(target);
        list.insert(&revocation);
        assert_eq!(found(&list, &token), Some(kind));
        for other in &others {
            assert_eq!(found(&list, other), None, "{kind:?}");
        }
        list.remove(&revocation);
        assert_eq!(found(&list, &token), None);
    }
    let list = List::new();
    list.insert(&revoked(Target::Issuer {
        issuer: "https://i".to_owned(),
        not_before: NOW,
    }));
    assert_eq!(found(&list, &token), Some(Kind::Issuer));
    assert_eq!(found(&list, &others[0]), Some(Kind::Issuer));
    assert_eq!(found(&list, &others[1]), None);
}

#[test]
fn a_subject_is_refused_by_its_earliest_sign_in_not_by_its_last_refresh() {
    let list = List::new();
    list.insert(&revoked(subject(NOW - 1000, &["kept"], false)));
    let amr = |times: &[i64]| -> Vec<Value> {
        times
            .iter()
            .map(|time| json!({ "method": "password", "timestamp": time }))
            .collect()
    };
    let before = NOW - 2000;
    for (claims, session, refused) in [
        // Refreshed after it, signed in before it.
        (json!({ "iat": NOW, "amr": amr(&[before]) }), "s", true),
        // A later second factor does not help.
        (json!({ "iat": NOW, "amr": amr(&[NOW, before]) }), "s", true),
        (json!({ "iat": NOW, "amr": amr(&[before]) }), "kept", false),
        (json!({ "iat": NOW, "amr": amr(&[NOW - 994]) }), "s", false),
        // Within the leeway.
        (json!({ "iat": NOW, "amr": amr(&[NOW - 995]) }), "s", true),
        // RFC 8176 has names without times.
        (json!({ "iat": NOW, "amr": ["pwd"] }), "s", false),
        (json!({ "iat": before, "amr": ["pwd"] }), "s", true),
        (json!({ "iat": before }), "s", true),
        (json!({ "iat": NOW }), "s", false),
        (json!({ "iat": NOW as f64 - 994.5 }), "s", true),
        // Such a token could be from any time.
        (json!({}), "s", true),
        (
            json!({ "iat": "now", "amr": [{ "timestamp": "now" }] }),
            "s",
            true,
        ),
    ] {
        let token = Token::new("t", Some(session), claims);
        assert_eq!(
            found(&list, &token).is_some(),
            refused,
            "{:?}",
            token.claims
        );
    }
}

#[test]
fn an_entry_that_replaces_revoked_sessions_ignores_the_time_of_issue() {
    let list = List::new();
    list.insert(&revoked(subject(NOW - 1000, &[], true)));
    let refreshed = Token::new("t", Some("s"), json!({ "iat": NOW }));
    let signed_in = Token::new(
        "t",
        Some("s"),
        json!({ "iat": NOW, "amr": [{ "timestamp": NOW }] }),
    );
    assert_eq!(found(&list, &refreshed), Some(Kind::Subject));
    assert_eq!(found(&list, &signed_in), None);
}

#[test]
fn a_clean_token_is_looked_up_again_only_after_the_list_has_grown() {
    let list = List::new();
    let clean = CleanAt::default();
    let token = Token::new("t", Some("s"), json!({ "iat": NOW }));
    let again = || {
        let hit = list.find(&clean, token.listed(), NOW);
        hit.map(|hit| hit.kind)
    };
    assert_eq!(again(), None);
    // A clean token is not looked up, or this entry would be found.
    list.sessions.insert(key("https://i", "s"), NOW + 100);
    assert_eq!(again(), None);
    list.insert(&revoked(session("https://i", "another")));
    assert_eq!(again(), Some(Kind::Session));
    // A revoked token is looked up every time.
    assert_eq!(again(), Some(Kind::Session));
}

#[test]
fn an_entry_expires_and_the_later_expiry_counts() {
    let list = List::new();
    let token = Token::new("t", Some("s"), json!({ "iat": NOW - 9 }));
    for target in [session("https://i", "s"), subject(NOW, &[], false)] {
        list.insert(&until(target.clone(), NOW + 1));
        list.insert(&until(target.clone(), NOW + 3));
        list.insert(&until(target.clone(), NOW + 2));
        let at = |now| list.find(&CleanAt::default(), token.listed(), now);
        assert!(at(NOW + 2).is_some());
        assert_eq!(at(NOW + 3), None);
        list.remove(&until(target, NOW + 3));
        assert_eq!(at(NOW), None);
    }
}

#[test]
fn different_pairs_have_different_keys() {
    assert_ne!(key("ab", "c"), key("a", "bc"));
    assert_ne!(key("1:a", "b"), key("", "1:ab"));
}

#[test]
fn an_id_is_found_in_any_spelling() {
    let uuid = "0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b70";
    let (upper, spaced) = (uuid.to_uppercase(), format!(" {uuid} "));
    for (revoked_id, token_id) in [(uuid, upper.as_str()), (&upper, uuid), (&spaced, &upper)] {
        let list = List::new();
        list.insert(&revoked(session("https://i", revoked_id)));
        let token = Token::new("t", Some(token_id), json!({}));
        assert_eq!(
            found(&list, &token),
            Some(Kind::Session),
            "{revoked_id} {token_id}"
        );

        let list = List::new();
        list.insert(&revoked(Target::Subject {
            issuer: "https://i".to_owned(),
            subject: revoked_id.to_owned(),
            not_before: NOW,
            except: vec![uuid.to_owned()],
            strict: false,
        }));
        let mut token = Token::new("t", None, json!({ "iat": NOW }));
        token.subject = token_id.to_owned();
        assert_eq!(
            found(&list, &token),
            Some(Kind::Subject),
            "{revoked_id} {token_id}"
        );
        token.session = Some(token_id.to_owned());
        assert_eq!(found(&list, &token), None, "the session is exempt");
    }
}

#[test]
fn a_session_that_began_here_after_the_revocation_is_exempt_within_the_leeway_and_only_there() {
    let list = List::new();
    let told = NOW * 1000 + 400;
    list.insert(&Revocation::new(subject(NOW, &[], false), told, NOW + 100));
    let signed_in = |at: i64| Token::new("t", Some("s"), json!({ "amr": [{ "timestamp": at }] }));
    let hit = |at, begun| {
        let token = signed_in(at);
        let listed = Listed {
            begun,
            ..token.listed()
        };
        list.find(&CleanAt::default(), listed, NOW)
    };
    let exempt_after = |time| {
        Some(Hit {
            kind: Kind::Subject,
            unless_begun_after: time,
        })
    };
    // Without its record, nothing tells a sign-in within the leeway from one before.
    for at in [NOW - LEEWAY, NOW, NOW + LEEWAY] {
        assert_eq!(hit(at, None), exempt_after(Some(told)), "{at}");
        assert_eq!(hit(at, Some(told + 1)), None, "{at}");
        for early in [told, told - 1, 0] {
            assert_eq!(hit(at, Some(early)), exempt_after(None), "{at}");
        }
    }
    assert_eq!(hit(NOW + LEEWAY + 1, None), None);
    // An older sign-in cannot have been after it, so no record is read, and one from a replica
    // whose clock is ahead exempts nothing.
    for begun in [None, Some(told + 1), Some(told + 3_600_000)] {
        assert_eq!(hit(NOW - LEEWAY - 1, begun), exempt_after(None));
    }
    // Nor is one read for a token without a session, which has none.
    let nameless = Token::new("t", None, json!({ "iat": NOW }));
    let found = list.find(&CleanAt::default(), nameless.listed(), NOW);
    assert_eq!(found, exempt_after(None));
    // The strictest of several entries counts, and an issuer's exempts no session.
    let later = told + 5000;
    list.insert(&Revocation::new(
        subject(NOW + 5, &[], false),
        later,
        NOW + 100,
    ));
    assert_eq!(hit(NOW + 5, None), exempt_after(Some(later)));
    assert!(hit(NOW + 5, Some(told + 1)).is_some());
    list.insert(&revoked(Target::Issuer {
        issuer: "https://i".to_owned(),
        not_before: NOW,
    }));
    let found = hit(NOW, Some(later + 1)).map(|hit| (hit.kind, hit.unless_begun_after));
    assert_eq!(found, Some((Kind::Issuer, None)));
}

#[test]
fn a_bucket_refuses_its_users_until_they_sign_in_again() {
    let user = |n: usize| Token {
        subject: format!("u{n}"),
        ..Token::new(
            "t",
            Some("s"),
            json!({ "amr": [{ "timestamp": NOW - 60 }] }),
        )
    };
    for bits in [0, 1, 4, 12, 16] {
        let list = List::new();
        let prefix = widened(bucket_of("https://i", "u0"), 16, bits);
        let revocation = revoked(Target::Bucket {
            issuer: "https://i".to_owned(),
            bits,
            prefix,
            not_before: NOW,
            strict: true,
        });
        list.insert(&revocation);
        let refused = (0..64).filter(|n| found(&list, &user(*n)) == Some(Kind::Bucket));
        let expected = (0..64)
            .filter(|n| widened(bucket_of("https://i", &format!("u{n}")), 16, bits) == prefix);
        assert!(refused.eq(expected), "{bits}");
        assert_eq!(found(&list, &user(0)), Some(Kind::Bucket));
        let again = Token {
            claims: json!({ "amr": [{ "timestamp": NOW + LEEWAY + 1 }] })
                .as_object()
                .cloned()
                .unwrap_or_default(),
            ..user(0)
        };
        assert_eq!(found(&list, &again), None);
        let elsewhere = Token {
            issuer: "https://j".to_owned(),
            ..user(0)
        };
        assert_eq!(found(&list, &elsewhere), None);
        assert_eq!(list.count(), [0, 0, 0, 0, 1]);
        list.remove(&revocation);
        assert_eq!(found(&list, &user(0)), None);
        assert_eq!(list.count(), [0; 5]);
    }
}

#[test]
fn a_sign_in_ahead_of_our_clock_by_the_leeway_of_its_issuer_does_not_outlive_a_revocation() {
    let list = List::new();
    list.insert(&revoked(subject(NOW, &[], false)));
    let hit = |at: i64, leeway| {
        let token = Token::new("t", None, json!({ "amr": [{ "timestamp": at }] }));
        let listed = Listed {
            leeway,
            ..token.listed()
        };
        list.find(&CleanAt::default(), listed, NOW).is_some()
    };
    for leeway in [0, LEEWAY, 30, 60] {
        let tolerated = leeway.max(LEEWAY);
        assert!(hit(NOW + tolerated, leeway), "{leeway}");
        assert!(!hit(NOW + tolerated + 1, leeway), "{leeway}");
    }
}

#[test]
fn a_revocation_may_exempt_tokens_by_their_level_their_app_or_their_time_of_issue() {
    let text = |exemption: Exemption| exemption.into_text();
    let level = |name: &str| Exemption::FromLevel(name.to_owned());
    let below = |name: &str| Exemption::BelowLevel(name.to_owned());
    let clients = |id: &str| Exemption::OtherClients(id.to_owned());
    let claims = |aal: Option<&str>, issued: i64, client: Option<&str>| json!({ "amr": [{ "timestamp": NOW - 60 }], "iat": issued, "aal": aal, "client_id": client });
    let raised = vec![text(level("aal2")), "own".to_owned()];
    let lowered = vec![text(below("aal2")), text(Exemption::IssuedLater)];
    let of_app = vec![text(clients("app"))];
    for (exempt, session, claims, refused) in [
        (
            &raised,
            "s",
            claims(Some("aal1"), NOW - 5, None),
            Some(Kind::Subject),
        ),
        (
            &raised,
            "s",
            claims(None, NOW - 5, None),
            Some(Kind::Subject),
        ),
        (&raised, "s", claims(Some("aal2"), NOW - 5, None), None),
        (&raised, "s", claims(Some("aal3"), NOW - 5, None), None),
        (&raised, "own", claims(Some("aal1"), NOW - 5, None), None),
        // A refresh does not restore the session.
        (
            &raised,
            "s",
            claims(Some("aal1"), NOW + 60, None),
            Some(Kind::Subject),
        ),
        // Only the token is refused, and the next one is good.
        (
            &lowered,
            "s",
            claims(Some("aal2"), NOW - 5, None),
            Some(Kind::Token),
        ),
        (
            &lowered,
            "s",
            claims(Some("aal2"), NOW, None),
            Some(Kind::Token),
        ),
        (&lowered, "s", claims(Some("aal2"), NOW + 1, None), None),
        (&lowered, "s", claims(Some("aal1"), NOW - 5, None), None),
        (
            &of_app,
            "s",
            claims(Some("aal1"), NOW - 5, Some("app")),
            Some(Kind::Subject),
        ),
        (
            &of_app,
            "s",
            claims(Some("aal1"), NOW - 5, Some("another")),
            None,
        ),
        (&of_app, "s", claims(Some("aal1"), NOW - 5, None), None),
    ] {
        let list = List::new();
        let except: Vec<&str> = exempt.iter().map(String::as_str).collect();
        let revocation = revoked(subject(NOW, &except, false));
        list.insert(&revocation);
        let token = Token::new("t", Some(session), claims);
        assert_eq!(
            found(&list, &token),
            refused,
            "{exempt:?} {:?}",
            token.claims
        );
        // The end of its session outweighs that of a token, in either order.
        list.insert(&revoked(subject(NOW + 1, &[], false)));
        assert_eq!(found(&list, &token), Some(Kind::Subject));
        list.remove(&revoked(subject(NOW + 1, &[], false)));
        assert_eq!(found(&list, &token), refused);
        list.remove(&revocation);
        assert_eq!(found(&list, &token), None);
    }
}
