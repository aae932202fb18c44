//! Keys behind a URL.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::checked::JwksUrl;
use crate::side_call::{SideCallError, SideCalls};
use crate::tokens::MAX_DOCUMENT;

/// A server on a free port that gives these answers in turn, the last one for ever.
async fn server(answers: Vec<String>) -> (JwksUrl, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
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
    let path = "/keys?x=1".to_owned();
    (
        JwksUrl {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port,
            path,
        },
        asked,
    )
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn calls() -> Arc<SideCalls> {
    Arc::new(SideCalls::with_roots(rustls::RootCertStore::empty()).unwrap())
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
    let (url, asked) = server(vec![
        answer("200 OK", "{}"),
        answer("200 OK", &long),
        chunked,
        redirect.to_owned(),
        answer("204 No Content", ""),
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort".to_owned(),
        "SSH-2.0-server\r\n".to_owned(),
    ])
    .await;
    let calls = calls();
    assert_eq!(calls.get(&url).await.unwrap().as_ref(), b"{}");
    assert!(matches!(
        calls.get(&url).await,
        Err(SideCallError::Exchange(_))
    ));
    assert!(matches!(
        calls.get(&url).await,
        Err(SideCallError::Exchange(_))
    ));
    let found = hyper::StatusCode::FOUND;
    assert_eq!(
        calls.get(&url).await.unwrap_err(),
        SideCallError::Status(found)
    );
    let empty = hyper::StatusCode::NO_CONTENT;
    assert_eq!(
        calls.get(&url).await.unwrap_err(),
        SideCallError::Status(empty)
    );
    assert!(matches!(
        calls.get(&url).await,
        Err(SideCallError::Exchange(_))
    ));
    assert!(matches!(
        calls.get(&url).await,
        Err(SideCallError::Exchange(_))
    ));
    assert_eq!(
        asked.load(Ordering::SeqCst),
        7,
        "the redirect was not followed"
    );
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = JwksUrl {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port,
        path: "/".to_owned(),
    };
    let calls = SideCalls::with_roots(rustls::RootCertStore::empty()).unwrap();
    let calls = calls.with_deadline(Duration::from_millis(20));
    assert_eq!(calls.get(&url).await.unwrap_err(), SideCallError::Deadline);
}

#[tokio::test]
async fn a_certificate_that_leads_to_no_root_is_refused() {
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
    let url = |host: &str| JwksUrl {
        tls: true,
        host: host.to_owned(),
        port,
        path: "/".to_owned(),
    };
    let refused = calls().get(&url("localhost")).await.unwrap_err();
    assert!(matches!(refused, SideCallError::Connect(_)), "{refused}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let calls = SideCalls::with_roots(roots).unwrap();
    assert_eq!(
        calls.get(&url("localhost")).await.unwrap().as_ref(),
        b"secure"
    );
    // The name must fit, too.
    assert!(matches!(
        calls.get(&url("127.0.0.1")).await,
        Err(SideCallError::Connect(_))
    ));
}

#[tokio::test]
async fn a_new_source_is_fetched_at_once_and_again_after_a_failure() {
    let es = signer(Algorithm::ES256);
    let jwks = answer("200 OK", &es.public_jwks().unwrap());
    let (url, asked) = server(vec![answer("500 Oops", ""), answer("200 OK", "{}"), jwks]).await;
    let sources = Arc::new(KeySources::new());
    let refresher = tokio::spawn(Arc::clone(&sources).refresh_forever(calls()));
    let entries = [entry(&[Algorithm::ES256], KeySource::Url(url.clone()))];
    let tokens = Tokens::new(&entries, new_cache(), &sources).unwrap();
    let token = es.sign(&claims()).unwrap();
    assert_eq!(
        tokens.verify(&token, NOW).unwrap_err().reason,
        Reason::KeysUnavailable
    );

    let mut errors = Vec::new();
    let source = sources.get_or_insert(&url);
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
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert_eq!((source.status().error, source.status().failures), (None, 0));
    expect_user(tokens.verify(&token, NOW));
    refresher.abort();
}

#[test]
fn a_source_is_shared_between_snapshots_and_ends_with_the_last() {
    let sources = KeySources::new();
    let url = JwksUrl {
        tls: true,
        host: "k.test".to_owned(),
        port: 443,
        path: "/".to_owned(),
    };
    let first = sources.get_or_insert(&url);
    let second = sources.get_or_insert(&url);
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(sources.live().len(), 1);
    drop((first, second));
    assert!(sources.live().is_empty());
    assert!(!sources.get_or_insert(&url).has_keys());
}

#[test]
fn pauses_double_up_to_thirty_seconds() {
    let sources = KeySources::new();
    let url = JwksUrl {
        tls: true,
        host: "k.test".to_owned(),
        port: 443,
        path: "/".to_owned(),
    };
    let source = sources.get_or_insert(&url);
    let pauses: Vec<_> = (0..7)
        .map(|_| source.receive(Err("away".to_owned())).as_secs())
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
}
