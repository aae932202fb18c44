//! `streams`: what holds for all live streams.

use std::time::Duration;

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::units::{HOUR, secs};
use crate::config::wire::Field;

wire! {
    /// Settings of live streams.
    struct Streams {
        keepalive: Duration [secs(1)..=HOUR],
    }
    refused {
        "per": "belongs to a limit, under `limits`; `streams` has `keepalive`, such as `15s`",
        "concurrent": "belongs to a limit, under `limits`; `streams` has `keepalive`, such as `15s`",
        "idle": "is `timeouts: { stream_idle: 5m }` of a route, or under `defaults`",
        "ping": "is `keepalive` here, such as `15s`",
        "heartbeat": "is `keepalive` here, such as `15s`",
    }
}

impl Checker<'_> {
    /// How long a client may be told nothing before it is pinged. Nothing written means never.
    pub(crate) fn streams(&mut self, field: &Field<Streams>) -> Option<Option<Duration>> {
        match field.optional()? {
            None => Some(None),
            Some(wire) => Some(wire.value.keepalive.optional()?.map(|every| every.value)),
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a failed expectation is how a test fails"
)]
mod tests {
    use crate::config::tests::*;
    use crate::config::units::secs;

    #[test]
    fn a_quiet_stream_is_kept_alive_only_if_that_is_written() {
        let route = with_route("path: /a, access: public");
        assert_eq!(good(&route).config.stream_keepalive, None);
        let written = format!("{route}streams: {{ keepalive: 15s }}\n");
        assert_eq!(good(&written).config.stream_keepalive, Some(secs(15)));
        each_refused(
            &route,
            &[
                ("streams: { keepalive: 1ms }\n", "streams.keepalive", "1s"),
                (
                    "streams: { heartbeat: 1s }\n",
                    "streams.heartbeat",
                    "keepalive",
                ),
                ("streams: { idle: 1s }\n", "streams.idle", "stream_idle"),
            ],
        );
    }
}
