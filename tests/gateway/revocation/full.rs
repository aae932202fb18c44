//! A full list: it says so in time, takes every further logout, and refuses more rather than less.

use foregate::denial::Reason;
use foregate::revocation::bucket_of;
use serde_json::{Value, json};

use super::{is_refused, signs_in_again, uuid};
use crate::support::log::says;
use crate::support::tokens::{ISSUER, now};
use crate::support::{Answer, Gateway, Http};

/// How many users of a hundred sign out: more than twice what the list holds.
const USERS: usize = 250;

/// With this capacity a bucket is given by two bits.
const CAPACITY: &str = "{ capacity: 100 }";

struct User {
    subject: String,
    session: String,
}

impl User {
    fn new() -> Self {
        Self {
            subject: uuid(),
            session: uuid(),
        }
    }

    fn token(&self, gateway: &Gateway, signed_in: i64) -> String {
        let claims = gateway.issuer.claims().with("sub", self.subject.as_str());
        let amr = json!([{ "method": "password", "timestamp": signed_in }]);
        gateway
            .issuer
            .sign(&claims.session(&self.session).with("amr", amr))
    }

    fn revocation(&self) -> Value {
        json!({ "kind": "session", "session": self.session, "subject": self.subject })
    }
}

/// Produces `bucket_revoked`.
pub async fn refused_by_bucket(http: Http) {
    let gateway = Gateway::with(|config| {
        config.set("revocations", CAPACITY);
    })
    .await;
    let users: Vec<User> = std::iter::repeat_with(User::new).take(120).collect();
    for user in &users {
        gateway.revoke(&user.revocation());
    }
    // At least one of the four buckets was merged: that of most users.
    let mut answers = Vec::new();
    for user in &users {
        let token = user.token(&gateway, now() - 60);
        answers.push(gateway.get(http, "/me").bearer(&token).send().await);
    }
    let by_bucket = |answer: &&Answer| {
        let line = gateway.log_line(answer.header("x-request-id"));
        line["reason"] == "bucket_revoked"
    };
    let found = answers.iter().find(by_bucket).unwrap();
    found.is_denied(Reason::BucketRevoked);
    gateway.origin.saw_nothing();
}

fn in_bucket_of(user: &User) -> User {
    let bucket = |user: &User| bucket_of(ISSUER, &user.subject) >> 14;
    std::iter::repeat_with(User::new)
        .find(|other| bucket(other) == bucket(user))
        .unwrap()
}

#[tokio::test]
async fn a_list_full_of_logouts_takes_every_further_one_and_others_sign_in_again() {
    let gateway = Gateway::with(|config| {
        config.set("revocations", CAPACITY);
    })
    .await;
    let alarm = || {
        gateway
            .metrics()
            .sum("foregate_revocations_nearly_full", &[])
    };
    let users: Vec<User> = std::iter::repeat_with(User::new).take(USERS).collect();
    for (number, user) in users.iter().enumerate() {
        gateway.revoke(&user.revocation());
        match number {
            50 => assert_eq!(alarm(), 0.0),
            80 => assert_eq!(alarm(), 1.0, "before it is full"),
            _ => {}
        }
    }
    let line = gateway
        .log()
        .wait_for(|line| says(line, "the revocation list is nearly full; beyond `revocations.capacity` it also signs out users who were not revoked"));
    assert!(line.is_some());
    let metrics = gateway.metrics();
    let buckets = metrics.sum("foregate_revocations", &[("kind", "bucket")]);
    assert!((1.0..=4.0).contains(&buckets), "{buckets}");
    assert!(metrics.sum("foregate_revocations", &[]) <= 113.0);
    assert_eq!(metrics.sum("foregate_revocations_overfull", &[]), 0.0);
    // Nobody who was revoked passes, and all of them sign in again.
    let mut client = gateway.connect(Http::Two).await;
    let mut by_bucket = 0;
    for user in &users {
        let token = user.token(&gateway, now() - 60);
        let answer = client.get("/me").bearer(&token).send().await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.json()["code"], "session_not_found");
        let line = gateway.log_line(answer.header("x-request-id"));
        by_bucket += usize::from(line["reason"] == "bucket_revoked");
    }
    assert!(by_bucket > 100, "{by_bucket}");
    gateway.origin.saw_nothing();
    signs_in_again(&gateway, || users[0].token(&gateway, now())).await;
    // A neighbour who was not revoked signs in again, too; the log says why.
    let neighbour = in_bucket_of(&users[0]);
    let token = neighbour.token(&gateway, now() - 60);
    is_refused(&gateway, &token, Reason::BucketRevoked).await;
    signs_in_again(&gateway, || neighbour.token(&gateway, now())).await;
}
