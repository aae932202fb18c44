//! `listen`: sockets, and what happens on each of them.
//!
//! Decides: that each socket has one purpose and an address of its own; warns of clear text that
//! other machines can read. Trusts: the files of certificates. Not here: binding and handshakes
//! (`listen`).

mod certificates;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;

use self::certificates::Tls;
use crate::config::check::Checker;
#[cfg(test)]
use crate::config::decode::KeysOf;
use crate::config::decode::{Decode, wrong};
use crate::config::macros::wire;
use crate::config::node::{Kind, Node, Text};
use crate::config::problem::Report;
use crate::config::wire::Field;
use crate::config::wire::List;
use crate::config::wire::Value;
use crate::policy::admin::Admin;
use crate::policy::listen::{self as checked, ListenKind};

/// What to write where nothing listens.
pub(crate) const EXAMPLE: &str = "write at least one, such as `listen: [{ address: 0.0.0.0:8443, tls: { certificates: [{ cert: tls.crt, key: tls.key }] } }]`";

wire! {
    /// One socket.
    struct Listen {
        address: SocketAddr => "write an IP address and a port, such as `address: 0.0.0.0:8443`",
        tls: TlsOrOff,
        redirect_to_https: Redirect,
    }
}

/// `tls: off`, or how TLS is done.
#[derive(Clone, Debug)]
pub(crate) enum TlsOrOff {
    /// Clear text.
    Off,
    /// TLS.
    On(Box<Tls>),
}

impl Decode for TlsOrOff {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => Tls::decode(node, report).map(|tls| Self::On(Box::new(tls))),
            Kind::Bool(false) => Some(Self::Off),
            Kind::Text(text)
                if text.value == "off" || (text.written.is_some() && text.value == "false") =>
            {
                Some(Self::Off)
            }
            Kind::Null
            | Kind::Bool(_)
            | Kind::Integer(_)
            | Kind::Float(_)
            | Kind::Text(_)
            | Kind::List(_)
            | Kind::Broken => wrong(&node, "`off`, or a mapping with `certificates`", report),
        }
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        Tls::keys(all);
    }
}

/// `redirect_to_https: true` for port 443, or another port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redirect(u16);

impl Decode for Redirect {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let place = node.place.clone();
        let port = match &node.kind {
            Kind::Bool(true) => 443,
            Kind::Integer(port) => *port,
            Kind::Text(Text {
                value,
                written: Some(_),
            }) if value == "true" => 443,
            Kind::Text(Text {
                written: Some(_), ..
            }) => i128::decode(node, report)?,
            Kind::Null
            | Kind::Bool(_)
            | Kind::Float(_)
            | Kind::Text(_)
            | Kind::List(_)
            | Kind::Map(_)
            | Kind::Broken => return wrong(&node, "`true` or a port", report),
        };
        let port = u16::try_from(port).ok().filter(|port| *port != 0);
        port.map(Self).or_else(|| {
            report.refuse(
                &place,
                "is not a port; write `true` for 443, or a number from 1 to 65535",
            )
        })
    }
}

impl Checker<'_> {
    /// Every socket. None may take the address of another one.
    pub(crate) fn listen(
        &mut self,
        field: &Field<List<Listen>>,
        admin: Option<&Admin>,
    ) -> Option<Vec<checked::Listen>> {
        let list = &field.good()?.value;
        let listen = self.each(list, |checker, item| checker.socket(&item.value));

        let mut taken: HashMap<SocketAddr, String> = HashMap::new();
        taken.extend(admin.map(|admin| (admin.address, "admin".to_owned())));
        let addresses = list.items.iter();
        for Value { value, place } in addresses.filter_map(|item| item.value.address.good()) {
            match taken.get(value) {
                // Port 0 takes a free port each time.
                Some(other) if value.port() != 0 => {
                    let message = format!("is also the address of `{other}`; write another port");
                    self.report.problem(place, message);
                }
                Some(_) => {}
                None => drop(taken.insert(*value, place.key.clone())),
            }
        }
        listen
    }

    fn socket(&mut self, wire: &Listen) -> Option<checked::Listen> {
        let kind = self.listen_kind(wire);
        Some(checked::Listen {
            address: wire.address.good()?.value,
            kind: kind?,
        })
    }

    fn listen_kind(&mut self, wire: &Listen) -> Option<ListenKind> {
        match (wire.tls.optional()?, wire.redirect_to_https.optional()?) {
            (Some(tls), None) => match &tls.value {
                TlsOrOff::On(tls) => self.tls(tls).map(ListenKind::Tls),
                TlsOrOff::Off => {
                    if let Some(address) = wire.address.good()
                        && !address.value.ip().is_loopback()
                    {
                        self.report.warn(&tls.place, "tokens arrive here in clear text; keep this port reachable only for the edge that ends TLS");
                    }
                    Some(ListenKind::Plain)
                }
            },
            (None, Some(redirect)) => Some(ListenKind::RedirectToHttps {
                port: redirect.value.0,
            }),
            (None, None) => self.report.refuse_instead(
                &wire.place,
                "does not say what happens on a connection",
                "write one of `tls: { certificates: … }`, `tls: off` and `redirect_to_https: true`",
            ),
            (Some(_), Some(redirect)) => self.report.refuse(
                &redirect.place,
                "cannot be combined with `tls`; remove one of the two",
            ),
        }
    }
}
