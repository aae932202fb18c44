//! `trusted_proxies`: whose `X-Forwarded-For` is trusted.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::listen as checked;

wire! {
    /// The proxies, and how many of them a request passes.
    struct TrustedProxies {
        from: List<Text> => "write the networks of your proxies, such as `from: [10.0.0.0/8]`",
        hops: usize [1..=16] = 1,
    }
}

impl Checker<'_> {
    /// Nothing written means that no address is trusted.
    pub(crate) fn trusted_proxies(
        &mut self,
        field: &Field<TrustedProxies>,
    ) -> Option<checked::TrustedProxies> {
        let Some(wire) = field.optional()? else {
            return Some(checked::TrustedProxies {
                from: Vec::new(),
                hops: 1,
            });
        };
        Some(checked::TrustedProxies {
            from: self.each(&wire.value.from.good()?.value, Self::network)?,
            hops: wire.value.hops()?,
        })
    }

    fn network(&mut self, text: &Value<Text>) -> Option<IpNet> {
        let read = |text: &str| match text.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address)),
            Err(_) => text.parse().ok(),
        };
        let network = text.parse(
            read,
            "is not an address or a network",
            "write an IP address, or a network such as `10.0.0.0/8`",
            self.report,
        )?;
        if network.trunc() != network {
            let message = format!(
                "`{}` has address bits set after its prefix; write the first address of the network",
                text.value.shown()
            );
            return self.report.refuse(&text.place, message);
        }
        if network.prefix_len() == 0 {
            let message = "every client can forge its own address: all networks are trusted";
            self.report.warn(&text.place, message);
        }
        Some(network)
    }
}
