//! Host names, addresses and URLs.
//!
//! Decides: their one spelling, and that nothing is in them that would be ignored, such as a password, a fragment, or bits behind a prefix. Trusts:
//! nothing. Not here: what is reached under them.

use std::net::{IpAddr, SocketAddr};

use super::Checker;
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::listen::TrustedProxies;
use crate::policy::side_url::host;

impl Checker<'_> {
    /// Host names without port, lower case. Nothing written means any host.
    pub(super) fn hosts(&mut self, field: &Field<List<Text>>) -> Option<Vec<String>> {
        let list = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(list) => list,
        };
        list.value.at_least_one(&list.place, self.report);
        self.each(&list.value, |checker, text| {
            let name = host(&text.value.value);
            if name.is_none() {
                let message = format!("`{}` is not a host name", text.value.shown());
                checker.report.problem_instead(&text.place, message, "write the name alone, without scheme, port and path, such as `api.example.com`");
            }
            name
        })
    }

    /// An address with its port.
    pub(super) fn address(&mut self, text: &Value<Text>) -> Option<SocketAddr> {
        let address = text.value.value.parse().ok();
        if address.is_none() {
            let message = format!("`{}` is not an address with a port", text.value.shown());
            self.report.problem_instead(
                &text.place,
                message,
                "write an IP address and a port, such as `0.0.0.0:8443` or `[::]:8443`",
            );
        }
        address
    }

    /// Whose `X-Forwarded-For` is believed.
    pub(super) fn trusted_proxies(
        &mut self,
        field: &Field<file::TrustedProxies>,
    ) -> Option<TrustedProxies> {
        let wire = match field {
            Field::Absent => {
                return Some(TrustedProxies {
                    from: Vec::new(),
                    hops: 1,
                });
            }
            Field::Bad => return None,
            Field::Good(wire) => wire,
        };
        let hops = self.number(&wire.value.hops, 1..=16, 1);
        let example = "write the networks of your proxies, such as `from: [10.0.0.0/8]`";
        let from = wire
            .value
            .from
            .required(&wire.place, "from", example, self.report)?;
        from.value.at_least_one(&from.place, self.report);
        let from = self.each(&from.value, Self::network);
        Some(TrustedProxies {
            from: from?,
            hops: hops?,
        })
    }

    fn network(&mut self, text: &Value<Text>) -> Option<ipnet::IpNet> {
        let shown = text.value.shown();
        if let Ok(address) = text.value.value.parse::<IpAddr>() {
            return Some(address.into());
        }
        let Ok(network) = text.value.value.parse::<ipnet::IpNet>() else {
            let message = format!("`{shown}` is not an address or a network");
            self.report.problem_instead(
                &text.place,
                message,
                "write an IP address, or a network such as `10.0.0.0/8`",
            );
            return None;
        };
        if network.trunc() != network {
            self.report.problem(&text.place, format!("`{shown}` has bits of an address behind its prefix; write the first address of the network"));
            return None;
        }
        if network.prefix_len() == 0 {
            self.report.warn(
                &text.place,
                "every client is believed about its own address",
            );
        }
        Some(network)
    }
}
