//! Typed path parameters: one spelling, checked after the caller is authenticated and before the
//! request is forwarded.

use foregate::denial::Reason;

use crate::support::{Gateway, Http};

const ID: &str = "018f5b5e-0000-7000-8000-00000000000a";

#[tokio::test]
async fn an_identifier_of_another_type_is_refused() {
    let gateway = Gateway::start().await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        for path in [
            "/things/00000000-0000-0000-0000-000000000000",
            "/things/018f5b5e000070008000000000000001",
            "/things/{018f5b5e-0000-7000-8000-000000000001}",
            "/things/%7B018f5b5e-0000-7000-8000-000000000001%7D",
            "/things/urn:uuid:018f5b5e-0000-7000-8000-000000000001",
            "/things/018f5b5e-0000-7000-8000-00000000000g",
            "/things/018f5b5e-0000-7000-8000-00000000001",
            "/things/018f5b5e-0000-7000-8000-00000000000a%20",
            "/things/018f5b5e-0000-7000-8000-0000%C2%A000001",
            "/things/1",
            "/things/*",
            "/numbers/-1",
            "/numbers/+1",
            "/numbers/01",
            "/numbers/1.0",
            "/numbers/1e3",
            "/numbers/0x1",
            "/numbers/9223372036854775808",
            "/numbers/%D9%A1",
        ] {
            let answer = gateway.get(http, path).bearer(&token).send().await;
            answer.is_denied(Reason::IdentifierInvalid);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn identifiers_are_forwarded_in_their_canonical_spelling() {
    let gateway = Gateway::start().await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        for (path, target) in [
            (format!("/things/{ID}"), format!("/things/{ID}")),
            (
                format!("/things/{}", ID.to_uppercase()),
                format!("/things/{ID}"),
            ),
            (
                format!("/things/{}?Q=A", ID.replace('a', "%41")),
                format!("/things/{ID}?Q=A"),
            ),
            (
                format!("/things/{}/", ID.to_uppercase()),
                format!("/things/{ID}/"),
            ),
            (
                "/things/FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF".to_owned(),
                "/things/ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned(),
            ),
            ("/numbers/0".to_owned(), "/numbers/0".to_owned()),
            (
                "/numbers/%39223372036854775807".to_owned(),
                "/numbers/9223372036854775807".to_owned(),
            ),
            (
                format!("/named/{}", ID.to_uppercase()),
                format!("/named/{}", ID.to_uppercase()),
            ),
        ] {
            let answer = gateway.get(http, &path).bearer(&token).send().await;
            assert_eq!(gateway.origin.only().target, target, "{path}");
            assert_eq!(
                answer.is_ok().log_line()["path"].as_str(),
                target.split('?').next()
            );
        }
    }
}

#[tokio::test]
async fn an_unauthenticated_client_gets_401_for_an_invalid_identifier() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        for path in ["/things/1", "/numbers/x", &format!("/things/{ID}")] {
            gateway
                .get(http, path)
                .send()
                .await
                .is_denied(Reason::TokenMissing);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn an_invalid_parameter_never_falls_through_to_a_less_specific_route() {
    let routes = r#"
    - { path: "/things/{id:uuid}", access: user, resource: none }
    - { path: "/things/{id:uuid}/parts/{part:int}", access: user, resource: none }
    - { path: "/{*rest}", access: public }
    "#;
    let gateway = Gateway::with_routes(routes).await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        for path in [
            "/things/1",
            &format!("/things/{ID}/parts/x"),
            "/things/1/parts/2",
        ] {
            gateway
                .get(http, path)
                .send()
                .await
                .is_denied(Reason::TokenMissing);
            gateway
                .get(http, path)
                .bearer(&token)
                .send()
                .await
                .is_denied(Reason::IdentifierInvalid);
            gateway.origin.saw_nothing();
        }
        gateway.get(http, "/things/1/else").send().await.is_ok();
        gateway.origin.only();
    }
}
