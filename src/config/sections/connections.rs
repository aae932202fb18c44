//! `connections`: protocol limits of every listener.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::units::{DAY, HOUR, MINUTE, PerSecond, Size, TICK, mins, secs};
use crate::config::wire::Field;
use crate::policy::listen as checked;
use crate::policy::rate::Rate;

const THREE_THOUSAND: NonZeroU32 = NonZeroU32::new(3000).unwrap();

/// TLS handshakes of one client in a second. A full one takes less than a millisecond of a core, so
/// one client takes less than a fifth of it. A choice.
const HANDSHAKES: NonZeroU32 = match NonZeroU32::new(200) {
    Some(count) => count,
    None => NonZeroU32::MIN,
};

const SECOND: Duration = Duration::from_secs(1);

/// How many times the handshakes of a second, or of whatever time the rate has, may come at once.
const BURST: NonZeroU32 = match NonZeroU32::new(5) {
    Some(times) => times,
    None => NonZeroU32::MIN,
};

wire! {
    /// Protocol limits.
    struct Connections {
        max: usize [1..=1_000_000] = 10_000,
        max_per_address: usize [1..=1_000_000],
        handshakes_per_address: Rate = Rate::new(HANDSHAKES, SECOND),
        handshake: Duration [TICK..=mins(5)] = secs(10),
        head: Duration [TICK..=mins(5)] = secs(10),
        idle: Duration [TICK..=HOUR] = secs(75),
        max_age: Duration [secs(1)..=DAY],
        body_idle: Duration [TICK..=HOUR] = secs(30),
        body_rate: PerSecond [PerSecond(0)..=PerSecond(1 << 30)] = PerSecond(1 << 10),
        body_grace: Duration [TICK..=HOUR] = secs(10),
        inspected_timeout: Duration [TICK..=HOUR] = secs(30),
        inspected_memory: Size [Size(1 << 20)..=Size(1 << 40)] = Size(64 << 20),
        inspected_share: Size [Size(1 << 20)..=Size(1 << 40)] = Size(8 << 20),
        first_token: Duration [TICK..=HOUR] = secs(10),
        max_headers: usize [16..=1000] = 100,
        // What browsers and their cookies need.
        max_head: Size [Size(8 << 10)..=Size(1 << 20)] = Size(32 << 10),
        max_uri: Size [Size(256)..=Size(64 << 10)] = Size(8 << 10),
        // Real ones have about 1 KiB.
        max_token: Size [Size(1 << 10)..=Size(64 << 10)] = Size(8 << 10),
        unsent: Size [Size(64 << 10)..=Size(1 << 30)] = Size(1 << 20),
        unsent_total: Size [Size(1 << 20)..=Size(1 << 40)] = Size(256 << 20),
        h2_streams: u32 [1..=10_000] = 100,
        h2_resets: usize [1..=10_000] = 50,
        // A signature takes up to a tenth of a millisecond: half a percent of a processor.
        refused_tokens: Rate = Rate::new(THREE_THOUSAND, MINUTE),
    }
    refused {
        "idle_shed": "always happens: when all `max` connections are taken, the one that was idle for the longest time ends for a new one; remove the key, or lower `idle`",
        "share_shed": "always happens: when all `max` connections are taken and none is idle, one of the client that has most ends; remove the key, or lower `max_per_address`",
        "client_share": "belongs to an upstream: `upstreams.NAME.client_share`; the share of connections is `max_per_address`, as a number",
        "max_connections": "is `max` here; `max_connections` is a key of an upstream",
        "max_per_client": "is `max_per_address` here",
        "max_per_ip": "is `max_per_address` here",
        "handshake_rate": "is `handshakes_per_address` here, such as `200/s`",
        "timeout": "is one limit for each phase here: `handshake`, `head`, `idle`, `body_idle`",
        "timeouts": "is one limit for each phase here: `handshake`, `head`, `idle`, `body_idle`; `timeouts` is a key of a route",
        "max_connection_age": "is `max_age` here",
        "keepalive_time": "is `max_age` here",
        "keepalive": "is `idle` here",
        "keep_alive": "is `idle` here",
        "keepalive_timeout": "is `idle` here",
        "idle_timeout": "is `idle` here",
        "header_timeout": "is `head` here",
        "read_timeout": "is `head` here for the fields of a request, and `body_idle` for its body",
        "write_timeout": "is `body_idle` here",
        "body_timeout": "is `body_idle` here for a pause, and `body_rate` for a slow client",
        "max_body": "is `body: { limit: 1MiB }` of a route, or under `defaults`",
        "max_body_size": "is `body: { limit: 1MiB }` of a route, or under `defaults`",
        "client_max_body_size": "is `body: { limit: 1MiB }` of a route, or under `defaults`",
        "max_streams": "is `h2_streams` here, for one HTTP/2 connection; `max_streams` is a key of an upstream",
        "max_concurrent_streams": "is `h2_streams` here",
        "rate_limit": "is not a key: the number of requests has no limit yet; see `max_per_address`, `refused_tokens` and `upstreams.NAME.client_share`",
    }
}

impl Checker<'_> {
    pub(crate) fn connections(
        &mut self,
        field: &Field<Connections>,
    ) -> Option<checked::Connections> {
        let wire = field.section()?;
        if wire.max_uri()? > wire.max_head()?
            && let Some(place) = wire.max_uri.place().or(wire.max_head.place())
        {
            let message = "`max_uri` is larger than `max_head`, which holds it";
            self.report.problem(place, message);
        }
        if wire.max_token()? > wire.max_head()?
            && let Some(place) = wire.max_token.place().or(wire.max_head.place())
        {
            let message = "`max_token` is larger than `max_head`, which holds it";
            self.report.problem(place, message);
        }
        if wire.unsent()? > wire.unsent_total()?
            && let Some(place) = wire.unsent.place().or(wire.unsent_total.place())
        {
            let message = "`unsent` is larger than `unsent_total`, which holds it";
            self.report.problem(place, message);
        }
        let max = wire.max();
        if let (Some(max), Some(share)) = (max, wire.max_per_address.good())
            && share.value > max
        {
            let message = format!(
                "is more than `max`, {max}: one client could take all connections; write fewer, such as {}",
                (max / 8).max(1)
            );
            self.report.problem(&share.place, message);
        }
        let share = wire.max_per_address.optional()?;
        let max_age = wire.max_age.optional()?;
        if wire.inspected_share()? > wire.inspected_memory()?
            && let Some(place) = wire
                .inspected_share
                .place()
                .or(wire.inspected_memory.place())
        {
            let message =
                "`inspected_share` is larger than `inspected_memory`, of which it is a part";
            self.report.problem(place, message);
        }
        Some(checked::Connections {
            max: max?,
            max_per_address: share.map(|share| share.value),
            handshakes_per_address: wire.handshakes_per_address()?.over(BURST),
            handshake: wire.handshake()?,
            head: wire.head()?,
            idle: wire.idle()?,
            max_age: max_age.map(|age| age.value),
            body_idle: wire.body_idle()?,
            body_rate: wire.body_rate()?.0,
            body_grace: wire.body_grace()?,
            inspected: checked::InspectedBodies {
                timeout: wire.inspected_timeout()?,
                memory: wire.inspected_memory()?.0,
                share: wire.inspected_share()?.0,
            },
            first_token: wire.first_token()?,
            max_headers: wire.max_headers()?,
            max_head: usize::try_from(wire.max_head()?.0).ok()?,
            max_uri: usize::try_from(wire.max_uri()?.0).ok()?,
            max_token: usize::try_from(wire.max_token()?.0).ok()?,
            unsent: usize::try_from(wire.unsent()?.0).ok()?,
            unsent_total: usize::try_from(wire.unsent_total()?.0).ok()?,
            h2_streams: wire.h2_streams()?,
            h2_resets: wire.h2_resets()?,
            refused_tokens: wire.refused_tokens()?,
        })
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]
mod tests {
    use crate::config::tests::*;
    use crate::config::units::{millis, secs};

    #[test]
    fn connections_have_limits_unless_others_are_written() {
        let limits = |more: &str| {
            let text = with_route("path: /a, access: public") + more;
            let connections = good(&text).config.connections;
            (connections.h2_streams, connections.h2_resets)
        };
        assert_eq!(limits(""), (100, 50));
        assert_eq!(
            limits("connections: { h2_streams: 7, h2_resets: 8 }\n"),
            (7, 8)
        );
    }

    #[test]
    fn a_client_has_a_share_and_a_rate() {
        let limits = |more: &str| {
            let text = with_route("path: /a, access: public") + more;
            let connections = good(&text).config.connections;
            let rate = connections.handshakes_per_address;
            (connections.max_per_address, rate.burst.get(), rate.per)
        };
        assert_eq!(limits(""), (None, 1000, millis(5)));
        assert_eq!(
            limits("connections: { max_per_address: 7, handshakes_per_address: 6/m }\n"),
            (Some(7), 30, secs(10))
        );
        each_refused(
            &with_route("path: /a, access: public"),
            &[
                (
                    "connections: { max: 10, max_per_address: 11 }\n",
                    "connections.max_per_address",
                    "is more than `max`, 10",
                ),
                (
                    "connections: { max_per_address: 0 }\n",
                    "connections.max_per_address",
                    "1",
                ),
                (
                    "connections: { handshakes_per_address: 5 }\n",
                    "connections.handshakes_per_address",
                    "rate",
                ),
            ],
        );
    }

    #[test]
    fn whoever_writes_a_limit_in_another_way_is_told_the_right_one() {
        for (line, instead) in [
            ("body_rate: 1KiB/s", "write `1KiB`"),
            ("body_rate: 1 kb per second", "write `1KB`"),
            ("body_rate: off", "write `0` for none"),
            ("body_rate: false", "write `0` for none"),
            ("body_grace: 10", "write `10s` or `10ms`"),
            ("body_grace: 10 s", "write `10s`"),
            ("idle: 1m15s", "write `75s`"),
            ("idle: off", "write a duration from 1ms to 1h"),
            ("handshake: never", "write a duration from 1ms to 5m"),
            ("max: 10k", "write `10000`"),
            ("max: unlimited", "write a number from 1 to 1000000"),
            ("max_per_address: -1", "write a number from 1 to 1000000"),
            ("handshakes_per_address: 200", "write `200/s` or `200/m`"),
            ("handshakes_per_address: 200 per second", "write `200/s`"),
            ("refused_tokens: off", "write `1000000/s`"),
            ("unsent: 1.5MiB", "write `1536KiB`"),
            ("unsent_total: 256M", "write `256MiB`"),
            ("h2_streams: none", "write a number from 1 to 10000"),
        ] {
            let text =
                with_route("path: /a, access: public") + &format!("connections: {{ {line} }}\n");
            let problems = reported(&text);
            assert_eq!(problems.len(), 1, "{line}: {problems:?}");
            let ending = format!("({instead})");
            assert!(problems[0].ends_with(&ending), "{line}: {problems:?}");
        }
        for (line, message) in [
            ("idle_shed: on", "always happens"),
            ("client_share: 25%", "belongs to an upstream"),
            ("keepalive_timeout: 75s", "is `idle` here"),
            ("max_connection_age: 1h", "max_age"),
        ] {
            let text =
                with_route("path: /a, access: public") + &format!("connections: {{ {line} }}\n");
            let problems = reported(&text);
            assert_eq!(problems.len(), 1, "{line}: {problems:?}");
            assert!(problems[0].contains(message), "{line}: {problems:?}");
        }
    }

    #[test]
    fn a_share_is_percent_without_a_sign() {
        for (share, instead) in [
            ("25%", "(write `25`)"),
            ("25 %", "(write `25`)"),
            ("0.25", "(write `25`)"),
            ("off", "(write a percentage from 1 to 100)"),
            ("101", "write a percentage from 1 to 100"),
            ("1/4", "such as `25`"),
        ] {
            let text = with_route("path: /a, access: public");
            let text = text.replace("8000] }", &format!("8000], client_share: {share} }}"));
            let problems = reported(&text);
            assert_eq!(problems.len(), 1, "{share}: {problems:?}");
            assert!(problems[0].contains(instead), "{share}: {problems:?}");
        }
    }

    #[test]
    fn the_share_of_a_client_is_a_part_of_the_memory() {
        each_refused(
            &with_route("path: /a, access: public"),
            &[(
                "connections: { inspected_memory: 4MiB }\n",
                "connections.inspected_memory",
                "a part",
            )],
        );
    }
}
