//! The client of the present connection. Each connection has a new one: the driver counts commands
//! that were queued when a connection ended for ever, and then no longer writes single ones at
//! once.

use std::time::Duration;

use arc_swap::ArcSwap;
use fred::clients::{Client, WithOptions};
use fred::interfaces::ClientLike as _;
use fred::types::config::Options;

/// The deadline of a page or an append, in deadlines of a command on one record.
const BULK: u32 = 10;

/// The client, with its two deadlines.
pub(super) struct Clients {
    template: Client,
    timeout: Duration,
    pub(super) single: ArcSwap<WithOptions<Client>>,
    pub(super) bulk: ArcSwap<WithOptions<Client>>,
}

impl Clients {
    /// Clients like `template`, which itself is never connected. `timeout` is the deadline of a
    /// command on one record.
    pub(super) fn new(template: Client, timeout: Duration) -> Self {
        Self {
            single: ArcSwap::from_pointee(with_timeout(&template, timeout)),
            bulk: ArcSwap::from_pointee(with_timeout(&template, timeout * BULK)),
            template,
            timeout,
        }
    }

    /// A new client, which takes all commands from now on.
    pub(super) fn renew(&self) -> Client {
        let client = self.template.clone_new();
        let single = with_timeout(&client, self.timeout);
        let bulk = with_timeout(&client, self.timeout * BULK);
        self.single.store(single.into());
        self.bulk.store(bulk.into());
        client
    }
}

fn with_timeout(client: &Client, timeout: Duration) -> WithOptions<Client> {
    client.with_options(&Options {
        timeout: Some(timeout),
        max_attempts: Some(1),
        fail_fast: true,
        ..Options::default()
    })
}
