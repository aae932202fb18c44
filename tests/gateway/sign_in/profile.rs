//! The user's row in the operator's database: it is there before anybody acts for the account, and
//! a user without one is refused in words, for no longer than the row is missing.

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::auth_server::PUBLISHABLE;
use crate::support::{Config, Postgres, RedisServer, World, eventually, in_time};

const TABLE: &str = "create table profiles (id uuid primary key, email text, full_name text)";

const INSERT: &str =
    "insert into profiles (id, email, full_name) values ($1, $2, $3) on conflict do nothing";

const FACTS: &str = "{ caller: select true as active from profiles where id = $1 }";

/// The insert takes this long.
const SLOWLY: &str = "create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(0.1); return new; end $$;
    create trigger slowly before insert on profiles for each row execute function slowly()";

async fn desk(postgres: &Postgres) -> Desk {
    with(postgres, Options::default()).await
}

async fn with(postgres: &Postgres, options: Options) -> Desk {
    changed(postgres, options, |_| {}).await
}

/// Writes the row into the database, and reads from it whether callers are active.
fn configure(postgres: &Postgres, config: &mut Config) {
    config.more_routes(
        r#"
        - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
        "#,
    );
    let identity = config.get("identity").to_owned();
    let identity = identity.trim_end().strip_suffix('}').unwrap().to_owned();
    let identity = format!("{identity}, profile: {{ insert: \"{INSERT}\" }} }}");
    config.set("identity", &identity).set("facts", FACTS).set(
        "database",
        &format!(
            "{{ url: \"{}?sslmode=disable\", connect_timeout: 10s }}",
            postgres.url()
        ),
    );
}

async fn changed(postgres: &Postgres, options: Options, change: impl FnOnce(&mut Config)) -> Desk {
    let desk = Desk::with(options, "", UNLIMITED, |config| {
        configure(postgres, config);
        change(config);
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
async fn without_the_database_registration_is_reported_and_the_row_is_inserted_once_it_is_back() {
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
    // Nobody signs in again.
    eventually("both rows", || {
        postgres.value("select count(*) from profiles") == "2"
    })
    .await;
    desk.gateway.origin.saw_nothing();
}

/// A request to the identity server's own paths, with the project's key.
fn passed<'d>(desk: &'d Desk, http: Http, method: &str, path: &str, body: &Value) -> Call<'d> {
    let call = desk.gateway.call(http, method, &format!("/auth/v1/{path}"));
    let call = call.header("apikey", PUBLISHABLE);
    match body.is_null() {
        true => call,
        false => call
            .header("content-type", "application/json")
            .body(body.to_string()),
    }
}

#[tokio::test]
async fn the_first_request_after_a_sign_in_finds_the_row_at_every_door_and_replica() {
    let (postgres, redis) = (Postgres::start(), RedisServer::start());
    postgres.sql(TABLE);
    postgres.sql(SLOWLY);
    let desk = changed(&postgres, Options::default(), |config| {
        config.store(&redis.url());
    })
    .await;
    let (tokens, identity) = (
        desk.double.tokens(),
        super::identity(&desk.double, "", UNLIMITED),
    );
    let other = desk.gateway.replica(|config| {
        config.set("tokens", &tokens).set("identity", &identity);
        configure(&postgres, config);
        config.store(&redis.url());
    });
    let other = other.await;
    is_ready(&other).await;
    other.metric_becomes("foregate_database_up", &[], 1.0).await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        for door in ["login", "token?grant_type=password", "verify", "refresh"] {
            // An account that was imported: it has no row yet, and both replicas know that.
            let email = format!("{number}-{}@example.test", &door[..5]);
            let id = desk.double.add_user(&email, PASSWORD);
            let (early, refresh) = desk.double.sign_in(&id);
            let ask = async |gateway: &Gateway, token: &str| {
                gateway.get(http, "/me").bearer(token).send().await
            };
            for gateway in [&desk.gateway, &other] {
                ask(gateway, &early).await.is_denied(Reason::CallerAbsent);
                gateway.origin.saw_nothing();
            }
            let answer = match door {
                "login" => desk.post(http, door, &login(&email, PASSWORD)),
                "refresh" => desk.post(http, door, &json!({ "refresh_token": refresh })),
                "verify" => {
                    let otp = json!({ "email": email });
                    passed(&desk, http, "POST", "otp", &otp)
                        .send()
                        .await
                        .is_ok();
                    let code = desk.double.code_for(&email).unwrap();
                    let proof = json!({ "type": "email", "token_hash": code });
                    passed(&desk, http, "POST", door, &proof)
                }
                _ => passed(&desk, http, "POST", door, &login(&email, PASSWORD)),
            };
            let answer = answer.send().await;
            let token = text(&answer.is_ok().json(), "access_token").to_owned();
            for gateway in [&desk.gateway, &other] {
                ask(gateway, &token).await.is_ok();
            }
            ask(&desk.gateway, &early).await.is_ok();
            // The message to the other replica may still be on its way.
            let found = async { while !ask(&other, &early).await.status.is_success() {} };
            in_time("the row", found).await;
            desk.gateway.origin.take();
            other.origin.take();
        }
    }
}

#[tokio::test]
async fn a_sign_in_is_answered_while_the_insert_waits_and_the_insert_goes_on() {
    let world = World::new();
    world.sql(TABLE);
    let desk = changed(&world.database, Options::default(), |config| {
        let database = config.get("database").to_owned();
        let database = database.trim_end().strip_suffix('}').unwrap().to_owned();
        config.set(
            "database",
            &format!("{database}, statement_timeout: 10s }}"),
        );
    })
    .await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let email = format!("{number}@example.test");
        desk.double.add_user(&email, PASSWORD);
        let mut lock = world.lock("profiles");
        in_time("a login", desk.signed_in(http, &email)).await;
        assert!(lock.is_held(), "it was answered before the insert");
        drop(lock);
        let rows = (number + 1).to_string();
        let count = || world.database.value("select count(*) from profiles");
        eventually("the insert goes on", || count() == rows).await;
    }
}

#[tokio::test]
async fn a_missing_row_is_looked_for_again_a_second_later() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let desk = desk(&postgres).await;
    for http in Http::BOTH {
        let email = format!("{http:?}@example.test").to_lowercase();
        let id = desk.double.add_user(&email, PASSWORD);
        let (token, _) = desk.double.sign_in(&id);
        let ask = async || desk.gateway.get(http, "/me").bearer(&token).send().await;
        let refused = ask().await;
        refused.is_denied(Reason::CallerAbsent);
        assert_eq!(refused.json()["code"], "profile_missing");
        desk.gateway.origin.saw_nothing();
        // By somebody who does not report it.
        postgres.sql(&format!("insert into profiles (id) values ('{id}')"));
        let began = std::time::Instant::now();
        let found = async { while !ask().await.status.is_success() {} };
        in_time("the row", found).await;
        // Well before facts expire.
        assert!(began.elapsed() < std::time::Duration::from_secs(20));
        desk.gateway.origin.take();
    }
}

#[tokio::test]
async fn an_anonymous_user_may_do_what_needs_no_row_and_has_one_once_permanent() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    for autoconfirm in [true, false] {
        let options = Options {
            anonymous: true,
            autoconfirm,
            ..Options::default()
        };
        let desk = with(&postgres, options).await;
        for http in Http::BOTH {
            let email = format!("{http:?}-{autoconfirm}@example.test").to_lowercase();
            let guest = passed(&desk, http, "POST", "signup", &json!({ "data": {} }));
            let guest = guest.send().await.is_ok().json();
            let id = text(&guest["user"], "id").to_owned();
            let token = text(&guest, "access_token").to_owned();
            let row = format!("select count(*) from profiles where id = '{id}'");
            let get = |path: &str| desk.gateway.get(http, path).bearer(&token);
            get("/guests").send().await.is_ok();
            get("/me").send().await.is_denied(Reason::AnonymousRefused);
            let user = passed(&desk, http, "GET", "user", &Value::Null);
            user.bearer(&token).send().await.is_ok();
            assert_eq!(postgres.value(&row), "0");
            // Conversion.
            let wish = json!({ "email": email, "password": PASSWORD });
            let change = passed(&desk, http, "PUT", "user", &wish).bearer(&token);
            change.send().await.is_ok();
            if !autoconfirm {
                assert_eq!(postgres.value(&row), "0");
                let code = desk.double.code_for_user(&id).unwrap();
                let proof = json!({ "type": "email_change", "token_hash": code });
                let proven = passed(&desk, http, "POST", "verify", &proof).send().await;
                proven.is_ok();
            }
            assert_eq!(postgres.value(&row), "1");
            // The same session is the permanent user's after a refresh.
            let refresh = json!({ "refresh_token": guest["refresh_token"] });
            let renewed = desk.post(http, "refresh", &refresh).send().await;
            let renewed = text(&renewed.is_ok().json(), "access_token").to_owned();
            let me = desk.gateway.get(http, "/me").bearer(&renewed).send().await;
            me.is_ok();
            let out = passed(&desk, http, "POST", "logout", &Value::Null);
            assert_eq!(out.bearer(&renewed).send().await.status, 204);
            desk.gateway.origin.take();
        }
    }
}

#[tokio::test]
async fn an_anonymous_user_signs_out_and_a_conversion_elsewhere_is_noticed_at_the_refresh() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let options = Options {
        anonymous: true,
        ..Options::default()
    };
    let desk = with(&postgres, options).await;
    for http in Http::BOTH {
        let guest = async || {
            let guest = passed(&desk, http, "POST", "signup", &json!({ "data": {} }));
            guest.send().await.is_ok().json()
        };
        let leaving = guest().await;
        let token = text(&leaving, "access_token");
        let out = desk.post(http, "logout", &json!({})).bearer(token);
        out.send().await.is_ok();
        let refused = desk.gateway.get(http, "/guests").bearer(token).send().await;
        refused.is_denied(Reason::SessionRevoked);
        // Permanent by a link that did not lead through the gateway.
        let staying = guest().await;
        let id = text(&staying["user"], "id");
        let email = format!("{http:?}-elsewhere@example.test").to_lowercase();
        desk.double.convert(id, &email);
        let refresh = json!({ "refresh_token": staying["refresh_token"] });
        let path = "token?grant_type=refresh_token";
        let renewed = passed(&desk, http, "POST", path, &refresh).send().await;
        let renewed = text(&renewed.is_ok().json(), "access_token").to_owned();
        let row = format!("select email from profiles where id = '{id}'");
        assert_eq!(postgres.value(&row), email);
        let me = desk.gateway.get(http, "/me").bearer(&renewed).send().await;
        me.is_ok();
        desk.gateway.origin.take();
    }
}

#[tokio::test]
async fn anonymous_users_have_a_row_where_the_map_says_so() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let options = Options {
        anonymous: true,
        ..Options::default()
    };
    let desk = changed(&postgres, options, |config| {
        let facts = config
            .get("facts")
            .replace("{ caller", "{ anonymous: true, caller");
        config.set("facts", &facts);
    })
    .await;
    for http in Http::BOTH {
        let guest = passed(&desk, http, "POST", "signup", &json!({ "data": {} }));
        let guest = guest.send().await.is_ok().json();
        let id = text(&guest["user"], "id");
        let token = text(&guest, "access_token");
        let row = format!("select count(*) from profiles where id = '{id}'");
        assert_eq!(postgres.value(&row), "1");
        let get = || desk.gateway.get(http, "/guests").bearer(token);
        get().send().await.is_ok();
        desk.gateway.origin.take();
    }
}
