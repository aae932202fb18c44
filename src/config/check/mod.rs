//! From what was written to what was meant.
//!
//! Decides: defaults, ranges, and which combinations make sense; one file a topic. Trusts: the wire structs to hold values of the
//! right type. Not here: keys and types (`file`).
//!
//! Every function notes what it finds and goes on with the rest. `None` means "noted": there is no configuration unless every
//! function gave `Some`.

mod access;
mod admin;
mod cors;
mod database;
mod facts;
mod identity;
mod keys;
mod layers;
mod listen;
mod names;
mod overlap;
mod rest;
mod revocations;
mod roles;
mod routes;
mod sessions;
mod sign_in;
mod store;
mod target;
mod tokens;
mod upstreams;
mod when;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::file::{self, File};
use super::inputs::Inputs;
use super::node::Text;
use super::place::Place;
use super::problem::Report;
use super::units::{Size, written, written_size};
use super::wire::{Field, List, Value};
use crate::policy::listen::Connections;
use crate::policy::resources::{Facts, ResourceKind, StaticFacts};
use crate::policy::{Config, Environment};

/// Everything about facts.
type AllFacts = (Facts, Vec<ResourceKind>, StaticFacts);

/// What checking needs besides the value that is checked.
pub(crate) struct Checker<'a> {
    /// Where problems go.
    pub report: &'a mut Report,
    /// Where certificates, keys and secrets are read.
    pub inputs: &'a mut Inputs,
    /// The present, in Unix seconds: dates are judged against it.
    pub now: i64,
}

impl Checker<'_> {
    /// Checks the whole file.
    pub(crate) fn check(&mut self, file: &File) -> Option<Config> {
        let environment = or(&file.environment, Environment::Production);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = self.number(&file.workers, 1..=1024, cores);
        let admin = self.admin(&file.admin);
        let listen = self.listen(file, admin.as_ref());
        let trusted_proxies = self.trusted_proxies(&file.trusted_proxies);
        let connections = self.connections(&file.connections);
        let drain = self.duration(&file.drain, Duration::ZERO..=HOUR, secs(30));
        let tokens = self.tokens(&file.tokens);
        let token_cache = self.number(&file.token_cache, 1..=10_000_000, 100_000_usize);
        let revocations = self.revocations(&file.revocations, tokens.as_deref());
        let sessions = self.sessions(&file.sessions, environment, revocations.as_ref());
        let roles = self.roles(&file.roles);
        if let (Some(tokens), Some(roles)) = (&tokens, &roles) {
            self.listed_subjects_are_clear(&file.roles, tokens, roles);
        }
        let keys = self.master_keys(&file.keys);
        let store = self.store(&file.store, &file.keys, keys.as_deref());
        let database = self.database(&file.database);
        let facts = self.facts(file, tokens.as_deref());
        let budget = self.duration(
            &file.budget,
            Duration::from_millis(5)..=secs(5),
            Duration::from_millis(50),
        );
        let identity = self.identity(&file.identity, tokens.as_deref());
        let sign_in = self.sign_in(&file.identity, file.database.is_written());
        let upstreams = self.upstreams(&file.upstreams, workers);
        let cors = self.cors(&file.cors);
        let hosts = self.hosts(&file.hosts);
        let routes = self.routes(file, environment, facts.as_ref());
        let (facts, resources, static_facts) = facts?;
        Some(Config {
            facts,
            resources,
            static_facts: Arc::new(static_facts),
            environment: environment?,
            keys: keys?,
            store: store?,
            database: database?,
            budget: budget?,
            identity: identity?,
            sign_in: sign_in?,
            workers: NonZeroUsize::new(workers?)?,
            listen: listen?,
            hosts: hosts?,
            admin: admin?,
            trusted_proxies: trusted_proxies?,
            connections: connections?,
            drain: drain?,
            tokens: tokens?,
            token_cache: NonZeroUsize::new(token_cache?)?,
            revocations: revocations?,
            sessions: sessions?,
            roles: roles?,
            upstreams: upstreams?,
            cors: cors?,
            routes: routes?,
        })
    }

    fn connections(&mut self, field: &Field<file::Connections>) -> Option<Connections> {
        let absent = file::Connections::absent();
        let wire = section(field, &absent)?;
        let max = self.number(&wire.max, 1..=1_000_000, 10_000);
        let handshake = self.duration(&wire.handshake, TICK..=MINUTES_5, secs(10));
        let head = self.duration(&wire.head, TICK..=MINUTES_5, secs(10));
        let idle = self.duration(&wire.idle, TICK..=HOUR, secs(75));
        let body_idle = self.duration(&wire.body_idle, TICK..=HOUR, secs(30));
        let max_headers = self.number(&wire.max_headers, 16..=1000, 100);
        // hyper does not read a head with a smaller buffer.
        let max_head = self.size(&wire.max_head, 8 << 10..=1 << 20, 32 << 10);
        let max_uri = self.size(&wire.max_uri, 256..=64 << 10, 8 << 10);
        let h2_streams = self.number(&wire.h2_streams, 1..=10_000, 100);
        let h2_resets = self.number(&wire.h2_resets, 1..=10_000, 50);
        if let (Some(head), Some(uri), Some(written)) = (
            max_head,
            max_uri,
            wire.max_uri.good().or(wire.max_head.good()),
        ) && uri > head
        {
            self.report.problem(
                &written.place,
                "`max_uri` is larger than `max_head`, which holds it",
            );
        }
        Some(Connections {
            max: max?,
            handshake: handshake?,
            head: head?,
            idle: idle?,
            body_idle: body_idle?,
            max_headers: max_headers?,
            max_head: usize::try_from(max_head?).ok()?,
            max_uri: usize::try_from(max_uri?).ok()?,
            h2_streams: h2_streams?,
            h2_resets: h2_resets?,
        })
    }

    /// A whole number in a range.
    fn number<T: TryFrom<i128>>(
        &mut self,
        field: &Field<i128>,
        range: RangeInclusive<i128>,
        default: T,
    ) -> Option<T> {
        let value = match field {
            Field::Absent => return Some(default),
            Field::Bad => return None,
            Field::Good(value) => value,
        };
        if !range.contains(&value.value) {
            let message = format!(
                "is out of range; write a number from {} to {}",
                range.start(),
                range.end()
            );
            self.report.problem(&value.place, message);
            return None;
        }
        T::try_from(value.value).ok()
    }

    /// A duration in a range.
    fn duration(
        &mut self,
        field: &Field<Duration>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Option<Duration> {
        self.optional_duration(field, range, Some(default))?
    }

    /// A duration in a range, or nothing: `Some(None)` if it was not written.
    fn optional_duration(
        &mut self,
        field: &Field<Duration>,
        range: RangeInclusive<Duration>,
        default: Option<Duration>,
    ) -> Option<Option<Duration>> {
        let value = match field {
            Field::Absent => return Some(default),
            Field::Bad => return None,
            Field::Good(value) => value,
        };
        if !range.contains(&value.value) {
            let (least, most) = (written(*range.start()), written(*range.end()));
            self.report.problem(
                &value.place,
                format!("is out of range; write a duration from {least} to {most}"),
            );
            return None;
        }
        Some(Some(value.value))
    }

    /// A size in a range.
    fn size(
        &mut self,
        field: &Field<Size>,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Option<u64> {
        let value = match field {
            Field::Absent => return Some(default),
            Field::Bad => return None,
            Field::Good(value) => value,
        };
        if !range.contains(&value.value.0) {
            let (least, most) = (written_size(*range.start()), written_size(*range.end()));
            self.report.problem(
                &value.place,
                format!("is out of range; write a size from {least} to {most}"),
            );
            return None;
        }
        Some(value.value.0)
    }

    /// Text that is a name: printable, and short enough to be a metric label.
    fn name(&mut self, text: &str, place: &Place) -> Option<String> {
        let fits = !text.trim().is_empty()
            && text.chars().count() <= 200
            && !text.chars().any(char::is_control);
        if !fits {
            self.report
                .problem(place, "needs 1 to 200 printable characters");
        }
        fits.then(|| text.to_owned())
    }

    /// Every entry of a list, made into something; entries that fail are noted by `make`.
    fn each<T, U>(
        &mut self,
        list: &List<T>,
        mut make: impl FnMut(&mut Self, &Value<T>) -> Option<U>,
    ) -> Option<Vec<U>> {
        let made: Vec<U> = list
            .items
            .iter()
            .filter_map(|item| make(self, item))
            .collect();
        (made.len() == list.written).then_some(made)
    }

    /// Entries that are not empty.
    fn words(&mut self, list: &List<Text>) -> Option<Vec<String>> {
        self.each(list, |checker, text| {
            if text.value.value.is_empty() {
                checker.report.problem(&text.place, "is empty");
                return None;
            }
            Some(text.value.value.clone())
        })
    }
}

/// The shortest time limit that can be meant.
const TICK: Duration = Duration::from_millis(1);
const MINUTES_5: Duration = Duration::from_secs(5 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The value, or the default if nothing was written.
fn or<T: Copy>(field: &Field<T>, default: T) -> Option<T> {
    match field {
        Field::Absent => Some(default),
        Field::Bad => None,
        Field::Good(value) => Some(value.value),
    }
}

/// The mapping, or an empty one if nothing was written.
fn section<'a, T>(field: &'a Field<T>, absent: &'a T) -> Option<&'a T> {
    match field {
        Field::Absent => Some(absent),
        Field::Bad => None,
        Field::Good(value) => Some(&value.value),
    }
}
