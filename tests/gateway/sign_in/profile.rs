//! The user's row in the operator's database.

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::auth_server::PUBLISHABLE;
use crate::support::{Postgres, in_time};

const TABLE: &str = "create table profiles (id uuid primary key, email text, full_name text)";

const INSERT: &str =
    "insert into profiles (id, email, full_name) values ($1, $2, $3) on conflict do nothing";

async fn desk(postgres: &Postgres) -> Desk {
    with(postgres, Options::default()).await
}

async fn with(postgres: &Postgres, options: Options) -> Desk {
    let desk = Desk::with(options, "", UNLIMITED, |config| {
        config.more_routes(
            r#"
            - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
            "#,
        );
        let identity = config.get("identity").to_owned();
        let identity = identity.trim_end().strip_suffix('}').unwrap().to_owned();
        let identity = format!("{identity}, profile: {{ insert: \"{INSERT}\" }} }}");
        config.set("identity", &identity).set(
            "database",
            &format!("{{ url: \"{}?sslmode=disable\" }}", postgres.url()),
        );
    })
    .await;
    desk.is_ready().await;
    desk.gateway
        .metric_becomes("foregate_database_up", &[], 1.0)
        .await;
    desk
}

#[tokio::test]
async fn a_profile_row_is_inserted_once_with_the_account() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let desk = desk(&postgres).await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let email = format!("{number}@example.test");
        let newcomer = json!({ "email": email, "password": PASSWORD, "full_name": "O'Hara; drop" });
        let answer = desk.post(http, "register", &newcomer).send().await;
        let body = answer.is_ok().json();
        let id = text(&body["user"], "id");
        let query = format!("select id, email, full_name from profiles where id = '{id}'");
        assert_eq!(
            postgres.rows(&query),
            [[id, email.as_str(), "O'Hara; drop"]]
        );
        // The user's own changes are kept.
        postgres.sql(&format!(
            "update profiles set full_name = 'Ada' where id = '{id}'"
        ));
        desk.signed_in(http, &email).await;
    }
    let names = postgres.rows("select distinct full_name from profiles");
    assert_eq!(names, [["Ada"]]);
}

#[tokio::test]
async fn a_sign_in_by_message_inserts_a_row_and_an_anonymous_one_does_not() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let options = Options {
        autoconfirm: false,
        ..Options::default()
    };
    let desk = with(&postgres, options).await;
    let post = |http: Http, path: &str, body: Value| {
        desk.gateway
            .post(http, &format!("/auth/v1/{path}"))
            .header("apikey", PUBLISHABLE)
            .header("content-type", "application/json")
            .body(body.to_string())
    };
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let email = format!("{number}@example.test");
        let signed_up = post(http, "signup", login(&email, PASSWORD)).send().await;
        signed_up.is_ok();
        // The address has not been confirmed yet.
        let mine = format!("select count(*) from profiles where email = '{email}'");
        assert_eq!(postgres.value(&mine), "0");
        let code = desk.double.code_for(&email).unwrap();
        let proof = json!({ "type": "signup", "token_hash": code });
        post(http, "verify", proof).send().await.is_ok();
        assert_eq!(postgres.value(&mine), "1");
        // The same through a link, which redirects to a page with the tokens.
        let email = format!("link{number}@example.test");
        post(http, "signup", login(&email, PASSWORD)).send().await;
        let mine = format!("select count(*) from profiles where email = '{email}'");
        assert_eq!(postgres.value(&mine), "0");
        let code = desk.double.code_for(&email).unwrap();
        let link = format!("/auth/v1/verify?type=signup&token={code}");
        let followed = desk.gateway.get(http, &link).send().await;
        assert!(followed.header("location").contains("#access_token="));
        assert_eq!(postgres.value(&mine), "1");
        post(http, "signup", json!({ "data": {} })).send().await;
        assert_eq!(
            postgres.value("select count(*) from profiles where email is null"),
            "0"
        );
    }
}

#[tokio::test]
async fn without_the_database_registration_is_reported_and_signing_in_inserts_the_row() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let desk = desk(&postgres).await;
    postgres.pause();
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let email = format!("{number}@example.test");
        let newcomer = login(&email, PASSWORD);
        let answer = in_time("an answer", desk.post(http, "register", &newcomer).send());
        answer.await.is_denied(Reason::RegisteredOnly);
        assert!(desk.double.has_user(&email));
        // Signing in does not wait for the row.
        in_time("a login", desk.signed_in(http, &email)).await;
    }
    postgres.resume();
    let both = async {
        while postgres.value("select count(*) from profiles") != "2" {
            for (number, http) in Http::BOTH.into_iter().enumerate() {
                desk.signed_in(http, &format!("{number}@example.test"))
                    .await;
            }
        }
    };
    in_time("both rows", both).await;
    desk.gateway.origin.saw_nothing();
}
