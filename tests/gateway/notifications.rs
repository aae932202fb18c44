//! Notifications of the database: when they are believed, what they make worthless, and how much of
//! it at once.

use std::time::{Duration, Instant};

use crate::support::{Config, Gateway, Http, Postgres, RedisServer, World, eventually};

const TRIGGERS: &str = include_str!("../../deploy/sql/notify.sql");

/// Lets a gateway judge by this world, and hear of its changes where this URL leads.
fn listening(world: &World, config: &mut Config, notify: &str) {
    world.configure(config);
    let url = format!("{}?sslmode=disable", world.database.url());
    config.set(
        "database",
        &format!("{{ url: \"{url}\", notify_url: \"{notify}?sslmode=disable\" }}"),
    );
}

/// The same of this world's own database, with a store for its replicas.
fn sharing(world: &World, config: &mut Config, redis: &RedisServer) {
    listening(world, config, &world.database.url());
    config.store(&redis.url());
}

async fn status(gateway: &Gateway, token: &str, path: &str) -> u16 {
    let call = gateway.get(Http::One, path).bearer(token);
    call.send().await.status.as_u16()
}

async fn listens(gateway: &Gateway, is_so: f64) {
    gateway
        .metric_becomes("foregate_facts_listening", &[], is_so)
        .await;
}

fn table_told(gateway: &Gateway, table: &str, kind: &str) -> Option<f64> {
    let series = format!("foregate_facts_table_told{{kind=\"{kind}\",table=\"{table}\"}} ");
    let metrics = gateway.metrics();
    let line = metrics
        .text()
        .lines()
        .find(|line| line.starts_with(&series));
    line.map(|line| line[series.len()..].parse().unwrap())
}

/// Why notifications are not believed, each time that changed.
fn whys(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.log().all(|line| line["why"].is_string());
    let why = |line: &serde_json::Value| line["why"].as_str().unwrap().to_owned();
    lines.iter().map(why).collect()
}

async fn says_why(gateway: &Gateway, part: &str) {
    eventually(part, || whys(gateway).iter().any(|why| why.contains(part))).await;
}

/// What `check --connect` says of a configuration: whether it is good, and its output.
fn check(gateway: &Gateway) -> (bool, String) {
    let output = std::process::Command::new(crate::support::gateway::program())
        .args(["check", "--connect", "--config"])
        .arg(gateway.path("foregate.yaml"))
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

/// Ends the connection that hears, as a restart of a server between us would.
fn cut(world: &World) {
    world.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'foregate listener'");
}

#[tokio::test]
async fn notifications_are_believed_only_when_every_table_that_is_read_has_its_triggers() {
    let world = World::new();
    let url = world.database.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    says_why(
        &gateway,
        "`public.users`, which `facts.caller` reads, has no trigger that reports changes",
    )
    .await;
    listens(&gateway, 0.0).await;
    for (table, kind) in [
        ("public.users", "caller"),
        ("public.team_members", "memberships"),
        ("public.teams", "memberships"),
        ("public.projects", "project"),
        ("public.project_teams", "project"),
        ("public.generations", "generation"),
    ] {
        assert_eq!(table_told(&gateway, table, kind), Some(0.0), "{table}");
    }
    let (is_good, told) = check(&gateway);
    assert!(is_good, "it runs all the same, with shorter ages: {told}");
    let expected = "`public.projects`, which `resources.project.query` reads, has no trigger that reports changes for `project`";
    assert!(told.contains(expected), "{told}");
    // Somebody puts them in. A new connection is proven at once, however long there was none.
    world.sql(TRIGGERS);
    cut(&world);
    listens(&gateway, 1.0).await;
    assert_eq!(
        table_told(&gateway, "public.projects", "project"),
        Some(1.0)
    );
    let (is_good, told) = check(&gateway);
    assert!(is_good && !told.contains("notify_url"), "{told}");
    // Each of these alone is enough to believe nothing, from the next connection on.
    for (change, part, undo) in [
        (
            "drop trigger foregate_tell on project_teams",
            "`public.project_teams`, which `resources.project.query` reads, has no trigger that reports changes",
            TRIGGERS,
        ),
        (
            "alter table users disable trigger foregate_tell",
            "`public.users`, which",
            "alter table users enable always trigger foregate_tell",
        ),
        (
            "alter table users enable trigger foregate_tell",
            "which `facts.caller` reads, has triggers that do not run during a restore or logical replication",
            TRIGGERS,
        ),
        (
            "alter table project_teams enable replica trigger foregate_tell",
            "`public.project_teams`, which `resources.project.query` reads, has no trigger that reports changes",
            TRIGGERS,
        ),
        (
            "create or replace trigger foregate_tell_everything after truncate on generations for each statement execute function foregate_tell_everything()",
            "`public.generations`, which `resources.generation.query` reads, has triggers that do not run during a restore",
            TRIGGERS,
        ),
        (
            "create or replace trigger foregate_tell after insert or update on team_members for each row execute function foregate_tell('memberships', 'user_id')",
            "on DELETE",
            TRIGGERS,
        ),
        (
            "create or replace trigger foregate_tell after insert or delete or update of user_id on projects for each row execute function foregate_tell('project', 'id')",
            "on UPDATE of visibility",
            TRIGGERS,
        ),
        (
            "create or replace trigger foregate_tell after insert or delete or update on projects for each row execute function foregate_tell('projects', 'id')",
            "has no trigger that reports changes for `project`",
            TRIGGERS,
        ),
        (
            "create or replace function hide() returns trigger language plpgsql as $$ begin new.visibility := 'private'; return new; end $$;
            create trigger hide before update on projects for each row execute function hide()",
            "has a BEFORE UPDATE trigger that may change visibility",
            "drop trigger hide on projects",
        ),
        (
            "drop trigger foregate_tell_everything on generations",
            "on TRUNCATE",
            TRIGGERS,
        ),
        (
            "drop trigger foregate_tell_children on generations",
            "the children of a changed row",
            TRIGGERS,
        ),
        (
            "create or replace trigger foregate_tell_children after update of parent_generation_id on generations for each row execute function foregate_tell_children('generation')",
            "the children of a changed row",
            TRIGGERS,
        ),
        (
            "create or replace trigger foregate_tell after insert or delete or update on project_teams for each row when (pg_trigger_depth() = 0) execute function foregate_tell('project', 'project_id')",
            "`public.project_teams`, which `resources.project.query` reads, has no trigger that reports changes",
            TRIGGERS,
        ),
        (
            "drop trigger foregate_tell on teams",
            "`public.teams`, which `facts.memberships` reads, is searched through other tables",
            TRIGGERS,
        ),
        (
            "create or replace trigger foregate_tell after insert or delete or update on team_members for each row execute function foregate_tell('memberships', 'invited_by')",
            "is searched by user_id",
            TRIGGERS,
        ),
        (
            "alter table team_members drop constraint team_members_pkey, add primary key (team_id, user_id);
            create or replace trigger foregate_tell after insert or delete or update of role, is_active on team_members for each row execute function foregate_tell('memberships', 'user_id')",
            "on UPDATE of id, team_id, user_id",
            TRIGGERS,
        ),
    ] {
        world.sql(change);
        let before = whys(&gateway).len();
        cut(&world);
        eventually(change, || {
            let told = whys(&gateway);
            told.len() > before && told.iter().skip(before).any(|why| why.contains(part))
        })
        .await;
        listens(&gateway, 0.0).await;
        world.sql(undo);
        listens(&gateway, 1.0).await;
    }
}

#[tokio::test]
async fn what_a_query_reads_is_found_behind_views_and_functions_and_after_a_reload() {
    let world = World::new();
    world.sql(TRIGGERS);
    world.sql("create table secrets (project_id uuid primary key, visibility text);
        create view shown as select p.id, p.user_id, coalesce(s.visibility, p.visibility) as visibility from projects p left join secrets s on s.project_id = p.id;
        create table parted (id uuid, user_id uuid) partition by hash (id);
        create table parted_0 partition of parted for values with (modulus 2, remainder 0);
        create table parted_1 partition of parted for values with (modulus 2, remainder 1);
        create function hidden(id uuid) returns text language plpgsql stable as $$ begin return (select s.visibility from secrets s where s.project_id = id); end $$;");
    let url = world.database.url();
    let mut gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    listens(&gateway, 1.0).await;
    let resources = |query: &str| {
        format!(
            "\n  project: {{ query: \"{query}\" }}\n  generation: {{ query: \"select user_id as owner from generations where id = $1\" }}\n  async_job: {{ learned: true }}"
        )
    };
    let routes = gateway
        .config_value("routes")
        .replace(", within: path.project_id", "");
    for (query, part) in [
        (
            "select user_id as owner from parted where id = $1",
            "the plan of `resources.project.query` does not show everything that is read",
        ),
        (
            "select user_id as owner, visibility from shown where id = $1",
            "`public.secrets`",
        ),
        (
            "select $1::uuid as owner",
            "the plan of `resources.project.query` does not show everything that is read",
        ),
        (
            "select user_id as owner, hidden(id) as visibility from projects where id = $1",
            "calls `hidden()`",
        ),
    ] {
        let change = |config: &mut Config| {
            config.set("resources", &resources(query));
            config.set("routes", &routes);
        };
        let before = whys(&gateway).len();
        gateway.reload(change).await;
        eventually(part, || {
            let told = whys(&gateway);
            told.iter().skip(before).any(|why| why.contains(part))
        })
        .await;
        listens(&gateway, 0.0).await;
    }
    gateway
        .reload(|config| {
            let query = "select user_id as owner, visibility from projects where id = $1";
            config.set("resources", &resources(query));
        })
        .await;
    listens(&gateway, 1.0).await;
}

#[tokio::test]
async fn facts_of_a_query_that_uses_a_clock_keep_the_short_lifetime() {
    let world = World::new();
    world.sql(TRIGGERS);
    world.sql("alter table projects add lent_until timestamptz, add lent_to text, add opens time;
        create or replace trigger foregate_tell after insert or delete or update on projects for each row execute function foregate_tell('project', 'id');
        alter table projects enable always trigger foregate_tell;
        create view lent as select id, user_id, lent_until from projects where lent_until > now();
        create function built_in() returns timestamptz language internal stable as 'now';");
    let url = world.database.url();
    let mut gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    listens(&gateway, 1.0).await;
    let routes = gateway
        .config_value("routes")
        .replace(", within: path.project_id", "");
    let (is_good, told) = check(&gateway);
    assert!(is_good && !told.contains("short cache lifetime"), "{told}");
    for (query, part) in [
        (
            "from projects where id = $1 and lent_until > now()",
            "now()",
        ),
        (
            "from projects where id = $1 and lent_until > current_timestamp",
            "CURRENT_TIMESTAMP",
        ),
        (
            "from projects where id = $1 and lent_until > localtimestamp(0)",
            "LOCALTIMESTAMP",
        ),
        (
            "from projects where id = $1 and lent_until > 'today'::date",
            "today",
        ),
        (
            "from projects where id = $1 and lent_until > (select clock_timestamp())",
            "clock_timestamp()",
        ),
        ("from projects where id = $1 and random() < 0.5", "random()"),
        (
            "from projects where id = $1 and lent_to = current_setting('my.name', true)",
            "current_setting()",
        ),
        (
            "from projects where id = $1 and lent_to = current_user",
            "CURRENT_USER",
        ),
        (
            "from projects where id = $1 and lent_until > built_in()",
            "built_in()",
        ),
        (
            "from projects tablesample system (50) where id = $1",
            "TABLESAMPLE",
        ),
        ("from lent where id = $1", "now()"),
        (
            "from projects as \\\"o'neil\\\" where id = $1 and \\\"o'neil\\\".lent_until > current_timestamp",
            "CURRENT_TIMESTAMP",
        ),
        (
            "from projects where id = $1 and opens::timetz > localtime::timetz",
            "time with time zone",
        ),
        // The last one: from here on it affects every query.
        (
            "from projects where id = $1 and lent_until > cutoff()",
            "cutoff()",
        ),
    ] {
        if part == "cutoff()" {
            world.sql("create function cutoff() returns timestamptz language sql stable as $$ select 'now'::timestamptz $$");
        }
        let change = |config: &mut Config| {
            config.set(
                "resources",
                &format!("\n  project: {{ query: \"select user_id as owner {query}\" }}\n  generation: {{ query: \"select user_id as owner from generations where id = $1\" }}\n  async_job: {{ learned: true }}"),
            );
            config.set("routes", &routes);
        };
        let before = whys(&gateway).len();
        gateway.reload(change).await;
        let expected = format!("`resources.project.query` uses `{part}`");
        eventually(query, || {
            let told = whys(&gateway);
            told.iter().skip(before).any(|why| why.contains(&expected))
        })
        .await;
        // All changes of rows are reported all the same, and facts of other queries are kept for
        // long.
        listens(&gateway, 1.0).await;
        assert_eq!(table_told(&gateway, part, "project"), Some(0.0), "{query}");
        let (is_good, told) = check(&gateway);
        assert!(is_good && told.contains(&expected), "{told}");
        assert!(!told.contains("has no effect"), "{told}");
    }
}

#[tokio::test]
async fn however_a_query_reads_the_clock_its_facts_keep_the_short_lifetime() {
    let world = World::new();
    world.sql(TRIGGERS);
    // The gateway reads as somebody whom row-level security concerns.
    world.sql(
        "create table lent (id uuid primary key, user_id uuid, until timestamptz, from_day date, opens time, closes timetz, note text, doc jsonb, span tstzrange,
            length interval generated always as (until - timestamptz '2026-01-01 00:00:00+00') stored);
        create trigger foregate_tell after insert or delete or update on lent for each row execute function foregate_tell('project', 'id');
        create trigger foregate_tell_everything after truncate on lent for each statement execute function foregate_tell_everything();
        create table hidden_lent (like lent including all);
        create trigger foregate_tell after insert or delete or update on hidden_lent for each row execute function foregate_tell('secret', 'id');
        create trigger foregate_tell_everything after truncate on hidden_lent for each statement execute function foregate_tell_everything();
        alter table hidden_lent enable row level security;
        create policy lent on hidden_lent using (until > clock_timestamp());
        create view of_today as select * from lent where from_day = ('to' || 'day')::date;
        create function started() returns timestamptz language sql stable as 'select statement_timestamp()';
        create function last_lent() returns timestamptz language plpgsql immutable as $$ begin return coalesce((select max(until) from hidden_lent), timestamptz '2026-01-01'); end $$;
        create role reader login;
        grant usage on schema auth to reader;
        grant select on all tables in schema public, auth to reader;",
    );
    let clocks = [
        ("until > localtimestamp", "LOCALTIMESTAMP"),
        ("opens > localtime(0)", "LOCALTIME"),
        ("until > transaction_timestamp()", "transaction_timestamp()"),
        ("until > started()", "statement_timestamp()"),
        ("from_day > timeofday()::date", "timeofday()"),
        ("age(until) < interval '1 day'", "CURRENT_DATE"),
        ("length > age(now(), until)", "now()"),
        ("until > 'now'", "now"),
        (
            "until > any (array['04:05 Tomorrow']::timestamptz[])",
            "tomorrow",
        ),
        ("span @> '_today'::timestamptz", "today"),
        ("until <@ '[yesterday12:00,)'::tstzrange", "yesterday"),
        (
            "until > concat('n', 'ow')::timestamptz",
            "a time that is read from a text",
        ),
        (
            "until > note::timestamptz",
            "a time that is read from a text",
        ),
        (
            "until > (doc ->> 'until')::timestamptz",
            "a time that is read from a text",
        ),
        ("opens < closes", "time with time zone"),
        ("opens::timetz(0) < closes", "time with time zone"),
        (
            "(until, interval '1 h') overlaps (current_timestamp(2), interval '1 h')",
            "CURRENT_TIMESTAMP",
        ),
        (
            "note = current_setting('request.jwt.claims', true)",
            "current_setting()",
        ),
        ("note = current_catalog", "CURRENT_CATALOG"),
        ("exists (select from of_today o where o.id = $1)", "today"),
        // Its result is in the plan, and not its call.
        ("until > last_lent()", "last_lent()"),
    ];
    let mut resources = String::new();
    for (index, (condition, _)) in clocks.iter().enumerate() {
        let condition = condition.replace('"', "\\\"");
        resources.push_str(&format!("\n  r{index}: {{ query: \"select user_id as owner from lent where id = $1 and {condition}\" }}"));
    }
    resources.push_str(
        "\n  secret: { query: \"select user_id as owner from hidden_lent where id = $1\" }",
    );
    resources.push_str("\n  project: { query: \"select user_id as owner from lent where id = $1 and length > interval '1 day' and until > '2026-01-01 00:00:00+00'\" }");
    for index in 0..clocks.len() {
        world.sql(&format!("create trigger foregate_tell_{index} after insert or delete or update on lent for each row execute function foregate_tell('r{index}', 'id')"));
    }
    // Enables all of them always.
    world.sql(TRIGGERS);
    let url = world.database.url_of("reader");
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config
            .set(
                "database",
                &format!("{{ url: \"{url}?sslmode=disable\", notify_url: \"{url}?sslmode=disable\" }}"),
            )
            .set("resources", &resources)
            .routes("- { path: \"/lent/{id:uuid}\", methods: [GET], access: user, resource: { kind: project, id: path.id } }");
    })
    .await;
    listens(&gateway, 1.0).await;
    let told = whys(&gateway);
    for (index, (condition, part)) in clocks.iter().enumerate() {
        let expected = format!("`resources.r{index}.query` uses `{part}`");
        assert!(
            told.iter().any(|why| why.contains(&expected)),
            "{condition}: {told:#?}"
        );
    }
    let expected = "`resources.secret.query` uses `clock_timestamp()`";
    assert!(told.iter().any(|why| why.contains(expected)), "{told:#?}");
    // A generated column and a constant are no clocks.
    assert!(
        !told
            .iter()
            .any(|why| why.contains("`resources.project.query`")),
        "{told:#?}"
    );
    // A function that says that it is immutable becomes a constant, in a view without a trace.
    world.sql("create function cutoff() returns timestamptz language plpgsql immutable as $$ begin return now(); end $$;
        create or replace view of_today as select * from lent where until > cutoff()");
    says_why(&gateway, "`resources.project.query` uses `cutoff()`").await;
    says_why(&gateway, "uses `a constant that is another one each time`").await;
}

#[tokio::test]
async fn a_changed_trigger_is_noticed_within_seconds_and_so_is_its_return() {
    let world = World::new();
    world.sql(TRIGGERS);
    let url = world.database.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    listens(&gateway, 1.0).await;
    let says = |part: &str| {
        let lines = gateway.log().all(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains(part)
        });
        lines.len()
    };
    let changed = "was changed; using the short cache lifetime";
    let whole = "change notifications verified";
    assert_eq!((says(changed), says(whole)), (0, 1));
    // Less than the time until everything is verified in any case.
    for (off, on) in [
        (
            "alter table projects disable trigger foregate_tell",
            "alter table projects enable always trigger foregate_tell",
        ),
        ("drop trigger foregate_tell on team_members", TRIGGERS),
        (
            "create or replace trigger foregate_tell after insert on users for each row execute function foregate_tell('caller', 'id')",
            TRIGGERS,
        ),
    ] {
        let before = says(whole);
        world.sql(off);
        listens(&gateway, 0.0).await;
        world.sql(on);
        listens(&gateway, 1.0).await;
        eventually("it is whole again", || says(whole) > before).await;
    }
    // Nobody sees that it was off, but facts from before are not kept for long any more. The same
    // goes for what else decides on what a query finds.
    for change in [
        "begin; alter table projects disable trigger foregate_tell; update projects set visibility = 'private'; alter table projects enable always trigger foregate_tell; commit",
        "create or replace function foregate_tell() returns trigger language plpgsql as $$ begin perform pg_notify('foregate_facts', tg_argv[0] || ' ' || (to_jsonb(coalesce(new, old)) ->> tg_argv[1])); return null; end $$",
        "create policy anybody on projects using (true)",
        "alter table projects alter title type text using upper(title)",
    ] {
        let before = (says(changed), says(whole));
        world.sql(change);
        eventually(change, || {
            says(changed) > before.0 && says(whole) > before.1
        })
        .await;
        listens(&gateway, 1.0).await;
    }
}

#[tokio::test]
async fn changes_during_a_restore_or_logical_replication_are_reported() {
    let world = World::new();
    world.sql(TRIGGERS);
    let owner = world.user();
    let url = world.database.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    listens(&gateway, 1.0).await;
    let token = gateway.issuer.token_of(&owner);
    for change in ["delete from projects", "truncate projects cascade"] {
        let path = format!("/projects/{}", world.project(&owner, "private"));
        let deadline = Instant::now() + Duration::from_secs(5);
        while status(&gateway, &token, &path).await != 200 {
            assert!(Instant::now() < deadline, "it is not there");
        }
        world.sql(&format!("set session_replication_role = replica; {change}"));
        let deadline = Instant::now() + Duration::from_secs(5);
        while status(&gateway, &token, &path).await != 404 {
            assert!(Instant::now() < deadline, "{change}: it is still believed");
        }
    }
}

#[tokio::test]
async fn what_is_told_in_another_database_is_not_heard() {
    let world = World::new();
    world.sql(TRIGGERS);
    let other = Postgres::start();
    other.sql(TRIGGERS);
    let url = other.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    let listener = || {
        let rows = other
            .rows("select pid from pg_stat_activity where application_name = 'foregate listener'");
        rows.first().map(|row| row.concat())
    };
    eventually("it listens there", || listener().is_some()).await;
    let first = listener();
    says_why(&gateway, "they are different databases").await;
    listens(&gateway, 0.0).await;
    eventually("it tries another connection", || {
        listener().is_some_and(|now| Some(now) != first)
    })
    .await;
    let (is_good, told) = check(&gateway);
    assert!(
        is_good && told.contains("they are different databases"),
        "{told}"
    );
}

#[tokio::test]
async fn a_lost_connection_shortens_ages_at_once_and_a_new_one_is_proven_afresh() {
    let mut world = World::new();
    world.sql(TRIGGERS);
    let url = world.database.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    listens(&gateway, 1.0).await;
    world.database.kill();
    listens(&gateway, 0.0).await;
    world.database.start_again();
    listens(&gateway, 1.0).await;
}

#[tokio::test]
async fn a_connection_that_does_not_answer_is_found_out_before_anything_is_proven() {
    let world = World::new();
    let url = world.database.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    says_why(&gateway, "has no trigger that reports changes").await;
    // Its server stands still: what is notified does not come, and nobody says that it will not.
    let listener = world
        .database
        .value("select pid from pg_stat_activity where application_name = 'foregate listener'");
    let stopped = std::process::Command::new("kill")
        .args(["-STOP", &listener])
        .status();
    assert!(stopped.unwrap().success());
    world.sql(TRIGGERS);
    listens(&gateway, 1.0).await;
}

#[tokio::test]
async fn a_proof_that_waits_for_a_locked_table_is_over_in_time_and_leaves_no_connection() {
    let world = World::new();
    let url = world.database.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    says_why(&gateway, "has no trigger that reports changes").await;
    let waiting = |count: &str| {
        let sql = "select count(*) from pg_stat_activity where application_name = 'foregate' and wait_event_type = 'Lock'";
        world.database.value(sql) == count
    };
    let lock = world.lock("projects");
    for _ in 0..2 {
        eventually("a proof waits", || waiting("1")).await;
        eventually("it is over", || waiting("0")).await;
    }
    says_why(&gateway, "the database cannot be asked: deadline").await;
    let held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 'projects'::regclass";
    assert_eq!(world.database.value(held), "1", "the table is locked still");
    world.sql("select pg_terminate_backend(pid) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 'projects'::regclass");
    drop(lock);
    world.sql(TRIGGERS);
    cut(&world);
    listens(&gateway, 1.0).await;
}

#[tokio::test]
async fn what_is_said_without_an_id_makes_everything_worthless_on_every_replica_and_in_the_store() {
    let (world, redis) = (World::new(), RedisServer::start());
    world.sql(TRIGGERS);
    let owner = world.user();
    let configure = |config: &mut Config| sharing(&world, config, &redis);
    let first = Gateway::with(configure).await;
    let second = first.replica(configure).await;
    let token = first.issuer.token_of(&owner);
    for replica in [&first, &second] {
        crate::performance::is_ready(replica).await;
        listens(replica, 1.0).await;
    }
    let heard = || {
        [&first, &second].map(|replica| {
            let metrics = replica.metrics();
            let notified = metrics.sum("foregate_facts_notifications_total", &[]);
            (
                notified,
                metrics.sum("foregate_facts_raises_heard_total", &[]),
            )
        })
    };
    let before = heard();
    let project = world.project(&owner, "private");
    let path = format!("/projects/{project}");
    // What is told of the project itself must be over: each hears it from the database, and from
    // the other.
    eventually("the project is told of", || {
        let pairs = before.into_iter().zip(heard());
        let mut more = pairs.map(|(before, now)| now.0 > before.0 && now.1 > before.1);
        more.all(|is_more| is_more)
    })
    .await;
    for replica in [&first, &second] {
        assert_eq!(status(replica, &token, &path).await, 200);
    }
    // Past the triggers, as in a bulk load.
    world.sql(&format!(
        "alter table projects disable trigger user; delete from projects where id = '{project}'"
    ));
    for replica in [&first, &second] {
        assert_eq!(status(replica, &token, &path).await, 200, "nobody knows");
    }
    // The facts that both know are in the store, too.
    eventually("facts are in the store", || {
        redis.say("DBSIZE").text().parse::<u64>().unwrap() >= 3
    })
    .await;
    world.sql("notify foregate_facts, 'everything'");
    let deadline = Instant::now() + Duration::from_secs(5);
    for replica in [&first, &second] {
        while status(replica, &token, &path).await != 404 {
            assert!(Instant::now() < deadline, "it is still believed");
        }
    }
}

#[tokio::test]
async fn a_replica_that_has_just_started_takes_what_others_left_in_the_store() {
    let (world, redis) = (World::new(), RedisServer::start());
    let owner = world.user();
    let project = world.project(&owner, "private");
    let configure = |config: &mut Config| {
        world.configure(config);
        config.store(&redis.url());
    };
    let first = Gateway::with(configure).await;
    crate::performance::is_ready(&first).await;
    let token = first.issuer.token_of(&owner);
    let path = format!("/projects/{project}");
    assert_eq!(status(&first, &token, &path).await, 200);
    eventually("facts are in the store", || {
        redis.say("DBSIZE").text().parse::<u64>().unwrap() >= 3
    })
    .await;
    let ask = async |replica: &Gateway| {
        assert_eq!(status(replica, &token, &path).await, 200);
    };
    let second = crate::performance::taught_by_the_store(&first, configure, ask).await;
    let store = [("tier", "store")];
    let found = second.metrics().sum("foregate_facts_lookups_total", &store);
    assert!(found >= 3.0);
}

#[tokio::test]
async fn a_truncated_table_is_told_of() {
    let world = World::new();
    world.sql(TRIGGERS);
    let owner = world.user();
    let project = world.project(&owner, "private");
    let url = world.database.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    listens(&gateway, 1.0).await;
    let token = gateway.issuer.token_of(&owner);
    let path = format!("/projects/{project}");
    assert_eq!(status(&gateway, &token, &path).await, 200);
    world.sql("truncate projects cascade");
    let deadline = Instant::now() + Duration::from_secs(5);
    while status(&gateway, &token, &path).await != 404 {
        assert!(Instant::now() < deadline, "it is still believed");
    }
}

#[tokio::test]
async fn ten_thousand_changed_rows_are_told_to_other_replicas_in_few_messages() {
    let (world, redis) = (World::new(), RedisServer::start());
    world.sql(TRIGGERS);
    let owner = world.user();
    let configure = |config: &mut Config| sharing(&world, config, &redis);
    let first = Gateway::with(configure).await;
    // Hears of nothing by itself.
    let second = first
        .replica(|config| {
            world.configure(config);
            config.store(&redis.url());
        })
        .await;
    for replica in [&first, &second] {
        crate::performance::is_ready(replica).await;
    }
    listens(&first, 1.0).await;
    let project = world.project(&owner, "private");
    let path = format!("/projects/{project}");
    let token = first.issuer.token_of(&owner);
    let rows = format!(
        "insert into projects (id, user_id) select gen_random_uuid(), '{owner}' from generate_series(1, 10000)"
    );
    world.sql(&rows);
    for replica in [&first, &second] {
        assert_eq!(status(replica, &token, &path).await, 200);
    }
    let other = world.user();
    world.sql(&format!("update projects set user_id = '{other}'"));
    let notified = |least: f64| {
        let metrics = first.metrics();
        metrics.sum("foregate_facts_notifications_total", &[]) >= least
    };
    eventually("all are heard of", || notified(20_000.0)).await;
    for replica in [&first, &second] {
        // Whoever is not told, because the store was too busy to take it, believes it for half a
        // minute.
        let deadline = Instant::now() + Duration::from_secs(60);
        while status(replica, &token, &path).await != 404 {
            assert!(Instant::now() < deadline, "it is still believed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let heard = second
        .metrics()
        .sum("foregate_facts_raises_heard_total", &[]);
    assert!((1.0..=500.0).contains(&heard), "{heard} messages");
}

#[tokio::test]
async fn a_writer_under_row_level_security_tells_also_those_whose_rows_it_cannot_see() {
    let world = World::new();
    world.sql(TRIGGERS);
    let (owner, member) = (world.user(), world.user());
    let team = world.team(&owner);
    world.join(&team, &member, "viewer");
    let project = world.project(&owner, "team-only");
    world.share(&project, &team, "read");
    let (parent, child) = {
        let parent = world.generation(&owner, None, None);
        let child = world.generation(&member, None, Some(&parent));
        (parent, child)
    };
    // A user of Supabase: may write its own team and its own generations, and sees nobody else's
    // rows.
    world.sql(&format!(
        "create role authenticated login;
        grant select, update, delete on teams, team_members, generations to authenticated;
        alter table team_members enable row level security;
        create policy own on team_members for select to authenticated using (user_id = '{owner}');
        alter table generations enable row level security;
        create policy own on generations to authenticated using (user_id = '{owner}');"
    ));
    let as_user = |sql: &str| {
        world.sql(&format!("set role authenticated; {sql}"));
    };
    let url = world.database.url();
    let gateway = Gateway::with(|config| listening(&world, config, &url)).await;
    listens(&gateway, 1.0).await;
    let token = gateway.issuer.token_of(&member);
    let paths = [
        format!("/projects/{project}"),
        format!("/generations/{child}"),
    ];
    for path in &paths {
        assert_eq!(status(&gateway, &token, path).await, 200, "{path}");
    }
    as_user(&format!(
        "update teams set is_active = false where id = '{team}'"
    ));
    as_user(&format!("delete from generations where id = '{parent}'"));
    let deadline = Instant::now() + Duration::from_secs(5);
    for path in &paths {
        while status(&gateway, &token, path).await != 404 {
            assert!(Instant::now() < deadline, "{path} is still believed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
