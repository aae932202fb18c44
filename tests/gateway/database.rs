//! The database client: what a call promises while the server answers, stalls, stops and comes
//! back.

use std::path::Path;
use std::time::{Duration, Instant};

use foregate::breaker::Outage;
use foregate::config;
use foregate::database::{Database, DatabaseError, Inspected, Param, Statement};
use foregate::gateway::metrics::Metrics;
use foregate::policy::resources::ParamType;
use uuid::Uuid;

use crate::support::pki::Pki;
use crate::support::{Postgres, eventually};

/// A pool as a gateway with this configuration opens it.
fn open(folder: &Path, database: &str) -> (Database, Metrics) {
    let text = format!(
        "listen: [{{ address: 127.0.0.1:0, tls: off }}]\ndatabase: {database}\nroutes: [{{ path: /health, access: public, serve: health }}]\n"
    );
    let loaded = config::load_str("test.yaml", &text, folder, &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"));
    let metrics = Metrics::new().unwrap();
    let config = loaded.config.database.unwrap();
    let database = Database::start(&config, metrics.database.clone()).unwrap();
    (database, metrics)
}

async fn connected(server: &Postgres, more: &str) -> (Database, Metrics) {
    let url = format!("{}?sslmode=disable", server.url());
    let (database, metrics) = open(Path::new("."), &format!("{{ url: \"{url}\"{more} }}"));
    is_there(&database).await;
    (database, metrics)
}

async fn is_there(database: &Database) {
    eventually("the database answers", || {
        database.outage() == Outage::Reachable
    })
    .await;
}

fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

/// Generous: the machine may be busy, and no test here is about speed.
fn ample() -> Instant {
    within(10_000)
}

#[tokio::test]
async fn statements_take_parameters_and_several_are_answered_in_one_transaction() {
    let server = Postgres::start();
    let (database, _metrics) = connected(&server, "").await;
    let id = Uuid::now_v7();
    let insert =
        "insert into users (id, email, full_name) values ($1, $2, $3) on conflict do nothing";
    let params = [
        Param::Uuid(id),
        Param::Text("o'hara@example.com".to_owned()),
        Param::Null,
    ];
    assert_eq!(database.execute(insert, &params, ample()).await, Ok(1));
    assert_eq!(database.execute(insert, &params, ample()).await, Ok(0));
    let rows = database
        .query(
            "select email, full_name, is_active::text from users where id = $1",
            &[Param::Uuid(id)],
            ample(),
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows.text(0, 0), Some("o'hara@example.com"));
    assert_eq!(rows.text(0, 1), None);
    assert_eq!(rows.text(0, 2), Some("true"));

    let transaction = Statement {
        sql: "select pg_current_snapshot()::text || pg_backend_pid()::text".into(),
        params: Vec::new(),
    };
    let all = database
        .query_all(vec![transaction.clone(), transaction], ample())
        .await
        .unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].text(0, 0), all[1].text(0, 0), "one moment");
    // Nothing stays behind on the server, so a pooler may give the next transaction to another one.
    let names = database
        .query(
            "select count(*)::text from pg_prepared_statements",
            &[],
            ample(),
        )
        .await
        .unwrap();
    assert_eq!(names.text(0, 0), Some("0"));
}

#[tokio::test]
async fn a_query_cannot_write_and_a_refusal_is_no_outage() {
    let server = Postgres::start();
    let (database, _metrics) = connected(&server, ", pool: 1").await;
    let refused = |code: &str| Err(DatabaseError::Refused(code.to_owned()));
    for _ in 0..5 {
        let write = "with gone as (delete from users returning id) select id::text from gone";
        assert_eq!(database.query(write, &[], ample()).await, refused("25006"));
        let column = "select nothing from users";
        assert_eq!(database.query(column, &[], ample()).await, refused("42703"));
    }
    assert_eq!(database.outage(), Outage::Reachable);
    let one = database.query("select 'one'", &[], ample()).await.unwrap();
    assert_eq!(one.text(0, 0), Some("one"), "the connection is still good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_for_a_lock_ends_at_its_time_limit_and_leaves_its_connection_usable()
{
    let server = Postgres::start();
    let (database, _metrics) = connected(&server, ", pool: 1, statement_timeout: 3s").await;
    let pid = "select pg_backend_pid()::text";
    let before = database.query(pid, &[], ample()).await.unwrap();

    let world = crate::support::World { database: server };
    let mut lock = world.lock("projects");
    // More than would open the breaker, if the server's word that a statement took too long were
    // taken for silence.
    for _ in 0..3 {
        let stalled = database.query("select id::text from projects", &[], ample());
        assert_eq!(stalled.await, Err(DatabaseError::Deadline));
    }
    // It ended although the table is locked still.
    assert!(lock.is_held());
    assert_eq!(database.outage(), Outage::Reachable);
    drop(lock);
    let after = database.query(pid, &[], ample()).await.unwrap();
    assert_eq!(before, after, "it was not thrown away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_not_asked_after_a_few_failures_and_is_asked_again_when_it_is_back()
{
    let server = Postgres::start();
    let limits = ", pool: 2, connect_timeout: 300ms, statement_timeout: 1s";
    let (database, metrics) = connected(&server, limits).await;
    let one = || database.query("select 'one'", &[], within(40));
    assert!(database.query("select 'one'", &[], ample()).await.is_ok());
    server.pause();
    // Nobody waits for the statements, and they decide all the same.
    eventually("it is away", || {
        let asked = database.clone();
        tokio::spawn(async move { asked.query("select 'x'", &[], within(40)).await });
        matches!(database.outage(), Outage::Away { .. })
    })
    .await;
    // Nobody waits any more.
    for _ in 0..100 {
        assert_eq!(one().await, Err(DatabaseError::Away));
    }
    server.resume();
    is_there(&database).await;
    assert!(database.query("select 'one'", &[], ample()).await.is_ok());
    drop(metrics);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_a_free_connection_says_nothing_about_the_database() {
    let server = Postgres::start();
    let (database, metrics) = connected(&server, ", pool: 1, statement_timeout: 30s").await;
    let held = database.clone();
    let holding = tokio::spawn(async move {
        let sleeping = "select pg_sleep(60)::text";
        held.query(sleeping, &[], within(60_000)).await
    });
    let asleep = "select count(*) from pg_stat_activity where query like '%pg_sleep%' and wait_event = 'PgSleep'";
    eventually("the connection is taken", || server.value(asleep) == "1").await;
    // More than would open the breaker.
    for _ in 0..10 {
        let outcome = database.query("select 'one'", &[], within(20)).await;
        // Both wait until the same moment: whoever waits for the pool, and whoever waits for them.
        let gave_up = matches!(outcome, Err(DatabaseError::Busy | DatabaseError::Deadline));
        assert!(gave_up, "{outcome:?}");
        assert_eq!(database.outage(), Outage::Reachable);
    }
    assert!(!holding.is_finished(), "it was not disturbed");
    server.sql("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'");
    assert!(holding.await.unwrap().is_err(), "it was ended");
    assert!(database.query("select 'one'", &[], ample()).await.is_ok());
    drop(metrics);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_time_say_nothing_about_the_database() {
    let server = Postgres::start();
    let (database, metrics) = connected(&server, ", statement_timeout: 10s").await;
    for _ in 0..10 {
        let outcome = database.query("select pg_sleep(0.2)::text", &[], within(20));
        let outcome = outcome.await;
        let gave_up = matches!(outcome, Err(DatabaseError::Busy | DatabaseError::Deadline));
        assert!(gave_up, "{outcome:?}");
        assert_eq!(database.outage(), Outage::Reachable);
    }
    assert!(database.query("select 'one'", &[], ample()).await.is_ok());
    assert_eq!(database.outage(), Outage::Reachable);
    drop(metrics);
}

#[tokio::test]
async fn a_restart_costs_nothing_but_the_time_it_takes() {
    let mut server = Postgres::start();
    let (database, _metrics) = connected(&server, "").await;
    server.kill();
    eventually("it is away", || {
        let asked = database.clone();
        tokio::spawn(async move { asked.query("select 'x'", &[], within(100)).await });
        matches!(database.outage(), Outage::Away { .. })
    })
    .await;
    server.start_again();
    is_there(&database).await;
    assert!(database.query("select 'one'", &[], ample()).await.is_ok());
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced_without_an_error() {
    let server = Postgres::start();
    let (database, _metrics) = connected(&server, ", pool: 1").await;
    for _ in 0..3 {
        assert!(database.query("select 'one'", &[], ample()).await.is_ok());
        server.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'foregate'");
        assert!(database.query("select 'one'", &[], ample()).await.is_ok());
    }
}

#[tokio::test]
async fn callers_who_give_up_leave_the_pool_whole() {
    let server = Postgres::start();
    let (database, _metrics) = connected(&server, ", pool: 2").await;
    for _ in 0..200 {
        let database = database.clone();
        let asking = tokio::spawn(async move {
            database
                .query("select pg_sleep(0.01)::text", &[], ample())
                .await
        });
        tokio::task::yield_now().await;
        asking.abort();
    }
    let all = database.query_all(Vec::new(), ample()).await;
    assert_eq!(all, Ok(Vec::new()));
    eventually("at most two connections are open", || {
        let open = server
            .value("select count(*) from pg_stat_activity where application_name = 'foregate'");
        open == "1" || open == "2"
    })
    .await;
}

#[tokio::test]
async fn tls_demands_a_certificate_that_leads_to_the_configured_root() {
    let folder = tempfile::tempdir().unwrap();
    let (pki, other) = (Pki::new(), Pki::new());
    std::fs::write(folder.path().join("ca.pem"), pki.root_pem()).unwrap();
    std::fs::write(folder.path().join("other.pem"), other.root_pem()).unwrap();
    let settings = [
        "ssl=on",
        "ssl_cert_file=server.crt",
        "ssl_key_file=server.key",
    ];
    let server = Postgres::prepared(&settings, |data| {
        use std::os::unix::fs::PermissionsExt as _;
        pki.sign(&["localhost", "127.0.0.1"]).write(data, "server");
        let only_us = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(data.join("server.key"), only_us).unwrap();
    });
    let of = |ca: &str| {
        let yaml = format!(
            "{{ url: \"{}\", ca: {ca}, connect_timeout: 500ms }}",
            server.url()
        );
        open(folder.path(), &yaml)
    };
    let (database, _metrics) = of("ca.pem");
    is_there(&database).await;
    let is_tls = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
    let rows = database.query(is_tls, &[], ample()).await.unwrap();
    assert_eq!(rows.text(0, 0), Some("true"));

    let (strange, _metrics) = of("other.pem");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(strange.outage(), Outage::NeverSeen);
    assert_eq!(
        strange.query("select 'one'", &[], ample()).await,
        Err(DatabaseError::Away)
    );
}

#[tokio::test]
async fn a_statement_is_described_by_the_live_schema() {
    let server = Postgres::start();
    let (database, _metrics) = connected(&server, "").await;
    let statement = |sql: &str| Inspected {
        sql: sql.into(),
        params: vec![ParamType::Uuid],
    };
    let described = database
        .describe(
            vec![
                statement("select user_id as owner, visibility from projects where id = $1"),
                statement("select nothing from projects where id = $1"),
                statement("select role from users where id = $1"),
                statement("select 1; select 2"),
            ],
            ample(),
        )
        .await
        .unwrap();
    let columns = |index: usize| described[index].as_ref().unwrap().columns.clone();
    let pair = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    assert_eq!(
        columns(0),
        [pair("owner", "uuid"), pair("visibility", "text")]
    );
    assert!(described[1].as_ref().unwrap_err().contains("nothing"));
    assert_eq!(columns(2), [pair("role", "user_role")]);
    assert!(described[3].is_err());
}

#[tokio::test]
async fn the_shipped_role_reads_what_facts_need_and_nothing_else() {
    let server = Postgres::start();
    let script = include_str!("../../deploy/sql/least_privilege.sql");
    server.sql(&script.replace(":'password'", "'secret'"));
    let url = server.url_of("foregate");
    let yaml = format!("{{ url: \"{url}?sslmode=disable\" }}");
    let (database, _metrics) = open(Path::new("."), &yaml);
    is_there(&database).await;
    let denied = Err(DatabaseError::Refused("42501".to_owned()));
    for sql in [
        "select id::text, is_active::text from users",
        "select user_id::text, visibility from projects",
        "select m.role from team_members m join teams t on t.id = m.team_id and t.is_active",
        "select user_id::text, project_id::text, parent_generation_id::text from generations",
    ] {
        assert!(database.query(sql, &[], ample()).await.is_ok(), "{sql}");
    }
    for sql in [
        "select email from users",
        "select prompt from generations",
        "select email from auth.users",
        "select rolname::text from pg_authid",
    ] {
        assert_eq!(
            database.query(sql, &[], ample()).await,
            denied.clone(),
            "{sql}"
        );
    }
    let id = Param::Uuid(Uuid::now_v7());
    let profile = "insert into users (id, email) values ($1, 'a@b.c') on conflict do nothing";
    let inserted = database.execute(profile, &[id], ample()).await;
    assert_eq!(inserted, Ok(1));
    for sql in [
        "update users set is_active = false",
        "delete from projects",
        "insert into users (id, email, role) values (gen_random_uuid(), 'x', 'admin')",
        "create table mine (a int)",
    ] {
        let refused = database.execute(sql, &[], ample()).await;
        assert!(matches!(refused, Err(DatabaseError::Refused(_))), "{sql}");
    }
}
