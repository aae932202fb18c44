//! Reads and validates the body of a request to a sign-in route: 415, 400 and 422.
//!
//! Fields are taken one by one, and what is sent to the identity server is written anew, so nothing
//! that a client adds gets there. Unknown members are ignored, for compatibility with the earlier
//! backend; a duplicate member is refused, since the two servers could read it differently.

use hyper::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::denial::{Denial, Extra, FieldError, Reason};
use crate::json;
use crate::request::body::{self, Body, BodyBudget};
use crate::secrets::secret::Secret;

/// The longest usable e-mail address in bytes (RFC 5321, section 4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;

/// Bytes of a password that bcrypt uses; the identity server refuses longer new passwords.
const LONGEST_PASSWORD: usize = 72;

/// Characters of a new password, as in the earlier backend; the identity server may require more.
const SHORTEST_PASSWORD: usize = 8;

/// The longest name in bytes.
const LONGEST_NAME: usize = 200;

/// The longest refresh token or captcha answer in bytes.
const LONGEST_TOKEN: usize = 8 << 10;

/// A well-formed e-mail address and a password.
pub(super) struct Credentials {
    pub email: String,
    pub password: Secret,
    pub captcha: Option<Secret>,
}

/// The input of `register`.
pub(super) struct Registration {
    pub credentials: Credentials,
    pub full_name: String,
    pub redirect_to: Option<String>,
}

/// The input of `password-reset`.
pub(super) struct ResetInput {
    pub email: String,
    pub captcha: Option<Secret>,
    pub redirect_to: Option<String>,
}

#[derive(Deserialize)]
struct CredentialsJson {
    email: Option<String>,
    password: Option<String>,
    full_name: Option<String>,
    #[serde(flatten)]
    captcha: CaptchaJson,
    redirect_to: Option<String>,
}

/// The answer to a captcha, plainly or as clients of the identity server write it.
#[derive(Deserialize)]
struct CaptchaJson {
    captcha_token: Option<String>,
    gotrue_meta_security: Option<MetaSecurityJson>,
}

#[derive(Deserialize)]
struct MetaSecurityJson {
    captcha_token: Option<String>,
}

#[derive(Deserialize)]
struct EmailJson {
    email: Option<String>,
    #[serde(flatten)]
    captcha: CaptchaJson,
    redirect_to: Option<String>,
}

#[derive(Deserialize)]
struct RefreshTokenJson {
    refresh_token: Option<String>,
}

/// A body that has not been read yet.
pub(super) struct UnreadBody {
    pub fields: HeaderMap,
    pub body: Option<Body>,
    pub budget: BodyBudget,
}

impl UnreadBody {
    /// Reads the input of `login`.
    pub(super) async fn credentials(self) -> Result<Credentials, Denial> {
        let fields: CredentialsJson = self.read().await?;
        let mut errors = Vec::new();
        let email = email(fields.email, &mut errors);
        let password = required("password", fields.password, LONGEST_TOKEN, &mut errors);
        let captcha = fields.captcha.answer(&mut errors);
        complete(errors)?;
        Ok(Credentials {
            email,
            password: Secret::new(password),
            captcha: captcha.map(Secret::new),
        })
    }

    /// Reads the input of `register`.
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
                "is longer than 72 bytes, the most that is hashed",
            ));
        }
        let full_name = optional("full_name", fields.full_name, LONGEST_NAME, &mut errors);
        let captcha = fields.captcha.answer(&mut errors);
        complete(errors)?;
        Ok(Registration {
            credentials: Credentials {
                email,
                password: Secret::new(password),
                captcha: captcha.map(Secret::new),
            },
            full_name: full_name.unwrap_or_default(),
            redirect_to: fields.redirect_to.filter(|text| !text.is_empty()),
        })
    }

    /// Reads the input of `password-reset`.
    pub(super) async fn reset(self) -> Result<ResetInput, Denial> {
        let fields: EmailJson = self.read().await?;
        let mut errors = Vec::new();
        let email = email(fields.email, &mut errors);
        let captcha = fields.captcha.answer(&mut errors);
        complete(errors)?;
        Ok(ResetInput {
            email,
            captcha: captcha.map(Secret::new),
            redirect_to: fields.redirect_to.filter(|text| !text.is_empty()),
        })
    }

    /// Reads the input of `refresh`.
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

    /// Reads an object, or none if there is no body, and keeps only these members of it.
    pub(super) async fn members(self, names: &[&str]) -> Result<Map<String, Value>, Denial> {
        let Some(body) = self.body else {
            return Ok(Map::new());
        };
        let collected = body.collect(&self.budget).await?;
        if collected.bytes.is_empty() {
            return Ok(Map::new());
        }
        body::says_json(&self.fields)?;
        let mut members = json::object(&collected.bytes).ok_or(Reason::BodyMalformed)?;
        members.retain(|name, _| names.contains(&name.as_str()));
        Ok(members)
    }

    async fn read<T: DeserializeOwned>(self) -> Result<T, Denial> {
        body::says_json(&self.fields)?;
        let body = self.body.ok_or(Reason::BodyMalformed)?;
        let collected = body.collect(&self.budget).await?;
        let value = json::value(&collected.bytes).ok_or(Reason::BodyMalformed)?;
        // serde would also accept an array of the members' values.
        let members = Some(value).filter(Value::is_object);
        // The text of the error may quote the input, so it is dropped.
        members
            .and_then(|members| serde_json::from_value(members).ok())
            .ok_or_else(|| invalid(vec![error("body", "is not an object with string members")]))
    }
}

impl CaptchaJson {
    fn answer(self, errors: &mut Vec<FieldError>) -> Option<String> {
        let nested = || self.gotrue_meta_security?.captcha_token;
        let answer = self.captcha_token.or_else(nested);
        optional("captcha_token", answer, LONGEST_TOKEN, errors)
    }
}

pub(super) fn error(field: &'static str, detail: &'static str) -> FieldError {
    FieldError {
        field,
        detail: detail.into(),
    }
}

/// A refusal that names the invalid fields.
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

/// Whether the text has the shape of an address: a local part, one `@`, and a domain with a dot.
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

/// Omits password and address.
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
    fn an_address_is_checked_for_shape_and_length() {
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
    fn debug_output_omits_the_input() {
        let credentials = Credentials {
            email: "a@b.test".to_owned(),
            password: Secret::new("hunter2"),
            captcha: None,
        };
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("a@b") && !shown.contains("hunter2"));
    }
}
