//! What the sign-in, table, storage, channel and function routes of the map let through, and to
//! whom.

use foregate::denial::Reason;
use serde_json::{Value, json};

use super::{ask, call, tell};
use crate::support::auth_server::{OTHER_PUBLISHABLE, PUBLISHABLE, SECRET};
use crate::support::velro::Site;
use crate::support::{Gateway, Http};

const PASSWORD: &str = "correct horse battery";

async fn post(gateway: &Gateway, http: Http, path: &str, body: &Value) -> Value {
    let call = gateway.post(http, path).header("apikey", PUBLISHABLE);
    let call = call.header("content-type", "application/json");
    call.body(body.to_string()).send().await.is_ok().json()
}

fn text(document: &Value, member: &str) -> String {
    document[member].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_user_of_either_sign_in_api_is_the_same_user_everywhere() {
    let site = Site::new();
    let gateway = site.gateway().await;
    for http in Http::BOTH {
        let email = format!("{http:?}@velro.test").to_lowercase();
        let account = json!({ "email": email, "password": PASSWORD, "full_name": "Ada" });
        let registered = post(&gateway, http, "/api/v1/auth/register", &account).await;
        let user = registered["user"]["id"].as_str().unwrap().to_owned();
        // The row that the backend made for a new user.
        let row = format!("select email, full_name from users where id = '{user}'");
        assert_eq!(
            site.world.database.rows(&row),
            [[email.clone(), "Ada".to_owned()]]
        );
        let credentials = json!({ "email": email, "password": PASSWORD });
        let backends = post(&gateway, http, "/api/v1/auth/login", &credentials).await;
        let grant = "/auth/v1/token?grant_type=password";
        let servers = post(&gateway, http, grant, &credentials).await;
        let (one, other) = (
            text(&backends, "access_token"),
            text(&servers, "access_token"),
        );
        gateway.origin.saw_nothing();
        for token in [&one, &other] {
            for (path, upstream) in [
                ("/api/v1/projects", true),
                ("/rest/v1/projects?select=id", true),
                ("/api/v1/auth/me", false),
                ("/auth/v1/user", false),
            ] {
                ask(&gateway, http, token, ("GET", path)).await.is_ok();
                match upstream {
                    true => {
                        let seen = gateway.origin.only();
                        assert_eq!(seen.header("x-foregate-subject"), Some(user.as_str()));
                    }
                    false => gateway.origin.saw_nothing(),
                }
                gateway.origin.take();
            }
        }
        // Signing out through one API signs that session out of both.
        let left = ask(&gateway, http, &one, ("POST", "/api/v1/auth/logout")).await;
        left.is_ok();
        for path in ["/api/v1/projects", "/api/v1/auth/me"] {
            ask(&gateway, http, &one, ("GET", path))
                .await
                .is_denied(Reason::SessionRevoked);
        }
        let refused = ask(&gateway, http, &one, ("GET", "/auth/v1/user")).await;
        assert_eq!(refused.log_line()["reason"], Reason::SessionRevoked.code());
        gateway.origin.saw_nothing();
        let global = ("POST", "/auth/v1/logout?scope=global");
        let left = ask(&gateway, http, &other, global).await;
        assert_eq!(left.status, 204);
        ask(&gateway, http, &other, ("GET", "/api/v1/projects"))
            .await
            .is_denied(Reason::SessionRevoked);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_user_who_signs_up_through_supabase_has_a_row_before_their_first_request() {
    let site = Site::new();
    let gateway = site.gateway().await;
    for http in Http::BOTH {
        let email = format!("{http:?}@velro.test").to_lowercase();
        let account = json!({ "email": email, "password": PASSWORD, "data": { "full_name": "Ada", "role": "admin" } });
        let tokens = post(&gateway, http, "/auth/v1/signup", &account).await;
        let user = tokens["user"]["id"].as_str().unwrap();
        let token = text(&tokens, "access_token");
        ask(&gateway, http, &token, ("GET", "/api/v1/projects"))
            .await
            .is_ok();
        gateway.origin.take();
        let row = format!("select email, full_name, role from users where id = '{user}'");
        let ada = [email, "Ada".to_owned(), "user".to_owned()];
        assert_eq!(site.world.database.rows(&row), [ada]);
    }
}

#[tokio::test]
async fn user_metadata_cannot_prevent_a_users_row() {
    let site = Site::new();
    let gateway = site.gateway().await;
    for (number, data) in [
        json!({ "full_name": 5 }),
        json!({ "full_name": null }),
        json!({}),
    ]
    .into_iter()
    .enumerate()
    {
        let http = Http::BOTH[number % 2];
        let email = format!("{number}@velro.test");
        let account = json!({ "email": email, "password": PASSWORD, "data": data });
        let tokens = post(&gateway, http, "/auth/v1/signup", &account).await;
        let token = text(&tokens, "access_token");
        ask(&gateway, http, &token, ("GET", "/api/v1/projects"))
            .await
            .is_ok();
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_supabase_path_requires_the_project_key_and_the_edge_gets_the_gateways_key() {
    let site = Site::new();
    let user = site.world.user();
    let gateway = site.gateway().await;
    let token = site.token_of(&user);
    for http in Http::BOTH {
        for (method, path) in [
            ("GET", "/rest/v1/projects?select=id"),
            ("POST", "/functions/v1/render"),
            ("POST", "/realtime/v1/api/broadcast"),
            ("GET", "/realtime/v1/websocket?vsn=2.0.0"),
        ] {
            let bare = gateway.call(http, method, path).bearer(&token).send().await;
            assert_eq!(bare.log_line()["reason"], Reason::ApikeyMissing.code());
            for (key, reason) in [
                (OTHER_PUBLISHABLE, Reason::ApikeyUnknown),
                ("nonsense", Reason::ApikeyUnknown),
                (SECRET, Reason::ServiceKeyRefused),
            ] {
                let call = gateway.call(http, method, path).bearer(&token);
                let answer = call.header("apikey", key).send().await;
                assert_eq!(answer.log_line()["reason"], reason.code(), "{path} {key}");
            }
            // An API key in place of a user's token is no user.
            let key = ask(&gateway, http, PUBLISHABLE, (method, path)).await;
            assert_eq!(key.log_line()["reason"], Reason::TokenMissing.code());
        }
        gateway.origin.saw_nothing();
        ask(&gateway, http, &token, ("POST", "/functions/v1/render"))
            .await
            .is_ok();
        let seen = gateway.origin.only();
        assert_eq!(seen.header("apikey"), Some(PUBLISHABLE));
        assert_eq!(
            seen.header("authorization"),
            Some(format!("Bearer {token}").as_str())
        );
        gateway.origin.take();
    }
}

#[tokio::test]
async fn an_owner_uploads_whole_or_in_parts_and_shares_by_link() {
    let site = Site::new();
    let user = site.world.user();
    let gateway = site.gateway().await;
    let token = site.token_of(&user);
    // Longer than any body that is held, and than the default limit of the map.
    let picture = vec![7_u8; 3 << 20];
    for http in Http::BOTH {
        let object = format!("/storage/v1/object/media/{user}/a%20b.png");
        let upload = call(&gateway, http, &token, ("POST", &object))
            .header("content-type", "image/png")
            .header("x-upsert", "true")
            .body(picture.clone());
        upload.send().await.is_ok();
        let seen = gateway.origin.only();
        assert_eq!(
            (seen.target.as_str(), seen.length),
            (object.as_str(), 3 << 20)
        );
        assert_eq!(seen.header("x-upsert"), Some("true"));
        gateway.origin.take();

        let resumable = "/storage/v1/upload/resumable";
        for (method, path) in [
            ("POST", resumable.to_owned()),
            ("PATCH", format!("{resumable}/bWVkaWEvYQ==")),
            ("HEAD", format!("{resumable}/bWVkaWEvYQ==")),
            ("DELETE", format!("{resumable}/media/a/0190")),
        ] {
            let piece = call(&gateway, http, &token, (method, &path))
                .header("tus-resumable", "1.0.0")
                .header("upload-offset", "0");
            let piece = match method {
                "PATCH" => piece.body(picture.clone()),
                _ => piece,
            };
            piece.send().await.is_ok();
            let seen = gateway.origin.only();
            assert_eq!((&seen.method, &seen.target), (&method.to_owned(), &path));
            assert_eq!(seen.header("tus-resumable"), Some("1.0.0"));
            gateway.origin.take();
            let stranger = gateway.call(http, method, &path);
            let stranger = stranger.header("tus-resumable", "1.0.0").send().await;
            stranger.is_denied(Reason::TokenMissing);
            gateway.origin.saw_nothing();
        }

        let link = format!("/storage/v1/object/sign/media/{user}/a.png");
        tell(
            &gateway,
            http,
            &token,
            ("POST", &link),
            "{\"expiresIn\":60}",
        )
        .await
        .is_ok();
        gateway.origin.take();
        // A client that has the link, and no other credential.
        for (method, path) in [
            ("GET", format!("{link}?token=x")),
            (
                "GET",
                "/storage/v1/object/sign/media/a.png?token=x".to_owned(),
            ),
            (
                "PUT",
                format!("/storage/v1/object/upload/sign/media/{user}/c.png?token=x"),
            ),
            ("GET", "/storage/v1/object/public/media/a/b.png".to_owned()),
        ] {
            let visitor = gateway.call(http, method, &path).bearer("nonsense");
            visitor.send().await.is_ok();
            let seen = gateway.origin.only();
            assert_eq!(seen.target, path);
            assert_eq!(seen.header("authorization"), None);
            gateway.origin.take();
        }
        // The backend authorizes the objects that a body names.
        for (method, path) in [
            ("POST", "/storage/v1/object/list/media"),
            ("POST", "/storage/v1/object/move"),
            ("POST", "/storage/v1/object/copy"),
            ("DELETE", "/storage/v1/object/media"),
            ("POST", "/storage/v1/object/sign/media"),
        ] {
            let body = json!({ "prefixes": [format!("{user}/a.png")] }).to_string();
            let answer = tell(&gateway, http, &token, (method, path), body).await;
            answer.is_denied(Reason::RouteUnknown);
        }
        gateway.origin.saw_nothing();
    }
}
