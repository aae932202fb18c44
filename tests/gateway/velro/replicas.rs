//! What two replicas know of a change: by another client of the database, and through one of them.

use std::time::{Duration, Instant};

use foregate::denial::Reason;

use super::ask;
use crate::support::velro::Site;
use crate::support::world::new_id;
use crate::support::{Config, Gateway, Http, Origin, Reply};

/// A project that a team may read, and a member of the team.
struct Shared {
    member: String,
    project: String,
}

impl Shared {
    fn in_world(site: &Site) -> Self {
        let (owner, member) = (site.world.user(), site.world.user());
        let project = site.world.team_project(&owner, &member, "write");
        Self { member, project }
    }

    fn leave(&self, site: &Site) {
        site.world.sql(&format!(
            "delete from team_members where user_id = '{}'",
            self.member
        ));
    }

    fn path(&self) -> String {
        format!("/api/v1/projects/{}", self.project)
    }
}

async fn two(site: &Site, change: impl Fn(&mut Config)) -> [Gateway; 2] {
    [
        site.gateway_before(Origin::start(), &change).await,
        site.gateway_before(Origin::start(), &change).await,
    ]
}

async fn is_let_in(replica: &Gateway, http: Http, token: &str, asked: (&str, &str)) {
    ask(replica, http, token, asked).await.is_ok();
    replica.origin.take();
}

/// A cached permission is refused on every replica within this time from now, and reads know it
/// from then on.
async fn is_gone(replicas: &[Gateway], token: &str, asked: (&str, &str), within: Duration) {
    let gone = Instant::now();
    for replica in replicas {
        loop {
            // A request sent this long after the change must not use the old fact, however long the
            // answer takes.
            let passed = gone.elapsed();
            let answer = ask(replica, Http::Two, token, asked).await;
            if answer.status == 404 {
                answer.is_denied(Reason::NotYours);
                break;
            }
            assert!(passed < within, "{passed:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        replica.origin.take();
        for http in Http::BOTH {
            ask(replica, http, token, ("GET", asked.1))
                .await
                .is_denied(Reason::NotYours);
        }
        replica.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_removed_membership_is_used_on_two_replicas_no_longer_than_the_write_lifetime() {
    let site = Site::new();
    let shared = Shared::in_world(&site);
    let replicas = two(&site, |_| {}).await;
    let token = site.token_of(&shared.member);
    let path = shared.path();
    for replica in &replicas {
        is_let_in(replica, Http::Two, &token, ("PUT", &path)).await;
    }
    shared.leave(&site);
    // A write finds the change.
    is_gone(&replicas, &token, ("PUT", &path), Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_removed_membership_is_used_for_less_than_a_second_with_notifications() {
    let site = Site::new();
    site.world
        .sql(include_str!("../../../deploy/sql/notify.sql"));
    let shared = Shared::in_world(&site);
    let url = format!("{}?sslmode=disable", site.world.database.url());
    let replicas = two(&site, |config| {
        let told = format!("{{ url: \"{url}\", notify_url: \"{url}\" }}");
        config.set("database", &told);
    })
    .await;
    let token = site.token_of(&shared.member);
    let path = shared.path();
    for replica in &replicas {
        replica
            .metric_becomes("foregate_facts_listening", &[], 1.0)
            .await;
        is_let_in(replica, Http::One, &token, ("GET", &path)).await;
    }
    shared.leave(&site);
    is_gone(&replicas, &token, ("GET", &path), Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_resource_deleted_through_one_replica_is_gone_at_once_on_both() {
    let site = Site::new();
    let owner = site.world.user();
    let token = site.token_of(&owner);
    let replicas = two(&site, |_| {}).await;
    let http = |number: usize| Http::BOTH[number % 2];
    for number in 0..20 {
        let project = new_id();
        site.world.sql(&format!(
            "insert into projects (id, user_id) values ('{project}', '{owner}')"
        ));
        let path = format!("/api/v1/projects/{project}");
        for replica in &replicas {
            ask(replica, http(number), &token, ("GET", &path))
                .await
                .is_ok();
            replica.origin.take();
        }
        let (deleting, other) = (&replicas[number % 2], &replicas[(number + 1) % 2]);
        // The backend deletes it while it answers, and not before.
        let database = site.world.database.url();
        let statement = format!("delete from projects where id = '{project}'");
        deleting.origin.on(&path, move |exchange| {
            let done = std::process::Command::new("psql")
                .args(["-X", "-q", "-c", &statement, &database])
                .status();
            assert!(done.unwrap().success());
            exchange.reply(&Reply::new(204));
        });
        let deleted = ask(deleting, http(number), &token, ("DELETE", &path)).await;
        assert_eq!(deleted.status, 204);
        deleting.origin.take();
        for replica in [other, deleting] {
            ask(replica, http(number), &token, ("GET", &path))
                .await
                .is_denied(Reason::Absent);
            replica.origin.saw_nothing();
        }
    }
}
