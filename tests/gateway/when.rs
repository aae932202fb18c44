//! The route's own condition: `when`.

use foregate::denial::Reason;
use foregate::tokens::mint::Claims;
use serde_json::json;

use crate::support::{Gateway, Http};

const ROUTES: &str = r#"
- { path: /notes, access: user, when: "request.method == 'GET' || caller.aal == 'aal2'" }
- { path: /pro, access: user, when: caller.claims.app_metadata.plan == 'pro' }
- { path: /office, access: public, when: "request.address.startsWith('10.')" }
- { path: /greeting, access: optional, when: "!caller.known || 'editor' in caller.roles" }
- { path: "/mine/{*rest}", access: user, when: "request.path.startsWith('/mine/' + caller.subject + '/')" }
- { path: /waived, access: user, action: admin, when: caller.aal == 'aal2', layers: { roles: { mode: off, until: "UNTIL", reason: a test } } }
"#;

async fn start() -> Gateway {
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    Gateway::with(|config| {
        config
            .subjects("text")
            .set(
                "roles",
                "{ grants: { user: [read, write], editor: [share], admin: [\"*\"] } }",
            )
            .routes(&ROUTES.replace("UNTIL", &until.strftime("%Y-%m-%d").to_string()));
    })
    .await
}

#[tokio::test]
async fn a_condition_is_evaluated_after_the_roles_and_sees_method_caller_and_claims() {
    let gateway = start().await;
    let sign = |change: fn(Claims) -> Claims| gateway.issuer.sign(&change(gateway.issuer.claims()));
    let plain = sign(|claims| claims.aal(1));
    let strong = sign(|claims| claims.aal(2));
    let pro = sign(|claims| claims.with("app_metadata", json!({ "plan": "pro" })));
    let free = sign(|claims| claims.with("app_metadata", json!({ "plan": "free" })));
    let forged = sign(|claims| claims.with("user_metadata", json!({ "plan": "pro" })));
    let odd = sign(|claims| claims.with("app_metadata", json!({ "plan": ["pro"] })));
    let editor = sign(|claims| claims.roles(["editor"]));
    let refused = Some(Reason::WhenRefused);
    for http in Http::BOTH {
        for (method, path, token, reason) in [
            ("GET", "/notes", &plain, None),
            ("HEAD", "/notes", &plain, None),
            ("POST", "/notes", &plain, refused),
            ("POST", "/notes", &strong, None),
            // The roles are checked first.
            ("DELETE", "/notes", &plain, Some(Reason::RoleInsufficient)),
            ("GET", "/pro", &pro, None),
            ("GET", "/pro", &free, refused),
            ("GET", "/pro", &odd, refused),
            // A missing claim is an error, never true.
            ("GET", "/pro", &plain, Some(Reason::WhenFailed)),
            ("GET", "/pro", &forged, Some(Reason::WhenFailed)),
            ("GET", "/greeting", &editor, None),
            ("GET", "/greeting", &plain, refused),
            // A waiver of the roles does not waive the condition.
            ("GET", "/waived", &plain, refused),
            ("GET", "/waived", &strong, None),
            ("GET", "/office", &plain, refused),
        ] {
            let answer = gateway.call(http, method, path).bearer(token).send().await;
            match reason {
                None => {
                    answer.is_ok();
                    gateway.origin.only();
                }
                Some(reason) => {
                    answer.is_denied(reason);
                    gateway.origin.saw_nothing();
                }
            }
        }
        gateway.get(http, "/greeting").send().await.is_ok();
        gateway.origin.only();
    }
}

#[tokio::test]
async fn the_path_a_condition_sees_is_the_one_that_is_forwarded() {
    let gateway = start().await;
    let token = gateway.issuer.token_of("alice");
    for http in Http::BOTH {
        for (path, forwarded) in [
            ("/mine/alice/a", "/mine/alice/a"),
            ("/mine/%61lice/a", "/mine/alice/a"),
        ] {
            gateway.get(http, path).bearer(&token).send().await.is_ok();
            assert_eq!(gateway.origin.only().target, forwarded);
        }
        for path in [
            "/mine/bob/a",
            "/mine/alic%65x/a",
            "/mine/Alice/a",
            "/mine/alice",
        ] {
            let answer = gateway.get(http, path).bearer(&token).send().await;
            answer.is_denied(Reason::WhenRefused);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn the_operator_and_not_the_client_learns_why_a_condition_failed() {
    let gateway = start().await;
    let token = gateway.issuer.sign(
        &gateway
            .issuer
            .claims()
            .with("app_metadata", json!({ "secret": "hunter2" })),
    );
    let answer = gateway.get(Http::Two, "/pro").bearer(&token).send().await;
    let id = answer.is_denied(Reason::WhenFailed).id().to_owned();
    assert!(!answer.text().contains("claim"), "{}", answer.text());
    let line = gateway.log_line(&id);
    assert_eq!(line["reason"], "when_failed");
    assert_eq!(line["detail"], "a claim that it reads is missing");
    assert!(!gateway.log().text().contains("hunter2"));
    gateway.origin.saw_nothing();
}
