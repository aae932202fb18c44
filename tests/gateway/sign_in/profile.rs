//! The row that a user has in the operator's database.

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::{Postgres, in_time};

const TABLE: &str = "create table profiles (id uuid primary key, email text, full_name text)";

const INSERT: &str =
    "insert into profiles (id, email, full_name) values ($1, $2, $3) on conflict do nothing";

async fn desk(postgres: &Postgres) -> Desk {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
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
async fn a_row_comes_with_the_account_and_is_made_once() {
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
        // What the user changed stays.
        postgres.sql(&format!(
            "update profiles set full_name = 'Ada' where id = '{id}'"
        ));
        desk.signed_in(http, &email).await;
    }
    let names = postgres.rows("select distinct full_name from profiles");
    assert_eq!(names, [["Ada"]]);
}

#[tokio::test]
async fn without_the_database_the_account_is_told_and_signing_in_makes_up_for_the_row() {
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
        // Nobody waits for it to sign in.
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
