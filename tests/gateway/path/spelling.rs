//! Random spellings of protected paths: none is answered, or reaches the origin in any reading,
//! without a token.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::careless::READINGS;
use crate::support::client::Door;
use crate::support::raw::{Outcome, Raw};
use crate::support::{Gateway, Http};

const PROTECTED: [&str; 4] = ["/open/keys", "/open/keys/all", "/raw/keys", "/one/keys"];

/// Beside every protected path is a public route that would match what the protected one does not.
const ROUTES: &str = r#"
- { path: "/open/{*rest}", access: public }
- { path: /open/keys, access: user }
- { path: "/open/keys/{id}", access: user, resource: none }
- { path: "/raw/{*rest}", access: public, tail: opaque }
- { path: /raw/keys, access: user }
- { path: "/one/{id}", access: public, resource: none }
- { path: /one/keys, access: user }
"#;

#[test]
fn no_spelling_of_a_protected_path_gets_through_a_public_route() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let gateway = runtime.block_on(Gateway::with_routes(ROUTES));
    let mut connection: Option<Raw> = None;
    let runner = Config {
        cases: 500,
        failure_persistence: None,
        ..Config::default()
    };
    let mut reached = 0;
    let outcome = {
        let connection = std::cell::RefCell::new(&mut connection);
        let reached = std::cell::RefCell::new(&mut reached);
        TestRunner::new(runner).run(&spelling(), |path| {
            let mut connection = connection.borrow_mut();
            let outcome = runtime.block_on(ask(&gateway, &mut connection, &path));
            for seen in gateway.origin.take() {
                **reached.borrow_mut() += 1;
                let target = seen.target.split('?').next().unwrap_or_default().to_owned();
                for (name, read) in READINGS {
                    let read = read(&target);
                    if PROTECTED.contains(&read.as_str()) {
                        return Err(TestCaseError::fail(format!(
                            "{path:?} arrived as {target:?}, which {name} reads as {read:?}"
                        )));
                    }
                }
            }
            match outcome {
                Outcome::Answer(answer)
                    if answer.status == 200 && PROTECTED.contains(&path.as_str()) =>
                {
                    Err(TestCaseError::fail(format!("{path:?} was answered")))
                }
                _ => Ok(()),
            }
        })
    };
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(
        reached > 0,
        "some spellings are other paths, or nothing was tried"
    );
}

/// Sends a request on a kept connection, or on a new one if the previous was closed.
async fn ask(gateway: &Gateway, connection: &mut Option<Raw>, path: &str) -> Outcome {
    for _ in 0..2 {
        let mut raw = match connection.take() {
            Some(raw) => raw,
            None => gateway.connector(Http::One, Door::Plain).raw().await,
        };
        raw.write(format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n"))
            .await;
        match raw.answer().await {
            Outcome::Closed => {}
            answer => {
                *connection = Some(raw);
                return answer;
            }
        }
    }
    panic!("{path:?} is never answered");
}

fn spelling() -> impl Strategy<Value = String> {
    prop::sample::select(&PROTECTED[..])
        .prop_flat_map(|path| {
            let letters: Vec<_> = path.chars().map(|letter| written(letter).boxed()).collect();
            (letters, ending())
        })
        .prop_map(|(letters, ending)| {
            let path = letters.concat() + ending;
            // A request target must begin with a slash.
            if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            }
        })
}

/// Mostly the plain letter: a spelling with many unusual parts is refused for the first of them.
fn written(letter: char) -> impl Strategy<Value = String> {
    if letter == '/' {
        return prop_oneof![
            40 => Just("/".to_owned()),
            1 => prop::sample::select(&["//", "/./", "/x/../", "%2f", "%5C", "\\", "/;x/", "/%2e/", "%252f", "/%20/", "/.;/", "///"][..])
                .prop_map(str::to_owned),
        ]
        .boxed();
    }
    let byte = letter as u32;
    prop_oneof![
        30 => Just(letter.to_string()),
        2 => Just(letter.to_ascii_uppercase().to_string()),
        1 => Just(format!("%{byte:02x}")),
        1 => Just(format!("%{byte:02X}")),
        1 => Just(format!("%25{byte:02x}")),
        1 => Just(format!("%2525{byte:02x}")),
        1 => Just(format!("%25u{byte:04x}")),
        1 => Just(format!("%{:02x}", letter.to_ascii_uppercase() as u32)),
        1 => Just(match letter {
            'k' => "%E2%84%AA".to_owned(),
            's' => "%c5%bf".to_owned(),
            other => format!("{other};x"),
        }),
        1 => Just(format!("{letter}%00")),
    ]
    .boxed()
}

fn ending() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => Just(""),
        4 => prop::sample::select(&["/", "//", "/.", ";x", "%20", "%00", "?a", "%3f", "/%2e", "%2f", "%09", ".", "%3Bx", "%23", "#", "?", "%2500", "/;x", ";", "/x/.."][..]),
    ]
}
