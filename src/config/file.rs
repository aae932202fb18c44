//! The root: the keys of the whole file, one section a line, and the configuration that they make.
//!
//! `config/foregate.yaml` shows every key, and a test holds the two together.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::check::Checker;
use super::macros::{wire, words};
use super::node::Text;
use super::sections::admin::Admin;
use super::sections::connections::Connections;
use super::sections::cors::Cors;
use super::sections::database::Database;
use super::sections::facts::{FactSections, Facts, Resource, StaticFacts};
use super::sections::identity::Identity;
use super::sections::keys::Key;
use super::sections::layers::Layers;
use super::sections::listen::{self, Listen};
use super::sections::proxies::TrustedProxies;
use super::sections::revocations::Revocations;
use super::sections::roles::Roles;
use super::sections::routes::{self, Defaults, Route, RouteSections};
use super::sections::sessions::Sessions;
use super::sections::store::Store;
use super::sections::streams::Streams;
use super::sections::tokens::{Issuer, SubjectContext};
use super::sections::upstreams::Upstream;
use super::units::{HOUR, millis, secs};
use super::wire::{List, Named};
use crate::policy::resources::ParamType;
use crate::policy::{Config, Environment};

wire! {
    /// The whole file.
    struct File {
        environment: Environment = Environment::Production,
        keys: List<Key>,
        workers: usize [1..=1024] = cores(),
        listen: List<Listen> => listen::EXAMPLE,
        hosts: List<Text>,
        admin: Admin,
        trusted_proxies: TrustedProxies,
        connections: Connections,
        streams: Streams,
        drain: Duration [Duration::ZERO..=HOUR] = secs(30),
        store: Store,
        database: Database,
        facts: Facts,
        resources: Named<Resource>,
        static_facts: StaticFacts,
        budget: Duration [millis(5)..=secs(5)] = millis(50),
        identity: Identity,
        tokens: List<Issuer>,
        token_cache: usize [1..=10_000_000] = 100_000,
        revocations: Revocations,
        sessions: Sessions,
        roles: Roles,
        upstreams: Named<Upstream>,
        cors: Cors,
        layers: Layers,
        defaults: Defaults,
        routes: List<Route> => routes::EXAMPLE,
    }
    later [
        "assertion", "limits",
    ]
}

words! {
    impl Environment { "production" => Environment::Production, "development" => Environment::Development, }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl File {
    /// What the types of subjects depend on.
    fn subjects(&self, sections: &FactSections<'_>) -> SubjectContext<'_> {
        let facts = self.facts.good().map(|facts| &facts.value);
        let subject = facts.and_then(|facts| facts.subject());
        let identity = self.identity.good().map(|identity| &identity.value);
        SubjectContext {
            of_facts: subject.unwrap_or(ParamType::Uuid),
            place: facts.and_then(|facts| facts.subject.place()),
            has_facts: sections.are_written(),
            supabase: identity.and_then(Identity::issuer),
        }
    }
}

impl Checker<'_> {
    /// Checks the whole file.
    pub(crate) fn check(&mut self, file: &File) -> Option<Config> {
        // Every section is checked before any `?`, so that all problems are reported at once.
        let admin = self.admin(&file.admin);
        let listen = self.listen(&file.listen, admin.as_ref());
        let trusted_proxies = self.trusted_proxies(&file.trusted_proxies);
        let connections = self.connections(&file.connections);
        let stream_keepalive = self.streams(&file.streams);
        let fact_sections = FactSections {
            has_database: file.database.is_written(),
            facts: &file.facts,
            resources: &file.resources,
            static_facts: &file.static_facts,
        };
        let tokens = self.tokens(&file.tokens, &file.subjects(&fact_sections));
        let revocations = self.revocations(&file.revocations, tokens.as_deref());
        let sessions = self.sessions(&file.sessions, file.environment(), revocations.as_ref());
        let roles = self.roles(&file.roles, tokens.as_deref());
        let keys = self.keys(&file.keys);
        let store = self.store(&file.store, &file.keys, keys.as_deref());
        let database = self.database(&file.database);
        let attributes = self.attributes(&fact_sections, tokens.as_deref());
        let identity = self.identity(&file.identity, tokens.as_deref());
        let sign_in = self.sign_in(&file.identity, file.database.is_written());
        let upstreams = self.upstreams(&file.upstreams, file.workers());
        let cors = self.cors(&file.cors);
        let hosts = self.hosts(&file.hosts);
        let sections = RouteSections {
            environment: file.environment(),
            hosts: &file.hosts,
            upstreams: &file.upstreams,
            identity: &file.identity,
            has_tokens: file.tokens.is_written(),
            layers: &file.layers,
            defaults: &file.defaults,
            routes: &file.routes,
        };
        let routes = self.routes(&sections, attributes.as_ref());
        let attributes = attributes?;
        Some(Config {
            environment: file.environment()?,
            keys: keys?,
            store: store?,
            database: database?,
            facts: attributes.facts,
            resources: attributes.kinds,
            static_facts: Arc::new(attributes.rows),
            budget: file.budget()?,
            identity: identity?,
            sign_in: sign_in?,
            workers: NonZeroUsize::new(file.workers()?)?,
            listen: listen?,
            hosts: hosts?,
            admin: admin?,
            trusted_proxies: trusted_proxies?,
            connections: Arc::new(connections?),
            stream_keepalive: stream_keepalive?,
            drain: file.drain()?,
            tokens: tokens?,
            token_cache: NonZeroUsize::new(file.token_cache()?)?,
            revocations: revocations?,
            sessions: sessions?,
            roles: roles?,
            upstreams: upstreams?,
            cors: cors?,
            routes: routes?,
        })
    }
}
