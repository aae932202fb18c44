//! What a client writes to a sign-in route.
//!
//! Decides:  415, 400 and 422 for a body that is not what the route takes. Trusts: nothing in it.
//! Not here: whether a password is right.
//!
//! Fields are taken one by one, and what goes to the identity server is written anew: nothing a client adds gets there. Members that no route
//! knows are ignored, as they always were; a member that is there twice could be read differently there, and is refused.

use std::time::Duration;

use hyper::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::denial::{Denial, Extra, FieldError, Reason};
use crate::json;
use crate::request::body::{self, Body};
use crate::secrets::secret::Secret;

/// Bytes of the longest e-mail address that can be used (RFC 5321, section 4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;

/// Bytes of a password that bcrypt looks at; the identity server refuses longer ones when they are set.
const LONGEST_PASSWORD: usize = 72;

/// Characters of a new password, as it always was here; the identity server may want more.
const SHORTEST_PASSWORD: usize = 8;

/// Bytes of a name.
const LONGEST_NAME: usize = 200;

/// Bytes of what else there may be: a refresh token, an answer to a captcha.
const LONGEST_TOKEN: usize = 8 << 10;

/// An e-mail address and a password, of the right shape.
pub(super) struct Credentials {
    pub email: String,
    pub password: Secret,
    pub captcha: Option<Secret>,
}

/// Somebody new.
pub(super) struct Registration {
    pub credentials: Credentials,
    pub full_name: String,
}

#[derive(Deserialize)]
struct CredentialsJson {
    email: Option<String>,
    password: Option<String>,
    full_name: Option<String>,
    captcha_token: Option<String>,
}

#[derive(Deserialize)]
struct EmailJson {
    email: Option<String>,
    captcha_token: Option<String>,
}

#[derive(Deserialize)]
struct RefreshTokenJson {
    refresh_token: Option<String>,
}

/// A body that was announced as JSON, and not read yet.
pub(super) struct UnreadBody {
    pub fields: HeaderMap,
    pub body: Option<Body>,
    pub limit: u64,
    pub idle: Duration,
}

impl UnreadBody {
    /// Reads `login`.
    pub(super) async fn credentials(self) -> Result<Credentials, Denial> {
        let fields: CredentialsJson = self.read().await?;
        let mut errors = Vec::new();
        let email = email(fields.email, &mut errors);
        let password = required("password", fields.password, LONGEST_TOKEN, &mut errors);
        let captcha = optional(
            "captcha_token",
            fields.captcha_token,
            LONGEST_TOKEN,
            &mut errors,
        );
        complete(errors)?;
        Ok(Credentials {
            email,
            password: Secret::new(password),
            captcha: captcha.map(Secret::new),
        })
    }

    /// Reads `register`.
    pub(super) async fn registration(self) -> Result<Registration, Denial> {
        let fields: CredentialsJson = self.read().await?;
        let mut errors = Vec::new();
        let email = email(fields.email, &mut errors);
        let password = required("password", fields.password, LONGEST_TOKEN, &mut errors);
        if !password.is_empty() && password.chars().count() < SHORTEST_PASSWORD {
            errors.push(error("password", "has fewer than 8 characters"));
        }
        if password.len() > LONGEST_PASSWORD {
            errors.push(error(
                "password",
                "is longer than 72 bytes, beyond which no character would count",
            ));
        }
        let full_name = optional("full_name", fields.full_name, LONGEST_NAME, &mut errors);
        let captcha = optional(
            "captcha_token",
            fields.captcha_token,
            LONGEST_TOKEN,
            &mut errors,
        );
        complete(errors)?;
        Ok(Registration {
            credentials: Credentials {
                email,
                password: Secret::new(password),
                captcha: captcha.map(Secret::new),
            },
            full_name: full_name.unwrap_or_default(),
        })
    }

    /// Reads `password-reset`: an address, and an answer to a captcha.
    pub(super) async fn email(self) -> Result<(String, Option<Secret>), Denial> {
        let fields: EmailJson = self.read().await?;
        let mut errors = Vec::new();
        let email = email(fields.email, &mut errors);
        let captcha = optional(
            "captcha_token",
            fields.captcha_token,
            LONGEST_TOKEN,
            &mut errors,
        );
        complete(errors)?;
        Ok((email, captcha.map(Secret::new)))
    }

    /// Reads `refresh`.
    pub(super) async fn refresh_token(self) -> Result<Secret, Denial> {
        let fields: RefreshTokenJson = self.read().await?;
        let mut errors = Vec::new();
        let token = required(
            "refresh_token",
            fields.refresh_token,
            LONGEST_TOKEN,
            &mut errors,
        );
        complete(errors)?;
        Ok(Secret::new(token))
    }

    async fn read<T: DeserializeOwned>(self) -> Result<T, Denial> {
        body::says_json(&self.fields)?;
        let body = self.body.ok_or(Reason::BodyMalformed)?;
        let bytes = body.collect(self.limit, self.idle).await?;
        let value = json::value(&bytes).ok_or(Reason::BodyMalformed)?;
        // A list of the members' values would be read, too.
        let members = Some(value).filter(Value::is_object);
        // The text of an error may quote what was sent.
        members
            .and_then(|members| serde_json::from_value(members).ok())
            .ok_or_else(|| {
                invalid(vec![error(
                    "body",
                    "is not an object whose members are texts",
                )])
            })
    }
}

fn error(field: &'static str, detail: &'static str) -> FieldError {
    FieldError {
        field,
        detail: detail.into(),
    }
}

/// A refusal that tells what is wrong with which fields.
pub(super) fn invalid(errors: Vec<FieldError>) -> Denial {
    let names: Vec<&str> = errors.iter().map(|error| error.field).collect();
    Denial {
        detail: Some(names.join(", ").into()),
        extra: Extra::Fields(errors),
        ..Reason::InputInvalid.into()
    }
}

fn complete(errors: Vec<FieldError>) -> Result<(), Denial> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(invalid(errors)),
    }
}

fn required(
    field: &'static str,
    value: Option<String>,
    longest: usize,
    errors: &mut Vec<FieldError>,
) -> String {
    match optional(field, value, longest, errors) {
        Some(text) if !text.is_empty() => text,
        _ => {
            errors.push(error(field, "is missing or empty"));
            String::new()
        }
    }
}

fn optional(
    field: &'static str,
    value: Option<String>,
    longest: usize,
    errors: &mut Vec<FieldError>,
) -> Option<String> {
    let text = value?;
    if text.len() > longest {
        errors.push(error(field, "is too long"));
    }
    if text.contains('\0') {
        errors.push(error(field, "has a NUL character"));
    }
    Some(text)
}

fn email(value: Option<String>, errors: &mut Vec<FieldError>) -> String {
    let Some(text) = value else {
        errors.push(error("email", "is missing"));
        return String::new();
    };
    let email = text.trim().to_owned();
    if !is_email(&email) {
        errors.push(error("email", "is not an e-mail address"));
    }
    email
}

/// The shape of an address, not whether anybody has it: something, one `@`, and a name with a dot.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_alphanumeric() || c == '-' || !c.is_ascii())
    };
    let is_forbidden =
        |c: char| c.is_whitespace() || c.is_control() || "\"(),:;<>@[\\]".contains(c);
    text.len() <= LONGEST_EMAIL
        && (1..=64).contains(&local.len())
        && !local.contains(is_forbidden)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(label)
}

/// Passwords and addresses stay out.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registration(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_shape_and_a_length() {
        let long = format!("{}@b.test", "a".repeat(64));
        let longest = format!("a@{}.test", vec!["b".repeat(61); 4].join("."));
        assert_eq!(longest.len(), 254);
        for good in [
            "a@b.test",
            "A.b+c@d.e.test",
            "o'hara@b.test",
            "ä@bücher.test",
            &long,
            &longest,
        ] {
            assert!(is_email(good), "{good}");
        }
        let too_long = format!("aa@{}.test", vec!["b".repeat(61); 4].join("."));
        for bad in [
            "",
            "a",
            "@b.test",
            "a@",
            "a@b",
            "a@b..test",
            "a@.test",
            "a@b.test.",
            ".a@b.test",
            "a.@b.test",
            "a..b@c.test",
            "a b@c.test",
            "a@b@c.test",
            "a\n@b.test",
            "a@b.test\r\nBcc: c@d.test",
            "a,b@c.test",
            "<a@b.test>",
            "a@-b.test",
            "a@b_c.test",
            &too_long,
            &format!("{}@b.test", "a".repeat(65)),
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn nothing_that_was_written_is_shown() {
        let credentials = Credentials {
            email: "a@b.test".to_owned(),
            password: Secret::new("hunter2"),
            captcha: None,
        };
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("a@b") && !shown.contains("hunter2"));
    }
}
