//! New, imported and anonymous users of an unmodified client, where only users with a row may act.

use super::driver::Driver;
use super::tables;
use crate::sign_in::{Desk, UNLIMITED};
use crate::support::Postgres;
use crate::support::auth_server::{Options, PUBLISHABLE};

const ROUTES: &str = r#"
    - { path: "/auth/v1/{*rest}", access: optional, serve: identity_server, errors: gotrue }
    - path: "/rest/v1/{*rest}"
      access: user
      apikey: required
      errors: postgrest
      rest: { tables: { projects: { read: [id, name] } } }
"#;

/// A table of rows whose insert takes a moment.
const TABLE: &str = "create table profiles (id uuid primary key, email text);
    create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(0.1); return new; end $$;
    create trigger slowly before insert on profiles for each row execute function slowly()";

async fn drive(mode: &str, prepare: impl FnOnce(&Desk)) -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let options = Options {
        anonymous: true,
        ..Options::default()
    };
    let desk = Desk::with(options, "", UNLIMITED, |config| {
        let identity = config.get("identity").to_owned();
        let identity = identity.trim_end().strip_suffix('}').unwrap().to_owned();
        let insert = "insert into profiles (id, email) values ($1, $2) on conflict do nothing";
        config
            .set(
                "identity",
                &format!("{identity}, profile: {{ insert: \"{insert}\" }} }}"),
            )
            .set(
                "facts",
                "{ caller: select true as active from profiles where id = $1 }",
            )
            .set(
                "database",
                &format!(
                    "{{ url: \"{}?sslmode=disable\", connect_timeout: 10s }}",
                    postgres.url()
                ),
            )
            .routes(ROUTES);
    })
    .await;
    desk.is_ready().await;
    desk.gateway
        .metric_becomes("foregate_database_up", &[], 1.0)
        .await;
    tables::serve(&desk.gateway.origin);
    prepare(&desk);
    Driver::start(&desk.gateway, PUBLISHABLE, mode).finishes();
    postgres
}

#[tokio::test]
async fn an_anonymous_client_reads_its_user_becomes_permanent_and_signs_out() {
    let postgres = drive("guest", |_| {}).await;
    let rows = postgres.rows("select email from profiles");
    assert_eq!(rows, [["grace@example.test"]]);
}

#[tokio::test]
async fn the_first_requests_of_a_new_and_of_an_imported_user_pass() {
    let postgres = drive("newcomer", |desk| {
        desk.double
            .add_user("grace@example.test", "correct horse battery");
    });
    let rows = postgres.await.value("select count(*) from profiles");
    assert_eq!(rows, "2");
}
