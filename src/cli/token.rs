//! `token`: mints a token for development, signed with a configured secret or a given private key.
//! Refuses to for a configuration that says `production`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jsonwebtoken::Algorithm;
use uuid::Uuid;

use super::{Config, output};
use crate::clock;
use crate::config;
use crate::policy::Environment;
use crate::policy::resources::ParamType;
use crate::policy::tokens::{KeySource, TokenIssuer};
use crate::tokens::mint::{Claims, Signer};

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    config: Config,
    /// The user; by default a new one of the type that the issuer's entry says
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// The issuer, if the configuration has several
    #[arg(long, value_name = "ISS")]
    issuer: Option<String>,
    /// A role for `app_metadata.roles`; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Seconds until the token expires; negative for an expired token
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        allow_negative_numbers = true
    )]
    expires: i64,
    /// The assurance level
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    aal: u8,
    /// Mint it for an anonymous user
    #[arg(long)]
    anonymous: bool,
    /// The private key (PEM) of an issuer with a JWK set
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The `kid` of that key
    #[arg(long, value_name = "KID", requires = "key")]
    kid: Option<String>,
}

pub(super) fn token(options: &Options) -> anyhow::Result<()> {
    let config = config::load(&options.config.file)
        .map_err(|problems| anyhow!("{problems}"))?
        .config;
    if config.environment != Environment::Development {
        bail!(
            "tokens are minted only with `environment: development`; this configuration is for production"
        );
    }
    let entry = choose(&config.tokens, options)?;
    let mut signer = signer(entry, options)?;
    if let Some(kid) = &options.kid {
        signer = signer.with_kid(kid);
    }
    let token = signer.sign(&claims(entry, options));
    output::line(token.map_err(|problem| anyhow!(problem))?);
    Ok(())
}

fn choose<'a>(entries: &'a [TokenIssuer], options: &Options) -> anyhow::Result<&'a TokenIssuer> {
    let mut matching = entries.iter().filter(|entry| {
        options
            .issuer
            .as_ref()
            .is_none_or(|issuer| *issuer == entry.issuer)
    });
    let wants_secret = options.key.is_none();
    let now = clock::unix_now();
    matching
        .find(|entry| {
            matches!(entry.keys, KeySource::Secret(_)) == wants_secret
                && entry.until.is_none_or(|until| now <= until)
        })
        .context("no entry of `tokens` matches: give --key FILE for one with a JWK set, and --issuer ISS if there are several")
}

fn signer(entry: &TokenIssuer, options: &Options) -> anyhow::Result<Signer> {
    let algorithm = entry
        .algorithms
        .first()
        .copied()
        .unwrap_or(Algorithm::HS256);
    let signer = match (&entry.keys, &options.key) {
        (KeySource::Secret(secret), None) => Signer::secret(secret.expose(), algorithm),
        (_, Some(file)) => {
            let pem =
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            Signer::pem(&pem, &entry.algorithms)
        }
        (KeySource::Set { .. } | KeySource::Published(_), None) => {
            bail!("give the private key with --key FILE")
        }
    };
    signer.map_err(|problem| anyhow!(problem))
}

fn claims(entry: &TokenIssuer, options: &Options) -> Claims {
    let fresh = || match entry.subject {
        ParamType::Uuid | ParamType::Text => Uuid::now_v7().to_string(),
        ParamType::Integer => (Uuid::now_v7().as_u64_pair().1 >> 2).to_string(),
    };
    let subject = options.subject.clone().unwrap_or_else(fresh);
    let now = clock::unix_now();
    let mut claims = Claims::new(&entry.issuer, &subject, now)
        .lasting(Duration::from_secs(3600))
        .expiring(now + options.expires);
    if let Some(audience) = entry.audience.first() {
        claims = claims.audience(audience);
    }
    claims = claims.aal(options.aal).roles(&options.roles);
    if options.anonymous {
        claims.anonymous()
    } else {
        claims
    }
}
