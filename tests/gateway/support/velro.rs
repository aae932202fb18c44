//! The route map that is shipped for Velro, in front of real parts: PostgreSQL with its schema,
//! Redis, the double of Supabase Auth, and an origin in place of both Kong and Supabase's edge.

use foregate::tokens::mint::{Claims, Signer};
use jsonwebtoken::Algorithm;
use uuid::Uuid;

use super::auth_server::{AuthServer, PUBLISHABLE, SECRET};
use super::config::KEY;
use super::pki::NAME;
use super::tokens::now;
use super::{Config, Gateway, Origin, RedisServer, World, eventually};

const MAP: &str = include_str!("../../../config/velro.yaml");

/// Top-level keys of the map with their values.
pub fn sections() -> Vec<(&'static str, String)> {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for line in MAP.lines() {
        match line.split_once(':') {
            Some((key, rest)) if line.starts_with(|first: char| first.is_ascii_lowercase()) => {
                sections.push((key, rest.trim_start().to_owned()));
            }
            _ => {
                if let Some((_, text)) = sections.last_mut() {
                    text.push('\n');
                    text.push_str(line);
                }
            }
        }
    }
    sections
}

/// Everything that the map expects around the gateway.
pub struct Site {
    pub world: World,
    pub redis: RedisServer,
    pub double: AuthServer,
    secret: String,
    signer: Signer,
}

impl Site {
    pub fn new() -> Self {
        let secret = format!("{}{}", Uuid::now_v7(), Uuid::now_v7());
        Self {
            world: World::new(),
            redis: RedisServer::start(),
            double: AuthServer::start(),
            signer: Signer::secret(secret.as_bytes(), Algorithm::HS256).unwrap(),
            secret,
        }
    }

    /// A gateway with the map.
    pub async fn gateway(&self) -> Gateway {
        self.gateway_before(Origin::start(), |_| {}).await
    }

    /// The same in front of a scripted origin, and with changes.
    pub async fn gateway_before(
        &self,
        origin: Origin,
        change: impl FnOnce(&mut Config),
    ) -> Gateway {
        let address = origin.address().to_string();
        let database = format!("{}?sslmode=disable", self.world.database.url());
        let (redis, supabase) = (self.redis.url(), self.double.url());
        let environment = [
            ("FOREGATE_KEY", KEY),
            ("FOREGATE_HOST", NAME),
            ("FOREGATE_REDIS_URL", &redis),
            ("DATABASE_URL", &database),
            ("SUPABASE_URL", &supabase),
            ("SUPABASE_JWT_SECRET", &self.secret),
            ("SUPABASE_PUBLISHABLE_KEY", PUBLISHABLE),
            ("SUPABASE_SECRET_KEY", SECRET),
            ("KONG_ADDRESS", &address),
            ("SUPABASE_ADDRESS", &address),
        ];
        let gateway = Gateway::within(&environment, origin, |config| {
            for (key, value) in sections() {
                // Tests have ports of their own.
                if key != "listen" {
                    config.set(key, &value);
                }
            }
            // The key of the double in addition to the secret, as in the map.
            let tokens = format!("{}{}", config.get("tokens"), self.double.tokens());
            // Deadlines are tested elsewhere.
            config.set("tokens", &tokens).set("budget", "5s").set(
                "store",
                "{ redis: \"${FOREGATE_REDIS_URL}\", timeout: 500ms }",
            );
            change(config);
        })
        .await;
        eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
        gateway
    }

    /// Claims of a user, to be changed and signed.
    pub fn claims(&self, subject: &str) -> Claims {
        Claims::new(self.double.issuer(), subject, now()).session(&Uuid::now_v7().to_string())
    }

    /// Signs with the secret of the project.
    pub fn sign(&self, claims: &Claims) -> String {
        self.signer.sign(claims).unwrap()
    }

    /// A valid token of this user.
    pub fn token_of(&self, subject: &str) -> String {
        self.sign(&self.claims(subject))
    }
}
