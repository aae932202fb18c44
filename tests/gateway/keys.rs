//! Keys that an issuer publishes and changes: rotation, tokens with an unpublished key, key servers
//! that fail or are down.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foregate::denial::Reason;
use foregate::policy::outage::{self, AccessClass, State};
use foregate::tokens::mint::Signer;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::load::Load;
use crate::support::origin::Exchange;
use crate::support::tokens::{ISSUER, now};
use crate::support::{Gateway, Http, Origin, RedisServer, Reply, eventually, in_time};

/// An entry of `tokens` whose keys are published.
fn entry(issuer: &str, place: &str) -> String {
    format!("\n  - {{ issuer: \"{issuer}\", audience: authenticated, algorithms: ES256, {place} }}")
}

fn jwks_url(server: &Origin) -> String {
    format!("jwks_url: \"{}/keys\"", server.url())
}

fn signer(kid: &str) -> Signer {
    Signer::generate(Algorithm::ES256).unwrap().with_kid(kid)
}

fn set(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers
        .iter()
        .map(|signer| signer.public_jwk().unwrap())
        .collect();
    json!({ "keys": keys }).to_string()
}

fn json_reply(body: impl AsRef<[u8]>) -> Reply {
    Reply::new(200)
        .header("content-type", "application/json")
        .body(body)
}

/// Replaces the published keys.
fn publish(server: &Origin, signers: &[&Signer]) {
    let reply = json_reply(set(signers));
    server.on("/keys", move |exchange| exchange.reply(&reply));
}

/// A gateway that has fetched its keys.
async fn gateway(entries: &str) -> Gateway {
    let gateway = Gateway::with(|config| {
        config.set("tokens", entries);
    })
    .await;
    eventually("ready", || gateway.admin_status("/readyz") == 200).await;
    gateway
}

fn fetches(gateway: &Gateway, issuer: &str, result: &str) -> f64 {
    gateway.metrics().sum(
        "foregate_jwks_fetches_total",
        &[("issuer", issuer), ("result", result)],
    )
}

fn lookups(gateway: &Gateway, outcome: &str) -> f64 {
    gateway
        .metrics()
        .sum("foregate_jwks_lookups_total", &[("outcome", outcome)])
}

#[tokio::test]
async fn after_a_rotation_the_next_fetch_accepts_the_new_key_and_refuses_the_old_one() {
    let server = Origin::start();
    let mut old = signer("first");
    publish(&server, &[&old]);
    let gateway = gateway(&entry(ISSUER, &jwks_url(&server))).await;
    for (turn, http) in Http::BOTH.into_iter().cycle().take(4).enumerate() {
        let new = signer(&format!("turn-{turn}"));
        let [old_token, new_token] =
            [&old, &new].map(|signer| signer.sign(&gateway.issuer.claims()).unwrap());
        gateway.judged(http, &old_token).await.is_ok();
        publish(&server, &[&new]);
        gateway.judged(http, &new_token).await.is_ok();
        gateway.origin.take();
        gateway
            .judged(http, &old_token)
            .await
            .is_denied(Reason::TokenKeyUnknown);
        gateway.origin.saw_nothing();
        old = new;
    }
    assert!(lookups(&gateway, "appeared") >= 1.0);
    assert!(lookups(&gateway, "absent") >= 1.0);
    assert_eq!(lookups(&gateway, "failed"), 0.0);
}

#[tokio::test]
async fn a_rotation_with_overlap_refuses_no_token() {
    let server = Origin::start();
    let new = signer("new");
    publish(&server, &[&signer("before")]);
    let gateway = gateway(&entry(ISSUER, &jwks_url(&server))).await;
    // The clients' key, first alone and then beside the next one.
    publish(&server, &[gateway.issuer.signer()]);
    gateway
        .judged(Http::One, &gateway.issuer.token())
        .await
        .is_ok();
    let load = Load::start(&gateway, "/me").await;
    load.goes_on(50).await;
    publish(&server, &[gateway.issuer.signer(), &new]);
    for http in Http::BOTH {
        for _ in 0..5 {
            let token = new.sign(&gateway.issuer.claims()).unwrap();
            gateway.judged(http, &token).await.is_ok();
        }
    }
    load.goes_on(50).await;
    let outcome = load.stop().await;
    assert!(outcome.failed.is_empty(), "{outcome:?}");
    assert_eq!(outcome.closed, 0);
    assert_eq!(gateway.metrics().sum("foregate_jwks_waiting", &[]), 0.0);
}

/// How many forged tokens to send: ten thousand with `FOREGATE_FULL=1`, otherwise fewer.
fn invented() -> usize {
    match std::env::var_os("FOREGATE_FULL") {
        Some(_) => 10_000,
        None => 1500,
    }
}

#[tokio::test]
async fn forged_key_ids_cause_one_fetch_a_second_and_good_tokens_still_pass() {
    const STREAMS: usize = 1500;
    let server = Origin::start();
    let (good, next) = (signer("good"), signer("next"));
    publish(&server, &[&good]);
    let gateway = gateway(&entry(ISSUER, &jwks_url(&server))).await;
    let claims = gateway.issuer.claims();
    let tokens: Vec<_> = (0..invented())
        .map(|number| {
            let impostor = good.clone().with_kid(format!("invented-{number}"));
            impostor.sign(&claims).unwrap()
        })
        .collect();
    let good = good.sign(&claims).unwrap();
    gateway
        .get(Http::One, "/me")
        .bearer(&good)
        .send()
        .await
        .is_ok();
    server.take();

    let begun = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let regulars: Vec<_> = [Http::One, Http::Two]
        .map(|http| {
            let (over, good) = (over.clone(), good.clone());
            let connector = gateway.connector(http, crate::support::Door::Tls);
            tokio::spawn(async move {
                let (mut client, mut slowest) = (connector.connect().await, Duration::ZERO);
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    client.get("/me").bearer(&good).send().await.is_ok();
                    slowest = slowest.max(sent.elapsed());
                    count += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (count, slowest)
            })
        })
        .into();
    // HTTP/2 connections with at most a hundred streams each, so that requests wait concurrently.
    let next_token = Arc::new(AtomicUsize::new(0));
    let tokens = Arc::new(tokens);
    let mut streams = Vec::new();
    for _ in 0..STREAMS / 100 {
        let client = gateway.connect(Http::Two).await;
        for _ in 0..100 {
            let (mut client, tokens, next) = (client.another(), tokens.clone(), next_token.clone());
            streams.push(tokio::spawn(async move {
                let mut codes: HashMap<String, usize> = HashMap::new();
                while let Some(token) = tokens.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let call = client.get("/me").bearer(token).try_send();
                    let answer = in_time("a refusal", call).await.unwrap().finish().await;
                    let code = answer.json()["code"].as_str().unwrap().to_owned();
                    if code == "keys_unavailable" {
                        assert_eq!(
                            (answer.status.as_u16(), answer.header("retry-after")),
                            (503, "1")
                        );
                    }
                    *codes.entry(code).or_default() += 1;
                }
                codes
            }));
        }
    }
    let mut codes: HashMap<String, usize> = HashMap::new();
    for stream in streams {
        for (code, count) in stream.await.unwrap() {
            *codes.entry(code).or_default() += count;
        }
    }
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    for regular in regulars {
        let (count, slowest) = regular.await.unwrap();
        println!("{count} good requests meanwhile, the slowest in {slowest:?}");
        assert!(count > 0);
    }
    let mut inside: Vec<u64> = gateway
        .log()
        .all(|line| line["message"] == "request" && line["status"] == 200)
        .iter()
        .filter_map(|line| line["answered_us"].as_u64())
        .collect();
    inside.sort_unstable();
    println!(
        "from head to answer inside the gateway: half in {:?} us, all in {:?} us",
        inside.get(inside.len() / 2),
        inside.last()
    );
    let fetches = server.take().len();
    println!("{codes:?} in {took:?} with {fetches} fetches");
    // One more fetch may have been due at the start, and one at the end.
    let most = took.as_secs() as usize + 2;
    assert!(
        fetches >= 1 && fetches <= most,
        "{fetches} fetches in {took:?}"
    );
    let known = ["token_key_unknown", "keys_unavailable"];
    let sum: usize = known.iter().filter_map(|code| codes.get(*code)).sum();
    assert_eq!(sum, invented(), "{codes:?}");
    assert!(codes.contains_key("token_key_unknown"), "{codes:?}");
    let user = good_subject(&claims);
    for seen in gateway.origin.take() {
        assert_eq!(seen.header("x-foregate-subject"), Some(user.as_str()));
        assert!(seen.mentions(&good));
    }

    // A key that is published now is still found by the next fetch.
    publish(&server, &[&next]);
    let rotated = next.sign(&claims).unwrap();
    gateway.judged(Http::Two, &rotated).await.is_ok();
    assert_eq!(gateway.metrics().sum("foregate_jwks_waiting", &[]), 0.0);
}

fn good_subject(claims: &foregate::tokens::mint::Claims) -> String {
    claims.as_object()["sub"].as_str().unwrap().to_owned()
}

/// Key sets of an identity server that publishes a key for encryption beside the one for signatures
/// under the same `kid`, in the middle of a rotation, and one bad key.
#[tokio::test]
async fn a_bad_key_in_a_rotation_costs_its_own_tokens_only() {
    let server = Origin::start();
    let (first, next) = (signer("first"), signer("next"));
    publish(&server, &[&first]);
    let gateway = gateway(&entry(ISSUER, &jwks_url(&server))).await;
    let jwk = |signer: &Signer| signer.public_jwk().unwrap();
    let rsa = Signer::generate(Algorithm::RS256).unwrap().with_kid("next");
    let mut encrypting = jwk(&rsa);
    encrypting["use"] = json!("enc");
    encrypting["alg"] = json!("RSA-OAEP");
    let twins = [signer("twin"), signer("twin")];
    let mut nulls = jwk(&next);
    nulls["x5c"] = Value::Null;
    nulls["key_ops"] = Value::Null;
    let keys = json!({ "keys": [
        jwk(&first), encrypting, nulls, jwk(&rsa), jwk(&twins[0]), jwk(&twins[1]), { "kty": "EC", "kid": "first" },
    ] });
    let reply = json_reply(keys.to_string());
    server.on("/keys", move |exchange| exchange.reply(&reply));
    for http in Http::BOTH {
        for signer in [&next, &first] {
            let token = signer.sign(&gateway.issuer.claims()).unwrap();
            gateway.judged(http, &token).await.is_ok();
        }
        gateway.origin.take();
        for signer in &twins {
            let token = signer.sign(&gateway.issuer.claims()).unwrap();
            let answer = gateway.judged(http, &token).await;
            answer.is_denied(Reason::TokenKeyUnknown);
            let detail = answer.log_line()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("several keys"), "{detail}");
            gateway.origin.saw_nothing();
        }
        // Its algorithm is not the issuer's.
        let token = rsa.sign(&gateway.issuer.claims()).unwrap();
        gateway
            .judged(http, &token)
            .await
            .is_denied(Reason::TokenAlgorithm);
        gateway.origin.saw_nothing();
    }
    let named = gateway
        .log()
        .all(|line| line["message"] == "ambiguous keys");
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(named[0]["level"], "WARN");
    let keys = named[0]["keys"].as_str().unwrap();
    assert!(
        keys.contains("key 5 (`twin`)") && keys.contains("key 6 (`twin`)"),
        "{keys}"
    );
}

#[tokio::test]
async fn a_key_set_that_is_not_taken_over_is_logged_with_its_cause() {
    let server = Origin::start();
    let key = signer("good");
    publish(&server, &[&key]);
    let gateway = gateway(&entry(ISSUER, &jwks_url(&server))).await;
    let good = set(&[&key]);
    let many = format!("{{\"keys\":[{}]}}", vec!["{}"; 60_000].join(","));
    for (document, cause) in [
        (format!("\u{feff}{good}"), "byte order mark"),
        (many, "60000 keys, more than 64"),
        ("<html>".to_owned(), "not one JSON object"),
    ] {
        let reply = json_reply(document);
        server.on("/keys", move |exchange| exchange.reply(&reply));
        // An unknown key asks for a fetch; the known ones stay.
        let unknown = signer("unknown").sign(&gateway.issuer.claims()).unwrap();
        let answer = gateway.get(Http::Two, "/me").bearer(&unknown).send().await;
        answer.is_denied(Reason::KeysUnavailable);
        gateway.origin.saw_nothing();
        let line = gateway.log().wait_for(|line| {
            let error = line["error"].as_str().unwrap_or_default();
            line["message"] == "key fetch failed" && error.contains(cause)
        });
        assert!(line.is_some(), "{cause}:\n{}", gateway.log().text());
        let token = key.sign(&gateway.issuer.claims()).unwrap();
        gateway.judged(Http::Two, &token).await.is_ok();
        gateway.origin.take();
    }
}

type Sickness = (&'static str, fn(&mut Exchange));

/// Ways in which a key server can fail, by name.
fn sicknesses() -> Vec<Sickness> {
    vec![
        ("hanging", |exchange| exchange.wait_for_close()),
        ("dripping", |exchange| {
            exchange.begin(200, &[("content-type", "application/json")]);
            // One byte at a time: every pause is short, and the response never ends.
            while exchange.chunk(" ") {
                std::thread::sleep(Duration::from_millis(100));
            }
        }),
        ("oversized", |exchange| {
            exchange.reply(&json_reply(vec![b' '; 300 * 1024]));
        }),
        ("endless", |exchange| {
            exchange.begin(200, &[]);
            while exchange.chunk([b' '; 4096]) {}
        }),
        ("page", |exchange| {
            exchange.reply(
                &Reply::new(200)
                    .header("content-type", "text/html")
                    .body("<!doctype html><title>Maintenance</title>"),
            );
        }),
        ("secret", |exchange| {
            let oct = json!({ "keys": [{ "kty": "oct", "kid": "sick", "alg": "HS256", "k": "A".repeat(43) }] });
            exchange.reply(&json_reply(oct.to_string()));
        }),
        ("empty", |exchange| {
            exchange.reply(&json_reply(r#"{"keys":[]}"#))
        }),
        ("redirect", |exchange| {
            exchange.reply(&Reply::new(302).header("location", "/good"));
        }),
        ("error", |exchange| exchange.reply(&Reply::new(500))),
        ("nothing", |exchange| exchange.reply(&Reply::new(204))),
        ("garbage", |exchange| {
            exchange.raw(b"220 mail.example ESMTP\r\n");
            exchange.close();
        }),
        ("reset", |exchange| exchange.reset()),
        ("short", |exchange| {
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"keys\":[");
            exchange.close();
        }),
    ]
}

#[tokio::test]
async fn while_a_key_server_fails_tokens_get_503_and_none_passes() {
    let server = Origin::start();
    let sick = signer("sick");
    let good = json_reply(set(&[&sick]));
    server.on("/good", move |exchange| exchange.reply(&good));
    let mut entries = String::new();
    for (name, script) in sicknesses() {
        server.on(&format!("/{name}"), script);
        entries += &entry(name, &format!("jwks_url: \"{}/{name}\"", server.url()));
    }
    // A port that is bound, so that no other server can use it, and not listening.
    let gone = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    gone.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = gone.local_addr().unwrap().as_socket().unwrap();
    entries += &entry("gone", &format!("jwks_url: \"http://{address}/keys\""));
    let gateway = Gateway::with(|config| {
        config.set("tokens", &entries);
    })
    .await;
    assert_eq!(gateway.admin_status("/readyz"), 503);
    let names = sicknesses().into_iter().map(|(name, _)| name);
    for name in names.chain(["gone"]) {
        for http in Http::BOTH {
            let token = sick
                .sign(&gateway.issuer.claims().with("iss", name))
                .unwrap();
            let answer = gateway.get(http, "/me").bearer(&token).send().await;
            assert_eq!(
                answer
                    .is_denied(Reason::KeysUnavailable)
                    .header("retry-after"),
                "1",
                "{name}"
            );
        }
        assert_eq!(fetches(&gateway, name, "good"), 0.0, "{name}");
    }
    gateway.origin.saw_nothing();
    assert!(server.requests().iter().all(|seen| seen.target != "/good"));
    for (name, result) in [
        ("hanging", "deadline"),
        ("dripping", "deadline"),
        ("oversized", "exchange"),
        ("endless", "exchange"),
        ("page", "content"),
        ("secret", "content"),
        ("redirect", "status"),
        ("garbage", "exchange"),
        ("short", "exchange"),
        ("gone", "connect"),
    ] {
        let failed = || fetches(&gateway, name, result) >= 1.0;
        eventually(&format!("{name} counts as {result}"), failed).await;
    }
}

#[tokio::test]
async fn known_keys_stay_valid_while_the_key_server_fails() {
    let server = Origin::start();
    let known = signer("known");
    publish(&server, &[&known]);
    let gateway = gateway(&entry(ISSUER, &jwks_url(&server))).await;
    for (name, script) in sicknesses() {
        server.on("/keys", script);
        let http = if name.len() % 2 == 0 {
            Http::One
        } else {
            Http::Two
        };
        let sign = |signer: &Signer| signer.sign(&gateway.issuer.claims()).unwrap();
        let unknown = known.clone().with_kid(name);
        // This makes the gateway fetch from the failing server.
        gateway
            .get(http, "/me")
            .bearer(&sign(&unknown))
            .send()
            .await
            .is_denied(Reason::KeysUnavailable);
        gateway.origin.saw_nothing();
        gateway
            .get(http, "/me")
            .bearer(&sign(&known))
            .send()
            .await
            .is_ok();
        gateway.origin.only();
    }
    assert_eq!(gateway.admin_status("/readyz"), 200);
    // Once the server recovers, the next fetch gets every key.
    publish(&server, &[&known]);
    let unknown = known.clone().with_kid("never published");
    let token = unknown.sign(&gateway.issuer.claims()).unwrap();
    gateway
        .judged(Http::Two, &token)
        .await
        .is_denied(Reason::TokenKeyUnknown);
}

#[tokio::test]
async fn a_discovery_document_leads_only_to_the_keys_of_its_issuer() {
    let (server, elsewhere) = (Origin::start(), Origin::start());
    let key = signer("discovered");
    let reply = json_reply(set(&[&key]));
    for origin in [&server, &elsewhere] {
        let reply = reply.clone();
        origin.on("/jwks", move |exchange| exchange.reply(&reply));
    }
    let document = |path: &str, issuer: &str, jwks_uri: String| {
        let reply = json_reply(json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string());
        server.on(path, move |exchange| exchange.reply(&reply));
    };
    let here = format!("{}/jwks", server.url());
    document("/good", ISSUER, here.clone());
    document("/impostor", "somebody else", here);
    document("/away", "away", format!("{}/jwks", elsewhere.url()));
    document("/outside", "outside", "http://keys.example/jwks".to_owned());
    server.on("/none", |exchange| exchange.reply(&Reply::new(404)));
    let place = |path: &str| format!("discovery_url: \"{}{path}\"", server.url());
    let entries: String = [
        (ISSUER, "/good"),
        ("impostor", "/impostor"),
        ("away", "/away"),
        ("outside", "/outside"),
        ("none", "/none"),
    ]
    .map(|(issuer, path)| entry(issuer, &place(path)))
    .concat();
    let gateway = Gateway::with(|config| {
        config.set("tokens", &entries);
    })
    .await;
    let sign = |issuer: &str| {
        key.sign(&gateway.issuer.claims().with("iss", issuer))
            .unwrap()
    };
    for http in Http::BOTH {
        for issuer in ["impostor", "away", "outside", "none"] {
            let answer = gateway.get(http, "/me").bearer(&sign(issuer)).send().await;
            answer.is_denied(Reason::KeysUnavailable);
        }
        gateway.origin.saw_nothing();
        gateway.judged(http, &sign(ISSUER)).await.is_ok();
        gateway.origin.take();
    }
    elsewhere.saw_nothing();
    let told = gateway
        .log()
        .all(|line| line["message"] == "key fetch failed");
    let told_about = |issuer: &str, word: &str| {
        let about = |line: &&Value| line["issuer"] == issuer;
        let line = told.iter().find(about).unwrap();
        assert!(line["error"].as_str().unwrap().contains(word), "{line}");
    };
    told_about("impostor", "`issuer`");
    told_about("away", &elsewhere.url());
    told_about("outside", "clear text");
    told_about("none", "404");

    // The JWK set may move: after a failed fetch the document is fetched again.
    let moved = signer("moved");
    let reply = json_reply(set(&[&moved]));
    server.on("/new-place", move |exchange| exchange.reply(&reply));
    server.on("/jwks", |exchange| exchange.reply(&Reply::new(410)));
    document("/good", ISSUER, format!("{}/new-place", server.url()));
    let token = moved.sign(&gateway.issuer.claims()).unwrap();
    gateway.judged(Http::Two, &token).await.is_ok();
}

#[tokio::test]
async fn key_metrics_start_at_zero_and_end_with_their_issuer() {
    let server = Origin::start();
    let key = signer("counted");
    publish(&server, &[&key]);
    let entries = entry(ISSUER, &jwks_url(&server));
    let mut gateway = gateway(&entries).await;
    let text = gateway.metrics().text().to_owned();
    let issuer = format!("issuer=\"{ISSUER}\"");
    for series in [
        format!("foregate_jwks_fetches_total{{{issuer},result=\"deadline\"}} 0"),
        format!("foregate_jwks_fetches_total{{{issuer},result=\"good\"}} 1"),
        format!("foregate_jwks_lookups_total{{{issuer},outcome=\"full\"}} 0"),
        format!("foregate_jwks_waiting{{{issuer}}} 0"),
    ] {
        assert!(text.lines().any(|line| line == series), "{series}\n{text}");
    }
    let age = |gateway: &Gateway| gateway.metrics().sum("foregate_jwks_age_seconds", &[]);
    let before = now();
    eventually("keys grow older", || age(&gateway) >= 1.0).await;
    assert!(age(&gateway) <= (now() - before + 20) as f64);
    // A reload with the same URL keeps the keys; one with another URL ends the series.
    gateway
        .reload(|config| {
            config.set("drain", "29s");
        })
        .await;
    let token = key.sign(&gateway.issuer.claims()).unwrap();
    gateway
        .get(Http::One, "/me")
        .bearer(&token)
        .send()
        .await
        .is_ok();
    assert_eq!(server.requests().len(), 1);
    gateway
        .reload(|config| {
            let other = format!(
                "\n  - {{ issuer: \"{ISSUER}\", audience: authenticated, algorithms: ES256, jwks_file: jwks.json }}"
            );
            config.set("tokens", &other);
        })
        .await;
    assert!(!gateway.metrics().text().contains("foregate_jwks_"));
}

#[tokio::test]
async fn after_a_restart_keys_come_from_the_store_while_their_server_is_down() {
    let (server, redis) = (Origin::start(), RedisServer::start());
    let key = signer("stored");
    publish(&server, &[&key]);
    let start = || {
        Gateway::with(|config| {
            config
                .set("tokens", &entry(ISSUER, &jwks_url(&server)))
                .store(&redis.url());
        })
    };
    let first = start().await;
    let token = key.sign(&first.issuer.claims()).unwrap();
    first.metric_becomes("foregate_store_up", &[], 1.0).await;
    first.judged(Http::One, &token).await.is_ok();
    let written = [("command", "put"), ("outcome", "ok")];
    let puts = || {
        first
            .metrics()
            .sum("foregate_store_command_seconds_count", &written)
    };
    eventually("keys are stored", || puts() >= 1.0).await;
    drop(first);

    let sick = Arc::new(AtomicBool::new(true));
    let (is_sick, reply) = (sick.clone(), json_reply(set(&[&key])));
    server.on("/keys", move |exchange| {
        if is_sick.load(Ordering::Relaxed) {
            exchange.wait_for_close();
        } else {
            exchange.reply(&reply);
        }
    });
    let second = start().await;
    second.metric_becomes("foregate_store_up", &[], 1.0).await;
    eventually("ready", || second.admin_status("/readyz") == 200).await;
    for http in Http::BOTH {
        second.judged(http, &token).await.is_ok();
        second.origin.take();
        let unknown = key.clone().with_kid("unknown");
        let unknown = unknown.sign(&second.issuer.claims()).unwrap();
        let answer = second.get(http, "/me").bearer(&unknown).send().await;
        answer.is_denied(Reason::KeysUnavailable);
        second.origin.saw_nothing();
    }
    assert_eq!(fetches(&second, ISSUER, "good"), 0.0);
    let told = second
        .log()
        .all(|line| line["message"] == "restored keys from the store");
    assert_eq!(told.len(), 1);
    sick.store(false, Ordering::Relaxed);
    eventually("a fetch", || fetches(&second, ISSUER, "good") >= 1.0).await;
    second.judged(Http::Two, &token).await.is_ok();
}

#[tokio::test]
async fn while_a_key_is_missing_every_class_of_route_follows_the_failure_matrix() {
    let server = Origin::start();
    server.on("/keys", |exchange| exchange.reply(&Reply::new(503)));
    let gateway = Gateway::with(|config| {
        config.set("tokens", &entry(ISSUER, &jwks_url(&server)));
    })
    .await;
    let token = signer("missing").sign(&gateway.issuer.claims()).unwrap();
    for (class, method, path) in [
        (AccessClass::Public, "GET", "/public/x"),
        (AccessClass::Read, "GET", "/me"),
        (AccessClass::Read, "GET", "/optional"),
        (AccessClass::Write, "POST", "/me"),
        (AccessClass::Admin, "GET", "/admin"),
    ] {
        for http in Http::BOTH {
            let answer = gateway.call(http, method, path).bearer(&token).send().await;
            match State::KeysMissing.effect(class) {
                outage::Effect::Allow => {
                    answer.is_ok();
                    gateway.origin.only();
                }
                outage::Effect::Refuse(reason) => {
                    answer.is_denied(reason);
                    gateway.origin.saw_nothing();
                }
                outage::Effect::Degrade => panic!("no caller is verified without a key"),
            }
        }
    }
}
