//! What a gateway is started with: a route map, a certificate, an issuer's keys and a token; and
//! the origin behind it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::RootCertStore;
use rustls::client::Resumption;
use serde_json::json;
use tempfile::TempDir;

use crate::client::Version;
use crate::origin::Origin;

pub(crate) const PROJECT: &str = "/projects/018f5b5e-0000-7000-8000-000000000001";
pub(crate) const NOTE: &str = "/notes/018f5b5e-0000-7000-8000-000000000002";
pub(crate) const PUBLIC: &str = "/models/small/versions/latest";

const CONFIGURATION: &str = "configuration";
const MAP: &str = "foregate.yaml";

const ISSUER: &str = "https://project.supabase.co/auth/v1";
const SUBJECT: &str = "0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a69";
const KID: &str = "2026-01";

/// Long enough that no token expires while the bench runs.
const LIFETIME: i64 = 6 * 3600;

pub(crate) struct Scene {
    /// Logs and pipes. The gateway watches the folder of its configuration, and looks at that again
    /// whenever something in it is written; so that one is within.
    pub(crate) folder: TempDir,
    pub(crate) origin: Origin,
    /// The value of `authorization`.
    pub(crate) authorization: String,
    roots: RootCertStore,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::start();
        let configuration = folder.path().join(CONFIGURATION);
        fs::create_dir(&configuration).unwrap();
        let write = |name: &str, text: &str| fs::write(configuration.join(name), text).unwrap();

        let server_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])
            .and_then(|parameters| parameters.self_signed(&server_key))
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        write("cert.pem", &certificate.pem());
        write("key.pem", &server_key.serialize_pem());

        let issuer_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        write("jwks.json", &jwks(&issuer_key));
        write(MAP, &map(origin.address));
        Self {
            authorization: format!("Bearer {}", token(&issuer_key)),
            origin,
            folder,
            roots,
        }
    }

    pub(crate) fn map(&self) -> PathBuf {
        self.folder.path().join(CONFIGURATION).join(MAP)
    }

    /// The client's side of TLS. It never resumes a session: every connection costs the same.
    pub(crate) fn tls(&self, version: Version) -> Arc<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![version.alpn().to_vec()];
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

/// One worker, so that all connections are on one thread. Neither Redis nor a database, which would
/// be polled in the background. A budget that is long enough for the layers under valgrind.
fn map(origin: SocketAddr) -> String {
    format!(
        r#"
workers: 1
listen: [{{ address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: cert.pem, key: key.pem }}] }} }}]
admin: {{ address: 127.0.0.1:0 }}
budget: 5s
tokens: [{{ issuer: {ISSUER}, audience: authenticated, algorithms: ES256, jwks_file: jwks.json }}]
resources: {{ note: {{}} }}
static_facts:
  memberships: {{ {SUBJECT}: {{ 018f5b5e-0000-7000-8000-00000000000a: editor }} }}
  resources:
    note:
      018f5b5e-0000-7000-8000-000000000002:
        owner: 018f5b5e-0000-7000-8000-0000000000ff
        visibility: team-only
        teams: {{ 018f5b5e-0000-7000-8000-00000000000a: read }}
upstreams: {{ origin: {{ servers: ["http://{origin}"] }} }}
defaults: {{ upstream: origin }}
routes:
  - {{ path: "/projects/{{project_id:uuid}}", methods: [GET], access: user, resource: none }}
  - path: "/notes/{{note_id:uuid}}"
    methods: [GET]
    access: user
    resource: note
    when: "caller.aal == 'aal1' && caller.claims.role == 'authenticated'"
  - {{ path: "/models/{{*rest}}", methods: [GET], access: public }}
"#
    )
}

fn jwks(key: &rcgen::KeyPair) -> String {
    // An uncompressed point: 4, x, y.
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half));
    json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KID, "x": x, "y": y,
    }] })
    .to_string()
}

fn token(key: &rcgen::KeyPair) -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": "authenticated",
        "iat": now,
        "exp": now + LIFETIME,
        "role": "authenticated",
        "aal": "aal1",
        "session_id": "0198b5b0-7d6a-7c3e-9a55-3f1d2c4b5a70",
        "is_anonymous": false,
        "app_metadata": { "provider": "email" },
    });
    let header = Header {
        kid: Some(KID.to_owned()),
        ..Header::new(Algorithm::ES256)
    };
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    encode(&header, &claims, &key).unwrap()
}
