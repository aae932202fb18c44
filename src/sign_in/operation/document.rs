//! `config/identity-server.md`: the table for operators.

use std::fmt::Write as _;

use super::{AccountSource, BodyRule, CallerRule, Effect, Operation, REFUSED, Route};

const INTRODUCTION: &str = "\
# Operations of the identity server

What `serve: identity_server` forwards to Supabase Auth. A request passes if method and path are in the
first table, in exactly this spelling. Everything else is 404, and the identity server never sees it.

*Caller*: `anyone` needs no key; `key` needs one of `publishable_keys`; `user` also needs a user's token, or
a cookie where the route accepts one. *Counts as* is the limit under `identity.throttle` that the request
counts towards; with an account it counts towards the limit of address and account, too. A `PUT /user` with
a password or a code counts as `verify`, too, and with a new address as `reset`. *Waits* marks calls that
wait for a message or another provider.

*Sessions* is what the operation does to sessions, at the identity server and here. A session that ends here
is refused on every replica within a second, although its access token is still valid. Tokens in an answer
to a caller with a cookie go behind the cookie, none to the page. A form that another site posts brings no
cookie, unless `sessions.same_site` is `none`; its tokens go to the page, and so do those of an app.

An app of the OAuth server names itself in the form of `POST /oauth/token` (`client_secret_post`, or none).

This file is written by `tests/reasons.rs` from the table in `src/sign_in/operation`; change it there.
";

const REFUSALS: &str = "
## Refused by name

The log's `detail` says why.

| path | why |
|---|---|
";

const EFFECTS: &str = "
## What ends a session

| at the identity server | here |
|---|---|
| a second factor is proven: the user's other sessions below that level end | the same: all but the caller's own whose tokens have a lower `aal` |
| a second factor is removed: sessions proven by it fall to `aal1` | access tokens of a higher `aal` are refused; the next refresh gives one of `aal1`. The caller's own bearer token stays as it is until it is refreshed |
| a hook rejects a second factor (`mfa_verification_rejected`): all sessions of the user end | the same |
| a new password: all other sessions end | the same, also if the outcome of the change is unknown |
| a logout | the sessions of its `scope` |
| a refresh is refused because the session has ended, expired, is one too many for the user, or its refresh token was used twice | the session ends, if the identity server says which one it was |
| an app loses its access | the tokens of that app are refused |
| an administrator bans or deletes a user | `facts.caller`, the webhook and `foregate revoke` end the sessions |
";

/// The whole file.
pub fn document() -> String {
    let mut text = format!(
        "{INTRODUCTION}\n| request | caller | body | counts as | waits | sessions | metric |\n|---|---|---|---|---|---|---|\n"
    );
    for operation in Operation::ALL {
        let row = operation.row();
        for route in row.routes {
            // Writing to a string never fails.
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} | `{}` |",
                request(route),
                row.caller.meaning(),
                route.body.meaning(),
                match row.account {
                    AccountSource::Nobody => format!("`{}`", row.attempt.as_str()),
                    AccountSource::Body if route.body == BodyRule::None =>
                        format!("`{}`", row.attempt.as_str()),
                    AccountSource::Body =>
                        format!("`{}`, account in the body", row.attempt.as_str()),
                    AccountSource::Caller =>
                        format!("`{}`, the caller's account", row.attempt.as_str()),
                },
                if row.waits_for_others { "yes" } else { "" },
                row.effect.meaning(),
                operation.as_str(),
            );
        }
    }
    text.push_str(REFUSALS);
    for refused in REFUSED {
        let _ = writeln!(
            text,
            "| `{}`, `{}/*` | {} |",
            refused.path, refused.path, refused.why
        );
    }
    text.push_str(EFFECTS);
    text
}

fn request(route: &Route) -> String {
    let grant = route.grant.map(|grant| format!("?grant_type={grant}"));
    let (method, path) = (&route.method, route.path);
    format!("{method} /{path}{}", grant.unwrap_or_default())
}

impl CallerRule {
    const fn meaning(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Key => "key",
            Self::User => "user",
            Self::Gateway => "the gateway",
        }
    }
}

impl BodyRule {
    const fn meaning(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Json => "JSON",
            Self::JsonOrNone => "JSON or none",
            Self::Form => "form",
        }
    }
}

impl Effect {
    const fn meaning(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Begins => "may begin one",
            Self::Refreshes => "renews one, or tells that it has ended",
            Self::EndsByScope => "ends those of its `scope`",
            Self::EndsOthersWithPassword => "with a `password`, ends the user's others",
            Self::Raises => "raises the caller's, ends the user's others below that level",
            Self::Lowers => "those proven by the factor fall to `aal1`",
            Self::EndsOfClient => "`DELETE` ends those of the app `client_id`",
        }
    }
}
