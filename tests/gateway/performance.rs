//! Fact lookups: how many, how old facts may be, what replicas share, and responses while the
//! database is unavailable.

use std::time::{Duration, Instant};

use foregate::denial::Reason;

use crate::support::answer::Answer;
use crate::support::world::new_id;
use crate::support::{Config, Gateway, Http, RedisServer, World, eventually};

async fn get(gateway: &Gateway, token: &str, path: &str) -> Answer {
    gateway.get(Http::One, path).bearer(token).send().await
}

/// Waits until it is ready: until its database, if it has one, has answered.
pub async fn is_ready(gateway: &Gateway) {
    eventually("it is ready", || gateway.admin_status("/readyz") == 200).await;
}

/// Round trips that all requests have waited for so far, and how many requests there were.
fn trips(gateway: &Gateway) -> (f64, f64) {
    let metrics = gateway.metrics();
    let of = |name: &str| metrics.sum(&format!("foregate_facts_round_trips_{name}"), &[]);
    (of("sum"), of("count"))
}

/// Round trips of one request.
async fn trips_of(gateway: &Gateway, token: &str, path: &str) -> f64 {
    let before = trips(gateway);
    get(gateway, token, path).await;
    let after = trips(gateway);
    assert!(
        (after.1 - before.1 - 1.0).abs() < f64::EPSILON,
        "one request"
    );
    after.0 - before.0
}

fn found(gateway: &Gateway, tier: &str) -> f64 {
    gateway
        .metrics()
        .sum("foregate_facts_lookups_total", &[("tier", tier)])
}

/// Another replica, which was asked and found all that it needed in the store. No request waits
/// longer than some milliseconds for the store, and then the database answers; on a machine that is
/// too busy for that, the next replica tries.
pub async fn taught_by_the_store(
    first: &Gateway,
    configure: impl Fn(&mut Config),
    ask: impl AsyncFn(&Gateway),
) -> Gateway {
    for _ in 0..5 {
        let replica = first.replica(&configure).await;
        is_ready(&replica).await;
        ask(&replica).await;
        if found(&replica, "database") == 0.0 {
            return replica;
        }
    }
    panic!("each of five replicas asked the database")
}

#[tokio::test]
async fn a_cold_request_takes_one_trip_to_the_database_and_a_warm_one_none() {
    let world = World::new();
    let owner = world.user();
    let project = world.project(&owner, "private");
    let mut parent = None;
    for _ in 0..5 {
        parent = Some(world.generation(&owner, Some(&project), parent.as_deref()));
    }
    let deep = format!("/generations/{}", parent.unwrap());
    let gateway = world.gateway().await;
    let token = gateway.issuer.token_of(&owner);
    assert!((trips_of(&gateway, &token, &deep).await - 1.0).abs() < f64::EPSILON);
    for _ in 0..3 {
        assert!(trips_of(&gateway, &token, &deep).await < f64::EPSILON);
    }
    // The same for a missing resource and for one without access.
    let stranger = gateway.issuer.token_of(&world.user());
    let alone = format!("/generations/{}", world.generation(&owner, None, None));
    for path in [format!("/generations/{}", new_id()), alone] {
        assert!((trips_of(&gateway, &stranger, &path).await - 1.0).abs() < f64::EPSILON);
        assert!(trips_of(&gateway, &stranger, &path).await < f64::EPSILON);
    }
}

#[tokio::test]
async fn a_lookup_as_another_resource_type_does_not_make_a_resource_absent() {
    let world = World::new();
    let (owner, stranger) = (world.user(), world.user());
    let project = world.project(&owner, "private");
    let inside = world.generation(&owner, Some(&project), None);
    let gateway = world.gateway().await;
    let owners = gateway.issuer.token_of(&owner);
    let strangers = gateway.issuer.token_of(&stranger);
    let wrong = format!("/generations/{project}");
    get(&gateway, &strangers, &wrong)
        .await
        .is_denied(Reason::Absent);
    gateway.origin.saw_nothing();
    for path in [
        format!("/projects/{project}"),
        format!("/generations/{inside}"),
    ] {
        get(&gateway, &owners, &path).await.is_ok();
    }
}

#[tokio::test]
async fn another_replica_reads_facts_from_the_store() {
    let (world, redis) = (World::new(), RedisServer::start());
    let owner = world.user();
    let project = world.project(&owner, "private");
    let inside = world.generation(&owner, Some(&project), None);
    let configure = |config: &mut crate::support::Config| {
        world.configure(config);
        config.store(&redis.url());
    };
    let first = Gateway::with(configure).await;
    is_ready(&first).await;
    let token = first.issuer.token_of(&owner);
    let path = format!("/generations/{inside}");
    // The store, then the database.
    assert!((trips_of(&first, &token, &path).await - 2.0).abs() < f64::EPSILON);
    assert!(trips_of(&first, &token, &path).await < f64::EPSILON);
    // Written back after the response, so the other replica may have to retry.
    let absent = format!("/generations/{}", new_id());
    get(&first, &token, &absent).await.is_denied(Reason::Absent);
    eventually("facts are in the store", || {
        redis.say("DBSIZE").text().parse::<u64>().unwrap() >= 6
    })
    .await;
    let second = taught_by_the_store(&first, configure, async |second| {
        for path in [&path, &absent] {
            let trips = trips_of(second, &token, path).await;
            // Once more if the store was too slow.
            assert!(trips <= 3.0, "{trips}");
        }
    });
    let second = second.await;
    assert!(found(&second, "store") >= 5.0);
    second.origin.only();
}

#[tokio::test]
async fn concurrent_requests_share_one_lookup() {
    let world = World::new();
    let owner = world.user();
    let project = world.project(&owner, "private");
    let gateway = world.gateway().await;
    let token = gateway.issuer.token_of(&owner);
    let path = format!("/projects/{project}");
    let calls = (0..50).map(|_| get(&gateway, &token, &path));
    for answer in futures_util::future::join_all(calls).await {
        answer.is_ok();
    }
    let calls = gateway
        .metrics()
        .sum("foregate_database_call_seconds_count", &[("outcome", "ok")]);
    assert!(calls < 10.0, "{calls} calls for 50 requests");
}

#[tokio::test]
async fn a_write_through_one_replica_invalidates_facts_on_all() {
    let (world, redis) = (World::new(), RedisServer::start());
    let owner = world.user();
    let configure = |config: &mut crate::support::Config| {
        world.configure(config);
        config.store(&redis.url());
    };
    let first = Gateway::with(configure).await;
    let second = first.replica(configure).await;
    for gateway in [&first, &second] {
        is_ready(gateway).await;
    }
    for replica in [&first, &second] {
        is_ready(replica).await;
    }
    let token = first.issuer.token_of(&owner);
    for _ in 0..3 {
        let project = world.project(&owner, "private");
        let path = format!("/projects/{project}");
        for replica in [&first, &second] {
            get(replica, &token, &path).await.is_ok();
        }
        world.sql(&format!("delete from projects where id = '{project}'"));
        // No replica has noticed the change yet.
        for replica in [&first, &second] {
            get(replica, &token, &path).await.is_ok();
        }
        let deleted = first.call(Http::One, "DELETE", &path).bearer(&token);
        // By a cached fact of at most five seconds, it is still the owner's.
        deleted.send().await.is_ok();
        get(&first, &token, &path).await.is_denied(Reason::Absent);
        let deadline = Instant::now() + Duration::from_secs(1);
        while get(&second, &token, &path).await.status.as_u16() != 404 {
            assert!(Instant::now() < deadline, "the other replica does not know");
        }
    }
}

#[tokio::test]
async fn a_changed_row_is_seen_after_the_cache_lifetime_and_by_administrators_at_once() {
    let world = World::new();
    let (owner, member) = (world.user(), world.user());
    let project = world.team_project(&owner, &member, "write");
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config.more_routes(
            r#"
            - { path: "/admin/{project_id:uuid}", methods: [GET], access: user, action: admin, resource: project }
            "#,
        );
    })
    .await;
    let token = gateway.issuer.token_of(&member);
    let owners = gateway.issuer.token_of(&owner);
    let path = format!("/projects/{project}");
    let put = || gateway.call(Http::One, "PUT", &path).bearer(&token).send();
    get(&gateway, &token, &path).await.is_ok();
    world.sql(&format!(
        "delete from team_members where user_id = '{member}'"
    ));
    let gone = Instant::now();
    // Reads use a cached fact for 30 s, writes for 5 s.
    get(&gateway, &token, &path).await.is_ok();
    let mut refused = None;
    while gone.elapsed() < Duration::from_secs(8) {
        if put().await.status.as_u16() == 404 {
            refused = Some(gone.elapsed());
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        refused.unwrap() <= Duration::from_millis(6000),
        "{refused:?}"
    );
    // Reads use the fact that a write looked up.
    get(&gateway, &token, &path)
        .await
        .is_denied(Reason::NotYours);

    let admin = format!("/admin/{project}");
    get(&gateway, &owners, &admin).await.is_ok();
    world.sql(&format!(
        "update projects set user_id = '{member}' where id = '{project}'"
    ));
    get(&gateway, &owners, &admin)
        .await
        .is_denied(Reason::NotYours);
}

#[tokio::test]
async fn with_notifications_a_change_is_seen_within_a_second_on_every_replica() {
    let (world, redis) = (World::new(), RedisServer::start());
    world.sql(include_str!("../../deploy/sql/notify.sql"));
    let (owner, member) = (world.user(), world.user());
    let team = world.team(&owner);
    world.join(&team, &member, "editor");
    let project = world.project(&owner, "team-only");
    world.share(&project, &team, "read");
    let configure = |config: &mut crate::support::Config| {
        world.configure(config);
        let url = format!("{}?sslmode=disable", world.database.url());
        config
            .set(
                "database",
                &format!("{{ url: \"{url}\", notify_url: \"{url}\" }}"),
            )
            .store(&redis.url());
    };
    let first = Gateway::with(configure).await;
    let second = first.replica(configure).await;
    for gateway in [&first, &second] {
        is_ready(gateway).await;
    }
    for replica in [&first, &second] {
        is_ready(replica).await;
    }
    let token = first.issuer.token_of(&member);
    let path = format!("/projects/{project}");
    for replica in [&first, &second] {
        replica
            .metric_becomes("foregate_facts_listening", &[], 1.0)
            .await;
        get(replica, &token, &path).await.is_ok();
    }
    for (change, status) in [
        (
            format!("update team_members set is_active = false where user_id = '{member}'"),
            404,
        ),
        (
            format!("update team_members set is_active = true where user_id = '{member}'"),
            200,
        ),
        (
            format!("update teams set is_active = false where id = '{team}'"),
            404,
        ),
        (
            format!("update teams set is_active = true where id = '{team}'"),
            200,
        ),
        (
            format!("delete from project_teams where project_id = '{project}'"),
            404,
        ),
        (
            format!("update projects set visibility = 'public' where id = '{project}'"),
            200,
        ),
        (
            format!("update users set is_active = false where id = '{member}'"),
            403,
        ),
        (
            format!("update users set is_active = true where id = '{member}'"),
            200,
        ),
        (format!("delete from projects where id = '{project}'"), 404),
    ] {
        world.sql(&change);
        let deadline = Instant::now() + Duration::from_secs(1);
        for replica in [&first, &second] {
            while get(replica, &token, &path).await.status.as_u16() != status {
                assert!(Instant::now() < deadline, "{change}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test]
async fn while_the_database_stalls_requests_follow_the_failure_matrix_within_the_budget() {
    let world = World::new();
    let (owner, friend) = (world.user(), world.user());
    let team = world.team(&owner);
    world.join(&team, &friend, "editor");
    let (private, public, shared) = (
        world.project(&owner, "private"),
        world.project(&owner, "public"),
        world.project(&owner, "team-only"),
    );
    world.share(&shared, &team, "admin");
    let cold = world.project(&owner, "private");
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config.set("budget", "50ms");
    })
    .await;
    is_ready(&gateway).await;
    let (owner, friend) = (
        gateway.issuer.token_of(&owner),
        gateway.issuer.token_of(&friend),
    );
    let path = |project: &str| format!("/projects/{project}");
    // Cached before the stall.
    let warm = [(&owner, &private), (&friend, &public), (&friend, &shared)];
    for (token, project) in warm {
        eventually_ok(&gateway, token, &path(project)).await;
    }
    world.database.pause();
    // Recent facts are used as usual.
    get(&gateway, &friend, &path(&shared)).await.is_ok();
    gateway.origin.take();
    let refused = |answer: Answer| {
        let line = answer.log_line();
        let reason = line["reason"].as_str().unwrap().to_owned();
        assert_eq!(answer.status.as_u16(), 503, "{line}");
        assert_eq!(answer.header("retry-after"), "1");
        reason
    };
    // The first requests wait for the budget, until statements have reached their own time limit
    // and open the circuit breaker.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let reason = refused(get(&gateway, &owner, &path(&new_id())).await);
        gateway.origin.saw_nothing();
        if reason == "facts_unavailable" {
            break;
        }
        assert_eq!(reason, "budget_spent");
        assert!(Instant::now() < deadline, "the breaker stays closed");
    }
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(
            refused(get(&gateway, &owner, &path(&cold)).await),
            "facts_unavailable"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(30), "nobody waits");
    gateway.origin.saw_nothing();
    // Requests without facts are not affected.
    gateway.get(Http::One, "/health").send().await.is_ok();
    // Writes use a cached fact for 5 s only, and never a stale one.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let put = gateway
            .call(Http::One, "PUT", &path(&private))
            .bearer(&owner);
        let answer = put.send().await;
        if answer.status.as_u16() == 503 {
            answer.is_denied(Reason::FactsUnavailable);
            break;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.database.resume();
    eventually_ok(&gateway, &owner, &path(&cold)).await;
}

#[tokio::test]
async fn during_a_stall_under_load_no_request_is_allowed_by_an_outdated_fact() {
    let world = World::new();
    let (owner, member) = (world.user(), world.user());
    let project = world.team_project(&owner, &member, "write");
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config.set("budget", "50ms");
    })
    .await;
    is_ready(&gateway).await;
    let token = gateway.issuer.token_of(&member);
    let path = format!("/projects/{project}");
    let asks = async |method: &'static str, path: &str, deadline: Instant| {
        let mut client = gateway.connect(Http::Two).await;
        let mut met = Vec::new();
        while Instant::now() < deadline {
            let answer = client.call(method, path).bearer(&token).send().await;
            met.push((Instant::now(), answer.status.as_u16()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        met
    };
    eventually_ok(&gateway, &token, &path).await;
    world.sql(&format!(
        "delete from team_members where user_id = '{member}'"
    ));
    world.database.pause();
    // No lookup succeeds from here on: only cached facts exist, and writes use them for 5 s.
    let paused = Instant::now();
    let until = paused + Duration::from_secs(7);
    let cold = format!("/projects/{}", new_id());
    // A safe method, so that no request invalidates the fact, with an action of the class `write`.
    let written = format!("{path}/download");
    let (reads, writes, unknown, none) = tokio::join!(
        asks("GET", &path, until),
        asks("GET", &written, until),
        asks("GET", &cold, until),
        asks("GET", "/health", until),
    );
    world.database.resume();
    assert!(reads.iter().all(|(_, status)| *status == 200));
    let (early, late): (Vec<_>, Vec<_>) = writes
        .iter()
        .partition(|(at, _)| at.duration_since(paused) <= Duration::from_millis(5100));
    let is =
        |statuses: &'static [u16]| move |(_, status): &&(Instant, u16)| statuses.contains(status);
    assert!(early.iter().all(is(&[200, 503])));
    assert!(early.iter().any(is(&[200])), "a young fact is a fact");
    assert!(!late.is_empty() && late.iter().all(is(&[503])));
    assert!(unknown.iter().all(|(_, status)| *status == 503));
    assert!(none.iter().all(|(_, status)| *status == 200));
    // Once the database answers, its rows apply.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let put = gateway.call(Http::One, "PUT", &path).bearer(&token);
        let answer = put.send().await;
        if answer.status.as_u16() == 404 {
            break;
        }
        assert_eq!(answer.status.as_u16(), 503);
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Retries, because the machine may be too busy for a small budget at first.
async fn eventually_ok(gateway: &Gateway, token: &str, path: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while get(gateway, token, path).await.status.as_u16() != 200 {
        assert!(Instant::now() < deadline, "{path}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_locked_table_costs_a_request_its_budget_and_no_more() {
    let world = World::new();
    let owner = world.user();
    let project = world.project(&owner, "private");
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config.set("budget", "50ms");
    })
    .await;
    is_ready(&gateway).await;
    let token = gateway.issuer.token_of(&owner);
    eventually_ok(&gateway, &token, "/me").await;
    gateway.origin.take();
    let lock = world.lock("projects");
    let outcome = get(&gateway, &token, &format!("/projects/{project}")).await;
    outcome.is_denied(Reason::BudgetSpent);
    let line = outcome.log_line();
    let steps = line["layers"].as_str().unwrap();
    assert!(
        steps.contains("performance:") && steps.ends_with(":denied"),
        "the record says which step spent it: {line}"
    );
    gateway.origin.saw_nothing();
    drop(lock);
    eventually_ok(&gateway, &token, &format!("/projects/{project}")).await;
}

#[tokio::test]
async fn stale_facts_let_an_owner_read_during_an_outage_and_nothing_more() {
    let mut world = World::new();
    let (owner, friend) = (world.user(), world.user());
    let team = world.team(&owner);
    world.join(&team, &friend, "editor");
    let (private, public, shared) = (
        world.project(&owner, "private"),
        world.project(&owner, "public"),
        world.project(&owner, "team-only"),
    );
    world.share(&shared, &team, "admin");
    let gateway = world.gateway().await;
    let owner_token = gateway.issuer.token_of(&owner);
    let friend_token = gateway.issuer.token_of(&friend);
    let moderator = gateway.issuer.sign(
        &gateway
            .issuer
            .claims()
            .with("sub", friend.as_str())
            .roles(["moderator"]),
    );
    let path = |project: &str| format!("/projects/{project}");
    let cases = [
        (&owner_token, &private, 200),
        (&friend_token, &public, 200),
        (&friend_token, &shared, 503),
        (&friend_token, &private, 503),
        (&moderator, &private, 503),
    ];
    eventually_ok(&gateway, &owner_token, &path(&private)).await;
    for (token, project, _) in cases {
        get(&gateway, token, &path(project)).await;
    }
    world.database.kill();
    // Until their facts are older than the cache lifetime of reads.
    let deadline = Instant::now() + Duration::from_secs(50);
    while get(&gateway, &friend_token, &path(&shared))
        .await
        .status
        .as_u16()
        == 200
    {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    gateway.origin.take();
    for (token, project, status) in cases {
        let answer = get(&gateway, token, &path(project)).await;
        assert_eq!(answer.status.as_u16(), status, "{:?}", answer.log_line());
        if status == 503 {
            answer.is_denied(Reason::FactsUnavailable);
            gateway.origin.saw_nothing();
        }
        gateway.origin.take();
    }
    world.database.start_again();
    eventually_ok(&gateway, &friend_token, &path(&shared)).await;
}

#[tokio::test]
async fn the_gateway_does_not_start_with_a_query_that_the_database_rejects() {
    let world = World::new();
    let mut config = crate::support::Config::new("http://127.0.0.1:1");
    world.configure(&mut config);
    let folder = tempfile::tempdir().unwrap();
    let check = |change: &dyn Fn(&mut crate::support::Config)| {
        let mut config = config.clone();
        change(&mut config);
        let pki = crate::support::pki::Pki::new();
        pki.sign(&["localhost"]).write(folder.path(), "server");
        crate::support::Issuer::new().write(folder.path());
        let file = folder.path().join("foregate.yaml");
        std::fs::write(&file, config.to_yaml()).unwrap();
        let run = |command: &str, options: &[&str]| {
            let output = std::process::Command::new(crate::support::gateway::program())
                .args([command, "--config"])
                .arg(&file)
                .args(options)
                .output()
                .unwrap();
            (
                output.status.success(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        // Without a connection the query cannot be checked.
        assert!(run("check", &[]).0);
        run("check", &["--connect"])
    };
    assert_eq!(check(&|_| {}), (true, String::new()));
    for (query, expected) in [
        (
            "select user_id as owner, visiblity from projects where id = $1",
            "visiblity",
        ),
        (
            "select user_id as owner, title from projects where id = $1",
            "a column `title`",
        ),
        (
            "select visibility from projects where id = $1",
            "no column `owner`",
        ),
        (
            "select user_id::text as owner from projects where id = $1",
            "returns `owner` as text",
        ),
        (
            "select user_id as owner, tags as teams from projects where id = $1",
            "returns `teams` as",
        ),
        (
            "select user_id as owner from project where id = $1",
            "project",
        ),
    ] {
        let (is_good, told) = check(&|config| {
            config.set(
                "resources",
                &format!("\n  project: {{ query: \"{query}\" }}\n  generation: {{ learned: true }}\n  async_job: {{ learned: true }}"),
            );
            let routes = config
                .get("routes")
                .replace(", within: path.project_id", "");
            config.set("routes", &routes);
        });
        assert!(!is_good && told.contains(expected), "{query}: {told}");
        assert!(told.contains("resources.project.query"), "{told}");
        assert!(told.contains("foregate.yaml:"), "{told}");
    }
}

#[tokio::test]
async fn a_replica_is_ready_once_the_database_accepted_its_queries_and_stays_ready_without_it() {
    let world = World::new();
    let owner = world.user();
    let project = world.project(&owner, "private");
    let path = format!("/projects/{project}");
    let why = |gateway: &Gateway| crate::support::metrics::get(gateway.admin(), "/readyz").1;
    let right = |config: &mut crate::support::Config| {
        world.configure(config);
        config.set("budget", "1s");
    };
    let wrong = |config: &mut crate::support::Config| {
        right(config);
        let resources = config.get("resources").replace("user_id as owner", "owner");
        config.set("resources", &resources);
    };
    // The database is stopped while both start; one of them has a query that it will reject.
    world.database.pause();
    let good = Gateway::with(right).await;
    let mut bad = good.replica(wrong).await;
    for gateway in [&good, &bad] {
        assert_eq!(gateway.admin_status("/readyz"), 503);
        assert_eq!(gateway.admin_status("/livez"), 200);
        let why = why(gateway);
        assert!(
            why.starts_with("the database has not answered yet"),
            "{why}"
        );
        // Requests that arrive anyway follow the failure matrix.
        gateway.get(Http::One, "/health").send().await.is_ok();
        let token = gateway.issuer.token_of(&owner);
        get(gateway, &token, &path)
            .await
            .is_denied(Reason::FactsUnavailable);
        gateway.origin.saw_nothing();
    }
    world.database.resume();
    is_ready(&good).await;
    let unfit = "the queries of the configuration do not fit the database";
    eventually("it is told", || why(&bad).starts_with(unfit)).await;
    assert_eq!(bad.admin_status("/readyz"), 503);
    // A valid route map is sufficient.
    bad.reload(right).await;
    is_ready(&bad).await;

    // From now on an outage is up to the failure matrix, and the replica stays in rotation.
    let token = good.issuer.token_of(&owner);
    world.database.pause();
    for gateway in [&good, &bad] {
        let other = format!("/projects/{}", new_id());
        let answer = get(gateway, &token, &other).await;
        // It takes a while until the database counts as away; the request is refused either way.
        assert_eq!(answer.status, 503, "{}", answer.text());
        gateway.origin.saw_nothing();
        assert_eq!(gateway.admin_status("/readyz"), 200);
    }
    world.database.resume();
}

#[tokio::test]
async fn a_replica_that_started_before_a_migration_is_ready_after_it() {
    let world = World::new();
    world.database.pause();
    let gateway = Gateway::with(|config| {
        world.configure(config);
        let resources = config.get("resources").replace(
            "user_id as owner, visibility",
            "owned_by as owner, visibility",
        );
        config.set("resources", &resources);
    })
    .await;
    world.database.resume();
    let unfit = || {
        let entries = gateway.log().all(|line| line["problems"].is_string());
        entries.len()
    };
    eventually("it is told", || unfit() > 0).await;
    assert_eq!(gateway.admin_status("/readyz"), 503);
    world.sql("alter table projects add column owned_by uuid");
    is_ready(&gateway).await;
    assert_eq!(unfit(), 1, "the same is said once");
}

/// A world's gateway that asks no caller whether they are active: a write to a route without a
/// resource then needs no facts.
fn without_caller(world: &World, config: &mut Config) {
    world.configure(config);
    config.set(
        "facts",
        "{ memberships: 'select team_id as team, role from team_members where user_id = $1 and is_active' }",
    );
}

async fn post(gateway: &Gateway, token: &str, path: &str) -> Answer {
    let call = gateway.post(Http::One, path).bearer(token);
    call.send().await
}

#[tokio::test]
async fn a_write_during_an_outage_leaves_its_caller_the_degraded_reads() {
    let mut world = World::new();
    let (owner, friend) = (world.user(), world.user());
    let (private, public) = (
        world.project(&owner, "private"),
        world.project(&owner, "public"),
    );
    let gateway = Gateway::with(|config| without_caller(&world, config)).await;
    is_ready(&gateway).await;
    let [owners, friends] = [&owner, &friend].map(|user| gateway.issuer.token_of(user));
    let [private, public] = [private, public].map(|id| format!("/projects/{id}"));
    let reads = [(&owners, &private), (&owners, &public), (&friends, &public)];
    for (token, path) in reads {
        eventually_ok(&gateway, token, path).await;
    }
    world.database.kill();
    for token in [&owners, &friends, &owners] {
        post(&gateway, token, "/me").await.is_ok();
        for (token, path) in reads {
            get(&gateway, token, path).await.is_ok();
        }
    }
    gateway.origin.take();
    // Nothing else is allowed: no write, nothing of somebody else, and nothing that is not known.
    let put = gateway.call(Http::One, "PUT", &private).bearer(&owners);
    put.send().await.is_denied(Reason::FactsUnavailable);
    get(&gateway, &friends, &private)
        .await
        .is_denied(Reason::FactsUnavailable);
    gateway.origin.saw_nothing();
    world.database.start_again();
    eventually_ok(&gateway, &friends, &public).await;
}

#[tokio::test]
async fn a_fact_that_a_write_invalidated_is_gone_for_everybody_but_the_writer_on_every_replica() {
    let (mut world, redis) = (World::new(), RedisServer::start());
    let (owner, friend) = (world.user(), world.user());
    let [written, twice, idle] = [(); 3].map(|()| world.project(&owner, "public"));
    let team = world.team(&owner);
    world.join(&team, &friend, "editor");
    world.sql(&format!(
        "update projects set visibility = 'team-only' where id = '{twice}'"
    ));
    world.share(&twice, &team, "write");
    let configure = |config: &mut Config| {
        without_caller(&world, config);
        config.store(&redis.url());
    };
    let first = Gateway::with(configure).await;
    let second = first.replica(configure).await;
    let [owners, friends] = [&owner, &friend].map(|user| first.issuer.token_of(user));
    let [written, twice, idle] = [written, twice, idle].map(|id| format!("/projects/{id}"));
    for replica in [&first, &second] {
        is_ready(replica).await;
        for token in [&owners, &friends] {
            for path in [&written, &twice, &idle] {
                eventually_ok(replica, token, path).await;
            }
        }
    }
    let put = async |token: &str, path: &str| {
        let call = first.call(Http::One, "PUT", path).bearer(token);
        call.send().await.is_ok();
    };
    // One project is written by its owner alone, another one by a member of a team, too.
    put(&owners, &twice).await;
    put(&friends, &twice).await;
    put(&owners, &written).await;
    world.database.kill();
    for replica in [&first, &second] {
        let deadline = Instant::now() + Duration::from_secs(20);
        // The other replica hears of it in its own time.
        while get(replica, &friends, &written).await.status != 503 {
            assert!(Instant::now() < deadline, "it is still used");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        replica.origin.take();
        for (token, path) in [(&friends, &written), (&owners, &twice)] {
            get(replica, token, path)
                .await
                .is_denied(Reason::FactsUnavailable);
        }
        replica.origin.saw_nothing();
        for (token, path) in [(&owners, &written), (&owners, &idle), (&friends, &idle)] {
            get(replica, token, path).await.is_ok();
        }
    }
    world.database.start_again();
    for replica in [&first, &second] {
        eventually_ok(replica, &friends, &written).await;
    }
}

#[tokio::test]
async fn a_fact_that_the_database_reported_as_changed_is_gone_for_its_writer_too() {
    let mut world = World::new();
    world.sql(include_str!("../../deploy/sql/notify.sql"));
    let owner = world.user();
    let [changed, idle] = [(); 2].map(|()| world.project(&owner, "private"));
    let url = format!("{}?sslmode=disable", world.database.url());
    let gateway = Gateway::with(|config| {
        without_caller(&world, config);
        config.set(
            "database",
            &format!("{{ url: \"{url}\", notify_url: \"{url}\" }}"),
        );
    })
    .await;
    is_ready(&gateway).await;
    gateway
        .metric_becomes("foregate_facts_listening", &[], 1.0)
        .await;
    let token = gateway.issuer.token_of(&owner);
    let changed_path = format!("/projects/{changed}");
    let idle_path = format!("/projects/{idle}");
    let heard = || {
        gateway
            .metrics()
            .sum("foregate_facts_notifications_total", &[])
    };
    for path in [&changed_path, &idle_path] {
        eventually_ok(&gateway, &token, path).await;
    }
    let before = heard();
    world.sql(&format!(
        "update projects set visibility = 'public' where id = '{changed}'"
    ));
    eventually("it is reported", || heard() > before).await;
    world.database.kill();
    post(&gateway, &token, "/me").await.is_ok();
    get(&gateway, &token, &idle_path).await.is_ok();
    gateway.origin.take();
    get(&gateway, &token, &changed_path)
        .await
        .is_denied(Reason::FactsUnavailable);
    gateway.origin.saw_nothing();
}
