//! `admin`: the admin listener's address and host names, and the operators who may change things
//! there.
//!
//! Decides: that operators have distinct names and tokens, and that a token cannot be guessed;
//! warns of an address that other machines reach. Trusts: files that hold tokens. Not here:
//! authenticating an operator (`admin`).

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::admin as checked;
use crate::secrets::digest::{self, Digest};
use crate::secrets::hex;

wire! {
    /// Metrics and health, and what operators may do.
    struct Admin {
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9901)),
        hosts: List<Text>,
        operators: List<Operator>,
    }

    /// Somebody who may change things.
    struct Operator {
        name: Text => "write who it is; the log shows this name",
        token: Text,
        token_file: Text,
        token_sha256: Text,
    }
}

/// Letters and digits of an operator's token: as many as 24 random bytes have in base64.
const LEAST_TOKEN: usize = 32;

/// A choice: every request compares its token with all of them.
const MOST_OPERATORS: usize = 1000;

const MAKE_ONE: &str = "generate one with `openssl rand -hex 32`";

impl Checker<'_> {
    pub(crate) fn admin(&mut self, field: &Field<Admin>) -> Option<checked::Admin> {
        let wire = field.section()?;
        let hosts = self.hosts(&wire.hosts);
        let operators = self.operators(&wire.operators);
        if let Some(address) = wire.address.good()
            && !address.value.ip().is_loopback()
        {
            self.report.warn(
                &address.place,
                "metrics and health are open to other machines, in clear text and without a token",
            );
            if wire.operators.is_written() {
                self.report.warn(
                    &address.place,
                    "operators' tokens cross the network in clear text; use a loopback address, or a tunnel",
                );
            }
        }
        Some(checked::Admin {
            address: wire.address()?,
            hosts: hosts?,
            operators: operators?,
        })
    }

    fn operators(&mut self, field: &Field<List<Operator>>) -> Option<Vec<checked::Operator>> {
        let Some(list) = field.optional()? else {
            return Some(Vec::new());
        };
        if list.value.written > MOST_OPERATORS {
            let message = format!("has more than {MOST_OPERATORS} operators");
            return self.report.refuse(&list.place, message);
        }
        let mut seen: Vec<checked::Operator> = Vec::new();
        self.each(&list.value, |checker, item| {
            let operator = checker.operator(&item.value)?;
            let shared = seen.iter().find_map(|other| {
                let shares_token = other.token_sha256 == operator.token_sha256;
                let shared = [
                    ("name", other.name == operator.name),
                    ("token", shares_token),
                ];
                shared.into_iter().find(|(_, is_shared)| *is_shared)
            });
            if let Some((what, _)) = shared {
                let message = format!(
                    "has the {what} of another operator; the log could not tell them apart"
                );
                return checker.report.refuse(&item.place, message);
            }
            seen.push(operator.clone());
            Some(operator)
        })
    }

    fn operator(&mut self, wire: &Operator) -> Option<checked::Operator> {
        let name = wire.name.good().and_then(|name| self.name_in(name));
        let token = self.operator_token(wire);
        Some(checked::Operator {
            name: name?,
            token_sha256: token?,
        })
    }

    /// Exactly one of the ways to write a token down. Only its digest is kept.
    fn operator_token(&mut self, wire: &Operator) -> Option<Digest> {
        let (key, value) = self.one_of(
            &wire.place,
            &[
                ("token_sha256", &wire.token_sha256),
                ("token_file", &wire.token_file),
                ("token", &wire.token),
            ],
            (
                "has no token",
                "write one of `token_sha256`, `token_file` and `token`",
            ),
        )?;
        match key {
            "token_sha256" => hex::decode(&value.value.value).or_else(|| {
                self.report.refuse_instead(
                    &value.place,
                    "is not a SHA-256 digest, 64 hexadecimal digits",
                    "`printf %s \"$TOKEN\" | sha256sum` makes one",
                )
            }),
            "token_file" => {
                let text = self.secret_file(value, MAKE_ONE)?;
                self.token(&text, value)
            }
            _ => self.token(&value.value.value, value),
        }
    }

    fn token(&mut self, text: &str, value: &Value<Text>) -> Option<Digest> {
        let message = if text.len() < LEAST_TOKEN {
            format!("is too short: an operator's token needs at least {LEAST_TOKEN} characters")
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "has characters that an `Authorization` header cannot hold".to_owned()
        } else {
            return Some(digest::of(text.as_bytes()));
        };
        self.report.refuse_instead(&value.place, message, MAKE_ONE)
    }
}
