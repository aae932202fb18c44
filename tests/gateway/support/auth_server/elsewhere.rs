//! What the double answers where a browser or an app comes from elsewhere: forms of providers, SAML,
//! passkeys, and its own OAuth server.

use hyper::Method;
use serde_json::json;

use super::answers::{json, redirect};
use super::endpoints::{Answer, Endpoint};

impl Endpoint<'_> {
    /// `None` for what is not here.
    pub(super) fn elsewhere(&self, parts: &[&str]) -> Option<Answer> {
        let good = |document| json(self.call, 200, &document);
        Some(match (&self.call.method, parts) {
            (&Method::GET, ["callback"]) => redirect("https://app.test/#access_token=x"),
            // A provider posts a form; so does the one of an organization.
            (&Method::POST, ["callback"]) => self.posted("state"),
            (&Method::POST, ["sso", "saml", "acs"]) => self.posted("SAMLResponse"),
            (&Method::POST, ["sso"]) => good(json!({ "url": "https://idp.test/sso" })),
            (&Method::GET, ["sso", "saml", "metadata"]) => good(json!({})),
            (
                &Method::GET,
                [
                    ".well-known",
                    "openid-configuration" | "oauth-authorization-server",
                ],
            ) => good(json!({ "issuer": self.shared.issuer })),
            (&Method::POST, ["passkeys", "authentication", "options"]) => {
                good(json!({ "challenge_id": "x", "options": {} }))
            }
            (&Method::POST, ["passkeys", "authentication", "verify"]) => {
                let mut state = self.state();
                match state.by_email(self.text("credential")) {
                    None => return Some(self.error(400, "webauthn_credential_not_found", "none")),
                    Some(user) => good(self.shared.grant(&mut state, &user.id, "passkey", "aal1")),
                }
            }
            (_, ["passkeys", ..]) => self.with_user(|_, _, _| good(json!([]))),
            (&Method::GET, ["oauth", "authorize"]) => redirect("https://app.test/consent"),
            (&Method::POST, ["oauth", "clients", "register"]) => good(json!({ "client_id": "x" })),
            (&Method::POST, ["oauth", "token"]) => match self.is_form() && self.posts("code") {
                true => good(json!({ "access_token": "an app's" })),
                false => self.error(400, "validation_failed", "no code in a form"),
            },
            (_, ["oauth", "userinfo" | "authorizations", ..]) => {
                self.with_user(|_, user, _| good(json!({ "sub": user.id })))
            }
            (_, ["user", "oauth", "grants"]) => self.with_user(|state, user, _| {
                let client = self.parameter("client_id");
                let is_of = |one: &super::state::Session| {
                    one.user == user.id && one.client.as_deref() == Some(client)
                };
                state.sessions.retain(|_, one| !is_of(one));
                good(json!([]))
            }),
            (&Method::GET, ["user", "identities", "authorize"]) => {
                self.with_user(|_, _, _| good(json!({ "url": "https://provider.test" })))
            }
            _ => return None,
        })
    }

    /// A form with this field.
    fn posted(&self, field: &str) -> Answer {
        match self.is_form() && self.posts(field) {
            true => redirect("https://app.test/#access_token=x"),
            false => redirect("https://app.test/#error=invalid_request"),
        }
    }

    fn posts(&self, field: &str) -> bool {
        let text = String::from_utf8_lossy(&self.call.body);
        let mut pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        pairs.any(|(name, _)| name == field)
    }

    fn is_form(&self) -> bool {
        self.call.header("content-type") == "application/x-www-form-urlencoded"
    }
}
