//! The configuration file of a test: a default for every key that a test needs, each of which it
//! may replace.

use std::fmt::Write as _;

use super::admin::OPERATOR;
use super::tokens::ISSUER;

/// Top-level keys with their values as YAML text.
#[derive(Clone, Debug)]
pub struct Config(Vec<(String, String)>);

/// A secret for `keys`.
pub const KEY: &str = "q8Vb0kXo2m3WZ1nJ5cPzq4rT7yUu9aLsDfGhK6eHvMw=";

/// Another one.
pub const OTHER_KEY: &str = "YxN3bq0w7Kp1sTgR5uVd8fJh2mLc6oZa9eWiXyBk4Qs=";

/// A route of every kind. Tests of one rule write their own.
const ROUTES: &str = r#"
  - { path: /health, methods: [GET], access: public, serve: health }
  - { path: "/public/{*rest}", access: public }
  - { path: "/files/{*rest}", access: public, tail: opaque }
  - { path: /optional, access: optional }
  - { path: /me, access: user, resource: none }
  - { path: "/things/{thing_id:uuid}", access: user, resource: none }
  - { path: "/numbers/{number:int}", access: user, resource: none }
  - { path: "/named/{name}", access: user, resource: none }
  - { path: /read-only, methods: [GET], access: user }
  - { path: /admin, access: user, action: admin }
  - { path: /second-factor, access: user, aal: aal2 }
  - { path: /guests, access: user, anonymous: true }
  - { path: /socket, access: user, credentials: [query.access_token] }
  - { path: /small, access: public, body: { limit: 1KiB } }
  - { path: /hidden, access: deny }
  - { path: /panic, access: public, serve: panic }
"#;

impl Config {
    /// The default: three listeners (TLS, clear text, redirect) on free ports, one issuer, the
    /// origin as the upstream `origin`.
    pub fn new(origin: &str) -> Self {
        let mut config = Self(Vec::new());
        config
            .set("environment", "development")
            .set("workers", "2")
            .set(
                "listen",
                r#"
  - { address: "127.0.0.1:0", tls: { certificates: [{ cert: server.crt, key: server.key }] } }
  - { address: "127.0.0.1:0", tls: off }
  - { address: "127.0.0.1:0", redirect_to_https: true }"#,
            )
            .set(
                "admin",
                &format!(
                    "{{ address: \"127.0.0.1:0\", operators: [{{ name: alice, token: {OPERATOR} }}] }}"
                ),
            )
            .set(
                "tokens",
                &format!(
                    "
  - {{ issuer: \"{ISSUER}\", audience: [authenticated], algorithms: [ES256], jwks_file: jwks.json, require: {{ role: [authenticated] }} }}
  - {{ issuer: \"{ISSUER}\", audience: [authenticated], algorithms: [HS256], secret_file: secret }}"
                ),
            )
            // Only its own tests are about speed.
            .set("budget", "5s")
            .set("roles", "{ grants: { user: [read, write, delete], admin: [\"*\"] } }")
            .upstream("origin", origin, "")
            .set("defaults", "{ upstream: origin }")
            .set("routes", ROUTES);
        config
    }

    /// Gives a top-level key this value, written as YAML: in one line, or in indented lines after a
    /// line break.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
        self
    }

    /// Leaves a top-level key out.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.0.retain(|(known, _)| known != key);
        self
    }

    /// Replaces all routes: list items, as they stand under `routes:`, in any indentation.
    pub fn routes(&mut self, items: &str) -> &mut Self {
        self.set("routes", &indented(items))
    }

    /// Adds routes to the existing ones.
    pub fn more_routes(&mut self, items: &str) -> &mut Self {
        let all = format!("{}{}", self.get("routes"), indented(items));
        self.set("routes", &all)
    }

    /// Adds an upstream with one server, `http://HOST:PORT`; `more` is written into its mapping: `,
    /// max_connections: 1`.
    pub fn upstream(&mut self, name: &str, server: &str, more: &str) -> &mut Self {
        let others: String = self
            .get("upstreams")
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(&format!("  {name}:")))
            .map(|line| format!("\n{line}"))
            .collect();
        let all = format!("{others}\n  {name}: {{ servers: [\"{server}\"]{more} }}");
        self.set("upstreams", &all)
    }

    /// Lets the subjects of every issuer be of this type, such as `text`.
    pub fn subjects(&mut self, kind: &str) -> &mut Self {
        let typed = format!("subject: {kind}, algorithms:");
        let tokens = self.get("tokens").replace("algorithms:", &typed);
        self.set("tokens", &tokens)
    }

    /// Puts the store into Redis, with one key.
    pub fn store(&mut self, url: &str) -> &mut Self {
        self.set("keys", &format!("[{{ id: k1, secret: \"{KEY}\" }}]"))
            // Only its own tests are about the store's speed.
            .set("store", &format!("{{ redis: \"{url}\", timeout: 500ms }}"))
    }

    /// The value of a key; empty if it does not occur.
    pub fn get(&self, key: &str) -> &str {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map_or("", |(_, value)| value)
    }

    /// The file.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.0 {
            writeln!(text, "{key}: {value}").unwrap();
        }
        text
    }
}

/// Items below one another, indented by two columns, whatever the raw string in the test looked
/// like.
fn indented(items: &str) -> String {
    let margin = items
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    items
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| format!("\n  {}", &line[margin..]))
        .collect()
}
