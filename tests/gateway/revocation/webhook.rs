//! The webhook of the identity server.

use foregate::denial::Reason;
use serde_json::json;

use super::{People, is_good, is_refused};
use crate::support::admin::{Post, WEBHOOK};
use crate::support::tokens::{ISSUER, now};
use crate::support::{Gateway, Http, Postgres, eventually};

async fn gateway() -> Gateway {
    Gateway::with(|config| {
        let webhook = format!("{{ webhook: {{ issuer: \"{ISSUER}\", secret: [\"v1,whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3\", {WEBHOOK}] }} }}");
        config.set("revocations", &webhook);
    })
    .await
}

#[tokio::test]
async fn a_banned_user_is_refused_in_every_session() {
    let gateway = gateway().await;
    let people = People::new(&gateway);
    is_good(&gateway, &people.first).await;
    let message = json!({ "type": "user.banned", "data": { "id": people.subject } });
    let (status, answer) = Post::webhook(gateway.admin(), &message, 0).send();
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["propagated"], true);
    for token in [&people.first, &people.second] {
        is_refused(&gateway, token, Reason::SubjectRevoked).await;
    }
    is_good(&gateway, &people.other).await;
    // Sent again, it is the same revocation.
    assert_eq!(Post::webhook(gateway.admin(), &message, 0).send().0, 200);
    let result = |result| {
        gateway
            .metrics()
            .sum("foregate_webhook_events_total", &[("result", result)])
    };
    assert_eq!(result("revoked"), 2.0);
    assert_eq!(result("refused"), 0.0);
}

#[tokio::test]
async fn a_repeated_message_changes_nothing() {
    let gateway = gateway().await;
    let people = People::new(&gateway);
    let message = json!({ "type": "user.banned", "data": { "id": people.subject } });
    // Also for a sender whose clock is ahead: the effect must not move with the gateway's clock.
    for ago in [60, -30] {
        let call = Post::webhook(gateway.admin(), &message, ago);
        let (status, first) = call.send();
        assert_eq!(status, 200, "{first}");
        let entries = gateway.metrics().sum("foregate_revocations", &[]);
        let sent = now();
        eventually("another second", || now() > sent).await;
        assert_eq!(call.send(), (200, first));
        assert_eq!(gateway.metrics().sum("foregate_revocations", &[]), entries);
    }
}

#[tokio::test]
async fn a_password_change_keeps_the_excepted_session() {
    let gateway = gateway().await;
    let people = People::new(&gateway);
    let message = json!({ "type": "user.updated", "data": { "id": people.subject, "session_id": people.first_session } });
    assert_eq!(Post::webhook(gateway.admin(), &message, 1).send().0, 200);
    is_good(&gateway, &people.first).await;
    is_refused(&gateway, &people.second, Reason::SubjectRevoked).await;
}

#[tokio::test]
async fn a_database_row_is_understood_and_a_sign_in_ends_nothing() {
    let gateway = gateway().await;
    let people = People::new(&gateway);
    let row = |last: &str, banned: Option<&str>| json!({ "id": people.subject, "last_sign_in_at": last, "banned_until": banned });
    let update = |old, new| json!({ "type": "UPDATE", "schema": "auth", "table": "users", "record": new, "old_record": old });
    let signed_in = update(
        row("2026-01-01T00:00:00Z", None),
        row("2026-01-02T00:00:00Z", None),
    );
    let (status, answer) = Post::webhook(gateway.admin(), &signed_in, 0).send();
    assert_eq!(
        (status, answer["ignored"].is_string()),
        (200, true),
        "{answer}"
    );
    is_good(&gateway, &people.first).await;
    let banned = update(
        row("2026-01-02T00:00:00Z", None),
        row("2026-01-02T00:00:00Z", Some("2100-01-01T00:00:00Z")),
    );
    assert_eq!(Post::webhook(gateway.admin(), &banned, 0).send().0, 200);
    is_refused(&gateway, &people.first, Reason::SubjectRevoked).await;
}

#[tokio::test]
async fn a_message_without_a_recent_signature_changes_nothing() {
    let gateway = gateway().await;
    let people = People::new(&gateway);
    let message = json!({ "type": "user.banned", "data": { "id": people.subject } });
    let good = Post::webhook(gateway.admin(), &message, 0);
    let other = json!({ "type": "user.banned", "data": { "id": "somebody else" } });
    for (call, expected) in [
        (good.clone().without("webhook-signature"), 401),
        (good.clone().without("webhook-id"), 401),
        (good.clone().without("webhook-timestamp"), 401),
        (good.clone().body(other.to_string()), 401),
        (good.clone().header("webhook-id", "msg_1"), 401),
        (Post::webhook(gateway.admin(), &message, 400), 401),
        (Post::webhook(gateway.admin(), &message, -90), 401),
        (good.clone().without("Content-Type"), 415),
        (
            Post::webhook(gateway.admin(), &json!({ "type": "user.banned" }), 0),
            400,
        ),
        // An operator's token is no signature.
        (
            Post::revoke(gateway.admin(), &message).without("webhook-id"),
            400,
        ),
    ] {
        let (status, answer) = call.send();
        assert_eq!(status, expected, "{answer}\n{call:?}");
    }
    is_good(&gateway, &people.first).await;
    assert_eq!(gateway.metrics().sum("foregate_revocations", &[]), 0.0);
}

#[tokio::test]
async fn a_message_through_a_public_route_passes_the_chain_and_is_verified_by_its_signature() {
    let mut gateway = gateway().await;
    let people = People::new(&gateway);
    let admin = gateway.admin().to_owned();
    gateway
        .reload(|config| {
            config.upstream("admin", &admin, "").more_routes(
                "- { path: /webhooks/identity, methods: [POST], access: public, upstream: admin }",
            );
        })
        .await;
    let message = json!({ "type": "user.banned", "data": { "id": people.subject } });
    for http in Http::BOTH {
        let unsigned = gateway
            .post(http, "/webhooks/identity")
            .header("content-type", "application/json")
            .body(message.to_string());
        assert_eq!(unsigned.send().await.status, 401);
        is_good(&gateway, &people.first).await;
        // No other path of the admin listener is reachable there.
        gateway
            .post(http, "/revocations")
            .send()
            .await
            .is_denied(Reason::RouteUnknown);
    }
    for http in Http::BOTH {
        let mut call = gateway.post(http, "/webhooks/identity");
        for (name, value) in Post::webhook(&admin, &message, 0).signed_fields() {
            call = call.header(&name, value);
        }
        let answer = call.body(message.to_string()).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        is_refused(&gateway, &people.first, Reason::SubjectRevoked).await;
    }
}

#[tokio::test]
async fn without_a_configured_webhook_messages_are_refused() {
    let gateway = Gateway::start().await;
    let message = json!({ "type": "user.banned", "data": { "id": "u" } });
    assert_eq!(Post::webhook(gateway.admin(), &message, 0).send().0, 404);
    // Nor is it a path of the listeners for clients.
    for http in Http::BOTH {
        gateway
            .post(http, "/webhooks/identity")
            .send()
            .await
            .is_denied(Reason::RouteUnknown);
    }
    gateway.origin.saw_nothing();
}

/// What Supabase has besides `auth.users`: its HTTP client, which notes the calls here, and its
/// vault.
const SUPABASE: &str = "
    create schema extensions; create extension pgcrypto schema extensions;
    create schema vault; create view vault.decrypted_secrets as select * from (values
        ('foregate_webhook_secret', 'WEBHOOK'), ('foregate_webhook_url', 'https://gateway.test/webhooks/identity')) as s(name, decrypted_secret);
    create schema net; create table net.calls (number serial, url text, body text, headers jsonb);
    create function net.http_post(url text, body jsonb, params jsonb default '{}', headers jsonb default '{}', timeout_milliseconds int default 5000)
    returns bigint language sql as $$ insert into net.calls (url, body, headers) values (url, body::text, headers) returning number $$;";

#[tokio::test]
async fn the_shipped_trigger_reports_bans_and_deletions_and_nothing_else() {
    let gateway = gateway().await;
    let postgres = Postgres::start();
    postgres.sql(&SUPABASE.replace("WEBHOOK", WEBHOOK));
    postgres.sql(include_str!("../../../deploy/sql/webhook.sql"));
    let calls = || {
        postgres.rows("select url, body, headers->>'webhook-id', headers->>'webhook-timestamp', headers->>'webhook-signature' from net.calls order by number")
    };
    for (number, end) in [
        "update auth.users set banned_until = now() + interval '1 day' where id = 'ID'",
        "update auth.users set deleted_at = now() where id = 'ID'",
        "delete from auth.users where id = 'ID'",
    ]
    .into_iter()
    .enumerate()
    {
        let people = People::new(&gateway);
        let id = &people.subject;
        postgres.sql(&format!(
            "insert into auth.users (id, email) values ('{id}', '{id}@example.test');
             update auth.users set email = 'other-{id}@example.test' where id = '{id}';
             update auth.users set banned_until = now() - interval '1 day' where id = '{id}';
             update auth.users set banned_until = null where id = '{id}'"
        ));
        assert_eq!(calls().len(), number, "nothing to report");
        is_good(&gateway, &people.first).await;
        postgres.sql(&end.replace("ID", id));
        let sent = calls();
        let [url, body, id, timestamp, signature] = &sent[number][..] else {
            panic!("{sent:?}");
        };
        assert_eq!(url, "https://gateway.test/webhooks/identity");
        let call = Post::new(gateway.admin(), "/webhooks/identity")
            .header("Content-Type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body.as_str());
        let (status, answer) = call.send();
        assert_eq!(status, 200, "{answer}");
        is_refused(&gateway, &people.first, Reason::SubjectRevoked).await;
    }
    // Without a secret nothing is sent, and the ban holds at the identity server.
    let before = calls().len();
    let id = People::new(&gateway).subject;
    postgres.sql(&format!(
        "create or replace view vault.decrypted_secrets as select * from (values ('other', 'x')) as s(name, decrypted_secret);
         insert into auth.users (id) values ('{id}');
         update auth.users set banned_until = now() + interval '1 day' where id = '{id}'"
    ));
    assert_eq!(calls().len(), before);
    let banned =
        format!("select count(*) from auth.users where id = '{id}' and banned_until > now()");
    assert_eq!(postgres.value(&banned), "1");
}
