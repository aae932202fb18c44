//! Keys behind a URL.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::http_client::{CallError, HttpClient, HttpClients, Limits};
use crate::store::{Kind, Memory, Store};
use crate::tokens::FetchContext;
use crate::tokens::keys::MAX_DOCUMENT;

/// A server on a free port that gives these answers in turn, and repeats the last one.
async fn server(answers: Vec<String>) -> (Publication, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let turn = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let answer = answers[turn].clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET /keys?x=1 HTTP/1.1\r\n"));
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let publication = published_at(&format!("http://127.0.0.1:{port}/keys?x=1"));
    (publication, served)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn calls() -> HttpClients {
    HttpClients::with_roots(rustls::RootCertStore::empty()).unwrap()
}

const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    body: MAX_DOCUMENT,
};

fn client(calls: &HttpClients, publication: &Publication) -> HttpClient {
    calls.client(&publication.url().site, LIMITS)
}

/// Fetches the document at the URL, or the reason why not.
async fn get(client: &HttpClient, publication: &Publication) -> Result<Vec<u8>, CallError> {
    let reply = client
        .get(&publication.url().path, "application/json")
        .await?;
    Ok(reply.body.to_vec())
}

fn context(store: &Arc<Memory>) -> FetchContext {
    FetchContext {
        calls: calls(),
        store: Arc::clone(store) as Arc<dyn Store>,
        clock: || NOW,
    }
}

fn store() -> Arc<Memory> {
    Arc::new(Memory::new(16, || NOW))
}

#[tokio::test]
async fn only_a_200_of_bounded_size_counts() {
    let long = "x".repeat(MAX_DOCUMENT + 1);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let redirect =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (publication, served) = server(vec![
        answer("200 OK", "{}"),
        answer("200 OK", &long),
        chunked,
        redirect.to_owned(),
        answer("204 No Content", ""),
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort".to_owned(),
        "SSH-2.0-server\r\n".to_owned(),
    ])
    .await;
    let client = client(&calls(), &publication);
    assert_eq!(get(&client, &publication).await.unwrap(), b"{}");
    assert!(matches!(
        get(&client, &publication).await,
        Err(CallError::Exchange(_))
    ));
    assert!(matches!(
        get(&client, &publication).await,
        Err(CallError::Exchange(_))
    ));
    let found = hyper::StatusCode::FOUND;
    assert_eq!(
        get(&client, &publication).await.unwrap_err(),
        CallError::Status(found)
    );
    let empty = hyper::StatusCode::NO_CONTENT;
    assert_eq!(
        get(&client, &publication).await.unwrap_err(),
        CallError::Status(empty)
    );
    assert!(matches!(
        get(&client, &publication).await,
        Err(CallError::Exchange(_))
    ));
    assert!(matches!(
        get(&client, &publication).await,
        Err(CallError::Exchange(_))
    ));
    assert_eq!(
        served.load(Ordering::SeqCst),
        7,
        "the redirect was not followed"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_takes_no_longer_than_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let publication = published_at(&format!("http://127.0.0.1:{port}/"));
    let deadline = Duration::from_millis(20);
    let limits = Limits { deadline, ..LIMITS };
    let client = calls().client(&publication.url().site, limits);
    assert_eq!(
        get(&client, &publication).await.unwrap_err(),
        CallError::Deadline
    );
}

#[tokio::test]
async fn a_certificate_without_a_trusted_root_is_refused() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(answer("200 OK", "secure").as_bytes())
                .await;
            let _ = stream.shutdown().await;
        }
    });
    let publication = |host: &str| published_at(&format!("https://{host}:{port}/"));
    let refused = client(&calls(), &publication("localhost"));
    let refused = get(&refused, &publication("localhost")).await.unwrap_err();
    assert!(matches!(refused, CallError::Connect(_)), "{refused}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let calls = HttpClients::with_roots(roots).unwrap();
    let good = client(&calls, &publication("localhost"));
    assert_eq!(
        get(&good, &publication("localhost")).await.unwrap(),
        b"secure"
    );
    // The name must fit, too.
    let named = client(&calls, &publication("127.0.0.1"));
    assert!(matches!(
        get(&named, &publication("127.0.0.1")).await,
        Err(CallError::Connect(_))
    ));
}

#[tokio::test]
async fn a_fetch_task_that_panics_is_restarted_after_a_pause() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let (publication, _) = server(vec![answer(
        "200 OK",
        &signer(Algorithm::ES256).public_jwks().unwrap(),
    )])
    .await;
    let sources = Arc::new(key_sources());
    let source = sources.get_or_insert(ISSUER, &publication);
    let context = FetchContext {
        clock: || {
            assert!(ASKED.fetch_add(1, Ordering::SeqCst) > 0, "a defect");
            NOW
        },
        ..context(&store())
    };
    let task = tokio::spawn(Arc::clone(&sources).refresh_forever(context));
    while !source.has_keys() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(ASKED.load(Ordering::SeqCst) > 1);
    task.abort();
}

#[tokio::test]
async fn a_new_source_is_fetched_at_once_and_again_after_a_failure() {
    let es = signer(Algorithm::ES256);
    let jwks = answer("200 OK", &es.public_jwks().unwrap());
    let (publication, served) =
        server(vec![answer("500 Oops", ""), answer("200 OK", "{}"), jwks]).await;
    let sources = Arc::new(key_sources());
    let refresher = tokio::spawn(Arc::clone(&sources).refresh_forever(context(&store())));
    let entries = [entry(
        &[Algorithm::ES256],
        KeySource::Published(publication.clone()),
    )];
    let tokens = Tokens::new(&entries, new_cache(), &sources).unwrap();
    let token = es.sign(&claims()).unwrap();
    assert_eq!(
        tokens.verify(&token, NOW).unwrap_err().reason,
        Reason::KeysUnavailable
    );

    let mut errors = Vec::new();
    let source = sources.get_or_insert(ISSUER, &publication);
    while !tokens.has_all_keys(NOW) {
        errors.extend(source.status().error);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    errors.dedup();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].contains("status 500") && errors[1].contains("`keys`"),
        "{errors:?}"
    );
    assert_eq!(served.load(Ordering::SeqCst), 3);
    assert_eq!((source.status().error, source.status().failures), (None, 0));
    expect_user(tokens.verify(&token, NOW));
    refresher.abort();
}

#[tokio::test]
async fn after_a_restart_keys_are_restored_with_their_age_until_a_fetch_succeeds() {
    let (es, other) = (
        signer(Algorithm::ES256),
        Signer::generate(Algorithm::ES256).unwrap().with_kid("new"),
    );
    let [old, new] = [&es, &other].map(|signer| answer("200 OK", &signer.public_jwks().unwrap()));
    let sick = || answer("503 Away", "");
    let (publication, _) = server(vec![old, sick(), sick(), new]).await;
    let store = store();
    let entries = [entry(
        &[Algorithm::ES256],
        KeySource::Published(publication.clone()),
    )];
    let start = |clock: fn() -> i64| {
        let sources = Arc::new(key_sources());
        let context = FetchContext {
            clock,
            ..context(&store)
        };
        let task = tokio::spawn(Arc::clone(&sources).refresh_forever(context));
        (
            Tokens::new(&entries, new_cache(), &sources).unwrap(),
            sources.get_or_insert(ISSUER, &publication),
            task,
        )
    };
    let (tokens, source, task) = start(|| NOW);
    let stored = async || {
        let name = format!("jwks {} {ISSUER}", publication.url());
        store.get(Kind::KeySet, name.as_bytes()).await.unwrap()
    };
    while stored().await.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let token = es.sign(&claims().expiring(NOW + 900_000)).unwrap();
    expect_user(tokens.verify(&token, NOW));
    task.abort();
    drop((tokens, source));

    // The next process finds the server failing, and uses what the first one stored.
    let (tokens, source, task) = start(|| NOW + 1000);
    while source.status().failures == 0 || !source.has_keys() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(source.age(NOW + 1000), Some(1000));
    assert!(tokens.has_all_keys(NOW + 1000));
    expect_user(tokens.verify(&token, NOW + 1000));
    expect_user(tokens.verify(&token, NOW + 86_400));
    assert_eq!(
        tokens.verify(&token, NOW + 86_401).unwrap_err().reason,
        Reason::KeysUnavailable
    );
    let rotated = other.sign(&claims().expiring(NOW + 900_000)).unwrap();
    while tokens.verify(&rotated, NOW + 1000).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(source.age(NOW + 1000), Some(0));
    assert!(tokens.verify(&token, NOW + 1000).is_err());
    task.abort();
}

#[tokio::test]
async fn an_unreadable_record_counts_as_absent() {
    let es = signer(Algorithm::ES256);
    let sick = answer("503 Away", "");
    let jwks = answer("200 OK", &es.public_jwks().unwrap());
    let (publication, _) = server(vec![sick, jwks]).await;
    let store = store();
    let name = format!("jwks {} {ISSUER}", publication.url());
    let put = store.put(Kind::KeySet, name.as_bytes(), b"rubbish", NOW + 1000);
    put.await.unwrap();
    let sources = Arc::new(key_sources());
    let source = sources.get_or_insert(ISSUER, &publication);
    let task = tokio::spawn(Arc::clone(&sources).refresh_forever(context(&store)));
    while source.status().failures == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!source.has_keys());
    while !source.has_keys() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    task.abort();
}

#[test]
fn a_source_is_shared_between_snapshots_and_ends_with_the_last() {
    let sources = key_sources();
    let publication = published_at("https://k.test/");
    let first = sources.get_or_insert(ISSUER, &publication);
    let second = sources.get_or_insert(ISSUER, &publication);
    assert!(Arc::ptr_eq(&first, &second));
    // Two issuers with one URL do not vouch for each other.
    let other = sources.get_or_insert("https://other.test", &publication);
    assert!(!Arc::ptr_eq(&first, &other));
    let held = Arc::downgrade(&first);
    drop((first, second));
    assert!(held.upgrade().is_none());
    assert!(!sources.get_or_insert(ISSUER, &publication).has_keys());
}

#[tokio::test]
async fn a_source_without_users_is_not_fetched() {
    let es = signer(Algorithm::ES256);
    let jwks = answer("200 OK", &es.public_jwks().unwrap());
    let (publication, served) = server(vec![jwks]).await;
    let sources = Arc::new(key_sources());
    let task = tokio::spawn(Arc::clone(&sources).refresh_forever(context(&store())));
    let source = sources.get_or_insert(ISSUER, &publication);
    let refetch = Arc::downgrade(source.refetch());
    while !source.has_keys() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(source);
    // The task references it while it sleeps, for minutes if it were not woken.
    while refetch.strong_count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(served.load(Ordering::SeqCst), 1);
    task.abort();
}
