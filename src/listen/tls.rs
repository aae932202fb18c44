//! The rustls configurations of the listeners: which certificate a handshake gets, and whether a
//! client must show one.
//!
//! Certificates are read by `config` and reloaded by `server::reload`; an open connection
//! keeps its own.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite, version};

use crate::auth::snapshot::ListenerTls;
use crate::policy::Config;
use crate::policy::listen::{Listen, ListenKind, Tls};

/// Sessions remembered for TLS 1.2 and 1.3 resumption, per listener and configuration.
const SESSIONS: usize = 16 * 1024;

/// The rustls configurations of all listeners.
///
/// # Errors
///
/// An error of rustls, such as an empty set of client roots.
pub fn server_configs(config: &Config) -> anyhow::Result<ListenerTls> {
    let tls = |listen: &Listen| {
        server_config(&listen.kind).with_context(|| format!("listen {}", listen.address))
    };
    config.listen.iter().map(tls).collect()
}

/// The rustls configuration of a listener; `None` if it does not speak TLS.
fn server_config(kind: &ListenKind) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let ListenKind::Tls(tls) = kind else {
        return Ok(None);
    };
    let provider = Arc::new(provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
    let builder = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(client.roots.clone(), provider);
            let verifier = if client.required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(BySni::new(tls)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    // Early data could be replayed, and so could the request in it.
    config.max_early_data_size = 0;
    if tls.resumption {
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Some(Arc::new(config)))
}

/// The cryptography of a listener. Of the ciphers that rustls considers safe, AES-128 comes first,
/// whatever the client prefers. It is as unbreakable as AES-256, and its hash is SHA-256, for which
/// processors have instructions that they lack for SHA-384: a handshake hashes many times, which
/// was an eighth of its cost.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_later = |suite: &SupportedCipherSuite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    // The sort is stable, and `false` sorts first: TLS 1.3 still comes before 1.2.
    provider
        .cipher_suites
        .sort_by_key(|suite| (suite.tls13().is_none(), is_later(suite)));
    provider
}

/// Picks a certificate by server name: exact, then wildcard, then the first.
#[derive(Debug)]
struct BySni {
    certificates: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl BySni {
    fn new(tls: &Tls) -> Self {
        Self {
            certificates: tls
                .certificates
                .iter()
                .map(|certificate| (certificate.names.clone(), certificate.key.clone()))
                .collect(),
        }
    }

    fn pick(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = |wanted: &str| {
            self.certificates
                .iter()
                .find(|(names, _)| names.iter().any(|known| known == wanted))
        };
        let name = name.map(str::to_ascii_lowercase);
        let exact = name.as_deref().and_then(named);
        // A wildcard matches exactly one label (RFC 9525, section 6.3).
        let wildcard = || {
            name.as_deref()
                .and_then(|name| name.split_once('.'))
                .and_then(|(_, parent)| named(&format!("*.{parent}")))
        };
        exact
            .or_else(wildcard)
            .or_else(|| self.certificates.first())
            .map(|(_, key)| key)
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pick(hello.server_name()).cloned()
    }
}
