use std::num::NonZeroUsize;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value as Json, json};

use super::*;
use crate::auth::when::caller_fields;
use crate::gateway::metrics::Metrics;
use crate::policy::resources::ParamType;
use crate::policy::tokens::{KeySource, TokenIssuer};
use crate::secrets::secret::Secret;
use crate::tokens::mint::{Claims, Signer};
use crate::tokens::{KeySources, Presented, Tokens, Verified, VerifiedCache};

const SECRET: &str = "a secret of the length that HS256 asks for";

/// A caller with these claims besides those that every token has. Its token is really verified:
/// there is no other way to make one.
fn verified(claims: &Json) -> Arc<Verified> {
    let issuer = TokenIssuer {
        issuer: "i".to_owned(),
        audience: vec!["authenticated".to_owned()],
        algorithms: vec![Algorithm::HS256],
        keys: KeySource::Secret(Secret::new(SECRET)),
        require: Vec::new(),
        subject: ParamType::Text,
        leeway: Duration::ZERO,
        clients: Vec::new(),
        until: None,
    };
    let metrics = Metrics::new().unwrap();
    let keys = KeySources::new(metrics.keys().clone());
    let cache = Arc::new(VerifiedCache::new(NonZeroUsize::MIN));
    let mut all = Claims::new("i", "s", 1_800_000_000);
    for (name, value) in claims.as_object().unwrap() {
        all = all.with(name, value.clone());
    }
    let token = Signer::secret(SECRET.as_bytes(), Algorithm::HS256)
        .and_then(|signer| signer.sign(&all))
        .unwrap();
    let tokens = Tokens::new(&[issuer], cache, &keys).unwrap();
    match tokens.verify(&token, 1_800_000_000).unwrap() {
        Presented::User(verified) => verified,
        Presented::Nobody => panic!("a key, not a user"),
    }
}

/// Whether the condition holds for a GET of a caller with these claims.
fn holds(source: &str, claims: &Json) -> Result<bool, &'static str> {
    let verified = verified(claims);
    let roles = ["user".into(), "editor".into()];
    let condition = Condition::parse(source).unwrap_or_else(|fault| panic!("{source}: {fault:?}"));
    condition.holds(&Scope {
        method: "GET",
        path: "/things/1",
        host: "api.velro.test",
        address: "203.0.113.9",
        caller: Some(caller_fields(&verified)),
        roles: &roles,
    })
}

fn nobody(source: &str) -> Result<bool, &'static str> {
    Condition::parse(source).unwrap().holds(&Scope {
        method: "POST",
        path: "/",
        host: "",
        address: "",
        caller: None,
        roles: &[],
    })
}

fn fault(source: &str) -> ConditionError {
    match Condition::parse(source) {
        Ok(_) => panic!("{source} is allowed"),
        Err(fault) => fault,
    }
}

#[test]
fn a_condition_sees_the_request_the_caller_and_its_claims() {
    let claims = json!({
        "session_id": "x", "aal": "aal2", "is_anonymous": false,
        "app_metadata": { "plan": "pro", "seats": 3, "teams": ["a", "b"], "flags": { "beta": true }, "none": null },
        "https://velro.ai/tier": "gold", "ratio": 0.5,
    });
    for source in [
        "request.method == 'GET'",
        "request.path.startsWith('/things/') && request.path.endsWith('/1')",
        "request.host.contains('velro')",
        "request.address == '203.0.113.9'",
        "caller.known && !caller.anonymous",
        "caller.subject == 's' && caller.issuer == 'i' && caller.session == 'x'",
        "caller.aal == 'aal2'",
        "'editor' in caller.roles && !('admin' in caller.roles)",
        "size(caller.roles) == 2 && caller.roles.size() == 2",
        "caller.claims.app_metadata.plan == 'pro'",
        "caller.claims['app_metadata']['plan'] == 'pro'",
        "caller.claims.app_metadata.seats >= 3",
        "caller.claims.app_metadata.seats + 1 == 4",
        "'b' in caller.claims.app_metadata.teams",
        "caller.claims.app_metadata.teams[0] == 'a'",
        "caller.claims.app_metadata.flags.beta",
        "caller.claims.app_metadata.none == null",
        "caller.claims['https://velro.ai/tier'] == 'gold'",
        "caller.claims.ratio < 1.0",
        "'app_metadata' in caller.claims",
        "has(caller.claims.app_metadata.plan)",
        "!has(caller.claims.app_metadata.absent) && !has(caller.claims.absent.plan)",
        "has(caller.claims.absent) ? caller.claims.absent == 'x' : true",
        "caller.claims.absent == 'x' || true",
        "request.method in ['GET', 'POST']",
    ] {
        assert_eq!(holds(source, &claims), Ok(true), "{source}");
        assert_eq!(
            holds(&format!("!({source})"), &claims),
            Ok(false),
            "{source}"
        );
    }
}

#[test]
fn an_expression_that_cannot_be_evaluated_is_an_error() {
    let claims = json!({ "plan": "pro", "seats": 9_223_372_036_854_775_807_i64, "list": [1] });
    for source in [
        "caller.claims.absent == 'x'",
        "caller.claims.absent",
        "!caller.claims.absent",
        "caller.claims.plan.deeper == 'x'",
        "caller.claims.plan",
        "caller.claims.plan < 1",
        "caller.claims.plan && true",
        "caller.claims.seats + 1 > 0",
        "caller.claims.seats / 0 == 1",
        "caller.claims.list[1] == 1",
        "caller.claims.list['a'] == 1",
        "caller.claims.seats.startsWith('9')",
        "'x' in caller.claims.plan",
    ] {
        let outcome = holds(source, &claims);
        assert!(outcome.is_err(), "{source}: {outcome:?}");
    }
}

#[test]
fn a_caller_without_a_token_is_unknown_and_has_no_fields() {
    for source in [
        "!caller.known && !caller.anonymous",
        "caller.subject == null && caller.session == null && caller.aal == null && caller.issuer == null",
        "caller.aal != 'aal2'",
        "size(caller.roles) == 0",
        "!has(caller.claims.sub)",
    ] {
        assert_eq!(nobody(source), Ok(true), "{source}");
    }
    assert!(nobody("caller.claims.sub == 's'").is_err());
    assert!(nobody("caller.session < 'x'").is_err());
    assert!(nobody("caller.aal >= 'aal1'").is_err());
    // The result does not depend on the missing claim.
    assert_eq!(
        nobody("request.method == 'GET' && caller.claims.x"),
        Ok(false)
    );
}

#[test]
fn an_invalid_condition_is_reported_with_its_position() {
    for (source, at, width, message, instead) in [
        (
            "calle.aal == 'aal2'",
            5,
            1,
            "`calle` is not a name",
            "`caller`",
        ),
        (
            "caller.aal == 'aal2' && user.id == 'x'",
            28,
            1,
            "`user` is not a name",
            "`request` and `caller`",
        ),
        (
            "request.metod == 'GET'",
            7,
            1,
            "`request.metod` is not a name",
            "`request.method`",
        ),
        (
            "request.query == 'a'",
            7,
            1,
            "`request.query` is not a name",
            "`request.address`",
        ),
        (
            "caller == null",
            0,
            6,
            "alone is not a value",
            "`caller.claims`",
        ),
        ("caller.aal.x == 'y'", 10, 1, "has no fields", ""),
        (
            "caller.claims.roles.exists(r, r == 'x')",
            26,
            1,
            "`exists`",
            "`in`",
        ),
        ("caller.roles.map(r, r) == []", 16, 1, "`map`", "`in`"),
        (
            "request.path.matches('(a+)+')",
            20,
            1,
            "`matches` is not a function",
            "`startsWith`",
        ),
        (
            "request.path.startWith('a')",
            22,
            1,
            "`startWith` is not a function",
            "`startsWith`",
        ),
        ("request.path.startsWith(1)", 23, 1, "needs text", ""),
        (
            "startsWith(request.path, '/a')",
            10,
            1,
            "wrong arguments",
            "TEXT.startsWith(TEXT)",
        ),
        (
            "request.method == 1",
            15,
            2,
            "text is never equal to a number",
            "",
        ),
        ("caller.aal == true", 11, 2, "is never equal", ""),
        ("caller.aal >= 2", 11, 2, "a comparison needs", ""),
        (
            "request.method",
            7,
            1,
            "must be true or false",
            "compare it",
        ),
        ("'GET'", 0, 5, "must be true or false", "compare it"),
        ("request.method in 'GET'", 15, 2, "`in` needs a list", ""),
        ("{'a': 1}.a == 1", 0, 1, "a map", ""),
        ("b'x' == b'x'", 0, 4, "bytes", ""),
        ("has(request.method)", 3, 1, "always present", "compare it"),
        (
            "has(caller.claims)",
            3,
            1,
            "always present",
            "name of a claim",
        ),
        (
            "timestamp('2026-01-01T00:00:00Z') < timestamp('2027-01-01T00:00:00Z')",
            9,
            1,
            "`timestamp` is not a function",
            "",
        ),
        ("", 0, 1, "is empty", "`caller.aal == 'aal2'`"),
        ("caller.aal ==", 13, 1, "is not a CEL expression", ""),
        ("caller.aal = 'aal2'", 11, 1, "is not a CEL expression", ""),
        ("caller.aal == 'aal2", 14, 1, "is not a CEL expression", ""),
    ] {
        let fault = fault(source);
        assert!(fault.message.contains(message), "{source}: {fault:?}");
        assert!(
            fault
                .instead
                .as_deref()
                .unwrap_or_default()
                .contains(instead),
            "{source}: {fault:?}"
        );
        assert_eq!((fault.at, fault.width), (at, width), "{source}: {fault:?}");
    }
}

#[test]
fn long_and_deeply_nested_expressions_do_not_overflow_the_stack() {
    let long = format!("request.method == '{}'", "x".repeat(LONGEST));
    assert!(fault(&long).message.contains("512 bytes"));
    let deep = |open: &str, middle: &str, close: &str| {
        let times = (LONGEST - middle.len()) / (open.len() + close.len());
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    for source in [
        deep("(", "true", ")"),
        deep("!", "true", ""),
        deep("[", "1", "]"),
        deep("-", "1", ""),
        deep("true?", "true", ":true"),
        deep("size(", "'a'", ")"),
        deep("true||", "true", ""),
        deep("caller.claims[", "'a'", "]"),
        deep("request.path+", "request.path", "") + "==''",
    ] {
        // Whether it is accepted or refused, this thread must not crash.
        if let Ok(condition) = Condition::parse(&source) {
            let path = "x".repeat(8 << 10);
            let _ = condition.holds(&Scope {
                method: "GET",
                path: &path,
                host: "",
                address: "",
                caller: None,
                roles: &[],
            });
        }
    }
}
