//! Sockets, their certificates, and the CA of client certificates.
//!
//! Decides: that each socket says in one way what happens on it, and that a certificate is readable, of today, and its key's; warns of clear text.
//! Trusts: the files. Not here: binding and handshakes (`listen`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use super::{Checker, or};
use crate::config::file::{self, File, Redirect, TlsOrOff};
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, Value};
use crate::policy::admin::Admin;
use crate::policy::listen::{Certificate, ClientAuth, Listen, ListenKind, Tls};

const EXAMPLE: &str = "write at least one, such as `listen: [{ address: 0.0.0.0:8443, tls: { certificates: [{ cert: tls.crt, key: tls.key }] } }]`";

impl Checker<'_> {
    /// Every socket.
    pub(super) fn listen(&mut self, file: &File, admin: Option<&Admin>) -> Option<Vec<Listen>> {
        let list = file
            .listen
            .required(&file.place, "listen", EXAMPLE, self.report)?;
        list.value.at_least_one(&list.place, self.report);
        let listen = self.each(&list.value, |checker, item| checker.socket(&item.value));

        let mut taken: HashMap<SocketAddr, String> = HashMap::new();
        taken.extend(admin.map(|admin| (admin.address, "admin".to_owned())));
        for text in list
            .value
            .items
            .iter()
            .filter_map(|item| item.value.address.good())
        {
            let Ok(address) = text.value.value.parse::<SocketAddr>() else {
                continue;
            };
            match taken.get(&address) {
                // Port 0 takes a free port each time.
                Some(other) if address.port() != 0 => {
                    self.report.problem(
                        &text.place,
                        format!("is also the address of `{other}`; write another port"),
                    );
                }
                Some(_) => {}
                None => drop(taken.insert(address, text.place.key.clone())),
            }
        }
        listen
    }

    fn socket(&mut self, wire: &file::Listen) -> Option<Listen> {
        let example = "write an IP address and a port, such as `address: 0.0.0.0:8443`";
        let text = wire
            .address
            .required(&wire.place, "address", example, self.report);
        let address = text.and_then(|text| self.address(text));
        let kind = match (&wire.tls, &wire.redirect_to_https) {
            (Field::Good(tls), Field::Absent) => match &tls.value {
                TlsOrOff::On(tls) => Some(ListenKind::Tls(self.tls(tls)?)),
                TlsOrOff::Off => {
                    if address.is_some_and(|address| !address.ip().is_loopback()) {
                        self.report.warn(&tls.place, "tokens arrive here in clear text; keep this port reachable only for the edge that ends TLS");
                    }
                    Some(ListenKind::Plain)
                }
            },
            (Field::Absent, Field::Good(redirect)) => self.redirect(redirect),
            (Field::Absent, Field::Absent) => {
                let choice = "write one of `tls: { certificates: … }`, `tls: off` and `redirect_to_https: true`";
                self.report.problem_instead(
                    &wire.place,
                    "does not say what happens on a connection",
                    choice,
                );
                None
            }
            (Field::Bad, Field::Absent) | (Field::Absent, Field::Bad) => None,
            (_, Field::Good(Value { place, .. })) => {
                self.report
                    .problem(place, "cannot stand beside `tls`; remove one of the two");
                None
            }
            (_, Field::Bad) => None,
        };
        Some(Listen {
            address: address?,
            kind: kind?,
        })
    }

    fn redirect(&mut self, redirect: &Value<Redirect>) -> Option<ListenKind> {
        let port = match redirect.value {
            Redirect::Default => Some(443),
            Redirect::Port(port) => u16::try_from(port).ok().filter(|port| *port != 0),
        };
        if port.is_none() {
            self.report.problem(
                &redirect.place,
                "is not a port; write `true` for 443, or a number from 1 to 65535",
            );
        }
        Some(ListenKind::RedirectToHttps { port: port? })
    }

    fn tls(&mut self, wire: &file::Tls) -> Option<Tls> {
        let example = "write `certificates: [{ cert: tls.crt, key: tls.key }]`";
        let list = wire
            .certificates
            .required(&wire.place, "certificates", example, self.report);
        let certificates = list.and_then(|list| {
            list.value.at_least_one(&list.place, self.report);
            self.each(&list.value, |checker, item| {
                checker.certificate(&item.value)
            })
        });
        let client = self.client(wire);
        if let (Field::Good(resumption), true) = (&wire.resumption, wire.client_ca.is_written())
            && resumption.value
        {
            let message = "a resumed connection would not show its client certificate again, and a changed `client_ca` would not be asked; remove `resumption`, or write `false`";
            self.report.problem(&resumption.place, message);
        }
        let resumption = or(&wire.resumption, !wire.client_ca.is_written());
        Some(Tls {
            certificates: certificates?,
            client: client?,
            resumption: resumption?,
        })
    }

    fn certificate(&mut self, wire: &file::Certificate) -> Option<Certificate> {
        let cert = wire.cert.required(
            &wire.place,
            "cert",
            "write the path of a PEM file with the chain, leaf first",
            self.report,
        );
        let key = wire.key.required(
            &wire.place,
            "key",
            "write the path of a PEM file with the private key",
            self.report,
        );
        let chain = cert.and_then(|cert| self.chain(cert));
        let private = key.and_then(|key| self.private_key(key));
        let (cert, key, (path, chain), private) = (cert?, key?, chain?, private?);

        let leaf = chain.first()?.clone();
        let certified = match CertifiedKey::from_der(
            chain,
            private,
            &rustls::crypto::aws_lc_rs::default_provider(),
        ) {
            Ok(certified) => certified,
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                self.report
                    .problem(&key.place, "is not the key of the certificate in `cert`");
                return None;
            }
            Err(error) => {
                self.report
                    .problem(&key.place, format!("cannot be used: {error}"));
                return None;
            }
        };
        let names = self.leaf(&leaf, &cert.place)?;
        Some(Certificate {
            cert: path,
            key: Arc::new(certified),
            names,
        })
    }

    fn chain(
        &mut self,
        name: &Value<Text>,
    ) -> Option<(std::path::PathBuf, Vec<CertificateDer<'static>>)> {
        let (path, pem) = self.inputs.read(name, self.report)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Some((path, chain)),
            Ok(_) | Err(_) => {
                let message = format!("`{}` holds no certificate in PEM form", name.value.shown());
                self.report.problem_instead(
                    &name.place,
                    message,
                    "it should hold `-----BEGIN CERTIFICATE-----` blocks",
                );
                None
            }
        }
    }

    fn private_key(&mut self, name: &Value<Text>) -> Option<PrivateKeyDer<'static>> {
        let (_, pem) = self.inputs.read(name, self.report)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).ok();
        if key.is_none() {
            let message = format!("`{}` holds no private key in PEM form", name.value.shown());
            self.report.problem_instead(
                &name.place,
                message,
                "it should hold a `-----BEGIN PRIVATE KEY-----` block, not encrypted",
            );
        }
        key
    }

    /// The names of a leaf. Says if its time is over, which is a warning: an old certificate is better than no gateway.
    fn leaf(&mut self, leaf: &CertificateDer<'_>, place: &Place) -> Option<Vec<String>> {
        let Ok(parsed) = webpki::EndEntityCert::try_from(leaf) else {
            self.report.problem(
                place,
                "the first certificate cannot be read as X.509 version 3",
            );
            return None;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(
            u64::try_from(self.now).unwrap_or_default(),
        ));
        let usage = webpki::KeyUsage::server_auth();
        // No anchors: the chain is for clients to judge, and the validity of the leaf is looked at before its issuer.
        match parsed.verify_for_usage(&[], &[], &[], now, usage, None, None) {
            Err(webpki::Error::CertExpired { .. }) => {
                self.report.warn(place, "the certificate has expired")
            }
            Err(webpki::Error::CertNotValidYet { .. }) => {
                self.report.warn(place, "the certificate is not valid yet")
            }
            Ok(_) | Err(_) => {}
        }
        Some(
            parsed
                .valid_dns_names()
                .map(str::to_ascii_lowercase)
                .collect(),
        )
    }

    fn client(&mut self, wire: &file::Tls) -> Option<Option<ClientAuth>> {
        let ca = match &wire.client_ca {
            Field::Good(ca) => ca,
            Field::Bad => return None,
            Field::Absent => {
                if let Some(mode) = wire.client_auth.good() {
                    self.report.problem_instead(
                        &mode.place,
                        "has no effect without `client_ca`",
                        "write `client_ca` with the path of a PEM file, or remove `client_auth`",
                    );
                }
                return (!wire.client_auth.is_written()).then_some(None);
            }
        };
        // Whoever names a CA means to ask for certificates.
        let mode = or(&wire.client_auth, file::ClientAuth::Required);
        let roots = self.roots(ca)?;
        Some(Some(ClientAuth {
            roots,
            required: mode? == file::ClientAuth::Required,
        }))
    }

    /// The certificates of a file, as those that others must lead to.
    pub(super) fn roots(&mut self, ca: &Value<Text>) -> Option<Arc<RootCertStore>> {
        let (_, chain) = self.chain(ca)?;
        let mut roots = RootCertStore::empty();
        for certificate in chain {
            if let Err(error) = roots.add(certificate) {
                self.report.problem(
                    &ca.place,
                    format!("a certificate of this file cannot be a root: {error}"),
                );
                return None;
            }
        }
        Some(Arc::new(roots))
    }
}
