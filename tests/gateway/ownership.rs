//! Ownership: every relation with every action, the same response for a missing resource and for
//! one without access, and attacks on both.

use foregate::denial::Reason;
use serde_json::{Value, json};

use crate::performance::is_ready;
use crate::support::answer::Answer;
use crate::support::world::new_id;
use crate::support::{Config, Door, Gateway, Http, Origin, RedisServer, Reply, World};

/// A gateway in front of this world.
async fn gateway(world: &World) -> Gateway {
    world.gateway().await
}

async fn ask(gateway: &Gateway, http: Http, token: &str, method: &str, path: &str) -> Answer {
    gateway.call(http, method, path).bearer(token).send().await
}

#[tokio::test]
async fn each_relation_allows_its_actions_and_no_others() {
    let world = World::new();
    let (owner, stranger) = (world.user(), world.user());
    let team = world.team(&owner);
    let other_team = world.team(&owner);
    let members: Vec<(&str, String)> = ["viewer", "editor", "admin"]
        .map(|role| {
            let user = world.user();
            world.join(&team, &user, role);
            (role, user)
        })
        .into();
    let former = world.user();
    world.join(&team, &former, "editor");
    world.sql(&format!(
        "update team_members set is_active = false where user_id = '{former}'"
    ));
    let elsewhere = world.user();
    world.join(&other_team, &elsewhere, "editor");

    let private = world.project(&owner, "private");
    let public = world.project(&owner, "public");
    let odd = world.project(&owner, "public_full");
    let unshared = world.project(&owner, "team-only");
    let shared = |access: &str, visibility: &str| {
        let project = world.project(&owner, visibility);
        world.share(&project, &team, access);
        project
    };
    let (readable, writable, open) = (
        shared("read", "team-only"),
        shared("write", "team_restricted"),
        shared("admin", "team-only"),
    );
    let private_shared = shared("admin", "private");
    let public_shared = shared("admin", "public");

    let gateway = gateway(&world).await;
    let token = |subject: &str| gateway.issuer.token_of(subject);
    let (o, s) = (token(&owner), token(&stranger));
    let (former, elsewhere) = (token(&former), token(&elsewhere));
    let member = |role: &str| token(&members.iter().find(|(name, _)| *name == role).unwrap().1);
    let (viewer, editor, admin) = (member("viewer"), member("editor"), member("admin"));

    // Whether GET, download, PUT and DELETE are allowed.
    let all = [true; 4];
    let none = [false; 4];
    let view = [true, false, false, false];
    let edit = [true, true, true, false];
    let look = [true, true, false, false];
    let cases: Vec<(&str, &str, &String, &String, [bool; 4])> = vec![
        ("owner", "private", &o, &private, all),
        ("owner", "team-only", &o, &open, all),
        ("stranger", "private", &s, &private, none),
        ("stranger", "public", &s, &public, look),
        ("stranger", "an unknown visibility", &s, &odd, none),
        ("stranger", "team-only", &s, &open, none),
        ("viewer", "read", &viewer, &readable, view),
        ("viewer", "admin", &viewer, &open, view),
        ("editor", "read", &editor, &readable, view),
        ("editor", "write", &editor, &writable, edit),
        ("editor", "admin", &editor, &open, all),
        ("admin", "write", &admin, &writable, edit),
        ("admin", "admin", &admin, &open, all),
        ("editor", "not shared", &editor, &unshared, none),
        (
            "editor",
            "private and shared",
            &editor,
            &private_shared,
            none,
        ),
        ("editor", "public and shared", &editor, &public_shared, look),
        ("former editor", "admin", &former, &open, none),
        ("editor of another team", "admin", &elsewhere, &open, none),
    ];
    for http in Http::BOTH {
        for (who, what, token, project, allowed) in &cases {
            let path = format!("/projects/{project}");
            for ((method, path), allowed) in [
                ("GET", path.clone()),
                ("GET", format!("{path}/download")),
                ("PUT", path.clone()),
                ("DELETE", path.clone()),
            ]
            .into_iter()
            .zip(allowed)
            {
                let answer = ask(&gateway, http, token, method, &path).await;
                let case = format!("{who}, {what}: {method} {path}");
                assert_eq!(
                    answer.status.as_u16() == 200,
                    *allowed,
                    "{case}: {answer:?}"
                );
                match allowed {
                    true => drop(gateway.origin.only()),
                    false => {
                        answer.is_denied(Reason::NotYours);
                        gateway.origin.saw_nothing();
                    }
                }
                gateway.origin.take();
            }
        }
    }
}

#[tokio::test]
async fn the_owner_of_the_containing_resource_has_access_and_the_owner_of_a_parent_has_not() {
    let world = World::new();
    let (owner, artist, member, stranger) =
        (world.user(), world.user(), world.user(), world.user());
    let project = world.team_project(&owner, &member, "write");
    let public = world.project(&owner, "public");
    let inside = world.generation(&artist, Some(&project), None);
    let shown = world.generation(&artist, Some(&public), None);
    let alone = world.generation(&artist, None, None);
    let lost = world.generation(&artist, Some(&new_id()), None);
    // A private resource that was made from one of the stranger's.
    let parent = world.generation(&stranger, None, None);
    let child = world.generation(&artist, None, Some(&parent));

    let gateway = gateway(&world).await;
    let token = |subject: &str| gateway.issuer.token_of(subject);
    for http in Http::BOTH {
        for (who, what, method, via) in [
            (&artist, &inside, "DELETE", Some("owner")),
            (&owner, &inside, "DELETE", Some("outer_owner")),
            (&member, &inside, "PUT", Some("team")),
            (&member, &inside, "DELETE", None),
            (&stranger, &inside, "GET", None),
            (&stranger, &shown, "GET", Some("public")),
            (&stranger, &shown, "PUT", None),
            (&artist, &alone, "GET", Some("owner")),
            (&owner, &alone, "GET", None),
            (&artist, &lost, "GET", Some("owner")),
            (&owner, &lost, "GET", None),
            (&artist, &child, "GET", Some("owner")),
            (&stranger, &child, "GET", None),
            (&stranger, &parent, "GET", Some("owner")),
        ] {
            let path = format!("/generations/{what}");
            let answer = ask(&gateway, http, &token(who), method, &path).await;
            match via {
                Some(via) => {
                    assert_eq!(answer.is_ok().log_line()["via"], json!(via), "{path}");
                    gateway.origin.only();
                }
                None => {
                    answer.is_denied(Reason::NotYours);
                    gateway.origin.saw_nothing();
                }
            }
            gateway.origin.take();
        }
        // A resource that is not in the one named in the path counts as absent.
        let right = format!("/projects/{project}/generations/{inside}");
        ask(&gateway, http, &token(&owner), "GET", &right)
            .await
            .is_ok();
        gateway.origin.take();
        let wrong = format!("/projects/{public}/generations/{inside}");
        ask(&gateway, http, &token(&owner), "GET", &wrong)
            .await
            .is_denied(Reason::Absent);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn only_a_role_with_any_crosses_ownership_and_the_record_shows_it() {
    let world = World::new();
    let (owner, other) = (world.user(), world.user());
    let project = world.project(&owner, "private");
    let gateway = gateway(&world).await;
    let with = |roles: &[&str]| {
        gateway.issuer.sign(
            &gateway
                .issuer
                .claims()
                .with("sub", other.as_str())
                .roles(roles.iter().copied()),
        )
    };
    let path = format!("/projects/{project}");
    for http in Http::BOTH {
        for (roles, method, suffix, expected) in [
            (&["moderator"][..], "GET", "", Ok(())),
            (&["moderator"], "PUT", "", Ok(())),
            (&["moderator"], "DELETE", "", Err(Reason::NotYours)),
            (&["admin"], "DELETE", "", Ok(())),
            (&["viewer"], "GET", "", Err(Reason::NotYours)),
            (&[], "GET", "", Err(Reason::NotYours)),
            (&["moderator"], "POST", "/moderate", Ok(())),
            (&[], "POST", "/moderate", Err(Reason::RoleInsufficient)),
        ] {
            let path = format!("{path}{suffix}");
            let answer = ask(&gateway, http, &with(roles), method, &path).await;
            match expected {
                Ok(()) => {
                    assert_eq!(answer.is_ok().log_line()["via"], json!("role"));
                    gateway.origin.only();
                }
                Err(reason) => {
                    answer.is_denied(reason);
                    gateway.origin.saw_nothing();
                }
            }
            gateway.origin.take();
        }
        // Even the owner may not perform an action that crosses ownership.
        let own = format!("{path}/moderate");
        ask(
            &gateway,
            http,
            &gateway.issuer.token_of(&owner),
            "POST",
            &own,
        )
        .await
        .is_denied(Reason::RoleInsufficient);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_missing_resource_and_one_without_access_get_the_same_response() {
    let world = World::new();
    let (owner, stranger) = (world.user(), world.user());
    let project = world.project(&owner, "private");
    let inside = world.generation(&owner, Some(&project), None);
    let alone = world.generation(&owner, None, None);
    let gateway = gateway(&world).await;
    let token = gateway.issuer.token_of(&stranger);
    for http in Http::BOTH {
        let mut shown: Vec<(Value, Vec<(String, String)>)> = Vec::new();
        for (path, reason) in [
            (format!("/generations/{inside}"), Reason::NotYours),
            (format!("/generations/{alone}"), Reason::NotYours),
            (format!("/projects/{project}"), Reason::NotYours),
            (format!("/generations/{}", new_id()), Reason::Absent),
            (format!("/projects/{}", new_id()), Reason::Absent),
            ("/nowhere".to_owned(), Reason::RouteUnknown),
        ] {
            let answer = ask(&gateway, http, &token, "GET", &path).await;
            answer.is_denied(reason);
            let mut body = answer.json();
            body["request_id"] = Value::Null;
            let headers = answer
                .headers
                .iter()
                .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            shown.push((body, headers));
        }
        assert!(
            shown.windows(2).all(|pair| pair[0] == pair[1]),
            "{shown:#?}"
        );
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_request_must_name_every_resource_of_its_route_exactly_once() {
    let world = World::new();
    let (owner, other) = (world.user(), world.user());
    let (mine, also, theirs) = (
        world.generation(&owner, None, None),
        world.generation(&owner, None, None),
        world.generation(&other, None, None),
    );
    let gateway = gateway(&world).await;
    let token = gateway.issuer.token_of(&owner);
    for http in Http::BOTH {
        let upper = mine.to_ascii_uppercase();
        for mine in [&mine, &upper] {
            let good = format!("/compare?left={mine}&right={also}&x=1");
            ask(&gateway, http, &token, "GET", &good).await.is_ok();
            assert_eq!(gateway.origin.only().target, good);
        }
        for (query, reason) in [
            (format!("left={mine}&right={theirs}"), Reason::NotYours),
            (format!("left={theirs}&right={mine}"), Reason::NotYours),
            (format!("left={mine}"), Reason::IdentifierInvalid),
            (
                format!("left={mine}&right={also}&right={theirs}"),
                Reason::IdentifierInvalid,
            ),
            (
                format!("left={mine}&right={also}&%72ight={theirs}"),
                Reason::IdentifierInvalid,
            ),
            (
                format!("left={mine}&right={also};right={theirs}"),
                Reason::IdentifierInvalid,
            ),
            (
                format!("left={mine}&right={also}&Right={theirs}"),
                Reason::IdentifierInvalid,
            ),
            (format!("left={mine}&right="), Reason::IdentifierInvalid),
            (
                format!("left={mine}&right={also}&right[]={theirs}"),
                Reason::IdentifierInvalid,
            ),
            (
                format!("left={mine}&right={also}&right%5B0%5D={theirs}"),
                Reason::IdentifierInvalid,
            ),
            (
                format!("left={mine}&RIGHT[]={theirs}&right={also}"),
                Reason::IdentifierInvalid,
            ),
        ] {
            ask(&gateway, http, &token, "GET", &format!("/compare?{query}"))
                .await
                .is_denied(reason);
            gateway.origin.saw_nothing();
        }
    }
}

#[tokio::test]
async fn an_unauthenticated_client_reads_public_resources_on_optional_routes() {
    let world = World::new();
    let owner = world.user();
    let (public, private) = (
        world.project(&owner, "public"),
        world.project(&owner, "private"),
    );
    let gateway = gateway(&world).await;
    for http in Http::BOTH {
        gateway
            .get(http, &format!("/shown/{public}"))
            .send()
            .await
            .is_ok();
        gateway.origin.take();
        gateway
            .get(http, &format!("/shown/{private}"))
            .send()
            .await
            .is_denied(Reason::NotYours);
        gateway.origin.saw_nothing();
        let path = format!("/shown/{private}");
        ask(
            &gateway,
            http,
            &gateway.issuer.token_of(&owner),
            "GET",
            &path,
        )
        .await
        .is_ok();
        gateway.origin.take();
    }
}

#[tokio::test]
async fn callers_cannot_extend_their_own_rights() {
    let world = World::new();
    let (user, victim) = (world.user(), world.user());
    let project = world.project(&victim, "private");
    // Users can write a role into their profile row and into their metadata.
    world.sql(&format!(
        "update users set role = 'admin' where id = '{user}'"
    ));
    let gateway = gateway(&world).await;
    let claims = gateway.issuer.claims().with("sub", user.as_str()).with(
        "user_metadata",
        json!({ "roles": ["admin"], "role": "admin" }),
    );
    let token = gateway.issuer.sign(&claims);
    for http in Http::BOTH {
        for (method, path, reason) in [
            ("GET", format!("/projects/{project}"), Reason::NotYours),
            ("DELETE", format!("/projects/{project}"), Reason::NotYours),
            ("PATCH", format!("/users/{victim}"), Reason::NotYours),
            ("GET", format!("/users/{victim}"), Reason::NotYours),
            ("GET", format!("/users/{}", new_id()), Reason::NotYours),
        ] {
            ask(&gateway, http, &token, method, &path)
                .await
                .is_denied(reason);
            gateway.origin.saw_nothing();
        }
        ask(&gateway, http, &token, "GET", &format!("/users/{user}"))
            .await
            .is_ok();
        gateway.origin.take();
    }
}

#[tokio::test]
async fn an_inactive_caller_and_one_without_a_row_are_refused_everywhere() {
    let world = World::new();
    let (active, inactive) = (world.user(), world.user());
    world.sql(&format!(
        "update users set is_active = false where id = '{inactive}'"
    ));
    let public = world.project(&active, "public");
    let gateway = gateway(&world).await;
    for http in Http::BOTH {
        let strange = ["no uuid", "' or true --"];
        for subject in [inactive.as_str(), &new_id()].into_iter().chain(strange) {
            let reason = match subject {
                // A subject that is no UUID is no user's, and nothing is looked up.
                strange_one if strange.contains(&strange_one) => Reason::TokenClaims,
                known if known == inactive => Reason::CallerInactive,
                _ => Reason::CallerAbsent,
            };
            let token = gateway.issuer.token_of(subject);
            for path in [
                "/me",
                &format!("/projects/{public}"),
                &format!("/shown/{public}"),
            ] {
                ask(&gateway, http, &token, "GET", path)
                    .await
                    .is_denied(reason);
                gateway.origin.saw_nothing();
            }
        }
        let token = gateway.issuer.token_of(&active);
        ask(&gateway, http, &token, "GET", "/me").await.is_ok();
        gateway.origin.take();
    }
}

#[tokio::test]
async fn static_facts_need_no_database() {
    let gateway = Gateway::with(|config| {
        config
            .set("resources", "{ note: {}, folder: {} }")
            .set(
                "static_facts",
                "
  inactive: [banned-one]
  memberships: { anna: { team-a: editor } }
  resources:
    note:
      n1: { owner: olga }
      n2: { owner: olga, visibility: team-only, teams: { team-a: read } }
    folder: {}",
            )
            .set("facts", "{ subject: text }")
            .set("resources", "{ note: { id: text }, folder: { id: text } }")
            .routes(
                r#"
                - { path: /me, access: user }
                - { path: "/notes/{note_id}", access: user, resource: note }
                "#,
            );
    })
    .await;
    let longest = format!("/notes/{}", "x".repeat(256));
    let too_long = format!("{longest}x");
    for http in Http::BOTH {
        for (subject, method, path, reason) in [
            ("olga", "DELETE", "/notes/n1", None),
            ("anna", "GET", "/notes/n1", Some(Reason::NotYours)),
            ("anna", "GET", "/notes/n2", None),
            ("anna", "PUT", "/notes/n2", Some(Reason::NotYours)),
            ("olga", "GET", "/notes/n3", Some(Reason::Absent)),
            ("banned-one", "GET", "/me", Some(Reason::CallerInactive)),
            ("olga", "GET", &longest, Some(Reason::Absent)),
            ("olga", "GET", &too_long, Some(Reason::IdentifierInvalid)),
        ] {
            let token = gateway.issuer.token_of(subject);
            let answer = ask(&gateway, http, &token, method, path).await;
            match reason {
                None => drop(answer.is_ok()),
                Some(reason) => {
                    answer.is_denied(reason);
                    gateway.origin.saw_nothing();
                }
            }
            gateway.origin.take();
        }
    }
}

#[tokio::test]
async fn a_job_belongs_to_the_caller_who_submitted_it() {
    let (world, redis) = (World::new(), RedisServer::start());
    let (submitter, other) = (world.user(), world.user());
    let origin = Origin::start();
    let ids: Vec<String> = (0..2).map(|_| new_id()).collect();
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let given = ids.clone();
    origin.on("/jobs", move |exchange| {
        let index = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % given.len();
        // In the format of some backends.
        let id = given[index].to_ascii_uppercase();
        let body = format!("{{\"job\":{{\"id\":\"{id}\"}},\"state\":\"queued\"}}");
        exchange.reply(
            &Reply::ok()
                .header("content-type", "application/json")
                .body(body),
        );
    });
    let configure = |config: &mut Config| {
        world.configure(config);
        config.store(&redis.url());
    };
    let gateway = Gateway::before(origin, configure).await;
    let second = gateway.replica(configure).await;
    for gateway in [&gateway, &second] {
        is_ready(gateway).await;
    }
    for replica in [&gateway, &second] {
        is_ready(replica).await;
    }
    let token = gateway.issuer.token_of(&submitter);
    let others = gateway.issuer.token_of(&other);
    for (http, id) in Http::BOTH.into_iter().zip(&ids) {
        let path = format!("/jobs/{id}");
        ask(&gateway, http, &token, "GET", &path)
            .await
            .is_denied(Reason::Absent);
        gateway.origin.saw_nothing();
        let submitted = gateway
            .post(http, "/jobs")
            .header("accept-encoding", "gzip")
            .bearer(&token)
            .body("{}")
            .send()
            .await;
        assert_eq!(submitted.is_ok().json()["state"], "queued");
        let seen = gateway.origin.only();
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        gateway.origin.take();
        for replica in [&gateway, &second] {
            for method in ["GET", "DELETE"] {
                ask(replica, http, &token, method, &path).await.is_ok();
                replica.origin.only();
                replica.origin.take();
                ask(replica, http, &others, method, &path)
                    .await
                    .is_denied(Reason::NotYours);
                replica.origin.saw_nothing();
            }
        }
    }
    // An id that the upstream returns twice keeps its first owner.
    let again = gateway.post(Http::One, "/jobs").bearer(&others).send();
    again.await.is_denied(Reason::BindingFailed);
    ask(
        &gateway,
        Http::One,
        &others,
        "GET",
        &format!("/jobs/{}", ids[0]),
    )
    .await
    .is_denied(Reason::NotYours);
}

#[tokio::test]
async fn a_response_that_names_no_job_is_not_forwarded() {
    let world = World::new();
    let user = world.user();
    let origin = Origin::start();
    let answers: Vec<Reply> = vec![
        Reply::ok().body("not json"),
        Reply::ok().body("{\"job\":{}}"),
        Reply::ok().body("{\"job\":{\"id\":\"1\"}}"),
        Reply::ok().body(format!(
            "{{\"job\":{{\"id\":\"{}\"}},\"more\":\"{}\"}}",
            new_id(),
            "x".repeat(1 << 20)
        )),
        Reply::ok()
            .header("content-encoding", "gzip")
            .body(format!("{{\"job\":{{\"id\":\"{}\"}}}}", new_id())),
    ];
    let count = answers.len();
    let turn = std::sync::atomic::AtomicUsize::new(0);
    origin.on("/jobs", move |exchange| {
        let index = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match answers.get(index) {
            Some(answer) => exchange.reply(answer),
            None => exchange.reply(&Reply::new(422).body("{}")),
        }
    });
    let gateway = Gateway::before(origin, |config| world.configure(config)).await;
    is_ready(&gateway).await;
    let token = gateway.issuer.token_of(&user);
    for _ in 0..count {
        let answer = gateway.post(Http::Two, "/jobs").bearer(&token).send().await;
        answer.is_denied(Reason::BindingFailed);
    }
    // A response that created no job is forwarded unchanged.
    let refused = gateway.post(Http::Two, "/jobs").bearer(&token).send().await;
    assert_eq!(refused.status.as_u16(), 422);
}

#[tokio::test]
async fn resources_in_a_body_are_authorized_and_the_body_is_forwarded_byte_for_byte() {
    let world = World::new();
    let (user, victim) = (world.user(), world.user());
    let mine = world.project(&user, "private");
    let theirs = world.project(&victim, "private");
    let public = world.project(&victim, "public");
    let own = world.generation(&user, None, None);
    let secret = world.generation(&victim, Some(&theirs), None);
    let shown = world.generation(&victim, Some(&public), None);
    let gateway = Gateway::with(|config| {
        world.configure(config);
        config
            .set("defaults", "{ upstream: origin, body: { limit: 8MiB } }")
            .more_routes("- { path: /uploads, methods: [POST], access: user, resource: none, body: { ids: [{ field: project_id, kind: project }] } }");
    })
    .await;
    is_ready(&gateway).await;
    let token = gateway.issuer.token_of(&user);
    let post = |http: Http, body: String| {
        gateway
            .post(http, "/generations")
            .bearer(&token)
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    for http in Http::BOTH {
        for body in [
            "{}".to_owned(),
            "{ \"project_id\" : null }".to_owned(),
            format!("{{\"project_id\":\"{mine}\", \"parent_generation_id\":\"{shown}\"}}"),
            // A fork of the caller's own resource, in every spelling that a server accepts.
            format!(
                "{{\"parent_generation_id\":\"{}\"}}",
                own.to_ascii_uppercase()
            ),
            format!("{{\"items\":[{{\"id\":\"{own}\"}},{{\"id\":\"{shown}\"}},{{}}]}}"),
            "{\"items\":[]}".to_owned(),
        ] {
            post(http, body.clone()).await.is_ok();
            assert_eq!(gateway.origin.only().body, body.as_bytes());
            gateway.origin.take();
        }
        for (body, reason) in [
            (format!("{{\"project_id\":\"{theirs}\"}}"), Reason::NotYours),
            // Everyone may read it, but only its owner may add to it.
            (format!("{{\"project_id\":\"{public}\"}}"), Reason::NotYours),
            (
                format!("{{\"parent_generation_id\":\"{secret}\"}}"),
                Reason::NotYours,
            ),
            (
                format!("{{\"parent_generation_id\":\"{}\"}}", new_id()),
                Reason::Absent,
            ),
            (
                format!("{{\"items\":[{{\"id\":\"{own}\"}},{{\"id\":\"{secret}\"}}]}}"),
                Reason::NotYours,
            ),
            (
                format!("{{\"project_id\":\"{mine}\",\"project_id\":\"{theirs}\"}}"),
                Reason::BodyMalformed,
            ),
            (
                format!("{{\"project_id\":\"{mine}\",\"project\\u005fid\":\"{theirs}\"}}"),
                Reason::BodyMalformed,
            ),
            ("{\"project_id\":7}".to_owned(), Reason::IdentifierInvalid),
            ("{\"project_id\":[]}".to_owned(), Reason::IdentifierInvalid),
            ("{\"items\":{}}".to_owned(), Reason::IdentifierInvalid),
            ("{\"items\":[7]}".to_owned(), Reason::IdentifierInvalid),
            ("[]".to_owned(), Reason::IdentifierInvalid),
            (
                format!(
                    "{{\"items\":[{0},{0},{0},{0}]}}",
                    format!("{{\"id\":\"{own}\"}}")
                ),
                Reason::IdentifierInvalid,
            ),
            ("{".to_owned(), Reason::BodyMalformed),
            // A server that ignores case would read these.
            (
                format!("{{\"project_id\":\"{mine}\",\"Project_ID\":\"{theirs}\"}}"),
                Reason::IdentifierInvalid,
            ),
            (
                format!("{{\"PROJECT_ID\":\"{theirs}\"}}"),
                Reason::IdentifierInvalid,
            ),
            (
                format!("{{\"items\":[{{\"id\":\"{own}\",\"Id\":\"{secret}\"}}]}}"),
                Reason::IdentifierInvalid,
            ),
            // Small to send, but large in memory.
            (
                format!("{{\"x\":{}{}}}", "[".repeat(64), "]".repeat(64)),
                Reason::BodyMalformed,
            ),
        ] {
            post(http, body.clone()).await.is_denied(reason);
            gateway.origin.saw_nothing();
        }
        let other_type = gateway
            .post(http, "/generations")
            .bearer(&token)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("project_id={theirs}"));
        other_type.send().await.is_denied(Reason::BodyType);
        gateway.origin.saw_nothing();
        let upload = || {
            let call = gateway.post(http, "/uploads").bearer(&token);
            call.header("content-type", "application/json")
        };
        let many = format!("{{\"x\":[{}0]}}", "0,".repeat(50_000));
        let answer = upload().body(many).send().await;
        answer.is_denied(Reason::BodyMalformed);
        gateway.origin.saw_nothing();
        // A request without a body names no resource.
        ask(&gateway, http, &token, "GET", "/generations")
            .await
            .is_ok();
        gateway.origin.take();
    }
    // It is refused by its announced length.
    let mut raw = gateway.raw(Door::Tls).await;
    let length = 1024 * 1024 + 1;
    raw.write(format!("POST /uploads HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"))
        .await;
    raw.answer().await.answer().is_denied(Reason::BodyTooLarge);
    gateway.origin.saw_nothing();
}
