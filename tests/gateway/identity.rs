//! Authentication: which credential is read, whether it is accepted, and what of it is forwarded to
//! the origin.

use foregate::denial::Reason;
use foregate::tokens::mint::Signer;
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::support::client::Door;
use crate::support::raw_h2::{Ending, RawTwo};
use crate::support::tokens::{ISSUER, now, subject};
use crate::support::{Answer, Gate, Gateway, Http, Origin, Reply, eventually};

#[tokio::test]
async fn a_public_route_reads_no_credential_and_forwards_none() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        for credential in [
            gateway.issuer.token(),
            gateway.issuer.expired(),
            "rubbish".to_owned(),
            "sb_secret_x".to_owned(),
        ] {
            gateway
                .get(http, "/public/x")
                .bearer(&credential)
                .send()
                .await
                .is_ok();
            let seen = gateway.origin.only();
            assert_eq!(seen.header("authorization"), None);
            assert_eq!(seen.header("x-foregate-subject"), None);
            assert!(!seen.mentions(&credential));
        }
    }
}

#[tokio::test]
async fn a_route_with_pass_credentials_forwards_them_unchanged_and_unread() {
    let routes = r#"
    - { path: /passing, access: public, pass_credentials: true }
    - { path: /socket, access: user, credentials: [query.access_token] }
    "#;
    let gateway = Gateway::with_routes(routes).await;
    for http in Http::BOTH {
        gateway
            .get(http, "/passing?access_token=1&access_token=2")
            .header("authorization", "Basic dTpw")
            .send()
            .await
            .is_ok();
        let seen = gateway.origin.only();
        assert_eq!(seen.header("authorization"), Some("Basic dTpw"));
        assert_eq!(seen.target, "/passing?access_token=1&access_token=2");
        assert_eq!(seen.header("x-foregate-subject"), None);
    }
    let announced = gateway
        .log()
        .all(|line| line["message"] == "public route" && line["pass_credentials"] == true);
    assert_eq!(announced.len(), 1, "printed at start");
}

#[tokio::test]
async fn an_optional_route_accepts_no_token_or_a_good_one_and_refuses_a_bad_one() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        gateway.get(http, "/optional").send().await.is_ok();
        assert_eq!(gateway.origin.only().header("x-foregate-subject"), None);
        let token = gateway.issuer.token_of(&subject("somebody"));
        gateway
            .get(http, "/optional")
            .bearer(&token)
            .send()
            .await
            .is_ok();
        assert_eq!(
            gateway.origin.only().header("x-foregate-subject"),
            Some(subject("somebody").as_str())
        );
        gateway
            .get(http, "/optional")
            .bearer(&gateway.issuer.expired())
            .send()
            .await
            .is_denied(Reason::TokenExpired);
        gateway
            .get(http, "/optional")
            .bearer("rubbish")
            .send()
            .await
            .is_denied(Reason::TokenMalformed);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn the_first_source_that_is_present_decides_even_if_it_is_bad() {
    let routes = r#"
    - { path: /query-first, access: user, credentials: [query.access_token, bearer] }
    - { path: /bearer-first, access: user, credentials: [bearer, query.access_token] }
    "#;
    let gateway = Gateway::with_routes(routes).await;
    for http in Http::BOTH {
        let (good, bad) = (
            gateway.issuer.token_of(&subject("somebody")),
            gateway.issuer.expired(),
        );
        let ask = |path: &str, query: &str, bearer: &str| {
            gateway
                .get(http, &format!("{path}?access_token={query}"))
                .bearer(bearer)
                .send()
        };
        ask("/query-first", &bad, &good)
            .await
            .is_denied(Reason::TokenExpired);
        ask("/bearer-first", &good, &bad)
            .await
            .is_denied(Reason::TokenExpired);
        ask("/query-first", "", &good)
            .await
            .is_denied(Reason::TokenMalformed);
        gateway.origin.saw_nothing();
        ask("/query-first", &good, &bad).await.is_ok();
        ask("/bearer-first", &bad, &good).await.is_ok();
        for seen in gateway.origin.take() {
            assert_eq!(
                seen.header("x-foregate-subject"),
                Some(subject("somebody").as_str())
            );
            // Only the verified token is forwarded, in the field that upstreams read.
            assert_eq!(
                seen.header("authorization"),
                Some(format!("Bearer {good}").as_str())
            );
            assert!(!seen.mentions(&bad) && !seen.target.contains(&good));
        }
        gateway
            .get(http, "/bearer-first")
            .header("authorization", "Basic dTpw")
            .send()
            .await
            .is_denied(Reason::TokenMalformed);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_source_that_the_route_does_not_name_is_not_read() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let token = gateway.issuer.token();
        gateway
            .get(http, "/socket")
            .bearer(&token)
            .send()
            .await
            .is_denied(Reason::TokenMissing);
        gateway
            .get(http, &format!("/me?access_token={token}"))
            .send()
            .await
            .is_denied(Reason::TokenMissing);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn no_spelling_of_a_query_credential_reaches_a_lenient_origin() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        for query in [
            "access%5ftoken=x",
            "%61ccess_token=x",
            "Access_Token=x",
            "ACCESS%5FTOKEN=x",
            "+access_token=x",
            "%20access_token=x",
            "a=1;access_token=x",
            "a;Access_Token=x",
            "access_token=x&Access_Token=y",
            "access_token",
            "access_token=x",
        ] {
            for path in ["/public/x", "/socket", "/optional"] {
                gateway.get(http, &format!("{path}?{query}")).send().await;
                for seen in gateway.origin.take() {
                    assert!(
                        !seen.target.to_lowercase().contains("token"),
                        "{query}: {}",
                        seen.target
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn the_scheme_is_bearer_in_any_case_and_nothing_else() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let token = gateway.issuer.token();
        for scheme in ["Bearer", "bearer", "BEARER"] {
            gateway
                .get(http, "/me")
                .header("authorization", format!("{scheme} {token}"))
                .send()
                .await
                .is_ok();
            assert_eq!(
                gateway.origin.only().header("authorization"),
                Some(format!("Bearer {token}").as_str())
            );
        }
        for value in [
            format!("Basic {token}"),
            token.clone(),
            "Bearer".to_owned(),
            format!("Bearer  {token}"),
            format!("Bearer\t{token}"),
            format!("Bearer {token}, Bearer {token}"),
        ] {
            gateway
                .get(http, "/me")
                .header("authorization", value)
                .send()
                .await
                .is_denied(Reason::TokenMalformed);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn an_api_key_proves_no_user_and_a_secret_key_is_refused() {
    let gateway = Gateway::start().await;
    // The signature of a legacy key is not verified.
    let stranger = Signer::generate(Algorithm::ES256).unwrap();
    let anon = stranger
        .sign(&gateway.issuer.claims().role("anon").without("sub"))
        .unwrap();
    let service = stranger
        .sign(&gateway.issuer.claims().role("service_role").without("sub"))
        .unwrap();
    for http in Http::BOTH {
        for key in ["sb_publishable_abc", anon.as_str()] {
            gateway
                .get(http, "/me")
                .bearer(key)
                .send()
                .await
                .is_denied(Reason::TokenMissing);
            gateway.origin.saw_nothing();
            gateway
                .get(http, "/optional")
                .bearer(key)
                .send()
                .await
                .is_ok();
            let seen = gateway.origin.only();
            assert_eq!(
                (
                    seen.header("x-foregate-subject"),
                    seen.header("authorization")
                ),
                (None, None)
            );
        }
        for key in ["sb_secret_abc", service.as_str()] {
            for path in ["/me", "/optional"] {
                let answer = gateway.get(http, path).bearer(key).send().await;
                answer.is_denied(Reason::ServiceKeyRefused);
                assert!(!answer.log_line().to_string().contains(key));
                gateway.origin.saw_nothing();
            }
        }
        gateway
            .get(http, "/me")
            .bearer("sb_other_abc")
            .send()
            .await
            .is_denied(Reason::TokenMalformed);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_service_key_beside_the_token_is_refused_on_every_route_and_a_public_key_passes() {
    let gateway = Gateway::start().await;
    let stranger = Signer::generate(Algorithm::ES256).unwrap();
    let key_of = |role: &str| {
        let claims = gateway.issuer.claims().role(role).without("sub");
        stranger.sign(&claims).unwrap()
    };
    let (service, anon) = (key_of("service_role"), key_of("anon"));
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        for path in ["/public/x", "/optional", "/me"] {
            let call = |query: &str| gateway.get(http, &format!("{path}{query}")).bearer(&token);
            for key in ["sb_secret_x", service.as_str()] {
                let refused = [
                    call("").header("apikey", key),
                    call("")
                        .header("apikey", "sb_publishable_x")
                        .header("apikey", key),
                    call(&format!("?apikey={key}")),
                    call(&format!("?a=1&apikey=x&apikey={key}")),
                ];
                for call in refused {
                    let answer = call.send().await;
                    answer.is_denied(Reason::ServiceKeyRefused);
                    assert!(!answer.log_line().to_string().contains(key));
                    gateway.origin.saw_nothing();
                }
            }
            for key in ["sb_publishable_x", anon.as_str()] {
                call("").header("apikey", key).send().await.is_ok();
                assert_eq!(gateway.origin.only().header("apikey"), Some(key));
                let query = format!("?apikey={key}");
                call(&query).send().await.is_ok();
                assert_eq!(gateway.origin.only().target, format!("{path}{query}"));
            }
        }
    }
}

#[tokio::test]
async fn no_spelling_of_a_service_key_reaches_a_lenient_origin() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        for query in [
            "apikey=sb%5Fsecret_x",
            "api%6Bey=sb_secret_x",
            "%61pikey=%73b_secret_x",
            "ApiKey=sb_secret_x",
            "a=1;apikey=sb_secret_x",
            "apikey=+sb_secret_x",
        ] {
            let path = format!("/public/x?{query}");
            let answer = gateway.get(http, &path).send().await;
            answer.is_denied(Reason::ServiceKeyRefused);
            gateway.origin.saw_nothing();
        }
    }
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    for key in [" sb_secret_x", "sb_secret_x\t"] {
        let fields = [RawTwo::get("/public/x"), vec![("apikey", key)]].concat();
        let stream = two.request(&fields).await;
        // Spaces around a value are malformed in HTTP/2, and ignored in HTTP/1.1.
        assert_ne!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn an_upstream_that_drops_authorization_gets_the_caller_and_not_the_token() {
    let gateway = Gateway::with(|config| {
        let server = config
            .get("upstreams")
            .split('"')
            .nth(1)
            .unwrap()
            .to_owned();
        config
            .upstream("dropping", &server, ", authorization: drop")
            .routes("- { path: /me, access: user, upstream: dropping }");
    })
    .await;
    for http in Http::BOTH {
        let token = gateway.issuer.token_of(&subject("somebody"));
        gateway.get(http, "/me").bearer(&token).send().await.is_ok();
        let seen = gateway.origin.only();
        assert_eq!(
            (
                seen.header("authorization"),
                seen.header("x-foregate-subject")
            ),
            (None, Some(subject("somebody").as_str()))
        );
        assert!(!seen.mentions(&token));
    }
}

#[tokio::test]
async fn both_keys_of_an_issuer_are_accepted_while_it_changes() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let claims = gateway.issuer.claims();
        for token in [
            gateway.issuer.sign(&claims),
            gateway.issuer.sign_legacy(&claims),
        ] {
            gateway.get(http, "/me").bearer(&token).send().await.is_ok();
        }
        assert_eq!(gateway.origin.take().len(), 2);
    }
}

#[tokio::test]
async fn a_cached_token_is_refused_once_it_expires() {
    let gateway = Gateway::with(|config| {
        let tokens = config
            .get("tokens")
            .replace("jwks.json,", "jwks.json, leeway: 0s,");
        config.set("tokens", &tokens);
    })
    .await;
    let lookups = |result: &str| {
        gateway
            .metrics()
            .sum("foregate_token_cache_lookups_total", &[("result", result)])
    };
    let token = gateway
        .issuer
        .sign(&gateway.issuer.claims().expiring(now() + 3));
    let mut client = gateway.connect(Http::One).await;
    client.get("/me").bearer(&token).send().await.is_ok();
    assert_eq!((lookups("miss"), lookups("hit")), (1.0, 0.0));
    let mut last: Answer = client.get("/me").bearer(&token).send().await;
    assert_eq!((lookups("miss"), lookups("hit")), (1.0, 1.0));
    while last.status == 200 {
        last = client.get("/me").bearer(&token).send().await;
    }
    last.is_denied(Reason::TokenExpired);
}

#[tokio::test]
async fn a_cached_token_is_refused_after_its_issuer_is_removed() {
    let mut gateway = Gateway::start().await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        gateway.get(http, "/me").bearer(&token).send().await.is_ok();
    }
    gateway.origin.take();
    let tokens = format!(
        "\n  - {{ issuer: \"{ISSUER}/other\", audience: authenticated, algorithms: HS256, secret_file: secret }}"
    );
    gateway
        .reload(|config| {
            config.set("tokens", &tokens);
        })
        .await;
    for http in Http::BOTH {
        gateway
            .get(http, "/me")
            .bearer(&token)
            .send()
            .await
            .is_denied(Reason::TokenIssuer);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_cached_token_is_refused_after_its_key_is_removed() {
    let mut gateway = Gateway::start().await;
    let token = gateway.issuer.token();
    gateway
        .get(Http::One, "/me")
        .bearer(&token)
        .send()
        .await
        .is_ok();
    gateway.origin.take();
    let other = Signer::generate(Algorithm::ES256).unwrap().with_kid("next");
    gateway.write_file("jwks.json", other.public_jwks().unwrap());
    gateway.reload(|_| {}).await;
    for http in Http::BOTH {
        gateway
            .get(http, "/me")
            .bearer(&token)
            .send()
            .await
            .is_denied(Reason::TokenKeyUnknown);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn until_keys_are_fetched_public_routes_work_and_tokens_get_503() {
    let (keys, fetched) = (Origin::start(), Gate::new());
    let signer = Signer::generate(Algorithm::ES256)
        .unwrap()
        .with_kid("remote");
    let (gate, jwks) = (fetched.clone(), signer.public_jwks().unwrap());
    keys.on("/keys", move |exchange| {
        gate.pass();
        exchange.reply(
            &Reply::new(200)
                .header("content-type", "application/json")
                .body(&jwks),
        );
    });
    let gateway = Gateway::with(|config| {
        let entry = format!("\n  - {{ issuer: \"{ISSUER}\", audience: authenticated, algorithms: ES256, jwks_url: \"{}/keys\" }}", keys.url());
        config.set("tokens", &entry);
    })
    .await;
    let token = signer.sign(&gateway.issuer.claims()).unwrap();
    assert_eq!(
        (
            gateway.admin_status("/readyz"),
            gateway.admin_status("/livez")
        ),
        (503, 200)
    );
    for http in Http::BOTH {
        gateway.get(http, "/public/x").send().await.is_ok();
        gateway.origin.only();
        gateway
            .get(http, "/me")
            .bearer(&token)
            .send()
            .await
            .is_denied(Reason::KeysUnavailable);
        gateway
            .get(http, "/me")
            .send()
            .await
            .is_denied(Reason::TokenMissing);
        gateway.origin.saw_nothing();
    }
    fetched.open();
    eventually("ready", || gateway.admin_status("/readyz") == 200).await;
    for http in Http::BOTH {
        gateway.get(http, "/me").bearer(&token).send().await.is_ok();
        gateway
            .judged(http, &gateway.issuer.token())
            .await
            .is_denied(Reason::TokenKeyUnknown);
    }
    assert!(
        keys.requests()
            .iter()
            .all(|seen| seen.header("authorization").is_none())
    );
}

#[tokio::test]
async fn a_401_has_a_www_authenticate_field() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let missing = gateway.get(http, "/me").send().await;
        assert_eq!(
            missing
                .is_denied(Reason::TokenMissing)
                .header("www-authenticate"),
            "Bearer realm=\"api\""
        );
        let expired = gateway
            .get(http, "/me")
            .bearer(&gateway.issuer.expired())
            .send()
            .await;
        assert_eq!(
            expired.header("www-authenticate"),
            "Bearer realm=\"api\", error=\"invalid_token\""
        );
        gateway
            .call(http, "HEAD", "/me")
            .send()
            .await
            .is_denied(Reason::TokenMissing);
        gateway.origin.saw_nothing();
    }
}

/// What a `sub` may look like that is no UUID.
const NO_UUIDS: [&str; 7] = [
    "alice",
    "{018f5b5e-0000-7000-8000-00000000000a}",
    "018f5b5e00007000800000000000000a",
    "018f5b5e-0000-7000-8000-00000000000a 018f5b5e-0000-7000-8000-00000000000b",
    "id=eq.018f5b5e-0000-7000-8000-00000000000a",
    "00000000-0000-0000-0000-000000000000",
    "1",
];

#[tokio::test]
async fn a_subject_of_another_type_is_refused_before_anything_is_asked() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        for subject in NO_UUIDS {
            for path in ["/me", "/optional", "/things/1"] {
                let call = gateway.get(http, path);
                let answer = call.bearer(&gateway.issuer.token_of(subject)).send().await;
                answer.is_denied(Reason::TokenClaims);
                let detail = answer.log_line()["detail"].as_str().unwrap().to_owned();
                assert!(
                    detail.contains("`sub`") && detail.contains("UUID"),
                    "{detail}"
                );
                gateway.origin.saw_nothing();
            }
        }
        // Capitals are another spelling of the same user.
        let id = "018f5b5e-0000-7000-8000-00000000000a";
        let token = gateway.issuer.token_of(&id.to_uppercase());
        let answer = gateway.get(http, "/me").bearer(&token).send().await;
        assert_eq!(answer.is_ok().log_line()["subject"], id);
        let seen = gateway.origin.only();
        assert_eq!(seen.header("x-foregate-subject"), Some(id));
    }
}

#[tokio::test]
async fn the_type_of_subjects_is_what_the_issuers_entry_says() {
    for (kind, good, bad) in [
        ("text", "auth0|Ada Lovelace", "ada "),
        ("integer", "9223372036854775807", "007"),
    ] {
        let gateway = Gateway::with(|config| {
            config.subjects(kind);
        })
        .await;
        for http in Http::BOTH {
            let get = |subject: &str| {
                let call = gateway.get(http, "/me");
                call.bearer(&gateway.issuer.token_of(subject))
            };
            get(good).send().await.is_ok();
            let seen = gateway.origin.only();
            assert_eq!(seen.header("x-foregate-subject"), Some(good));
            get(bad).send().await.is_denied(Reason::TokenClaims);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn a_token_from_ahead_of_our_clock_is_refused_and_does_not_outlive_a_revocation() {
    let gateway = Gateway::start().await;
    let id = subject("from the future");
    let claims = || gateway.issuer.claims().with("sub", id.as_str());
    let amr = |at: i64| json!([{ "method": "password", "timestamp": at }]);
    let ahead = [
        gateway.issuer.sign(&claims().with("iat", now() + 3600)),
        gateway
            .issuer
            .sign(&claims().with("amr", amr(now() + 3600))),
    ];
    let good = gateway.issuer.sign(&claims().with("amr", amr(now())));
    for http in Http::BOTH {
        let get = |token: &str| gateway.get(http, "/me").bearer(token);
        for token in &ahead {
            let answer = get(token).send().await;
            answer.is_denied(Reason::TokenIssuedAhead);
            assert_eq!(answer.status, 401);
            gateway.origin.saw_nothing();
        }
    }
    gateway
        .get(Http::Two, "/me")
        .bearer(&good)
        .send()
        .await
        .is_ok();
    gateway.origin.take();
    gateway.revoke(&json!({ "kind": "subject", "subject": id, "issuer": ISSUER }));
    for token in ahead.iter().chain([&good]) {
        let answer = gateway.get(Http::Two, "/me").bearer(token).send().await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        gateway.origin.saw_nothing();
    }
}
