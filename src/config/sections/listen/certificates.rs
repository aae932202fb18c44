//! `listen[].tls`: certificates, their keys, and the CA of client certificates.
//!
//! A certificate must be readable and belong to its key. One that is not valid today is a warning:
//! an old certificate is better than no gateway.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use crate::config::check::Checker;
use crate::config::macros::{wire, words};
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, List, Value};
use crate::policy::listen as checked;

wire! {
    /// TLS of one socket.
    struct Tls {
        certificates: List<Certificate> => "write `certificates: [{ cert: tls.crt, key: tls.key }]`",
        client_ca: Text,
        // Whoever names a CA means to ask for certificates.
        client_auth: ClientAuth = ClientAuth::Required,
        resumption: bool,
    }

    /// A chain and its key.
    struct Certificate {
        cert: Text => "write the path of a PEM file with the chain, leaf first",
        key: Text => "write the path of a PEM file with the private key",
    }
}

/// Whether a connection without a client certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// It is let in.
    Optional,
    /// It is refused.
    Required,
}

words! {
    impl ClientAuth { "optional" => ClientAuth::Optional, "required" => ClientAuth::Required, }
}

impl Checker<'_> {
    pub(super) fn tls(&mut self, wire: &Tls) -> Option<checked::Tls> {
        let certificates = wire.certificates.good().and_then(|list| {
            self.each(&list.value, |checker, item| {
                checker.certificate(&item.value)
            })
        });
        let client = self.client_auth(wire);
        if let (Some(resumption), true) = (wire.resumption.good(), wire.client_ca.is_written())
            && resumption.value
        {
            let message = "a resumed connection would not show its client certificate again, and a changed `client_ca` would not be asked; remove `resumption`, or write `false`";
            self.report.problem(&resumption.place, message);
        }
        Some(checked::Tls {
            certificates: certificates?,
            client: client?,
            resumption: wire.resumption.or(!wire.client_ca.is_written())?,
        })
    }

    fn certificate(&mut self, wire: &Certificate) -> Option<checked::Certificate> {
        let chain = wire.cert.good().and_then(|cert| self.chain(cert));
        let private = wire.key.good().and_then(|key| self.private_key(key));
        let ((path, chain), private) = (chain?, private?);

        let leaf = chain.first()?.clone();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = match CertifiedKey::from_der(chain, private, &provider) {
            Ok(certified) => certified,
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let message = "is not the key of the certificate in `cert`";
                return self.report.refuse(wire.key.place()?, message);
            }
            Err(error) => {
                let message = format!("cannot be used: {error}");
                return self.report.refuse(wire.key.place()?, message);
            }
        };
        Some(checked::Certificate {
            cert: path,
            key: Arc::new(certified),
            names: self.leaf_names(&leaf, wire.cert.place()?)?,
        })
    }

    fn chain(&mut self, name: &Value<Text>) -> Option<(PathBuf, Vec<CertificateDer<'static>>)> {
        let (path, pem) = self.inputs.read(name, self.report)?;
        let chain: Option<Vec<_>> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .ok();
        let chain = name.parse(
            |_| chain.filter(|chain| !chain.is_empty()),
            "holds no certificate in PEM form",
            "it should hold `-----BEGIN CERTIFICATE-----` blocks",
            self.report,
        )?;
        Some((path, chain))
    }

    fn private_key(&mut self, name: &Value<Text>) -> Option<PrivateKeyDer<'static>> {
        let (_, pem) = self.inputs.read(name, self.report)?;
        name.parse(
            |_| PrivateKeyDer::from_pem_slice(&pem).ok(),
            "holds no private key in PEM form",
            "it should hold a `-----BEGIN PRIVATE KEY-----` block, not encrypted",
            self.report,
        )
    }

    /// The host names of a leaf certificate.
    fn leaf_names(&mut self, leaf: &CertificateDer<'_>, place: &Place) -> Option<Vec<String>> {
        let Ok(parsed) = webpki::EndEntityCert::try_from(leaf) else {
            let message = "the first certificate cannot be read as X.509 version 3";
            return self.report.refuse(place, message);
        };
        let now = Duration::from_secs(u64::try_from(self.now).unwrap_or_default());
        let now = UnixTime::since_unix_epoch(now);
        let usage = webpki::KeyUsage::server_auth();
        // No anchors: clients judge the chain, and webpki looks at the validity of the leaf before
        // its issuer.
        match parsed.verify_for_usage(&[], &[], &[], now, usage, None, None) {
            Err(webpki::Error::CertExpired { .. }) => {
                self.report.warn(place, "the certificate has expired");
            }
            Err(webpki::Error::CertNotValidYet { .. }) => {
                self.report.warn(place, "the certificate is not valid yet");
            }
            Ok(_) | Err(_) => {}
        }
        let names = parsed.valid_dns_names();
        Some(names.map(str::to_ascii_lowercase).collect())
    }

    fn client_auth(&mut self, wire: &Tls) -> Option<Option<checked::ClientAuth>> {
        if let (Field::Absent, Some(mode)) = (&wire.client_ca, wire.client_auth.good()) {
            return self.report.refuse_instead(
                &mode.place,
                "has no effect without `client_ca`",
                "write `client_ca` with the path of a PEM file, or remove `client_auth`",
            );
        }
        wire.client_ca.then(|ca| {
            let roots = self.roots(ca);
            Some(checked::ClientAuth {
                roots: roots?,
                required: wire.client_auth()? == ClientAuth::Required,
            })
        })
    }

    /// The certificates of a file, as trust anchors.
    pub(crate) fn roots(&mut self, ca: &Value<Text>) -> Option<Arc<RootCertStore>> {
        let (_, chain) = self.chain(ca)?;
        let mut roots = RootCertStore::empty();
        for certificate in chain {
            if let Err(error) = roots.add(certificate) {
                let message = format!("a certificate of this file cannot be a root: {error}");
                return self.report.refuse(&ca.place, message);
            }
        }
        Some(Arc::new(roots))
    }
}
