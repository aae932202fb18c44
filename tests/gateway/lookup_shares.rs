//! What one caller's lookups may cost all others: requests that name many ids, unknown ones and
//! slow ones, beside the reads of honest users.

use std::sync::atomic::{AtomicBool, Ordering};

use foregate::denial::Reason;
use futures_util::future::join_all;
use serde_json::json;

use crate::performance::is_ready;
use crate::support::answer::Answer;
use crate::support::world::new_id;
use crate::support::{Config, Gateway, Http, Postgres, World, eventually};

/// Ids in one request.
const IDS: usize = 100;

/// A route whose body names ids of a type.
fn route(path: &str, kind: &str, max: usize) -> String {
    format!(
        "- {{ path: {path}, methods: [POST], access: user, resource: none, body: {{ limit: 64KiB, ids: [{{ field: \"ids[]\", kind: {kind}, action: read, max: {max} }}] }} }}\n"
    )
}

/// The routes of a world, and `/many`, whose body names generations.
fn configure(world: &World, config: &mut Config) {
    world.configure(config);
    config.more_routes(&route("/many", "generation", 500));
}

/// Adds a resource type whose lookups take this many seconds for each id, and the route `/slow`.
fn with_slow(config: &mut Config, seconds: f64, condition: &str) {
    let resources = config.get("resources");
    config.set(
        "resources",
        &format!(
            "{resources}\n  slow: {{ query: \"select p.user_id as owner from (select pg_sleep({seconds})) as slept left join projects p on p.id = $1 where {condition}\" }}"
        ),
    );
    config.more_routes(&route("/slow", "slow", IDS));
}

async fn ask(gateway: &Gateway, path: &str, token: &str, ids: &[String]) -> Answer {
    let call = gateway.post(Http::Two, path).bearer(token);
    let call = call.header("content-type", "application/json");
    call.body(json!({ "ids": ids }).to_string()).send().await
}

fn unknown(count: usize) -> Vec<String> {
    (0..count).map(|_| new_id()).collect()
}

/// Waits until the database sleeps in a lookup.
async fn is_asleep(world: &World) {
    let asleep = "select count(*) > 0 from pg_stat_activity where wait_event = 'PgSleep'";
    eventually("a lookup sleeps", || world.database.value(asleep) == "t").await;
}

#[tokio::test]
async fn all_ids_of_a_type_are_one_statement_and_each_gets_its_own_answer() {
    let world = World {
        database: Postgres::with(&["log_statement=all"]),
    };
    let (owner, stranger) = (world.user(), world.user());
    let project = world.project(&owner, "public");
    let mut own: Vec<String> = (0..IDS - 1)
        .map(|_| world.generation(&owner, Some(&project), None))
        .collect();
    own.push(world.generation(&owner, Some(&project), Some(&own[0])));
    let orphan = world.generation(&owner, None, Some(&new_id()));
    let foreign = world.generation(&stranger, None, None);
    let gateway = Gateway::with(|config| configure(&world, config)).await;
    is_ready(&gateway).await;
    let token = gateway.issuer.token_of(&owner);
    let lookups = || world.database.logged().matches("foregate_asked").count();
    let statements = || {
        let log = world.database.logged();
        log.lines()
            .filter(|line| line.contains("execute") && line.contains("foregate_asked"))
            .count()
    };
    ask(&gateway, "/many", &token, &own).await.is_ok();
    assert!(lookups() > 0);
    // One about the caller, one about their teams, one about all generations with their projects.
    assert_eq!(statements(), 3, "{}", world.database.logged());
    // In any position among others, known or not.
    for (bad, reason) in [
        (new_id(), Reason::Absent),
        (foreign, Reason::NotYours),
        (orphan, Reason::LineageMissing),
    ] {
        for at in [0, 1, 40] {
            let mut ids: Vec<String> = (0..3)
                .map(|_| world.generation(&owner, Some(&project), None))
                .chain(own.iter().take(40).cloned())
                .collect();
            ids.insert(at, bad.clone());
            gateway.origin.take();
            let answer = ask(&gateway, "/many", &token, &ids).await;
            answer.is_denied(reason);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_with_many_ids_costs_nobody_else_an_answer() {
    let world = World::new();
    let attacker = world.user();
    let honest: Vec<(String, Vec<String>)> = (0..5)
        .map(|_| {
            let user = world.user();
            let projects = (0..8).map(|_| world.project(&user, "private")).collect();
            (user, projects)
        })
        .collect();
    let gateway = Gateway::with(|config| {
        configure(&world, config);
        // No connection that the attacker gets comes back before the budget is spent.
        with_slow(config, 1.0, "true");
        config.set("budget", "2500ms");
    })
    .await;
    is_ready(&gateway).await;
    let attackers = gateway.issuer.token_of(&attacker);
    ask(&gateway, "/many", &attackers, &unknown(1))
        .await
        .is_denied(Reason::Absent);
    let over = AtomicBool::new(false);
    let attack = async |number: usize| {
        let mut reasons = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let path = ["/slow", "/many"][number % 2];
            let answer = ask(&gateway, path, &attackers, &unknown(IDS)).await;
            reasons.push(answer.log_line()["reason"].as_str().unwrap().to_owned());
        }
        reasons
    };
    let read = async {
        is_asleep(&world).await;
        let mut refused = Vec::new();
        for round in 0..8 {
            for (user, projects) in &honest {
                let path = format!("/projects/{}", projects[round]);
                let call = gateway.get(Http::One, &path);
                let answer = call.bearer(&gateway.issuer.token_of(user)).send().await;
                if answer.status != 200 {
                    refused.push(answer.log_line());
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        refused
    };
    let (attacks, refused) = tokio::join!(join_all((0..60).map(attack)), read);
    assert!(refused.is_empty(), "{refused:#?}");
    let attacks = attacks.concat();
    assert!(attacks.iter().any(|reason| reason == "budget_spent"));
    assert!(attacks.iter().any(|reason| reason == "lookups_too_many"));
    assert!((gateway.metrics().sum("foregate_database_up", &[]) - 1.0).abs() < f64::EPSILON);
    let opened = |line: &serde_json::Value| {
        let message = line["message"].as_str().unwrap_or_default();
        message.contains("circuit breaker open")
    };
    assert!(gateway.log().all(opened).is_empty());
}

#[tokio::test]
async fn a_request_that_joins_a_failing_lookup_of_another_caller_does_not_fail_with_it() {
    let world = World::new();
    let (attacker, honest) = (world.user(), world.user());
    let project = world.project(&honest, "private");
    let broken = world.project(&attacker, "private");
    world.sql(&format!(
        "update projects set title = 'broken' where id = '{broken}'"
    ));
    let gateway = Gateway::with(|config| {
        configure(&world, config);
        let condition = "1 / (case when p.title = 'broken' then 0 else 1 end) = 1";
        with_slow(config, 0.5, condition);
    })
    .await;
    is_ready(&gateway).await;
    let attackers = gateway.issuer.token_of(&attacker);
    let ids = [project.clone(), broken];
    let failing = ask(&gateway, "/slow", &attackers, &ids);
    let joining = async {
        is_asleep(&world).await;
        let token = gateway.issuer.token_of(&honest);
        ask(&gateway, "/slow", &token, &[project]).await
    };
    let (failed, joined) = tokio::join!(failing, joining);
    failed.is_denied(Reason::FactsUnavailable);
    joined.is_ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_of_many_ids_delays_nobody_who_asks_for_one_of_them() {
    let world = World::new();
    let (attacker, honest) = (world.user(), world.user());
    let project = world.project(&honest, "private");
    let gateway = Gateway::with(|config| {
        configure(&world, config);
        with_slow(config, 0.25, "true");
        let database = config.get("database");
        let database = database.replace("statement_timeout: 3s", "statement_timeout: 30s");
        config.set("database", &database);
    })
    .await;
    is_ready(&gateway).await;
    let attackers = gateway.issuer.token_of(&attacker);
    let token = gateway.issuer.token_of(&honest);
    // Ten seconds, which is twice the budget.
    let mut ids = unknown(39);
    ids.push(project.clone());
    let many = ask(&gateway, "/slow", &attackers, &ids);
    let one = async {
        is_asleep(&world).await;
        let answer = ask(&gateway, "/slow", &token, &[project]).await;
        answer.is_ok();
    };
    let (many, ()) = tokio::join!(many, one);
    many.is_denied(Reason::BudgetSpent);
}

#[tokio::test]
async fn one_caller_cannot_fill_the_cache_and_what_is_not_kept_exists_or_not_alike() {
    let world = World::new();
    let (attacker, honest) = (world.user(), world.user());
    let first = format!("/generations/{}", world.generation(&honest, None, None));
    let path_of = |id: String| format!("/generations/{id}");
    let exist: Vec<_> = (0..20)
        .map(|_| path_of(world.generation(&honest, None, None)))
        .collect();
    let absent: Vec<_> = (0..20).map(|_| path_of(new_id())).collect();
    let gateway = Gateway::with(|config| configure(&world, config)).await;
    is_ready(&gateway).await;
    let attackers = gateway.issuer.token_of(&attacker);
    let get = async |token: &str, path: &str| {
        let answer = gateway.get(Http::One, path).bearer(token).send().await;
        answer.status.as_u16()
    };
    let from_database = async |token: &str, path: &str| {
        let of = || {
            let labels = [("outcome", "ok")];
            let name = "foregate_database_call_seconds_count";
            gateway.metrics().sum(name, &labels)
        };
        let before = of();
        get(token, path).await;
        of() > before
    };
    assert_eq!(get(&attackers, &first).await, 404);
    assert!(!from_database(&attackers, &first).await);
    // Each takes an entry, or two at first, one of them in place of its project.
    for _ in 0..42 {
        let answer = ask(&gateway, "/many", &attackers, &unknown(500)).await;
        answer.is_denied(Reason::Absent);
    }
    // Neither answer is quicker the second time. The allowance grows by one entry in a third of a
    // second, which the machine may take between two requests.
    for paths in [&exist, &absent] {
        let mut is_kept = true;
        for path in paths {
            ask(&gateway, "/many", &attackers, &unknown(50)).await;
            assert_eq!(get(&attackers, path).await, 404);
            is_kept &= !from_database(&attackers, path).await;
        }
        assert!(!is_kept, "{paths:?}");
    }
    // What others load is kept.
    let token = gateway.issuer.token_of(&honest);
    let late = path_of(world.generation(&honest, None, None));
    assert_eq!(get(&token, &late).await, 200);
    assert!(!from_database(&token, &late).await);
    gateway.origin.take();
}
