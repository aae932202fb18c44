//! Paths of attackers: the origin gets the canonical form, byte for byte, or nothing.

mod careless;
mod spelling;

use foregate::denial::Reason;
use hyper::StatusCode;
use serde_json::Value;

use crate::support::client::Door;
use crate::support::raw::Outcome;
use crate::support::raw_h2::{Ending, RawTwo};
use crate::support::{Gateway, Http};

const ROUTES: &str = r#"
- { path: "/public/{*rest}", access: public }
- { path: /public/secret, access: user }
- { path: "/public/things/{id}", access: user, resource: none }
- { path: "/items/{id}", access: public, resource: none }
- { path: /items/mine, access: user }
- { path: "/files/{*rest}", access: public, tail: opaque }
- { path: /files/secret, access: user }
- { path: /exact, access: public }
- { path: /strict, access: public, trailing_slash: strict }
- { path: /internal, access: deny }
"#;

/// The expected result for a path.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It reaches the origin in this form.
    Reaches(&'static str),
    /// It is refused for this reason.
    Refused(Reason),
    /// It is not a request: refused for this reason on HTTP/1.1, and on HTTP/2 the protocol
    /// implementation resets the stream.
    NoRequest(Reason),
}
use Fate::{NoRequest, Reaches, Refused};

/// A stranger's request that no route takes: what is refused before a route is looked for, and what
/// after.
#[tokio::test]
async fn without_a_route_it_is_400_before_404_and_405_and_never_401() {
    let routes = r#"
    - { path: /items, methods: [GET, PUT], access: user }
    - { path: "/items/{id:uuid}", methods: [GET], access: user, resource: none }
    - { path: /internal, access: deny }
    "#;
    let gateway = Gateway::with_routes(routes).await;
    for http in Http::BOTH {
        for (method, path, reason) in [
            ("GET", "/nothing", Reason::RouteUnknown),
            ("POST", "/", Reason::RouteUnknown),
            ("GET", "/items/1/2", Reason::RouteUnknown),
            ("DELETE", "/internal", Reason::RouteDenied),
            ("POST", "/items", Reason::MethodNotAllowed),
            ("PUT", "/items/1", Reason::MethodNotAllowed),
            // What an opaque tail may hold is judged with its route.
            ("POST", "//nothing", Reason::RouteUnknown),
            ("POST", "/items/..", Reason::PathDotSegment),
            ("GET", "/nothing/a%2Fb", Reason::PathSlashEncoded),
            // A route takes these.
            ("GET", "/items/1", Reason::TokenMissing),
            ("HEAD", "/items", Reason::TokenMissing),
        ] {
            let answer = gateway.call(http, method, path).send().await;
            if method == "HEAD" {
                assert_eq!(answer.status, reason.status());
            } else {
                answer.is_denied(reason);
            }
            if reason == Reason::MethodNotAllowed {
                assert!(answer.header("allow").contains("GET"));
            }
            gateway.origin.saw_nothing();
        }
    }
}

/// The rows of the table in `policy::path`, and more of the same kind.
const ROWS: &[(&str, Fate)] = &[
    // Normalised.
    ("/public/%41", Reaches("/public/A")),
    ("/public/%2D%2e%5f%7e", Reaches("/public/-._~")),
    ("/public/a%3Ab%2Bc%40d", Reaches("/public/a:b+c@d")),
    (
        "/public/%21%24%26%27%28%29%2A%2C%3D",
        Reaches("/public/!$&'()*,="),
    ),
    ("/public/%c3%a9", Reaches("/public/%C3%A9")),
    ("/public/a\"b", Reaches("/public/a%22b")),
    (
        "/public/[a]^{b|c}",
        Reaches("/public/%5Ba%5D%5E%7Bb%7Cc%7D"),
    ),
    ("/public/%3c%3E%60", Reaches("/public/%3C%3E%60")),
    ("/public/<", NoRequest(Reason::TargetForm)),
    ("/public/>", NoRequest(Reason::TargetForm)),
    ("/public/`", NoRequest(Reason::TargetForm)),
    ("/public/a%20b", Reaches("/public/a%20b")),
    ("/public/100%25", Reaches("/public/100%25")),
    ("/public/%23%3f", Reaches("/public/%23%3F")),
    ("/p%75blic/a", Reaches("/public/a")),
    ("/public/...", Reaches("/public/...")),
    ("/public/.a", Reaches("/public/.a")),
    // Kept.
    ("/public/UPPER", Reaches("/public/UPPER")),
    ("/public/a/", Reaches("/public/a/")),
    ("/exact/", Reaches("/exact/")),
    (
        "/public/a?b=%2F%2e%2e;&c=%zz//",
        Reaches("/public/a?b=%2F%2e%2e;&c=%zz//"),
    ),
    ("/public/a?", Reaches("/public/a?")),
    ("/public/a#fragment", Reaches("/public/a")),
    // Refused.
    ("/public/a%2Fb", Refused(Reason::PathSlashEncoded)),
    ("/public/a%2fb", Refused(Reason::PathSlashEncoded)),
    ("/public/a\\b", Refused(Reason::PathBackslash)),
    ("/public/a%5cb", Refused(Reason::PathBackslash)),
    ("/public/%00", Refused(Reason::PathControl)),
    ("/public/a%0d%0aX-Evil:%201", Refused(Reason::PathControl)),
    ("/public/%1f", Refused(Reason::PathControl)),
    ("/public/%7F", Refused(Reason::PathControl)),
    ("/public/.", Refused(Reason::PathDotSegment)),
    ("/public/../exact", Refused(Reason::PathDotSegment)),
    ("/public/%2e%2E/exact", Refused(Reason::PathDotSegment)),
    ("/public/.%2e/exact", Refused(Reason::PathDotSegment)),
    ("/public/..;x/exact", Refused(Reason::PathDotSegment)),
    ("/public/..%3bx/exact", Refused(Reason::PathDotSegment)),
    ("/public/x/..", Refused(Reason::PathDotSegment)),
    ("//public/a", Refused(Reason::RouteUnknown)),
    ("/public//a", Refused(Reason::PathEmptySegment)),
    ("/public/a//", Refused(Reason::PathEmptySegment)),
    ("/public/%2541", Refused(Reason::PathDoubleEncoded)),
    ("/public/%25%34%31", Refused(Reason::PathDoubleEncoded)),
    ("/public/%25u0041", Refused(Reason::PathDoubleEncoded)),
    ("/public/a%252Fb", Refused(Reason::PathSlashEncoded)),
    ("/public/%252e%252e/exact", Refused(Reason::PathDotSegment)),
    ("/public/%zz", Refused(Reason::PathEscape)),
    ("/public/%4", Refused(Reason::PathEscape)),
    ("/public/%", Refused(Reason::PathEscape)),
    ("/public/%u002f", Refused(Reason::PathEscape)),
    ("/public/%c0%af", Refused(Reason::PathUtf8)),
    ("/public/%e0%80%af", Refused(Reason::PathUtf8)),
    ("/public/%ff", Refused(Reason::PathUtf8)),
    ("/public/é", Refused(Reason::PathNonAscii)),
    ("/public/a?é", Refused(Reason::PathNonAscii)),
    ("/public/a;b", Refused(Reason::PathParameters)),
    ("/public/a%3Bb", Refused(Reason::PathParameters)),
    // No target.
    ("/public/a b", NoRequest(Reason::HeadMalformed)),
    ("/public/a\tb", NoRequest(Reason::HeadMalformed)),
    ("/public/a\u{7f}b", NoRequest(Reason::HeadMalformed)),
    // Opaque tails: unchanged, but never with a slash, a dot segment or a control character in any
    // reading.
    ("/files/a//b", Reaches("/files/a//b")),
    ("/files/%41%c3%a9", Reaches("/files/%41%c3%a9")),
    ("/files/a;b=c", Reaches("/files/a;b=c")),
    ("/files/%2541", Reaches("/files/%2541")),
    ("/files/%ff", Reaches("/files/%ff")),
    ("/f%69les/%41", Reaches("/files/%41")),
    ("/files/a%2Fb", Refused(Reason::PathSlashEncoded)),
    ("/files/a%252Fb", Refused(Reason::PathSlashEncoded)),
    ("/files/a%25252Fb", Refused(Reason::PathSlashEncoded)),
    ("/files/%252e%252e/x", Refused(Reason::PathDotSegment)),
    (
        "/files/%2525252e%2525252e/x",
        Refused(Reason::PathDotSegment),
    ),
    ("/files/..;/x", Refused(Reason::PathDotSegment)),
    ("/files/../exact", Refused(Reason::PathDotSegment)),
    ("/files/%255c", Refused(Reason::PathBackslash)),
    ("/files/%2500", Refused(Reason::PathControl)),
    ("/files/%25u002e%25u002e/x", Refused(Reason::PathDotSegment)),
    ("/files/%c0%ae", Refused(Reason::PathUtf8)),
    ("/files/%25c0%25ae", Refused(Reason::PathUtf8)),
    ("/files;x/a", Refused(Reason::RouteUnknown)),
    // Protected routes in any spelling.
    ("/public/secret", Refused(Reason::TokenMissing)),
    ("/public/secret/", Refused(Reason::TokenMissing)),
    ("/public/%73ecret", Refused(Reason::TokenMissing)),
    ("/public/Secret", Refused(Reason::PathAmbiguous)),
    ("/public/SECRET/", Refused(Reason::PathAmbiguous)),
    ("/public/%c5%bfecret", Refused(Reason::PathAmbiguous)),
    ("/public/Things/x", Refused(Reason::PathAmbiguous)),
    ("/public/things/X", Refused(Reason::TokenMissing)),
    ("/items/mine", Refused(Reason::TokenMissing)),
    ("/items/mine/", Refused(Reason::TokenMissing)),
    ("/items/MINE", Refused(Reason::PathAmbiguous)),
    ("/items/yours", Reaches("/items/yours")),
    ("/files/secret", Refused(Reason::TokenMissing)),
    ("/files/Secret", Refused(Reason::PathAmbiguous)),
    ("/files//secret", Refused(Reason::PathAmbiguous)),
    ("/files/secret;x", Refused(Reason::PathAmbiguous)),
    ("/files/%2573ecret", Refused(Reason::PathAmbiguous)),
    ("/files/secret//", Refused(Reason::PathAmbiguous)),
    ("/EXACT", Refused(Reason::RouteUnknown)),
    ("/strict", Reaches("/strict")),
    ("/strict/", Refused(Reason::RouteUnknown)),
    ("/internal", Refused(Reason::RouteDenied)),
    ("/internal/", Refused(Reason::RouteDenied)),
    ("/public", Refused(Reason::RouteUnknown)),
    ("/public/", Refused(Reason::RouteUnknown)),
    ("/", Refused(Reason::RouteUnknown)),
];

#[tokio::test]
async fn the_origin_gets_the_canonical_path_or_nothing() {
    become_of(ROUTES, ROWS).await;
}

/// Every path has its expected result with these routes, on both versions.
async fn become_of(routes: &str, rows: &[(&str, Fate)]) {
    let gateway = Gateway::with_routes(routes).await;
    let mut surprises = Vec::new();
    for http in Http::BOTH {
        for (path, fate) in rows {
            let (wanted, came) = (fate.told(http), ask(&gateway, http, path).await);
            if came != wanted {
                surprises.push(format!("{http:?} {path}: {came}, not {wanted}"));
            }
        }
    }
    assert!(surprises.is_empty(), "{surprises:#?}");
}

/// A public tail around routes for users.
const AROUND: &str = r#"
- { path: "/api/{*rest}", access: public }
- { path: /api/admin/users, access: user }
- { path: /api/inner, access: deny }
"#;

const NEAR_MISSES: &[(&str, Fate)] = &[
    ("/api/admin/users", Refused(Reason::TokenMissing)),
    ("/api/admin./users", Refused(Reason::PathAmbiguous)),
    ("/api/admin../users", Refused(Reason::PathAmbiguous)),
    ("/api/admin%20/users", Refused(Reason::PathAmbiguous)),
    ("/api/admin/users.", Refused(Reason::PathAmbiguous)),
    ("/api/admin/users%20.", Refused(Reason::PathAmbiguous)),
    ("/api/admin/users.json", Refused(Reason::PathAmbiguous)),
    ("/api/Admin/Users.JSON", Refused(Reason::PathAmbiguous)),
    ("/api/ADMIN/users", Refused(Reason::PathAmbiguous)),
    // Even the public route does not match this spelling.
    ("/API/admin/users", Refused(Reason::RouteUnknown)),
    ("/api/other.json", Reaches("/api/other.json")),
    ("/api/admin/others", Reaches("/api/admin/others")),
    // The response does not reveal a denied path.
    ("/api/inner", Refused(Reason::RouteDenied)),
    ("/api/Inner", Refused(Reason::RouteDenied)),
    ("/api/inner.", Refused(Reason::RouteDenied)),
    ("/api/inner.json", Refused(Reason::RouteDenied)),
];

#[tokio::test]
async fn a_near_miss_of_a_protected_path_does_not_pass_as_a_public_one() {
    assert_eq!(Reason::RouteDenied.status(), StatusCode::NOT_FOUND);
    become_of(AROUND, NEAR_MISSES).await;
}

impl Fate {
    fn told(self, http: Http) -> String {
        match (self, http) {
            (Reaches(target), _) => format!("reaches {target}"),
            (Refused(reason), _) | (NoRequest(reason), Http::One) => {
                format!("refused {}", reason.code())
            }
            (NoRequest(_), Http::Two) => "no request".to_owned(),
        }
    }
}

/// Sends a path byte for byte and returns the result.
async fn ask(gateway: &Gateway, http: Http, path: &str) -> String {
    let reason = match http {
        Http::One => {
            let mut raw = gateway.raw(Door::Plain).await;
            raw.write(format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n"))
                .await;
            match raw.answer().await {
                Outcome::Answer(answer) => Some(answer.log_line()["reason"].clone()),
                Outcome::Closed => None,
            }
        }
        Http::Two => {
            let mut raw = gateway.connector(http, Door::Tls).raw_h2().await;
            let stream = raw.request(&RawTwo::get(path)).await;
            match raw.ending(stream).await {
                Ending::Answered(body) if body == b"ok" => Some(Value::Null),
                Ending::Answered(body) => Some(raw.log_line(&body)["reason"].clone()),
                Ending::Reset(_) | Ending::GoneAway(_) => None,
            }
        }
    };
    match (reason, &gateway.origin.take()[..]) {
        (Some(Value::Null), [seen]) => format!("reaches {}", seen.target),
        (Some(reason), []) => format!("refused {}", reason.as_str().unwrap_or_default()),
        (None, []) => "no request".to_owned(),
        (reason, seen) => format!("{reason:?}, and the origin saw {seen:?}"),
    }
}

#[tokio::test]
async fn the_log_line_has_the_path_that_the_origin_got() {
    let gateway = Gateway::with_routes(ROUTES).await;
    for http in Http::BOTH {
        for path in ["/public/%41b?token=1", "/files/%41//b", "/p%75blic/x"] {
            let answer = gateway.get(http, path).send().await;
            let target = gateway.origin.only().target;
            let line = answer.is_ok().log_line();
            assert_eq!(line["path"].as_str(), target.split('?').next());
            assert!(!line.to_string().contains("token=1"), "no query in the log");
        }
    }
}
