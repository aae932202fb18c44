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
                - { path: "/tables/{*rest}", access: optional, rest: { tables: { notes: { read: true } } } }
                - { path: /realtime, methods: [GET], access: optional, upgrade: [websocket], realtime: true }
                - { path: /passed, access: public, pass_credentials: true }
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

/// Every place in which a part of Supabase looks for a key, and that is forwarded.
const FIELDS: [&str; 2] = ["apikey", "x-api-key"];

#[tokio::test]
async fn a_key_is_judged_alike_wherever_a_part_of_supabase_reads_it() {
    let gateway = gateway().await;
    let user = gateway.issuer.token();
    for http in Http::BOTH {
        for path in ["/keyed", "/perhaps", "/tables/notes", "/realtime"] {
            let get = |query: &str| gateway.get(http, &format!("{path}{query}"));
            for (key, reason) in [
                (SERVICE, Reason::ServiceKeyRefused),
                ("sb_secret_0123456789", Reason::ServiceKeyRefused),
                (OTHER_ANON, Reason::ApikeyUnknown),
                ("sb_publishable_other", Reason::ApikeyUnknown),
                (user.as_str(), Reason::ApikeyUnknown),
            ] {
                for field in FIELDS.into_iter().chain(["sb-api-key", "SB-Api-Key"]) {
                    let answer = get("").header(field, key).send().await;
                    answer.is_denied(reason);
                    // Beside a good one it is no better.
                    let answer = get(&format!("?apikey={KEY}")).header(field, key);
                    let answer = answer.send().await;
                    assert!([400, 401, 403].contains(&answer.status.as_u16()));
                }
                get(&format!("?apikey={key}"))
                    .send()
                    .await
                    .is_denied(reason);
                gateway.origin.saw_nothing();
            }
            let twice = get("").header("apikey", KEY).header("x-api-key", KEY);
            twice.send().await.is_denied(Reason::ApikeyRepeated);
            let listed = get(&format!("?apikey[]={KEY}")).send().await;
            listed.is_denied(Reason::ApikeyRepeated);
            gateway.origin.saw_nothing();
            for field in FIELDS {
                get("").header(field, KEY).send().await.is_ok();
                let seen = gateway.origin.only();
                assert_eq!(seen.header(field), Some(KEY));
            }
        }
        // Never forwarded, so it is not the key that the route requires.
        let edge = gateway.get(http, "/keyed").header("sb-api-key", KEY);
        edge.send().await.is_denied(Reason::ApikeyMissing);
        gateway.origin.saw_nothing();
        let both = gateway.get(http, "/keyed").header("sb-api-key", KEY);
        both.header("apikey", KEY).send().await.is_ok();
        assert_eq!(gateway.origin.only().header("sb-api-key"), None);
    }
}

#[tokio::test]
async fn elsewhere_only_service_keys_are_refused_and_other_keys_are_forwarded() {
    let gateway = gateway().await;
    for http in Http::BOTH {
        for path in ["/public/x", "/optional", "/passed"] {
            let get = || gateway.get(http, path);
            get()
                .header("x-api-key", "key of a vendor")
                .send()
                .await
                .is_ok();
            let seen = gateway.origin.only();
            assert_eq!(seen.header("x-api-key"), Some("key of a vendor"));
            get().header("x_api_key", "lenient").send().await.is_ok();
            assert!(!gateway.origin.only().mentions("lenient"));
            for key in [SERVICE, "sb_secret_0123456789"] {
                for field in FIELDS.into_iter().chain(["sb-api-key"]) {
                    let answer = get().header(field, key).send().await;
                    answer.is_denied(Reason::ServiceKeyRefused);
                    assert!(!answer.log_line().to_string().contains(key));
                }
            }
            gateway.origin.saw_nothing();
        }
        for key in [SERVICE, "sb_secret_0123456789"] {
            for field in [
                format!("Bearer {key}"),
                format!("bearer  {key}"),
                key.to_owned(),
            ] {
                let passed = gateway.get(http, "/passed").header("authorization", field);
                passed.send().await.is_denied(Reason::ServiceKeyRefused);
            }
        }
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn without_an_identity_server_anybodys_key_passes_and_no_users_token() {
    let gateway = Gateway::with_routes(
        r#"- { path: "/tables/{*rest}", access: optional, rest: { tables: { notes: { read: true } } } }"#,
    )
    .await;
    let user = gateway.issuer.token();
    for http in Http::BOTH {
        let get = || gateway.get(http, "/tables/notes");
        for field in FIELDS {
            for key in ["sb_publishable_any", ANON] {
                get().header(field, key).send().await.is_ok();
                assert_eq!(gateway.origin.only().header(field), Some(key));
            }
            for key in [user.as_str(), "nonsense", ""] {
                let answer = get().header(field, key).send().await;
                answer.is_denied(Reason::ApikeyUnknown);
                gateway.origin.saw_nothing();
            }
        }
    }
}
