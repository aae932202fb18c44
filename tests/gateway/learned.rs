//! Owners that are learned from responses, while the store is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foregate::denial::Reason;

use crate::performance::is_ready;
use crate::support::answer::Answer;
use crate::support::world::new_id;
use crate::support::{Config, Gateway, Http, Origin, RedisServer, Reply, World, eventually};

/// An origin that gives every job this id, after `during` has run.
fn origin_of(id: &str, during: impl Fn() + Send + Sync + 'static) -> Origin {
    let origin = Origin::start();
    let body = format!("{{\"job\":{{\"id\":\"{id}\"}}}}");
    origin.on("/jobs", move |exchange| {
        during();
        exchange.reply(&Reply::ok().body(&body));
    });
    origin
}

fn sharing(world: &World, redis: &RedisServer) -> impl Fn(&mut Config) + use<> {
    let url = format!("{}?sslmode=disable", world.database.url());
    let (store, mut base) = (redis.url(), Config::new("http://unused.test"));
    world.configure(&mut base);
    move |config: &mut Config| {
        for key in ["facts", "resources", "roles", "routes"] {
            config.set(key, base.get(key));
        }
        config.set("database", &format!("{{ url: \"{url}\" }}"));
        config.store(&store);
    }
}

async fn ask(gateway: &Gateway, token: &str, method: &str, path: &str) -> Answer {
    let call = gateway.call(Http::One, method, path).bearer(token);
    call.send().await
}

async fn stored(gateway: &Gateway) {
    gateway
        .metric_becomes("foregate_facts_learned_unstored", &[], 0.0)
        .await;
}

#[tokio::test]
async fn a_response_that_could_not_be_bound_is_not_asked_for() {
    let (world, mut redis) = (World::new(), RedisServer::start());
    let user = world.user();
    let id = new_id();
    let gateway = Gateway::before(origin_of(&id, || ()), sharing(&world, &redis)).await;
    is_ready(&gateway).await;
    let token = gateway.issuer.token_of(&user);
    ask(&gateway, &token, "GET", "/me").await.is_ok();
    gateway.origin.take();
    redis.kill();
    gateway.metric_becomes("foregate_store_up", &[], 0.0).await;
    for http in Http::BOTH {
        let answer = gateway.post(http, "/jobs").bearer(&token).send().await;
        answer.is_denied(Reason::StoreUnavailable);
    }
    gateway.origin.saw_nothing();
    // The caller may try again, and any other write goes on.
    ask(&gateway, &token, "POST", "/me").await.is_ok();
    redis.start_again();
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(&gateway, &token, "POST", "/jobs").await.status != 200 {
        assert!(Instant::now() < deadline, "it is still refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let path = format!("/jobs/{id}");
    ask(&gateway, &token, "GET", &path).await.is_ok();
}

#[tokio::test]
async fn a_job_that_began_as_the_store_went_away_is_its_owners_here_at_once_and_everywhere_later() {
    let (world, redis) = (World::new(), Arc::new(RedisServer::start()));
    let (owner, other) = (world.user(), world.user());
    let id = new_id();
    // Between the check and the response.
    let pausing = redis.clone();
    let origin = origin_of(&id, move || pausing.pause());
    let configure = sharing(&world, &redis);
    let gateway = Gateway::before(origin, &configure).await;
    let second = gateway.replica(&configure).await;
    for replica in [&gateway, &second] {
        is_ready(replica).await;
    }
    let [owners, others] = [&owner, &other].map(|user| gateway.issuer.token_of(user));
    let path = format!("/jobs/{id}");
    ask(&gateway, &owners, "POST", "/jobs").await.is_ok();
    gateway.origin.take();
    for _ in 0..3 {
        ask(&gateway, &owners, "GET", &path).await.is_ok();
        gateway.origin.take();
        ask(&gateway, &others, "GET", &path)
            .await
            .is_denied(Reason::NotYours);
        gateway.origin.saw_nothing();
    }
    // A replica that does not know must not say that there is no such job.
    let answer = ask(&second, &owners, "GET", &path).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    second.origin.saw_nothing();
    redis.resume();
    stored(&gateway).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(&second, &owners, "GET", &path).await.status != 200 {
        assert!(Instant::now() < deadline, "the owner is not known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    second.origin.take();
    for replica in [&gateway, &second] {
        ask(replica, &others, "DELETE", &path)
            .await
            .is_denied(Reason::NotYours);
    }
    second.origin.saw_nothing();
}

#[tokio::test]
async fn of_two_callers_who_were_given_one_id_the_first_that_was_stored_keeps_it() {
    let (world, redis) = (World::new(), Arc::new(RedisServer::start()));
    let (first_user, second_user) = (world.user(), world.user());
    let id = new_id();
    let pausing = redis.clone();
    let configure = sharing(&world, &redis);
    let first = Gateway::before(origin_of(&id, move || pausing.pause()), &configure).await;
    let body = format!("{{\"job\":{{\"id\":\"{id}\"}}}}");
    let second = first.replica(&configure).await;
    second.origin.on("/jobs", move |exchange| {
        exchange.reply(&Reply::ok().body(&body));
    });
    for replica in [&first, &second] {
        is_ready(replica).await;
    }
    let [firsts, seconds] = [&first_user, &second_user].map(|user| first.issuer.token_of(user));
    ask(&second, &seconds, "POST", "/jobs").await.is_ok();
    ask(&first, &firsts, "POST", "/jobs").await.is_ok();
    redis.resume();
    stored(&first).await;
    let path = format!("/jobs/{id}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(&first, &seconds, "GET", &path).await.status != 200 {
        assert!(Instant::now() < deadline, "the owner is not known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first.origin.take();
    ask(&first, &firsts, "GET", &path)
        .await
        .is_denied(Reason::NotYours);
    first.origin.saw_nothing();
    let lines = first.log().all(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        message.contains("gave the id of a learned resource to two callers")
    });
    assert_eq!(lines.len(), 1);
}

#[tokio::test]
async fn a_known_job_serves_its_owner_and_nobody_else_while_the_store_is_away() {
    let (world, mut redis) = (World::new(), RedisServer::start());
    let (owner, other) = (world.user(), world.user());
    let id = new_id();
    let configure = sharing(&world, &redis);
    let gateway = Gateway::before(origin_of(&id, || ()), &configure).await;
    let second = gateway.replica(&configure).await;
    for replica in [&gateway, &second] {
        is_ready(replica).await;
    }
    let [owners, others] = [&owner, &other].map(|user| gateway.issuer.token_of(user));
    let path = format!("/jobs/{id}");
    ask(&gateway, &owners, "POST", "/jobs").await.is_ok();
    // One replica bound it, the other has found it in the store.
    ask(&second, &owners, "GET", &path).await.is_ok();
    redis.kill();
    let away = Instant::now();
    let mut asked = 0;
    // Before it is noticed, and after.
    while away.elapsed() < Duration::from_secs(4) {
        for replica in [&gateway, &second] {
            ask(replica, &owners, "GET", &path).await.is_ok();
            replica.origin.take();
            ask(replica, &others, "GET", &path)
                .await
                .is_denied(Reason::NotYours);
            let unknown = format!("/jobs/{}", new_id());
            let answer = ask(replica, &owners, "GET", &unknown).await;
            assert_eq!(answer.status, 503, "{}", answer.text());
            replica.origin.saw_nothing();
        }
        asked += 1;
    }
    assert!(asked > 1);
    // Empty: the replica that bound it still knows, and stores it again when it is asked.
    redis.start_again();
    let deadline = Instant::now() + Duration::from_secs(20);
    eventually("it is back", || {
        gateway.metrics().sum("foregate_store_up", &[]) == 1.0
    })
    .await;
    ask(&gateway, &owners, "GET", &path).await.is_ok();
    stored(&gateway).await;
    while ask(&second, &owners, "GET", &path).await.status != 200 {
        assert!(Instant::now() < deadline, "the owner is not known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
