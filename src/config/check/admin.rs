//! The admin listener: where it is, under which names, and who may change things there.
//!
//! Decides: that operators have names and tokens that can be told apart, and that a token cannot be guessed; warns of an address that others reach.
//! Trusts: files that hold tokens. Not here: asking for the token (`admin`).

use std::net::SocketAddr;

use super::{Checker, section};
use crate::config::file;
use crate::config::node::Text;
use crate::config::wire::{Field, List, Value};
use crate::policy::admin::{Admin, Operator};
use crate::secrets::digest::{self, Digest};
use crate::secrets::hex;

/// Letters and digits of an operator's token: as many as 24 random bytes have in base64.
const LEAST_TOKEN: usize = 32;

/// More would be slower to look through, and nobody has as many operators.
const MOST_OPERATORS: usize = 1000;

const A_TOKEN: &str = "generate one with `openssl rand -hex 32`";

impl Checker<'_> {
    /// Where metrics and health are served, and who may do more.
    pub(super) fn admin(&mut self, field: &Field<file::Admin>) -> Option<Admin> {
        let absent = file::Admin::absent();
        let wire = section(field, &absent)?;
        let hosts = self.hosts(&wire.hosts);
        let operators = self.operators(&wire.operators);
        let address = match &wire.address {
            Field::Absent => Some(SocketAddr::from(([127, 0, 0, 1], 9901))),
            Field::Bad => None,
            Field::Good(text) => self.admin_address(text, operators.as_deref()),
        };
        Some(Admin {
            address: address?,
            hosts: hosts?,
            operators: operators?,
        })
    }

    fn admin_address(
        &mut self,
        text: &Value<Text>,
        operators: Option<&[Operator]>,
    ) -> Option<SocketAddr> {
        let address = self.address(text)?;
        if !address.ip().is_loopback() {
            self.report.warn(
                &text.place,
                "metrics and health can be read from other machines, in clear text and by anybody",
            );
            if operators.is_some_and(|operators| !operators.is_empty()) {
                self.report.warn(
                    &text.place,
                    "tokens of operators come over the network in clear text; use a loopback address, or a tunnel",
                );
            }
        }
        Some(address)
    }

    fn operators(&mut self, field: &Field<List<file::Operator>>) -> Option<Vec<Operator>> {
        let list = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Good(list) => list,
        };
        list.value.at_least_one(&list.place, self.report);
        if list.value.written > MOST_OPERATORS {
            self.report.problem(
                &list.place,
                format!("has more than {MOST_OPERATORS} operators"),
            );
            return None;
        }
        let mut seen: Vec<Operator> = Vec::new();
        self.each(&list.value, |checker, item| {
            let operator = checker.operator(&item.value)?;
            let repeated = seen.iter().find_map(|other| {
                if other.name == operator.name {
                    Some("has the name of another operator; the log could not tell them apart")
                } else if other.token_sha256 == operator.token_sha256 {
                    Some("has the token of another operator; the log could not tell them apart")
                } else {
                    None
                }
            });
            if let Some(message) = repeated {
                checker.report.problem(&item.place, message);
                return None;
            }
            seen.push(operator.clone());
            Some(operator)
        })
    }

    fn operator(&mut self, wire: &file::Operator) -> Option<Operator> {
        let example = "write who it is, as the log shall say it";
        let name = wire
            .name
            .required(&wire.place, "name", example, self.report);
        let name = name.and_then(|text| self.name(&text.value.value, &text.place));
        let token = self.operator_token(wire);
        Some(Operator {
            name: name?,
            token_sha256: token?,
        })
    }

    /// Exactly one of the ways to write a token down. Only its digest is kept.
    fn operator_token(&mut self, wire: &file::Operator) -> Option<Digest> {
        let ways = [
            ("token_sha256", &wire.token_sha256),
            ("token_file", &wire.token_file),
            ("token", &wire.token),
        ];
        let mut written = ways.into_iter().filter(|(_, field)| field.is_written());
        let Some((way, field)) = written.next() else {
            let choice = "write one of `token_sha256`, `token_file` and `token`";
            self.report
                .problem_instead(&wire.place, "has no token", choice);
            return None;
        };
        if let Some((other, _)) = written.next() {
            self.report.problem(
                &wire.place.below(other),
                format!("cannot stand beside `{way}`; remove one of the two"),
            );
            return None;
        }
        let value = field.good()?;
        match way {
            "token_sha256" => {
                let digest = hex::decode(&value.value.value);
                if digest.is_none() {
                    self.report.problem_instead(
                        &value.place,
                        "is not a SHA-256 digest, 64 hexadecimal digits",
                        "`printf %s \"$TOKEN\" | sha256sum` makes one",
                    );
                }
                digest
            }
            "token_file" => {
                let text = self.text_file(value)?;
                self.token(&text, value)
            }
            _ => self.token(&value.value.value, value),
        }
    }

    fn token(&mut self, text: &str, value: &Value<Text>) -> Option<Digest> {
        if text.len() < LEAST_TOKEN {
            let message = format!(
                "is too short: an operator's token needs at least {LEAST_TOKEN} characters"
            );
            self.report.problem_instead(&value.place, message, A_TOKEN);
            return None;
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "has characters that cannot stand in an `Authorization` header";
            self.report.problem_instead(&value.place, message, A_TOKEN);
            return None;
        }
        Some(digest::of(text.as_bytes()))
    }

    /// A file that holds one secret text. Editors and `echo` end it with a newline that nobody means; one is cut, not more.
    pub(super) fn text_file(&mut self, name: &Value<Text>) -> Option<String> {
        let (_, contents) = self.inputs.read(name, self.report)?;
        let Ok(mut text) = String::from_utf8(contents) else {
            self.report
                .problem(&name.place, "the file does not hold text");
            return None;
        };
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Some(text)
    }
}
