//! Second factors of the double: TOTP, telephone, WebAuthn and recovery codes. The right code is
//! always `123456`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::answers::json;
use super::endpoints::{Answer, Endpoint};
use super::state::{Factor, State, User};
use crate::support::tokens::now;

const AAL2: &str = "aal2";

impl Endpoint<'_> {
    pub(super) fn enroll(&self) -> Answer {
        self.with_user(|state, user, session| {
            if user.anonymous {
                return self.error(403, "no_authorization", "Anonymous user not allowed");
            }
            let has_proven = user.factors.iter().any(|factor| factor.verified);
            if has_proven && state.sessions[session].aal != AAL2 {
                let message = "AAL2 required to enroll a new factor";
                return self.error(403, "insufficient_aal", message);
            }
            let (kind, name) = (self.text("factor_type"), self.text("friendly_name"));
            let mut answer = json!({ "type": kind, "friendly_name": name });
            match kind {
                "totp" => {
                    answer["totp"] = json!({ "qr_code": "<svg/>", "secret": "JBSWY3DP", "uri": "otpauth://totp/x" });
                }
                "phone" => answer["phone"] = json!(self.text("phone")),
                "webauthn" => {}
                _ => {
                    let message = "factor_type needs to be totp, phone, or webauthn";
                    return self.error(400, "validation_failed", message);
                }
            }
            let factor = Factor::new(kind, false);
            answer["id"] = json!(factor.id);
            state.user(&user.id).factors.push(factor);
            json(self.call, 200, &answer)
        })
    }

    pub(super) fn challenge(&self, id: &str) -> Answer {
        self.with_factor(id, |state, user, _, factor| {
            let challenge = Uuid::now_v7().to_string();
            let mut answer =
                json!({ "id": challenge, "type": factor.kind, "expires_at": now() + 300 });
            if factor.kind == "webauthn" {
                let (kind, options) = match factor.verified {
                    false => ("create", creation_options()),
                    true => ("request", json!({ "publicKey": { "challenge": "AAAA" } })),
                };
                answer["webauthn"] = json!({ "type": kind, "credential_options": options });
            }
            state.factor(&user.id, id).challenges.push(challenge);
            json(self.call, 200, &answer)
        })
    }

    pub(super) fn verify_factor(&self, id: &str) -> Answer {
        self.with_factor(id, |state, user, session, factor| {
            let is_key = factor.kind == "webauthn";
            if self.text("code").is_empty() && !is_key {
                return self.error(400, "validation_failed", "Code needs to be non-empty");
            }
            let given = self.text("challenge_id");
            if !factor.challenges.iter().any(|challenge| challenge == given) {
                let message = "MFA factor with the provided challenge ID not found";
                return self.error(422, "mfa_factor_not_found", message);
            }
            let is_right = match is_key {
                true => self.body["webauthn"]["credential_response"].is_object(),
                false => self.text("code") == "123456",
            };
            if !is_right {
                return self.error(422, "mfa_verification_failed", "Invalid TOTP code entered");
            }
            let proven = state.factor(&user.id, id);
            proven.verified = true;
            proven.challenges.clear();
            let kind = proven.kind.clone();
            let factors = &mut state.user(&user.id).factors;
            factors.retain(|one| one.verified || one.kind != kind);
            self.raise(state, &user, session, id)
        })
    }

    /// The session gets tokens of the second level; the user's sessions below it end.
    fn raise(&self, state: &mut State, user: &User, session: &str, factor: &str) -> Answer {
        let body = self.shared.step_up(state, session);
        state.sessions.get_mut(session).unwrap().factor = Some(factor.to_owned());
        let stays = |one: &super::state::Session| one.user != user.id || one.aal.as_str() >= AAL2;
        state.sessions.retain(|_, one| stays(one));
        json(self.call, 200, &body)
    }

    pub(super) fn unenroll(&self, id: &str) -> Answer {
        self.with_factor(id, |state, user, session, factor| {
            if factor.verified && state.sessions[session].aal != AAL2 {
                let message = "AAL2 required to unenroll verified factor";
                return self.error(422, "insufficient_aal", message);
            }
            state.user(&user.id).factors.retain(|one| one.id != id);
            for one in state.sessions.values_mut() {
                if one.factor.as_deref() == Some(id) {
                    one.factor = None;
                    one.aal = "aal1".to_owned();
                    one.amr.retain(|(method, _)| method != "totp");
                }
            }
            json(self.call, 200, &json!({ "id": id }))
        })
    }

    /// `/factors/recovery-codes` and below. There is one code.
    pub(super) fn recovery_codes(&self, rest: &[&str]) -> Answer {
        self.with_user(|state, user, session| {
            let is_raised = state.sessions[session].aal == AAL2;
            match (self.call.method.as_str(), rest) {
                ("POST", ["verify"]) if self.text("code") == "recovery" => {
                    self.raise(state, &user, session, "recovery-codes")
                }
                ("POST", ["verify"]) => self.error(
                    422,
                    "mfa_verification_failed",
                    "Invalid recovery code entered",
                ),
                ("GET", []) => json(self.call, 200, &json!({ "total": 1, "remaining": 1 })),
                _ if !is_raised => self.error(403, "insufficient_aal", "AAL2 required"),
                _ => json(self.call, 200, &json!({ "codes": ["recovery"] })),
            }
        })
    }

    fn with_factor(
        &self,
        id: &str,
        answer: impl FnOnce(&mut State, User, &str, Factor) -> Answer,
    ) -> Answer {
        self.with_user(|state, user, session| {
            let found = user.factors.iter().find(|factor| factor.id == id).cloned();
            match found {
                None => self.error(404, "mfa_factor_not_found", "Factor not found"),
                Some(factor) => answer(state, user, session, factor),
            }
        })
    }
}

/// What a browser needs to make a key.
fn creation_options() -> Value {
    json!({ "publicKey": {
        "challenge": "AAAA",
        "rp": { "id": "api.test", "name": "a project" },
        "user": { "id": "AAAA", "name": "ada", "displayName": "Ada" },
        "pubKeyCredParams": [{ "type": "public-key", "alg": -7 }],
    } })
}
