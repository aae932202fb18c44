//! Why a server cannot be used: `check --connect` and `/readyz` name the cause, each in its own
//! words, and no secret.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::config::KEY;
use crate::support::gateway::program;
use crate::support::pki::Pki;
use crate::support::{Config, Gateway, Postgres, RedisServer, World, eventually};

const SECRET: &str = "s3cr3t-p4ssw0rd";

/// What `check --connect` says of a configuration: whether it is good, and all its output.
fn check(folder: &Path, change: impl FnOnce(&mut Config)) -> (bool, String) {
    let pki = Pki::new();
    pki.sign(&["localhost"]).write(folder, "server");
    crate::support::Issuer::new().write(folder);
    let mut config = Config::new("http://127.0.0.1:1");
    change(&mut config);
    let file = folder.join("foregate.yaml");
    std::fs::write(&file, config.to_yaml()).unwrap();
    let output = Command::new(program())
        .args(["check", "--connect", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    (output.status.success(), text)
}

/// The line that names the problem of this key.
fn problem(text: &str, key: &str) -> String {
    let line = text.lines().find(|line| line.contains(key));
    line.unwrap_or_else(|| panic!("no {key}: {text}"))
        .to_owned()
}

/// The end of a problem: what is wrong, without the server it is wrong with.
fn cause(problem: &str) -> &str {
    problem
        .split_once("cannot be used: ")
        .or_else(|| problem.split_once("cannot be fetched: "))
        .unwrap_or_else(|| panic!("{problem}"))
        .1
}

#[test]
fn check_names_why_the_store_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let open = RedisServer::start();
    let locked = RedisServer::with(&["--requirepass", "right"]);
    let (open, locked) = (open.port(), locked.port());
    let absent = RedisServer::absent().0;
    let mut causes = BTreeSet::new();
    for url in [
        format!("redis://127.0.0.1:{absent}"),
        format!("redis://nowhere.invalid:{open}"),
        format!("rediss://127.0.0.1:{open}"),
        format!("redis://:{SECRET}@127.0.0.1:{locked}"),
        format!("redis://127.0.0.1:{locked}"),
        format!("redis://127.0.0.1:{open}/99"),
    ] {
        let (is_good, text) = check(folder.path(), |config| {
            config.store(&url);
        });
        assert!(!is_good, "{text}");
        let problem = problem(&text, "store.redis");
        println!("{url}: {problem}");
        assert!(causes.insert(cause(&problem).to_owned()), "{problem}");
    }
    let (is_good, text) = check(folder.path(), |config| {
        config.store(&format!("redis://127.0.0.1:{open}"));
    });
    assert!(is_good, "{text}");
}

/// A PostgreSQL that asks the role `locked` for a password.
fn with_password() -> Postgres {
    Postgres::prepared(&[], |data| {
        let file = data.join("pg_hba.conf");
        let rest = std::fs::read_to_string(&file).unwrap();
        let first =
            "host all locked 127.0.0.1/32 scram-sha-256\nhost all barred 127.0.0.1/32 reject\n";
        std::fs::write(&file, format!("{first}{rest}")).unwrap();
    })
}

#[test]
fn check_names_why_the_database_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let database = with_password();
    database.sql("create role locked login password 'right'; create role barred login");
    let port = database.port();
    let absent = RedisServer::absent().0;
    let base = format!("127.0.0.1:{port}");
    let mut causes = BTreeSet::new();
    for url in [
        format!("postgres://postgres@127.0.0.1:{absent}/postgres?sslmode=disable"),
        format!("postgres://postgres@nowhere.invalid:{port}/postgres?sslmode=disable"),
        format!("postgres://postgres@{base}/postgres"),
        format!("postgres://locked:{SECRET}@{base}/postgres?sslmode=disable"),
        format!("postgres://locked@{base}/postgres?sslmode=disable"),
        format!("postgres://barred@{base}/postgres?sslmode=disable"),
        format!("postgres://postgres@{base}/nothing?sslmode=disable"),
    ] {
        let (is_good, text) = check(folder.path(), |config| {
            config.set("database", &format!("{{ url: \"{url}\" }}"));
        });
        assert!(!is_good, "{text}");
        let problem = problem(&text, "database.url");
        println!("{url}: {problem}");
        assert!(causes.insert(cause(&problem).to_owned()), "{problem}");
    }
}

#[tokio::test]
async fn a_role_that_may_not_read_a_table_is_a_problem_before_the_first_request() {
    let world = World::new();
    world.sql("create role poor login; grant select on users, teams, team_members to poor");
    let as_poor = |config: &mut Config| {
        world.configure(config);
        let url = world.database.url_of("poor");
        config.set("database", &format!("{{ url: \"{url}?sslmode=disable\" }}"));
    };
    let folder = tempfile::tempdir().unwrap();
    let (is_good, text) = check(folder.path(), as_poor);
    assert!(!is_good, "{text}");
    assert!(text.contains("resources.project.query"), "{text}");
    assert!(
        text.contains("permission denied for table projects"),
        "{text}"
    );
    assert!(text.contains("grant"), "{text}");
    // A replica that started while the database was away is not ready afterwards.
    world.database.pause();
    let gateway = Gateway::with(as_poor).await;
    world.database.resume();
    let ready = || crate::support::metrics::get(gateway.admin(), "/readyz");
    eventually("it is told", || ready().1.contains("do not fit")).await;
    assert_eq!(ready().0, 503);
    world.sql("grant select on all tables in schema public to poor");
    eventually("ready", || ready().0 == 200).await;
}

#[test]
fn a_role_from_which_row_level_security_hides_rows_is_a_warning() {
    let world = World::new();
    world.sql(
        "create role plain login; create role trusted login bypassrls;
         grant usage on schema auth to plain, trusted;
         grant select on all tables in schema public, auth to plain, trusted;
         alter table auth.users enable row level security",
    );
    let folder = tempfile::tempdir().unwrap();
    let banned = "select u.is_active and not exists (select from auth.users a where a.id = u.id and a.banned_until > now()) as active from users u where u.id = $1";
    for (role, query, warns) in [
        ("plain", banned, true),
        // It reads no table under row-level security.
        (
            "plain",
            "select is_active as active from users where id = $1",
            false,
        ),
        ("trusted", banned, false),
        // The owner.
        ("postgres", banned, false),
    ] {
        let (is_good, text) = check(folder.path(), |config| {
            world.configure(config);
            let url = world.database.url_of(role);
            config
                .set("database", &format!("{{ url: \"{url}?sslmode=disable\" }}"))
                .set("facts", &format!("{{ caller: \"{query}\" }}"));
        });
        assert!(is_good, "{role}: {text}");
        let warned = text.contains("facts.caller") && text.contains("BYPASSRLS");
        assert_eq!(warned, warns, "{role}: {text}");
        assert!(!text.contains("resources.project.query (line"), "{text}");
    }
}

/// Configures a `profile`, and an identity server at an address where nobody listens, with `more` of
/// its keys.
fn with_profile(config: &mut Config, more: &str, profile: &str) {
    let url = "http://127.0.0.1:1";
    let supabase =
        format!("url: \"{url}\", publishable_keys: [sb_publishable_0123456789abcdef]{more}");
    config
        .set("facts", "{ subject: uuid }")
        .set("tokens", &format!("[{{ issuer: \"{url}/auth/v1\", audience: [authenticated], algorithms: [ES256], jwks_file: jwks.json }}]"))
        .set("identity", &format!("{{ supabase: {{ {supabase} }}, profile: {{ {profile} }} }}"));
}

/// Asserts that the problem of `key` contains `part`, or that the profile has none.
fn has_problem(text: &str, key: &str, part: Option<&str>) {
    match part {
        None => assert!(!text.contains("identity.profile"), "{text}"),
        Some(part) => assert!(problem(text, key).contains(part), "{text}"),
    }
}

#[test]
fn the_query_of_me_is_compared_with_the_database() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    for (me, part) in [
        ("{ credits_balance: credits_balance }", None),
        (
            "{ credits: credit_balance }",
            Some("no column `credit_balance`"),
        ),
        (
            "{ plan: app_metadata.plan }",
            Some("no member of `identity.supabase.me` is a column"),
        ),
    ] {
        let (is_good, text) = check(folder.path(), |config| {
            world.configure(config);
            let me = format!(", me: {me}");
            let select = "select: \"select credits_balance from users where id = $1\"";
            with_profile(config, &me, select);
        });
        // Nobody listens at the address of the identity server.
        assert!(!is_good, "{text}");
        has_problem(&text, "identity.profile.select", part);
    }
}

#[test]
fn the_statement_that_inserts_a_users_row_is_tried_without_inserting_anything() {
    let world = World::new();
    world.sql(
        "create table profiles (id uuid primary key, email text, full_name text);
         create role reader login; create role writer login;
         grant select on all tables in schema public to reader, writer;
         grant insert on profiles to writer",
    );
    let folder = tempfile::tempdir().unwrap();
    let into = |table: &str, columns: &str| {
        format!("insert into {table} ({columns}) values ($1, $2, $3) on conflict do nothing")
    };
    for (role, insert, part) in [
        ("writer", into("profiles", "id, email, full_name"), None),
        (
            "writer",
            "insert into profiles (id) values ($1) on conflict do nothing".to_owned(),
            None,
        ),
        (
            "reader",
            into("profiles", "id, email, full_name"),
            Some("permission denied for table profiles"),
        ),
        (
            "writer",
            into("profiles", "id, email, name"),
            Some("column \"name\" of relation \"profiles\" does not exist"),
        ),
        (
            "writer",
            into("people", "id, email, full_name"),
            Some("relation \"people\" does not exist"),
        ),
    ] {
        let (is_good, text) = check(folder.path(), |config| {
            world.configure(config);
            let url = world.database.url_of(role);
            config.set("database", &format!("{{ url: \"{url}?sslmode=disable\" }}"));
            with_profile(config, "", &format!("insert: \"{insert}\""));
        });
        // Nobody listens at the address of the identity server.
        assert!(!is_good, "{text}");
        has_problem(&text, "identity.profile.insert", part);
    }
    assert_eq!(world.database.value("select count(*) from profiles"), "0");
}

#[test]
fn check_names_why_keys_cannot_be_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let absent = RedisServer::absent().0;
    let redis = RedisServer::start();
    let mut causes = BTreeSet::new();
    for url in [
        format!("http://127.0.0.1:{absent}/keys"),
        "https://nowhere.invalid/keys".to_owned(),
        format!("https://127.0.0.1:{}/keys", redis.port()),
    ] {
        let (is_good, text) = check(folder.path(), |config| {
            config.set(
                "tokens",
                &format!("[{{ issuer: \"https://issuer.test\", audience: [a], algorithms: [ES256], jwks_url: \"{url}\" }}]"),
            );
        });
        assert!(!is_good, "{text}");
        let problem = problem(&text, "tokens: ");
        assert!(problem.contains("https://issuer.test"), "{problem}");
        println!("{url}: {problem}");
        assert!(causes.insert(cause(&problem).to_owned()), "{problem}");
    }
}

#[test]
fn check_names_why_the_identity_server_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let absent = RedisServer::absent().0;
    let mut causes = BTreeSet::new();
    for url in [
        format!("http://127.0.0.1:{absent}"),
        "https://nowhere.invalid".to_owned(),
    ] {
        let identity = format!(
            "{{ supabase: {{ url: \"{url}\", publishable_keys: [sb_publishable_0123456789abcdef], secret_key: sb_secret_{SECRET} }} }}"
        );
        let (is_good, text) = check(folder.path(), |config| {
            config
                .set("keys", &format!("[{{ id: k1, secret: \"{KEY}\" }}]"))
                .set("tokens", &format!("[{{ issuer: \"{url}/auth/v1\", audience: [authenticated], algorithms: [ES256], jwks_file: jwks.json }}]"))
                .set("identity", &identity);
        });
        assert!(!is_good, "{text}");
        let problem = problem(&text, "identity.supabase.url");
        println!("{problem}");
        assert!(causes.insert(cause(&problem).to_owned()), "{problem}");
    }
}

#[tokio::test]
async fn readiness_names_what_a_replica_lacks_and_what_is_away_later() {
    let mut redis = RedisServer::with(&["--requirepass", "right"]);
    let url = format!("redis://:{SECRET}@127.0.0.1:{}", redis.port());
    let gateway = Gateway::with(|config| {
        config.store(&url);
    })
    .await;
    let ready = || crate::support::metrics::get(gateway.admin(), "/readyz");
    eventually("it is told", || ready().1.contains("password")).await;
    assert_eq!(ready().0, 503);
    let mut connection = redis.connect();
    connection.call(&[b"AUTH", b"right"]).unwrap();
    connection
        .call(&[b"CONFIG", b"SET", b"requirepass", SECRET.as_bytes()])
        .unwrap();
    eventually("ready", || ready() == (200, "ok\n".to_owned())).await;
    redis.kill();
    eventually("it is told", || ready().1.contains("refused")).await;
    assert_eq!(ready().0, 200, "or all replicas would leave together");
    let text = gateway.log().text();
    assert!(!text.contains(SECRET), "{text}");
}
