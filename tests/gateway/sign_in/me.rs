//! What `me` and `whoami` show of a user: columns of the user's row, and nothing that users write
//! themselves unless the route map names it.

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::{Postgres, in_time};

const TABLE: &str =
    "create table profiles (id uuid primary key, full_name text, credits int not null default 100)";

const PROFILE: &str = "{ insert: \"insert into profiles (id, full_name) values ($1, $3) on conflict do nothing\", select: \"select full_name, credits from profiles where id = $1\" }";

const ME: &str = ", me: { full_name: full_name, credits_balance: credits, plan: app_metadata.plan, nickname: user_metadata.nickname }";

async fn desk(postgres: &Postgres) -> Desk {
    let desk = Desk::with(Options::default(), ME, UNLIMITED, |config| {
        let identity = config.get("identity").to_owned();
        let identity = identity.trim_end().strip_suffix('}').unwrap().to_owned();
        config
            .set("identity", &format!("{identity}, profile: {PROFILE} }}"))
            .set(
                "database",
                &format!("{{ url: \"{}?sslmode=disable\" }}", postgres.url()),
            )
            .more_routes(
                r#"
                - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
                "#,
            );
    })
    .await;
    desk.is_ready().await;
    desk.gateway
        .metric_becomes("foregate_database_up", &[], 1.0)
        .await;
    desk
}

/// Writes everything into `user_metadata` that a user could wish to have.
async fn boast(desk: &Desk, http: Http, token: &str) {
    let wish = json!({ "data": { "full_name": "Her Majesty", "credits_balance": 999_999, "credits": 999_999, "plan": "gold", "nickname": "ada" } });
    let call = desk
        .gateway
        .call(http, "PUT", "/auth/v1/user")
        .bearer(token);
    let call = call.header("content-type", "application/json");
    let call = call.header("apikey", crate::support::auth_server::PUBLISHABLE);
    call.body(wish.to_string()).send().await.is_ok();
}

#[tokio::test]
async fn me_shows_the_row_and_only_named_members_of_the_users_own_metadata() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let desk = desk(&postgres).await;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test").to_lowercase();
        let newcomer = json!({ "email": email, "password": PASSWORD, "full_name": "Ada" });
        let answer = desk.post(http, "register", &newcomer).send().await;
        let token = text(&answer.is_ok().json(), "access_token").to_owned();
        boast(&desk, http, &token).await;
        let me = desk.get(http, "me", &token).send().await;
        is_own(me.is_ok());
        let me = me.json();
        assert_eq!(me["full_name"], "Ada");
        assert_eq!(me["credits_balance"], 100);
        assert_eq!(me["plan"], Value::Null);
        assert_eq!(me["nickname"], "ada");
        assert_eq!(me["email"], email);
        let whoami = desk.get(http, "whoami", &token).send().await;
        let expected =
            json!({ "full_name": "Ada", "credits_balance": 100, "plan": null, "nickname": "ada" });
        assert_eq!(whoami.is_ok().json()["metadata"], expected);
        // The row is read anew each time.
        let id = text(&me, "id");
        postgres.sql(&format!(
            "update profiles set credits = 7 where id = '{id}'"
        ));
        let me = desk.get(http, "me", &token).send().await;
        assert_eq!(me.is_ok().json()["credits_balance"], 7);
        // Without a row there is nothing to show.
        postgres.sql(&format!("delete from profiles where id = '{id}'"));
        let me = desk.get(http, "me", &token).send().await;
        let me = me.is_ok().json();
        assert_eq!(
            (&me["full_name"], &me["credits_balance"]),
            (&Value::Null, &Value::Null)
        );
    }
}

#[tokio::test]
async fn without_a_map_me_shows_nothing_that_a_user_wrote() {
    let desk = Desk::with(Options::default(), "", UNLIMITED, |config| {
        config.more_routes(
            r#"
            - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
            "#,
        );
    })
    .await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let (token, _) = desk.double.sign_in(&id);
        boast(&desk, http, &token).await;
        for route in ["me", "whoami"] {
            let shown = desk.get(http, route, &token).send().await;
            let shown = shown.is_ok();
            assert!(!shown.text().contains("999999"), "{}", shown.text());
            assert!(!shown.text().contains("Majesty"), "{}", shown.text());
        }
    }
}

#[tokio::test]
async fn without_the_database_me_is_a_503_and_whoever_signs_in_is_not_delayed_for_long() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let desk = desk(&postgres).await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let (token, _) = desk.double.sign_in(&id);
    postgres.pause();
    for http in Http::BOTH {
        let me = in_time("an answer", desk.get(http, "me", &token).send()).await;
        me.is_denied(Reason::FactsUnavailable);
        in_time("a login", desk.signed_in(http, EMAIL)).await;
    }
    postgres.resume();
}
