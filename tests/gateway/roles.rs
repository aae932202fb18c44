//! Roles: bans, anonymous users, assurance levels, grants, and the waivers of this layer.

use std::time::Duration;

use foregate::denial::Reason;
use serde_json::json;

use crate::support::{Gateway, Http};

#[tokio::test]
async fn a_banned_caller_is_refused_on_every_route_that_reads_credentials() {
    let gateway = Gateway::start().await;
    let banned = gateway
        .issuer
        .sign(&gateway.issuer.claims().roles(["admin", "banned"]));
    for http in Http::BOTH {
        for path in ["/me", "/optional", "/guests", "/admin"] {
            gateway
                .get(http, path)
                .bearer(&banned)
                .send()
                .await
                .is_denied(Reason::CallerBanned);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn anonymous_users_pass_only_on_routes_that_allow_them_or_need_no_user() {
    let gateway = Gateway::start().await;
    let anonymous = gateway.issuer.sign(&gateway.issuer.claims().anonymous());
    for http in Http::BOTH {
        gateway
            .get(http, "/me")
            .bearer(&anonymous)
            .send()
            .await
            .is_denied(Reason::AnonymousRefused);
        gateway.origin.saw_nothing();
        for path in ["/guests", "/optional"] {
            gateway
                .get(http, path)
                .bearer(&anonymous)
                .send()
                .await
                .is_ok();
        }
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_route_with_aal_2_requires_a_second_factor() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        for claims in [
            gateway.issuer.claims().aal(1),
            gateway.issuer.claims().without("aal"),
        ] {
            let token = gateway.issuer.sign(&claims);
            gateway
                .get(http, "/second-factor")
                .bearer(&token)
                .send()
                .await
                .is_denied(Reason::AalInsufficient);
            gateway.origin.saw_nothing();
        }
        let token = gateway.issuer.sign(&gateway.issuer.claims().aal(2));
        gateway
            .get(http, "/second-factor")
            .bearer(&token)
            .send()
            .await
            .is_ok();
        gateway.origin.only();
    }
}

#[tokio::test]
async fn the_method_is_the_action_unless_the_route_names_one() {
    let gateway = Gateway::with(|config| {
        config
            .set("roles", "{ grants: { user: [read], editor: [write], owner: [\"delete:any\"], admin: [\"*\"] } }")
            .routes("- { path: /thing, access: user }\n- { path: /export, access: user, action: export }");
    })
    .await;
    let may = [
        ("user", "/thing", &["GET", "HEAD", "OPTIONS"][..]),
        (
            "editor",
            "/thing",
            &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"],
        ),
        ("owner", "/thing", &["GET", "HEAD", "OPTIONS", "DELETE"]),
        (
            "admin",
            "/thing",
            &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"],
        ),
        ("editor", "/export", &[]),
        (
            "admin",
            "/export",
            &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"],
        ),
    ];
    for http in Http::BOTH {
        let mut client = gateway.connect(http).await;
        for (role, path, allowed) in may {
            let token = gateway.issuer.sign(&gateway.issuer.claims().roles([role]));
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
                let answer = client.call(method, path).bearer(&token).send().await;
                if allowed.contains(&method) {
                    answer.is_ok();
                    gateway.origin.only();
                } else {
                    answer.is_denied(Reason::RoleInsufficient);
                    gateway.origin.saw_nothing();
                }
            }
        }
    }
}

#[tokio::test]
async fn roles_come_from_the_configured_claim_and_the_operators_list_alone() {
    let gateway = Gateway::with(|config| {
        config.subjects("text").set(
            "roles",
            "{ list: { admin: [listed] }, grants: { user: [read], admin: [\"*\"] } }",
        );
    })
    .await;
    let claims = || gateway.issuer.claims();
    let admin = [
        claims().with("sub", "listed"),
        claims().roles(["admin"]),
        claims().with("app_metadata", json!({ "roles": "admin" })),
    ];
    let not_admin = [
        claims().with("user_metadata", json!({ "roles": ["admin"] })),
        claims().with("roles", json!(["admin"])),
        claims().with("app_metadata", json!({ "roles": { "admin": true } })),
        claims().with("app_metadata.roles", json!(["admin"])),
        claims().roles(["ADMIN", " admin", "admin,user"]),
        claims().with("sub", "Listed"),
    ];
    for http in Http::BOTH {
        for claims in &admin {
            gateway
                .get(http, "/admin")
                .bearer(&gateway.issuer.sign(claims))
                .send()
                .await
                .is_ok();
            assert_eq!(
                gateway.origin.only().header("x-foregate-roles"),
                Some("user,admin")
            );
        }
        for claims in &not_admin {
            let answer = gateway
                .get(http, "/admin")
                .bearer(&gateway.issuer.sign(claims))
                .send()
                .await;
            answer.is_denied(Reason::RoleInsufficient);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn an_optional_route_gives_an_authenticated_caller_no_less_than_an_anonymous_one() {
    let gateway = Gateway::with(|config| {
        config.set("roles", "{ grants: { user: [read] } }");
    })
    .await;
    for http in Http::BOTH {
        let anonymous = gateway.issuer.sign(&gateway.issuer.claims().anonymous());
        gateway.post(http, "/optional").send().await.is_ok();
        gateway
            .post(http, "/optional")
            .bearer(&anonymous)
            .send()
            .await
            .is_ok();
        gateway
            .post(http, "/optional")
            .bearer(&gateway.issuer.token())
            .send()
            .await
            .is_ok();
        assert_eq!(gateway.origin.take().len(), 3);
    }
}

fn waived(mode: &str, until: jiff::Timestamp) -> String {
    format!(
        "
        - {{ name: waived, path: /waived, access: user, action: admin, layers: {{ roles: {{ mode: {mode}, until: \"{until}\", reason: moving }} }} }}
        - {{ name: enforced, path: /enforced, access: user, action: admin }}
        "
    )
}

fn tomorrow() -> jiff::Timestamp {
    jiff::Timestamp::now() + Duration::from_secs(24 * 3600)
}

#[tokio::test]
async fn a_layer_in_shadow_lets_requests_pass_and_records_what_it_would_refuse() {
    let gateway = Gateway::with_routes(&waived("shadow", tomorrow())).await;
    assert_eq!(gateway.metrics().sum("foregate_waived_layers", &[]), 1.0);
    let banned = gateway
        .issuer
        .sign(&gateway.issuer.claims().roles(["banned"]));
    for http in Http::BOTH {
        for (token, reason) in [
            (gateway.issuer.token(), Reason::RoleInsufficient),
            (banned.clone(), Reason::CallerBanned),
        ] {
            let answer = gateway.get(http, "/waived").bearer(&token).send().await;
            let line = answer.is_ok().log_line();
            let layers = line["layers"].as_str().unwrap();
            assert!(
                layers.contains(" roles:")
                    && layers.contains(&format!(":waived:{}", reason.code())),
                "{layers}"
            );
            assert_eq!(line["decision"], "permit");
            gateway.origin.only();
            gateway
                .get(http, "/enforced")
                .bearer(&token)
                .send()
                .await
                .is_denied(reason);
            gateway.origin.saw_nothing();
        }
        // The caller is still authenticated.
        gateway
            .get(http, "/waived")
            .send()
            .await
            .is_denied(Reason::TokenMissing);
    }
    for reason in [Reason::RoleInsufficient, Reason::CallerBanned] {
        let labels = [
            ("route", "waived"),
            ("layer", "roles"),
            ("reason", reason.code()),
        ];
        gateway
            .metric_becomes("foregate_waived_total", &labels, 2.0)
            .await;
    }
    assert!(
        gateway.log().text().contains("moving"),
        "the start prints the waiver and its reason"
    );
}

#[tokio::test]
async fn a_layer_that_is_off_does_not_run_and_the_log_line_shows_it() {
    let gateway = Gateway::with_routes(&waived("off", tomorrow())).await;
    for http in Http::BOTH {
        let answer = gateway
            .get(http, "/waived")
            .bearer(&gateway.issuer.token())
            .send()
            .await;
        let line = answer.is_ok().log_line();
        assert!(
            line["layers"].as_str().unwrap().contains(" roles:off"),
            "{line}"
        );
        gateway.origin.only();
    }
}

#[tokio::test]
async fn a_waiver_ends_on_time_while_the_gateway_runs() {
    let soon = jiff::Timestamp::now() + Duration::from_secs(3);
    for mode in ["shadow", "off"] {
        let gateway = Gateway::with_routes(&waived(
            mode,
            soon.max(jiff::Timestamp::now() + Duration::from_secs(3)),
        ))
        .await;
        let token = gateway.issuer.token();
        let mut client = gateway.connect(Http::Two).await;
        let mut answer = client.get("/waived").bearer(&token).send().await;
        answer.is_ok();
        while answer.status == 200 {
            answer = client.get("/waived").bearer(&token).send().await;
        }
        answer.is_denied(Reason::RoleInsufficient);
    }
}
