//! What a token may be: as long as the map says, of an issuer that publishes no keys yet, and of a
//! third party's application only where the map names it.

use foregate::denial::Reason;
use foregate::tokens::mint::{Claims, Signer};
use jsonwebtoken::Algorithm;

use super::*;
use crate::support::auth_server::{Behave, PUBLISHABLE};
use crate::support::tokens::now;
use crate::support::{Gateway, in_time};

const ROUTES: &str = r#"
  - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
  - { path: /mine, access: user }
"#;

async fn desk(max_token: &str) -> Desk {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.more_routes(ROUTES);
        config.set("connections", &format!("{{ max_token: {max_token} }}"));
    })
    .await;
    desk.is_ready().await;
    desk
}

impl Desk {
    async fn asks(&self, http: Http, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let mut call = self
            .gateway
            .call(http, method, &format!("/auth/v1/{path}"))
            .header("apikey", PUBLISHABLE)
            .header("x-supabase-api-version", "2024-01-01")
            .header("content-type", "application/json");
        if !token.is_empty() {
            call = call.bearer(token);
        }
        call.body(body.to_string()).send().await
    }
}

#[tokio::test]
async fn metadata_that_would_make_the_token_too_long_is_refused_in_words() {
    let desk = desk("4KiB").await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let email = format!("{number}@example.test");
        desk.double.add_user(&email, PASSWORD);
        let token = text(&desk.signed_in(http, &email).await, "access_token").to_owned();
        let data = |length: usize| json!({ "data": { "note": "x".repeat(length) } });
        for body in [data(4000), json!({ "data": { "note": "<".repeat(600) } })] {
            let refused = desk.asks(http, "PUT", "user", &token, body).await;
            assert_eq!(refused.status, 400, "{}", refused.text());
            assert_eq!(refused.json()["code"], "validation_failed");
            assert!(text(&refused.json(), "message").contains("longer than 4096 bytes"));
        }
        let new = json!({ "email": format!("new{number}@example.test"), "password": PASSWORD, "data": { "note": "x".repeat(4000) } });
        let refused = desk.asks(http, "POST", "signup", "", new).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(!desk.double.has_user(&format!("new{number}@example.test")));
        // What fits passes, and the user signs in with it; less always passes.
        desk.asks(http, "PUT", "user", &token, data(1500))
            .await
            .is_ok();
        // The token of the caller does not have it yet.
        let more = json!({ "data": { "more": "y".repeat(1500) } });
        let refused = desk.asks(http, "PUT", "user", &token, more).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        let token = text(&desk.signed_in(http, &email).await, "access_token").to_owned();
        desk.gateway
            .get(http, "/mine")
            .bearer(&token)
            .send()
            .await
            .is_ok();
        desk.asks(
            http,
            "PUT",
            "user",
            &token,
            json!({ "data": { "note": null } }),
        )
        .await
        .is_ok();
    }
    assert_eq!(desk.double.calls("change-user"), 4);
    desk.gateway.origin.has_seen(2).await;
}

#[tokio::test]
async fn a_sign_in_whose_token_is_too_long_says_what_is_wrong_and_the_limit_is_a_key() {
    let (strict, wide) = (desk("2KiB").await, desk("12KiB").await);
    for (desk, length, is_good) in [(&strict, 3000, false), (&wide, 7000, true)] {
        for (number, http) in Http::BOTH.into_iter().enumerate() {
            let email = format!("{number}@example.test");
            let id = desk.double.add_user(&email, PASSWORD);
            // As an administrator writes it.
            desk.double
                .set_metadata(&id, json!({ "note": "x".repeat(length) }));
            let credentials = login(&email, PASSWORD);
            let own = desk.post(http, "login", &credentials).send().await;
            let passed = desk
                .asks(http, "POST", "token?grant_type=password", "", credentials)
                .await;
            if is_good {
                let token = text(&own.is_ok().json(), "access_token").to_owned();
                desk.gateway
                    .get(http, "/mine")
                    .bearer(&token)
                    .send()
                    .await
                    .is_ok();
                passed.is_ok();
                continue;
            }
            for answer in [own, passed] {
                assert_eq!(answer.log_line()["reason"], Reason::TokenTooLarge.code());
                assert_eq!(answer.status, 401);
                assert!(
                    answer.text().contains("the user's metadata"),
                    "{}",
                    answer.text()
                );
            }
        }
    }
}

#[tokio::test]
async fn a_project_that_signs_with_a_secret_is_ready_before_it_publishes_keys() {
    let secret = "a secret of at least thirty-two bytes";
    let double = AuthServer::start();
    double.behave("jwks", Behave::Edge(200, r#"{"keys":[]}"#));
    let gateway = Gateway::with(|config| {
        let (published, issuer) = (double.tokens(), double.issuer());
        let tokens = format!("{published}\n  - {{ issuer: \"{issuer}\", audience: authenticated, algorithms: HS256, secret: \"{secret}\" }}");
        config
            .more_routes(ROUTES)
            .set("tokens", &tokens)
            .set("identity", &identity(&double, "", UNLIMITED));
    })
    .await;
    let desk = Desk { double, gateway };
    desk.is_ready().await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let claims =
        Claims::new(desk.double.issuer(), &id, now()).session(&uuid::Uuid::now_v7().to_string());
    let legacy = Signer::secret(secret.as_bytes(), Algorithm::HS256).unwrap();
    let legacy = legacy.sign(&claims).unwrap();
    for http in Http::BOTH {
        desk.gateway
            .get(http, "/mine")
            .bearer(&legacy)
            .send()
            .await
            .is_ok();
    }
    // The project switches: its new tokens are accepted as soon as its keys are there.
    let (new, _) = desk.double.sign_in(&id);
    desk.double.behave("jwks", Behave::Well);
    let accepted = async {
        loop {
            let answer = desk
                .gateway
                .get(Http::Two, "/mine")
                .bearer(&new)
                .send()
                .await;
            match answer.status.as_u16() {
                200 => return,
                503 => tokio::task::yield_now().await,
                _ => panic!("{} {}", answer.status, answer.text()),
            }
        }
    };
    in_time("the new keys", accepted).await;
    desk.gateway
        .get(Http::One, "/mine")
        .bearer(&legacy)
        .send()
        .await
        .is_ok();
}

#[tokio::test]
async fn an_issuer_that_publishes_no_keys_and_has_no_other_entry_is_not_ready() {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |_| {}).await;
    desk.double
        .behave("jwks", Behave::Edge(200, r#"{"keys":[]}"#));
    let gateway = desk
        .gateway
        .replica(|config| {
            config
                .set("tokens", &desk.double.tokens())
                .set("identity", &identity(&desk.double, "", UNLIMITED));
        })
        .await;
    let seen = desk.double.calls("jwks");
    desk.double.has_seen("jwks", seen + 2).await;
    assert_eq!(gateway.admin_status("/readyz"), 503);
}

#[tokio::test]
async fn a_token_of_a_third_partys_application_is_a_users_only_where_the_map_names_it() {
    const KNOWN: &str = "0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b70";
    const OTHER: &str = "0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b71";
    let routes = format!(
        "
  - {{ path: /mine, access: user }}
  - {{ path: /open, access: optional }}
  - {{ path: /shared, access: user, clients: [{KNOWN}] }}
"
    );
    let gateway = Gateway::with_routes(&routes).await;
    let everywhere = Gateway::with(|config| {
        let tokens = config
            .get("tokens")
            .replace("issuer:", &format!("clients: [{KNOWN}], issuer:"));
        config.set("tokens", &tokens).routes(&routes);
    })
    .await;
    let of = |gateway: &Gateway, client: &str| {
        gateway
            .issuer
            .sign(&gateway.issuer.claims().with("client_id", client))
    };
    for http in Http::BOTH {
        for (gateway, client, path, is_good) in [
            (&gateway, KNOWN, "/mine", false),
            (&gateway, KNOWN, "/open", false),
            (&gateway, KNOWN, "/shared", true),
            (&gateway, OTHER, "/shared", false),
            (&everywhere, KNOWN, "/mine", true),
            (&everywhere, KNOWN, "/open", true),
            (&everywhere, OTHER, "/mine", false),
        ] {
            let answer = gateway
                .get(http, path)
                .bearer(&of(gateway, client))
                .send()
                .await;
            match is_good {
                true => {
                    answer.is_ok();
                    gateway.origin.only();
                }
                false => {
                    answer.is_denied(Reason::ClientRefused);
                    gateway.origin.saw_nothing();
                }
            }
        }
        // Users themselves are not concerned.
        let own = of(&gateway, "");
        gateway.get(http, "/mine").bearer(&own).send().await.is_ok();
        gateway.origin.only();
    }
}
