//! The API keys of Supabase: only the configured publishable keys pass, and they prove no user.

use foregate::denial::Reason;

use crate::support::{Gateway, Http};

const KEY: &str = "sb_publishable_0123456789";
///
/// `{"alg":"HS256","typ":"JWT"}.{"iss":"supabase","ref":"p","role":"anon","iat":1,"exp":2000000000}`
/// with some signature.
const ANON: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZSIsInJlZiI6InAiLCJyb2xlIjoiYW5vbiIsImlhdCI6MSwiZXhwIjoyMDAwMDAwMDAwfQ.c2ln";
/// The same with another `ref`.
const OTHER_ANON: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZSIsInJlZiI6InEiLCJyb2xlIjoiYW5vbiIsImlhdCI6MSwiZXhwIjoyMDAwMDAwMDAwfQ.c2ln";
/// The same with `"role":"service_role"`.
const SERVICE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZSIsInJlZiI6InAiLCJyb2xlIjoic2VydmljZV9yb2xlIiwiaWF0IjoxLCJleHAiOjIwMDAwMDAwMDB9.c2ln";

async fn gateway() -> Gateway {
    Gateway::with(|config| {
        config
            .set(
                "identity",
                &format!("{{ supabase: {{ url: \"https://issuer.test\", publishable_keys: [{KEY}, {ANON}] }} }}"),
            )
            .more_routes(
                r#"
                - { path: /keyed, access: optional, apikey: required }
                - { path: /keyed/user, access: user, apikey: required }
                - { path: /perhaps, access: public, apikey: optional }
                "#,
            );
    })
    .await
}

#[tokio::test]
async fn a_configured_key_passes_in_the_field_or_the_query_and_proves_no_user() {
    let gateway = gateway().await;
    for http in Http::BOTH {
        for key in [KEY, ANON] {
            let call = gateway.get(http, "/keyed").header("apikey", key);
            call.bearer(key).send().await.is_ok();
            let seen = gateway.origin.only();
            assert_eq!(seen.header("apikey"), Some(key));
            assert_eq!(seen.header("authorization"), None, "a key is no user");
            assert_eq!(seen.header("x-foregate-subject"), None);

            let target = format!("/keyed?vsn=2.0.0&apikey={key}");
            gateway.get(http, &target).send().await.is_ok();
            let seen = gateway.origin.only();
            assert_eq!((&seen.target, seen.header("apikey")), (&target, None));
            seen_by_a_user(&gateway, http, key).await;

            let user = gateway.get(http, "/keyed/user").header("apikey", key);
            user.bearer(key)
                .send()
                .await
                .is_denied(Reason::TokenMissing);
            gateway.origin.saw_nothing();
        }
        gateway.get(http, "/perhaps").send().await.is_ok();
        gateway.origin.take();
    }
}

async fn seen_by_a_user(gateway: &Gateway, http: Http, key: &str) {
    let token = gateway.issuer.token();
    let user = gateway.get(http, "/keyed/user").header("apikey", key);
    user.bearer(&token).send().await.is_ok();
    let seen = gateway.origin.only();
    assert_eq!(
        seen.header("authorization"),
        Some(&*format!("Bearer {token}"))
    );
}

#[tokio::test]
async fn every_other_key_is_refused_and_nothing_is_forwarded() {
    let gateway = gateway().await;
    for http in Http::BOTH {
        let keyed = |query: &str| gateway.get(http, &format!("/keyed{query}"));
        keyed("").send().await.is_denied(Reason::ApikeyMissing);
        for key in ["sb_publishable_other", OTHER_ANON, "", "x"] {
            for path in ["/keyed", "/perhaps"] {
                let call = gateway.get(http, path).header("apikey", key);
                call.send().await.is_denied(Reason::ApikeyUnknown);
            }
            let bearer = keyed("").header("apikey", KEY).bearer(key).send().await;
            let reason = match key {
                "" | "x" => Reason::TokenMalformed,
                _ => Reason::ApikeyUnknown,
            };
            bearer.is_denied(reason);
        }
        for secret in ["sb_secret_0123456789", SERVICE] {
            for call in [
                keyed("").header("apikey", secret),
                keyed(&format!("?apikey={secret}")),
                keyed(&format!("?%61pikey={secret}")),
                keyed("").header("apikey", KEY).bearer(secret),
                keyed(&format!("?a=b;apikey={secret}")).header("apikey", KEY),
            ] {
                call.send().await.is_denied(Reason::ServiceKeyRefused);
            }
        }
        for call in [
            keyed("").header("apikey", KEY).header("apikey", KEY),
            keyed(&format!("?apikey={KEY}")).header("apikey", KEY),
            keyed(&format!("?apikey={KEY}&apikey={KEY}")),
            keyed(&format!("?APIKEY={KEY}")),
            keyed(&format!("?a=b;apikey={KEY}")),
        ] {
            call.send().await.is_denied(Reason::ApikeyRepeated);
        }
        gateway.origin.saw_nothing();
    }
}
