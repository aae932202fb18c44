//! Each attack by its name, on the shipped route map: it is refused for the expected reason, and
//! reaches no server.

use std::time::Instant;

use foregate::denial::Reason;
use foregate::tokens::mint::Signer;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{ask, call, tell};
use crate::support::auth_server::{AuthServer, PUBLISHABLE, SECRET};
use crate::support::velro::Site;
use crate::support::world::new_id;
use crate::support::{Answer, Gateway, Http, Origin, Reply};

const SUBMIT: &str = "/api/v1/generations/async/submit";

/// An answer without the parts that differ in every answer.
fn shown(answer: &Answer) -> (u16, Value, Vec<(String, String)>) {
    let mut body = answer.json();
    body["request_id"] = Value::Null;
    let fields = answer
        .headers
        .iter()
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    (answer.status.as_u16(), body, fields)
}

#[tokio::test]
async fn no_route_reveals_which_ids_exist() {
    let site = Site::new();
    let (owner, thief) = (site.world.user(), site.world.user());
    let project = site.world.project(&owner, "private");
    let generation = site.world.generation(&owner, Some(&project), None);
    let file = new_id();
    site.world.sql(&format!(
        "insert into file_metadata (id, user_id, file_path) values ('{file}', '{owner}', 'a')"
    ));
    let gateway = site.gateway().await;
    let token = site.token_of(&thief);
    for http in Http::BOTH {
        let mut seen = Vec::new();
        for (method, path, id) in [
            ("GET", "/api/v1/projects/ID", &project),
            ("PUT", "/api/v1/projects/ID", &project),
            ("DELETE", "/api/v1/projects/ID", &project),
            ("GET", "/api/v1/projects/ID/stats", &project),
            (
                "POST",
                "/api/v1/storage/projects/ID/setup-folders",
                &project,
            ),
            ("GET", "/api/v1/generations/ID", &generation),
            ("GET", "/generations/ID", &generation),
            ("DELETE", "/generations/ID", &generation),
            ("POST", "/api/v1/generations/ID/favorite", &generation),
            ("GET", "/generations/ID/media-urls", &generation),
            ("GET", "/api/v1/storage/files/ID", &file),
            ("DELETE", "/api/v1/storage/files/ID", &file),
            ("GET", "/api/v1/storage/files/ID/download", &file),
            ("POST", "/api/v1/storage/files/ID/signed-url", &file),
            ("POST", "/api/v1/storage/files/ID/move-to-project", &file),
        ] {
            let theirs = ask(&gateway, http, &token, (method, &path.replace("ID", id))).await;
            theirs.is_denied(Reason::NotYours);
            let nobodys = path.replace("ID", &new_id());
            let nobodys = ask(&gateway, http, &token, (method, &nobodys)).await;
            nobodys.is_denied(Reason::Absent);
            seen.extend([shown(&theirs), shown(&nobodys)]);
        }
        // Nor which users exist, nor which paths are no routes.
        for subject in [&owner, &new_id()] {
            let path = format!("/api/v1/users/{subject}");
            let user = ask(&gateway, http, &token, ("GET", &path)).await;
            seen.push(shown(user.is_denied(Reason::NotYours)));
        }
        let nowhere = ask(&gateway, http, &token, ("GET", "/api/v1/nowhere")).await;
        seen.push(shown(nowhere.is_denied(Reason::RouteUnknown)));
        assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
        gateway.origin.saw_nothing();
    }
}

/// The lookups of all requests together, and the round trips for which they waited.
fn work(gateway: &Gateway) -> (f64, f64) {
    let metrics = gateway.metrics();
    let of = |name: &str| metrics.sum(name, &[]);
    (
        of("foregate_facts_lookups_total"),
        of("foregate_facts_round_trips_sum"),
    )
}

/// 10,000 pairs and their times if long tests are enabled; else fewer, and without a clock.
#[tokio::test]
async fn existing_and_missing_resources_take_the_same_time() {
    let is_full = std::env::var_os("FOREGATE_FULL").is_some();
    let pairs = if is_full { 10_000 } else { 200 };
    let site = Site::new();
    let (owner, thief) = (site.world.user(), site.world.user());
    let there: Vec<String> = (0..pairs).map(|_| new_id()).collect();
    let lines: String = there.iter().map(|id| format!("{id}\t{owner}\n")).collect();
    site.world.database.copy("projects", "id, user_id", &lines);
    site.world.sql("analyze projects");
    let gateway = site.gateway().await;
    let token = site.token_of(&thief);
    let mut client = gateway.connect(Http::One).await;
    let mut asked = async |id: &str| {
        let path = format!("/api/v1/projects/{id}");
        let began = Instant::now();
        let answer = client.get(&path).bearer(&token).send().await;
        let took = began.elapsed();
        assert_eq!(answer.status, 404);
        took
    };
    // The attacker's facts are cached from now on, so that only the resources are looked up.
    asked(&new_id()).await;
    let mut times = [Vec::new(), Vec::new()];
    let mut spent = [(0.0, 0.0); 2];
    let mut before = work(&gateway);
    for (number, id) in there.iter().enumerate() {
        // Alternating which of the two comes first.
        let nobodys = new_id();
        let mut both = [(0, id), (1, &nobodys)];
        both.rotate_left(number % 2);
        for (which, id) in both {
            times[which].push(asked(id).await);
            // The counters are not read while the time is measured.
            if !is_full {
                let after = work(&gateway);
                spent[which].0 += after.0 - before.0;
                spent[which].1 += after.1 - before.1;
                before = after;
            }
        }
    }
    assert_eq!(spent[0], spent[1], "lookups and trips");
    gateway.origin.saw_nothing();
    let [there, nowhere] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    eprintln!("medians: {there:.6} s, {nowhere:.6} s");
    if is_full {
        assert!((there / nowhere - 1.0).abs() < 0.05, "{there} {nowhere}");
    }
}

#[tokio::test]
async fn no_user_reaches_resources_of_another_user() {
    let site = Site::new();
    let (victim, thief) = (site.world.user(), site.world.user());
    let public = site.world.project(&victim, "public");
    let inside = site.world.generation(&victim, Some(&public), None);
    let gateway = site.gateway().await;
    let token = site.token_of(&thief);
    for http in Http::BOTH {
        // What every user may see, no other user may change.
        for (method, path) in [
            ("PUT", format!("/api/v1/projects/{public}")),
            ("DELETE", format!("/api/v1/projects/{public}")),
            (
                "POST",
                format!("/api/v1/storage/projects/{public}/setup-folders"),
            ),
            ("DELETE", format!("/api/v1/generations/{inside}")),
            ("DELETE", format!("/generations/{inside}")),
            ("POST", format!("/generations/{inside}/favorite")),
            ("PATCH", format!("/api/v1/users/{victim}")),
            ("DELETE", format!("/api/v1/users/{victim}")),
            (
                "GET",
                format!("/storage/v1/object/authenticated/media/{victim}/a.png"),
            ),
            ("GET", format!("/storage/v1/object/media/{victim}/a.png")),
            ("POST", format!("/storage/v1/object/media/{victim}/b.png")),
            ("PUT", format!("/storage/v1/object/media/{victim}/a.png")),
            ("DELETE", format!("/storage/v1/object/media/{victim}/a.png")),
            (
                "POST",
                format!("/storage/v1/object/sign/media/{victim}/a.png"),
            ),
            (
                "POST",
                format!("/storage/v1/object/upload/sign/media/{victim}/b.png"),
            ),
            (
                "GET",
                format!("/storage/v1/render/image/authenticated/media/{victim}/a.png"),
            ),
        ] {
            ask(&gateway, http, &token, (method, &path))
                .await
                .is_denied(Reason::NotYours);
            gateway.origin.saw_nothing();
        }
        ask(
            &gateway,
            http,
            &token,
            ("GET", &format!("/generations/{inside}/media-urls")),
        )
        .await
        .is_ok();
        gateway.origin.take();
    }
}

#[tokio::test]
async fn no_user_gains_a_role_by_data_that_users_write() {
    let site = Site::new();
    let (user, victim) = (site.world.user(), site.world.user());
    site.world.sql(&format!(
        "update users set role = 'superuser', metadata = '{{\"role\":\"admin\"}}' where id = '{user}'"
    ));
    let project = site.world.project(&victim, "private");
    let gateway = site.gateway().await;
    let claims = site.claims(&user);
    let boasts = [
        claims.clone(),
        claims.clone().with(
            "user_metadata",
            json!({ "role": "admin", "roles": ["admin", "superuser"] }),
        ),
        claims
            .clone()
            .with("roles", json!(["admin"]))
            .with("user_role", "admin"),
        claims
            .clone()
            .with("app_metadata", json!({ "role": "admin" })),
        claims.clone().roles(["root", "ADMIN", "admin "]),
    ];
    for http in Http::BOTH {
        for claims in &boasts {
            let token = site.sign(claims);
            for (method, path, reason) in [
                (
                    "GET",
                    "/api/v1/generations/async/metrics/system".to_owned(),
                    Reason::RoleInsufficient,
                ),
                (
                    "POST",
                    "/api/v1/storage/cleanup/expired".to_owned(),
                    Reason::RoleInsufficient,
                ),
                (
                    "GET",
                    "/api/v1/admin/users".to_owned(),
                    Reason::RoleInsufficient,
                ),
                (
                    "GET",
                    format!("/api/v1/projects/{project}"),
                    Reason::NotYours,
                ),
                (
                    "DELETE",
                    format!("/api/v1/projects/{project}"),
                    Reason::NotYours,
                ),
                ("GET", format!("/api/v1/users/{victim}"), Reason::NotYours),
                (
                    "GET",
                    "/api/v1/internal/jobs".to_owned(),
                    Reason::RouteDenied,
                ),
            ] {
                ask(&gateway, http, &token, (method, &path))
                    .await
                    .is_denied(reason);
                gateway.origin.saw_nothing();
            }
        }
        // A database role is not a user's role, and is refused.
        for role in ["service_role", "supabase_admin", "anon"] {
            let token = site.sign(&claims.clone().role(role));
            let answer = ask(&gateway, http, &token, ("GET", "/api/v1/admin/users")).await;
            assert!([401, 403].contains(&answer.status.as_u16()), "{role}");
            gateway.origin.saw_nothing();
        }
        let banned = site.sign(&claims.clone().roles(["admin", "banned"]));
        ask(&gateway, http, &banned, ("GET", "/api/v1/admin/users"))
            .await
            .is_denied(Reason::CallerBanned);
        gateway.origin.saw_nothing();
        // A user whom the identity server calls an admin is one.
        let admin = site.sign(&claims.clone().roles(["admin"]));
        let metrics = ("GET", "/api/v1/generations/async/metrics/system");
        ask(&gateway, http, &admin, metrics).await.is_ok();
        gateway.origin.take();
    }
}

#[tokio::test]
async fn no_user_writes_their_own_role_or_credits() {
    let site = Site::new();
    let user = site.world.user();
    let gateway = site.gateway().await;
    let token = site.token_of(&user);
    let own = format!("/rest/v1/users?id=eq.{user}");
    for http in Http::BOTH {
        for (method, path, body) in [
            ("PATCH", own.as_str(), "{\"role\":\"admin\"}"),
            (
                "PATCH",
                &own,
                "{\"full_name\":\"Eve\",\"role\":\"superuser\"}",
            ),
            (
                "PATCH",
                &own,
                "{\"full_name\":\"Eve\",\"\\u0072ole\":\"superuser\"}",
            ),
            ("PATCH", &own, "{\"Role\":\"admin\"}"),
            ("PATCH", &own, "{\"credits_balance\":999999}"),
            ("PATCH", &own, "{\"current_plan\":\"enterprise\"}"),
            ("PATCH", &own, "{\"is_active\":true}"),
            ("PATCH", &own, "{\"id\":\"x\"}"),
            ("PUT", &own, "{\"role\":\"admin\"}"),
            (
                "POST",
                "/rest/v1/users?on_conflict=id",
                "[{\"full_name\":\"a\"},{\"role\":\"admin\"}]",
            ),
            (
                "POST",
                "/rest/v1/users?columns=role",
                "[{\"full_name\":\"a\"}]",
            ),
            (
                "PATCH",
                "/rest/v1/users?select=role",
                "{\"full_name\":\"a\"}",
            ),
            (
                "POST",
                "/rest/v1/rpc/add_user_credits",
                "{\"amount\":999999}",
            ),
            ("POST", "/rest/v1/team_members", "{\"role\":\"owner\"}"),
            (
                "POST",
                "/rest/v1/credit_transactions",
                "{\"amount\":999999}",
            ),
        ] {
            tell(&gateway, http, &token, (method, path), body)
                .await
                .is_denied_in_postgrest(Reason::RestDenied, "42501");
            gateway.origin.saw_nothing();
        }
        // A document that parsers could read in two ways is refused.
        let twice = "{\"full_name\":\"a\",\"full_name\":\"b\"}";
        let answer = tell(&gateway, http, &token, ("PATCH", &own), twice).await;
        assert_eq!(answer.log_line()["reason"], Reason::BodyMalformed.code());
        let form = call(&gateway, http, &token, ("PATCH", &own))
            .header("content-type", "application/x-www-form-urlencoded")
            .body("role=admin");
        assert_eq!(
            form.send().await.log_line()["reason"],
            Reason::BodyType.code()
        );
        gateway.origin.saw_nothing();
        // A name is the user's own.
        let name = "{\"full_name\":\"Eve\"}";
        tell(&gateway, http, &token, ("PATCH", &own), name)
            .await
            .is_ok();
        assert_eq!(gateway.origin.only().body, name.as_bytes());
        gateway.origin.take();
    }
}

#[tokio::test]
async fn no_resource_is_derived_from_a_private_one_or_in_a_cycle() {
    let site = Site::new();
    let (victim, thief) = (site.world.user(), site.world.user());
    let private = site.world.generation(&victim, None, None);
    let project = site.world.project(&victim, "public");
    let shown = site.world.generation(&victim, Some(&project), None);
    // The attacker's own, and the victim's child of it: deriving from a resource gives no access to
    // the child.
    let own = site.world.generation(&thief, None, None);
    let child = site.world.generation(&victim, None, Some(&own));
    let (one, other) = (
        site.world.generation(&thief, None, None),
        site.world.generation(&thief, None, None),
    );
    site.world.sql(&format!(
        "update generations set parent_generation_id = '{other}' where id = '{one}';
         update generations set parent_generation_id = '{one}' where id = '{other}'"
    ));
    let orphan = site.world.generation(&thief, None, Some(&new_id()));
    let origin = Origin::start();
    origin.on(SUBMIT, |exchange| {
        assert!(exchange.read_body());
        let body = json!({ "generation_id": new_id() }).to_string();
        exchange.reply(
            &Reply::ok()
                .header("content-type", "application/json")
                .body(body),
        );
    });
    let gateway = site.gateway_before(origin, |_| {}).await;
    let token = site.token_of(&thief);
    for http in Http::BOTH {
        for (parent, reason) in [
            (private.as_str(), Reason::NotYours),
            (&child, Reason::NotYours),
            (&new_id(), Reason::Absent),
            (&one, Reason::LineageCycle),
            (&orphan, Reason::LineageMissing),
            ("1", Reason::IdentifierInvalid),
        ] {
            let body = json!({ "prompt": "x", "parent_generation_id": parent }).to_string();
            tell(&gateway, http, &token, ("POST", SUBMIT), &body)
                .await
                .is_denied(reason);
            gateway.origin.saw_nothing();
        }
        let body = json!({ "prompt": "x", "project_id": project }).to_string();
        tell(&gateway, http, &token, ("POST", SUBMIT), &body)
            .await
            .is_denied(Reason::NotYours);
        for path in ["/api/v1/generations/", "/generations/"] {
            for (id, reason) in [
                (&one, Reason::LineageCycle),
                (&orphan, Reason::LineageMissing),
                (&child, Reason::NotYours),
            ] {
                ask(&gateway, http, &token, ("GET", &format!("{path}{id}")))
                    .await
                    .is_denied(reason);
            }
        }
        gateway.origin.saw_nothing();
        for parent in [&shown, &own] {
            let body = json!({ "prompt": "x", "parent_generation_id": parent }).to_string();
            tell(&gateway, http, &token, ("POST", SUBMIT), &body)
                .await
                .is_ok();
            gateway.origin.take();
        }
    }
}

#[tokio::test]
async fn no_user_watches_or_cancels_a_job_of_another_user() {
    let site = Site::new();
    let (maker, thief) = (site.world.user(), site.world.user());
    let origin = Origin::start();
    origin.on(SUBMIT, |exchange| {
        assert!(exchange.read_body());
        // A name that is no UUID, as the backend may choose.
        let body = json!({ "generation_id": format!("job_{}", new_id()) }).to_string();
        exchange.reply(
            &Reply::ok()
                .header("content-type", "application/json")
                .body(body),
        );
    });
    let first = site.gateway_before(origin, |_| {}).await;
    let second = site.gateway().await;
    let (makers, thiefs) = (site.token_of(&maker), site.token_of(&thief));
    for http in Http::BOTH {
        let submitted = tell(
            &first,
            http,
            &makers,
            ("POST", SUBMIT),
            "{\"prompt\":\"x\"}",
        )
        .await;
        let id = submitted.is_ok().json()["generation_id"]
            .as_str()
            .unwrap()
            .to_owned();
        first.origin.take();
        for gateway in [&first, &second] {
            for (method, what) in [("GET", "status"), ("GET", "stream"), ("DELETE", "cancel")] {
                let path = format!("/api/v1/generations/async/{id}/{what}");
                ask(gateway, http, &thiefs, (method, &path))
                    .await
                    .is_denied(Reason::NotYours);
                let other = format!("/api/v1/generations/async/job_{}/{what}", new_id());
                ask(gateway, http, &makers, (method, &other))
                    .await
                    .is_denied(Reason::Absent);
                gateway.origin.saw_nothing();
                ask(gateway, http, &makers, (method, &path)).await.is_ok();
                gateway.origin.only();
                gateway.origin.take();
            }
        }
    }
}

#[tokio::test]
async fn a_token_in_the_body_authenticates_nobody_and_never_reaches_the_backend() {
    let site = Site::new();
    let (victim, thief) = (
        site.double.add_user("victim@velro.test", "correct horse"),
        site.double.add_user("thief@velro.test", "battery staple"),
    );
    for id in [&victim, &thief] {
        site.world.sql(&format!(
            "insert into users (id, email) values ('{id}', '{id}@velro.test')"
        ));
    }
    let gateway = site.gateway().await;
    let (victims, _) = site.double.sign_in(&victim);
    let body = json!({ "scheme": "Bearer", "credentials": victims }).to_string();
    for http in Http::BOTH {
        let (thiefs, _) = site.double.sign_in(&thief);
        for path in ["/api/v1/auth/me", "/api/v1/auth/whoami"] {
            let nobody = gateway
                .get(http, path)
                .header("content-type", "application/json")
                .body(body.clone());
            nobody.send().await.is_denied(Reason::TokenMissing);
            let answer = tell(&gateway, http, &thiefs, ("GET", path), &body).await;
            assert_eq!(answer.is_ok().json()["id"], thief.as_str());
        }
        let logout = ("POST", "/api/v1/auth/logout");
        tell(&gateway, http, &thiefs, logout, &body).await.is_ok();
        ask(&gateway, http, &thiefs, ("GET", "/api/v1/auth/me"))
            .await
            .is_denied(Reason::SessionRevoked);
        assert!(site.double.session_lives(&AuthServer::session_of(&victims)));
        let me = ask(&gateway, http, &victims, ("GET", "/api/v1/auth/me")).await;
        assert_eq!(me.is_ok().json()["id"], victim.as_str());
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn unauthenticated_endpoints_of_the_backend_are_closed() {
    let site = Site::new();
    let user = site.world.user();
    let gateway = site.gateway().await;
    let admin = site.sign(&site.claims(&user).roles(["admin", "superuser"]));
    for http in Http::BOTH {
        for path in [
            "/debug",
            "/debug/request-info",
            "/debug/health-detailed",
            "/debug/timing-test",
            "/docs",
            "/redoc",
            "/openapi.json",
            "/fal/flux-pro-ultra",
            "/api/v1/internal/jobs",
            "/api/v1/auth/health",
            "/api/v1/auth/diag",
            "/auth/v1/admin/users",
            "/graphql/v1",
            "/pg/tables",
            "/mcp",
            "/api/mcp",
            "/realtime/v1/api/tenants",
            "/storage/v1/s3/media",
        ] {
            ask(&gateway, http, &admin, ("GET", path))
                .await
                .is_denied(Reason::RouteDenied);
        }
        for path in [
            "/__version",
            "/__diag",
            "/__config",
            "/_ping",
            "/baseline",
            "/healthy",
            "/api/v1/modelsX",
            "/api/v1/authX",
            "/api/v1/teams",
            "/api/v1/collaboration/x",
            "/api/v1/performance/metrics",
            "/storage/v1/bucket",
            "/",
        ] {
            ask(&gateway, http, &admin, ("GET", path))
                .await
                .is_denied(Reason::RouteUnknown);
        }
        // The second mount requires a token as the first does.
        for path in ["/api/v1/generations", "/generations", "/generations/stats"] {
            gateway
                .get(http, path)
                .send()
                .await
                .is_denied(Reason::TokenMissing);
        }
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn no_spelling_of_a_closed_path_matches_an_open_route() {
    let site = Site::new();
    let user = site.world.user();
    let gateway = site.gateway().await;
    let admin = site.sign(&site.claims(&user).roles(["admin", "superuser"]));
    let closed = [
        "debug/request-info",
        "openapi.json",
        "fal/veo3",
        "pg/tables",
        "graphql/v1",
        "auth/v1/admin/users",
        "api/v1/internal/jobs",
        "realtime/v1/api/tenants",
        "storage/v1/s3/media",
    ];
    let open = [
        ("/api/v1/models/", 3),
        ("/storage/v1/object/public/", 4),
        ("/storage/v1/object/sign/a/", 5),
        ("/storage/v1/upload/resumable/", 4),
        ("/functions/v1/", 2),
        ("/rest/v1/", 2),
    ];
    let ups = [
        "../",
        "%2e%2e/",
        ".%2E/",
        "..;/",
        "..%2f",
        "..%5c",
        "%252e%252e/",
        "%c0%ae%c0%ae/",
        "..%00/",
    ];
    for http in Http::BOTH {
        let mut client = gateway.connect(http).await;
        for path in closed {
            let (first, rest) = path.split_at(1);
            let mut spellings = vec![
                format!("/{}", path.to_uppercase()),
                format!("/{path}/"),
                format!("//{path}"),
                format!("/.%2f{path}"),
                format!("/./{path}"),
                format!("/{path}%00"),
                format!("/{path};x"),
                format!("/%{:02x}{rest}", first.as_bytes()[0]),
                format!("/%25{:02x}{rest}", first.as_bytes()[0]),
            ];
            for (vehicle, depth) in open {
                spellings.extend(ups.map(|up| format!("{vehicle}{}{path}", up.repeat(depth))));
            }
            for spelling in spellings {
                if client.is_closed() {
                    client = gateway.connect(http).await;
                }
                let call = client.get(&spelling).bearer(&admin);
                let answer = call.header("apikey", PUBLISHABLE).send().await;
                let status = answer.status.as_u16();
                assert!((400..500).contains(&status), "{spelling}: {status}");
                gateway.origin.saw_nothing();
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_the_backend_would_not_verify_is_verified_here() {
    let site = Site::new();
    let user = site.world.user();
    let gateway = site.gateway().await;
    let good = site.token_of(&user);
    let (head, rest) = good.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    // {"alg":"none"}
    let none = "eyJhbGciOiJub25lIn0";
    let other = Signer::secret(&[7; 48], Algorithm::HS256).unwrap();
    let foreign = other.sign(&site.claims(&user)).unwrap();
    for http in Http::BOTH {
        for token in [
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{signature}"),
            format!("{head}.{payload}."),
            format!("{head}.{payload}.{}", "A".repeat(43)),
            format!("{head}.{payload}"),
            foreign.clone(),
            site.sign(&site.claims(&user).audience("other")),
            site.sign(&site.claims(&user).expiring(1)),
            site.sign(&site.claims(&user).with("iss", "https://evil.test/auth/v1")),
            SECRET.to_owned(),
        ] {
            let answer = ask(&gateway, http, &token, ("GET", "/api/v1/projects")).await;
            assert!(
                [401, 403].contains(&answer.status.as_u16()),
                "{token}: {}",
                answer.text()
            );
            gateway.origin.saw_nothing();
        }
        ask(&gateway, http, &good, ("GET", "/api/v1/projects"))
            .await
            .is_ok();
        gateway.origin.take();
    }
}

#[tokio::test]
async fn no_identity_header_of_a_client_reaches_the_backend() {
    let site = Site::new();
    let user = site.world.user();
    let gateway = site.gateway().await;
    let token = site.token_of(&user);
    let lies = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("x-user-id", "a-lie"),
        ("x-consumer-id", "a-lie"),
        ("x-velro-assertion", "a-lie"),
        ("x-foregate-subject", "a-lie"),
        ("x-foregate-roles", "admin,a-lie"),
        ("sb-forwarded-for", "6.6.6.6"),
        ("sb-api-key", "a-lie"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/debug"),
    ];
    for http in Http::BOTH {
        let mut asked = call(&gateway, http, &token, ("GET", "/api/v1/projects"));
        for (name, value) in lies {
            asked = asked.header(name, value);
        }
        asked.send().await.is_ok();
        let seen = gateway.origin.only();
        for lie in ["6.6.6.6", "a-lie", "/debug"] {
            assert!(!seen.mentions(lie), "{seen:?}");
        }
        assert_eq!(seen.header("x-http-method-override"), None);
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.header("x-foregate-subject"), Some(user.as_str()));
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_banned_deleted_or_idle_user_is_refused() {
    let site = Site::new();
    let (banned, gone, idle) = (site.world.user(), site.world.user(), site.world.user());
    site.world.sql(&format!(
        "insert into auth.users (id, banned_until, deleted_at) values ('{banned}', now() + interval '1 day', null), ('{gone}', null, now());
         update users set is_active = false where id = '{idle}'"
    ));
    let gateway = site.gateway().await;
    for http in Http::BOTH {
        for (user, reason) in [
            (&banned, Reason::CallerInactive),
            (&gone, Reason::CallerInactive),
            (&idle, Reason::CallerInactive),
            (&new_id(), Reason::CallerAbsent),
        ] {
            let token = site.token_of(user);
            for request in [
                ("GET", "/api/v1/projects"),
                ("POST", "/generations"),
                ("GET", "/api/v1/user/profile"),
                ("POST", "/functions/v1/render"),
            ] {
                ask(&gateway, http, &token, request).await.is_denied(reason);
            }
            let table = ("GET", "/rest/v1/projects?select=id");
            let answer = ask(&gateway, http, &token, table).await;
            assert_eq!(answer.log_line()["reason"], reason.code());
            gateway.origin.saw_nothing();
        }
    }
}
