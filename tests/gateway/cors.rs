//! Browsers: preflights, refusals a page can read, and an origin that answers CORS itself.

use foregate::denial::Reason;

use crate::support::{Answer, Config, Gateway, Http, Reply};

const PAGE: &str = "https://app.test";
const STRANGER: &str = "https://evil.test";

fn with_cors(config: &mut Config) {
    config.set(
        "cors",
        "{ origins: [\"https://app.test\"], credentials: true, max_age: 10m }",
    );
}

fn fields(answer: &Answer) -> Vec<(String, String)> {
    let mut fields: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "x-request-id" | "date"))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    fields.sort();
    fields
}

#[tokio::test]
async fn a_preflight_gets_the_same_response_for_every_path_and_is_never_forwarded() {
    let gateway = Gateway::with(with_cors).await;
    for http in Http::BOTH {
        let mut answers = Vec::new();
        for path in [
            "/me",
            "/nowhere",
            "/hidden",
            "/public/x",
            "/public//x",
            "/read-only",
            "/things/1",
        ] {
            let call = gateway.call(http, "OPTIONS", path).header("origin", PAGE);
            let answer = call
                .header("access-control-request-method", "DELETE")
                .header("access-control-request-headers", "authorization")
                .send()
                .await;
            assert_eq!(answer.status, 204, "{path}");
            assert_eq!(answer.log_line()["decision"], "preflight");
            gateway.origin.saw_nothing();
            answers.push((answer.body.clone(), fields(&answer)));
        }
        assert!(
            answers.windows(2).all(|pair| pair[0] == pair[1]),
            "{answers:#?}"
        );
        let (_, fields) = &answers[0];
        let has = |name: &str, value: &str| fields.contains(&(name.to_owned(), value.to_owned()));
        assert!(
            has("access-control-allow-origin", PAGE)
                && has("access-control-allow-credentials", "true"),
            "{fields:?}"
        );
        assert!(
            has("access-control-max-age", "600") && has("vary", "Origin"),
            "{fields:?}"
        );
    }
}

#[tokio::test]
async fn an_unlisted_origin_gets_no_cors_fields() {
    let gateway = Gateway::with(with_cors).await;
    for http in Http::BOTH {
        for page in [
            STRANGER,
            "https://app.test.evil.test",
            "http://app.test",
            "https://app.test:8443",
            "HTTPS://APP.TEST",
            "null",
            "https://app.test/",
        ] {
            let preflight = gateway
                .call(http, "OPTIONS", "/me")
                .header("origin", page)
                .header("access-control-request-method", "GET")
                .send()
                .await;
            let plain = gateway
                .get(http, "/public/x")
                .header("origin", page)
                .send()
                .await;
            for answer in [preflight, plain] {
                assert!(
                    !answer
                        .headers
                        .keys()
                        .any(|name| name.as_str().starts_with("access-control-")),
                    "{page}"
                );
                assert_eq!(answer.header("vary"), "Origin");
            }
        }
    }
}

#[tokio::test]
async fn a_page_of_a_listed_origin_can_read_refusals() {
    let gateway = Gateway::with(with_cors).await;
    for http in Http::BOTH {
        for (path, reason) in [
            ("/me", Reason::TokenMissing),
            ("/nowhere", Reason::RouteUnknown),
            ("/public/..", Reason::PathDotSegment),
            ("/hidden", Reason::RouteDenied),
        ] {
            let answer = gateway.get(http, path).header("origin", PAGE).send().await;
            answer.is_denied(reason);
            assert_eq!(answer.header("access-control-allow-origin"), PAGE);
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn the_upstreams_cors_fields_are_replaced_and_its_vary_is_kept() {
    let gateway = Gateway::with(with_cors).await;
    gateway.origin.on("/public/x", |exchange| {
        let reply = Reply::ok()
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-credentials", "true")
            .header("access-control-allow-headers", "*")
            .header("access-control-allow-methods", "*")
            .header("access-control-expose-headers", "*")
            .header("access-control-max-age", "86400")
            .header("vary", "accept-encoding");
        exchange.reply(&reply);
    });
    for http in Http::BOTH {
        let answer = gateway
            .get(http, "/public/x")
            .header("origin", PAGE)
            .send()
            .await;
        assert_eq!(answer.is_ok().header("access-control-allow-origin"), PAGE);
        assert_ne!(answer.header("access-control-expose-headers"), "*");
        assert_eq!(answer.header("access-control-allow-methods"), "");
        assert_eq!(answer.header("access-control-max-age"), "");
        assert_eq!(answer.all("vary"), ["accept-encoding", "Origin"]);
        let stranger = gateway
            .get(http, "/public/x")
            .header("origin", STRANGER)
            .send()
            .await;
        assert_eq!(stranger.header("access-control-allow-origin"), "");
        let nobody = gateway.get(http, "/public/x").send().await;
        assert_eq!(nobody.header("access-control-allow-origin"), "");
        assert_eq!(nobody.all("vary"), ["accept-encoding", "Origin"]);
    }
}

#[tokio::test]
async fn without_cors_rules_preflights_are_empty_and_upstream_fields_are_forwarded() {
    let gateway = Gateway::start().await;
    gateway.origin.otherwise(|exchange| {
        exchange.reply(&Reply::ok().header("access-control-allow-origin", "*"))
    });
    for http in Http::BOTH {
        let preflight = gateway
            .call(http, "OPTIONS", "/public/x")
            .header("origin", PAGE)
            .header("access-control-request-method", "GET")
            .send()
            .await;
        assert_eq!(
            (
                preflight.status.as_u16(),
                preflight.header("access-control-allow-origin")
            ),
            (204, "")
        );
        gateway.origin.saw_nothing();
        let answer = gateway
            .get(http, "/public/x")
            .header("origin", PAGE)
            .send()
            .await;
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        gateway.origin.only();
    }
}

#[tokio::test]
async fn an_options_request_that_is_not_a_preflight_is_authorized_like_any_other() {
    let gateway = Gateway::with(with_cors).await;
    for http in Http::BOTH {
        gateway
            .call(http, "OPTIONS", "/me")
            .header("origin", PAGE)
            .send()
            .await
            .is_denied(Reason::TokenMissing);
        gateway
            .call(http, "OPTIONS", "/me")
            .header("access-control-request-method", "GET")
            .send()
            .await
            .is_denied(Reason::TokenMissing);
        gateway.origin.saw_nothing();
        gateway
            .call(http, "OPTIONS", "/public/x")
            .header("origin", PAGE)
            .send()
            .await
            .is_ok();
        assert_eq!(gateway.origin.only().method, "OPTIONS");
    }
}
