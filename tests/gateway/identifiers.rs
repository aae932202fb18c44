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

/// A gateway with one owner, whose resource a request may name in every place.
async fn with_notes(owner: &str) -> Gateway {
    let facts = format!("{{ resources: {{ note: {{ {ID}: {{ owner: {owner} }} }} }} }}");
    Gateway::with(|config| {
        config
            .set("resources", "{ note: {} }")
            .set("static_facts", &facts)
            .routes(
                r#"
                - { path: "/notes/{note_id:uuid}", access: user, resource: note }
                - { path: /notes, methods: [GET], access: user, resource: { kind: note, id: query.note } }
                - { path: /notes, methods: [POST], access: user, resource: none, body: { ids: [{ field: note_id, kind: note }] } }
                - { path: "/users/{user_id:uuid}", access: user, resource: { self: path.user_id } }
                "#,
            );
    })
    .await
}

#[tokio::test]
async fn capitals_of_a_uuid_name_the_same_resource_in_every_place() {
    let owner = "018f5b5e-0000-7000-8000-0000000000aa";
    let gateway = with_notes(owner).await;
    let upper = ID.to_uppercase();
    for http in Http::BOTH {
        for subject in [owner.to_owned(), owner.to_uppercase()] {
            let token = gateway.issuer.token_of(&subject);
            for id in [ID, &upper] {
                let call = gateway.get(http, &format!("/notes/{id}"));
                call.bearer(&token).send().await.is_ok();
                assert_eq!(gateway.origin.only().target, format!("/notes/{ID}"));
                // Forwarded as it was written.
                let target = format!("/notes?note={id}");
                let call = gateway.get(http, &target).bearer(&token);
                call.send().await.is_ok();
                assert_eq!(gateway.origin.only().target, target);
                let body = format!(r#"{{"note_id":"{id}"}}"#);
                let call = gateway.post(http, "/notes").bearer(&token);
                let call = call.header("content-type", "application/json");
                call.body(body.clone()).send().await.is_ok();
                assert_eq!(gateway.origin.only().body, body.as_bytes());
            }
            for user in [owner.to_owned(), owner.to_uppercase()] {
                let call = gateway.get(http, &format!("/users/{user}"));
                call.bearer(&token).send().await.is_ok();
                gateway.origin.take();
            }
        }
        let stranger = gateway.issuer.token();
        for path in [format!("/notes/{upper}"), format!("/notes?note={upper}")] {
            let answer = gateway.get(http, &path).bearer(&stranger).send().await;
            answer.is_denied(Reason::NotYours);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn a_body_that_names_nothing_names_no_resource_and_one_that_is_no_document_is_refused() {
    let gateway = with_notes("018f5b5e-0000-7000-8000-0000000000aa").await;
    let token = gateway.issuer.token();
    for http in Http::BOTH {
        let post = || {
            let call = gateway.post(http, "/notes").bearer(&token);
            call.header("content-type", "application/json")
        };
        post().send().await.is_ok();
        for body in ["{}", r#"{"note_id":null}"#, "null"] {
            post().body(body).send().await.is_ok();
        }
        assert_eq!(gateway.origin.take().len(), 4);
        for (body, reason) in [
            (" ", Reason::BodyMalformed),
            ("[]", Reason::IdentifierInvalid),
            (r#"{"note_id":[]}"#, Reason::IdentifierInvalid),
            (r#"{"note_id":""}"#, Reason::IdentifierInvalid),
        ] {
            post().body(body).send().await.is_denied(reason);
            gateway.origin.saw_nothing();
        }
    }
}
