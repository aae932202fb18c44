//! The gateway against the rules: no differences with cold and warm caches, and while facts change
//! in the database.

use std::time::{Duration, Instant};

use super::oracle::Ruling;
use super::trial::{Asked, Trial};
use super::world::{Random, Size, VISIBILITIES};
use crate::support::DEADLINE;

/// Whether the long tests are enabled.
pub fn is_full() -> bool {
    std::env::var_os("FOREGATE_FULL").is_some()
}

#[tokio::test]
async fn every_answer_matches_the_oracle_with_cold_and_warm_caches() {
    let (size, count) = match is_full() {
        true => (Size::FULL, 40_000),
        false => (Size::SMALL, 8_000),
    };
    let mut trial = Trial::start(size, 7, &[]).await;
    let asked = trial.questions(count);
    let asked = trial.one_of_each(asked);
    eprintln!("{} combinations", asked.len());
    assert!(asked.len() >= 2_000, "{}", asked.len());
    let rulings = trial.rulings(&asked);
    trial.compare("cold", &asked, &rulings).await;
    trial.compare("warm", &asked, &rulings).await;
}

#[tokio::test]
async fn in_any_world_answers_are_the_same_with_and_without_caches() {
    // Small and dense: few people, who have every relation to each other.
    let worlds = if is_full() { 40 } else { 2 };
    for seed in 0..worlds {
        let size = Size {
            users: 4 + 3 * usize::try_from(seed % 4).unwrap(),
            teams: 3,
            projects: 10,
            generations: 60,
            files: 6,
        };
        let mut trial = Trial::start(size, 1000 + seed, &[]).await;
        let asked = trial.questions(200);
        let mut cold = Vec::new();
        for asked in &asked {
            cold.push(trial.answer(asked).await);
        }
        // Another order, so that other facts are cached when each question is asked.
        for (asked, cold) in asked.iter().zip(&cold).rev() {
            assert_eq!(trial.answer(asked).await, *cold, "world {seed}: {asked:?}");
        }
        // A gateway that never cached it answers the same.
        let mut fresh = Trial::within(trial.postgres, trial.world, &[]).await;
        for (asked, cold) in asked.iter().zip(&cold).rev() {
            assert_eq!(fresh.answer(asked).await, *cold, "world {seed}: {asked:?}");
        }
    }
}

#[tokio::test]
async fn the_gateway_answers_by_the_database_after_a_notification() {
    let rounds = if is_full() { 60 } else { 8 };
    let notified = [("database", "{ url: \"URL\", notify_url: \"URL\" }")];
    let postgres = crate::support::Postgres::start();
    super::oracle::install(&postgres);
    let world = super::world::World::create(&postgres, Size::SMALL, 11);
    postgres.sql(include_str!("../../../deploy/sql/notify.sql"));
    let mut trial = Trial::within(postgres, world, &notified).await;
    let asked = trial.questions(400);
    let rulings = trial.rulings(&asked);
    trial.compare("before", &asked, &rulings).await;
    let mut before = rulings;
    let mut changed = 0;
    for round in 0..rounds {
        let changes: Vec<String> = (0..12).map(|_| a_change(&mut trial, &asked)).collect();
        trial.postgres.sql(&changes.join(";\n"));
        let after = trial.rulings(&asked);
        changed += before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .count();
        // A read may use a cached fact for an hour unless it is invalidated: an old answer at the
        // end shows a missed notification.
        for (asked, ruling) in asked.iter().zip(&after) {
            becomes(
                &mut trial,
                asked,
                *ruling,
                &format!("round {round}\n{}", changes.join("\n")),
            )
            .await;
        }
        before = after;
    }
    assert!(changed > 100, "only {changed} answers changed");
}

#[tokio::test]
async fn no_request_is_authorized_by_a_fact_beyond_its_lifetime() {
    // A write may use a fact for 5 s, a read for 30 s; this gateway gets no notifications.
    let mut trial = Trial::start(Size::SMALL, 13, &[]).await;
    let mut asked = trial.questions(250);
    asked.retain(|asked| is_full() || asked.question.action != "read");
    let before = trial.rulings(&asked);
    trial.compare("before", &asked, &before).await;
    let began = Instant::now();
    let changes: Vec<String> = (0..60).map(|_| a_change(&mut trial, &asked)).collect();
    trial.postgres.sql(&changes.join(";\n"));
    let changed = Instant::now();
    let after = trial.rulings(&asked);
    assert!(before != after);
    let longest = Duration::from_secs(if is_full() { 30 } else { 5 });
    loop {
        let is_last = changed.elapsed() > longest;
        for (asked, (before, after)) in asked.iter().zip(before.iter().zip(&after)) {
            let asked_at = changed.elapsed();
            let status = trial.answer(asked).await;
            let age = match asked.question.action {
                "read" => Duration::from_secs(30),
                _ => Duration::from_secs(5),
            };
            // Within their lifetimes, one fact may be old and another new, and together they may
            // give an answer that neither the old nor the new ones give.
            assert!(
                status == after.status() || asked_at <= age,
                "{:?} after the change: {before:?} before it, {after:?} after it, but {status}: {asked:?}",
                asked_at
            );
        }
        if is_last {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(began.elapsed() > longest);
}

/// Shares and memberships that end by themselves, for the rules and for the gateway's queries.
const LENDING: &str = "
ALTER TABLE project_teams ADD lent_until timestamptz;
ALTER TABLE team_members ADD lent_until timestamptz;
CREATE OR REPLACE VIEW oracle.crew AS
    SELECT user_id AS person, team_id AS team,
        CASE role WHEN 'viewer' THEN 1 WHEN 'editor' THEN 3 WHEN 'admin' THEN 3 WHEN 'owner' THEN 3 END AS rank
    FROM team_members WHERE is_active AND NOT coalesce(lent_until <= now(), false)
        AND team_id IN (SELECT id FROM teams WHERE is_active)
    UNION ALL
    SELECT owner_id, id, 3 FROM teams WHERE is_active;
CREATE OR REPLACE VIEW oracle.shared AS
    SELECT pt.project_id AS project, pt.team_id AS team,
        CASE access_level WHEN 'read' THEN 1 WHEN 'write' THEN 2 WHEN 'admin' THEN 3 END AS rank
    FROM project_teams pt
    WHERE NOT coalesce(pt.lent_until <= now(), false) AND NOT EXISTS (
        SELECT FROM project_privacy_settings s
        WHERE s.project_id = pt.project_id
            AND (NOT s.allow_team_access OR (s.restrict_to_specific_teams AND pt.team_id <> ALL (s.allowed_team_ids))));
";

/// A section of the shipped map, changed.
fn changed(section: &str, from: &str, to: &str) -> String {
    let sections = crate::support::velro::sections();
    let (_, text) = sections.iter().find(|(key, _)| *key == section).unwrap();
    assert!(text.contains(from), "{text}");
    text.trim_end().replace(from, to)
}

#[tokio::test]
async fn a_grant_ends_in_time_though_no_notification_says_so() {
    let rounds = if is_full() { 4 } else { 1 };
    // The lifetimes of facts whose query reads a clock, with notifications or without.
    let (read, write) = (Duration::from_secs(30), Duration::from_secs(5));
    let postgres = crate::support::Postgres::start();
    super::oracle::install(&postgres);
    let world = super::world::World::create(&postgres, Size::SMALL, 17);
    postgres.sql(LENDING);
    postgres.sql(include_str!("../../../deploy/sql/notify.sql"));
    // Plans as of a large database, which find their rows through indexes.
    postgres.sql("ALTER DATABASE velro SET enable_seqscan = off");
    let resources = changed(
        "resources",
        "where s.project_id = p.id and (",
        "where s.project_id = p.id and (s.lent_until is null or s.lent_until > now()) and (",
    );
    let facts = changed(
        "facts",
        "and m.is_active and",
        "and m.is_active and (m.lent_until is null or m.lent_until > current_timestamp) and",
    );
    let more = [
        ("database", "{ url: \"URL\", notify_url: \"URL\" }"),
        ("resources", &resources),
        ("facts", &facts),
    ];
    let mut trial = Trial::within(postgres, world, &more).await;
    let listening = trial
        .gateway
        .metric_becomes("foregate_facts_listening", &[], 1.0);
    listening.await;
    let mut asked = trial.questions(700);
    asked.retain(|asked| is_full() || asked.question.action != "read");
    for round in 0..rounds {
        let lend = |until: &str| {
            format!("UPDATE project_teams SET lent_until = {until} WHERE hashtext(project_id::text || team_id || '{round}') % 2 = 0;
                UPDATE team_members SET lent_until = {until} WHERE hashtext(user_id::text || team_id || '{round}') % 2 = 0")
        };
        trial.postgres.sql(
            "UPDATE project_teams SET lent_until = NULL; UPDATE team_members SET lent_until = NULL",
        );
        trial.postgres.sql(&lend("now() + interval '1 hour'"));
        let before = trial.rulings(&asked);
        trial.reconnect().await;
        for (asked, ruling) in asked.iter().zip(&before) {
            becomes(&mut trial, asked, *ruling, "lent").await;
        }
        // The change is reported. The end is not.
        let statement = lend("clock_timestamp() + interval '2 seconds'");
        trial.postgres.sql(&statement);
        let ends = Instant::now() + Duration::from_secs(2);
        for asked in &asked {
            trial.answer(asked).await;
        }
        tokio::time::sleep_until(ends.into()).await;
        let after = trial.rulings(&asked);
        let differing = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        assert!(differing.count() > 5, "nothing ends");
        trial.reconnect().await;
        let longest = if is_full() { read } else { write };
        loop {
            let is_last = ends.elapsed() > longest;
            for (asked, (before, after)) in asked.iter().zip(before.iter().zip(&after)) {
                let asked_at = ends.elapsed();
                let status = trial.answer(asked).await;
                let age = match asked.question.action {
                    "read" => read,
                    _ => write,
                };
                assert!(
                    status == after.status() || asked_at <= age,
                    "{asked_at:?} after the end: {before:?} before it, {after:?} after it, but {status}: {asked:?}"
                );
            }
            if is_last {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
async fn an_incomplete_privacy_row_opens_no_project_to_teams() {
    let world = crate::support::World::new();
    let (owner, member) = (world.user(), world.user());
    let team = world.team(&owner);
    world.join(&team, &member, "admin");
    // The live table may have NULLs, whatever its migrations declare.
    world.sql("alter table project_privacy_settings alter allow_team_access drop not null, alter restrict_to_specific_teams drop not null, alter allowed_team_ids drop not null");
    let gateway = super::trial::gateway(&world.database, &[]).await;
    let token = gateway.issuer.token_of(&member);
    let named = format!("array['{team}'::uuid]");
    let cases = [
        ("true, false, '{}'", 200),
        ("true, true, TEAM", 200),
        ("null, false, '{}'", 404),
        ("true, true, null", 404),
        ("true, true, array[null::uuid]", 404),
        ("true, null, '{}'", 404),
        ("null, null, null", 404),
        ("false, null, TEAM", 404),
    ];
    for (row, status) in cases {
        let project = world.project(&owner, "team-only");
        world.share(&project, &team, "admin");
        let row = row.replace("TEAM", &named);
        world.sql(&format!("insert into project_privacy_settings (project_id, allow_team_access, restrict_to_specific_teams, allowed_team_ids) values ('{project}', {row})"));
        let path = format!("/api/v1/projects/{project}");
        let call = gateway.get(crate::support::Http::Two, &path);
        let answer = call.bearer(&token).send().await;
        assert_eq!(answer.status.as_u16(), status, "{row}");
        assert_eq!(gateway.origin.take().is_empty(), status == 404, "{row}");
    }
}

/// Asks until this is the answer.
async fn becomes(trial: &mut Trial, asked: &Asked, ruling: Ruling, what: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let status = trial.answer(asked).await;
        if status == ruling.status() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "still {status} instead of {ruling:?}: {asked:?}\n{what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A statement that changes something, most likely something that a question is about.
fn a_change(trial: &mut Trial, asked: &[Asked]) -> String {
    let mut chance = Random(trial.world.random().next());
    let world = &trial.world;
    let about = |kind: &str, chance: &mut Random| {
        let things: Vec<&str> = asked
            .iter()
            .filter(|asked| asked.question.kind == kind)
            .map(|asked| asked.question.thing.as_str())
            .collect();
        match things.is_empty() {
            true => chance.id(),
            false => (*chance.one_of(&things)).to_owned(),
        }
    };
    let user = chance.one_of(asked).question.subject.clone();
    let team = chance.one_of(&world.teams).clone();
    let project = about("project", &mut chance);
    let generation = about("generation", &mut chance);
    let file = about("file", &mut chance);
    let role = *chance.one_of(&["viewer", "editor", "admin"]);
    let level = *chance.one_of(&["read", "write", "admin"]);
    let visibility = *chance.one_of(&VISIBILITIES);
    match chance.below(18) {
        0 => format!("UPDATE users SET is_active = NOT is_active WHERE id = '{user}'"),
        1 => format!(
            "UPDATE auth.users SET banned_until = CASE WHEN banned_until IS NULL THEN now() + interval '1 day' END WHERE id = '{user}'"
        ),
        2 => format!(
            "INSERT INTO team_members (team_id, user_id, role) VALUES ('{team}', '{user}', '{role}') ON CONFLICT (team_id, user_id) DO UPDATE SET role = '{role}', is_active = true"
        ),
        3 => format!("DELETE FROM team_members WHERE user_id = '{user}'"),
        4 => format!("UPDATE team_members SET is_active = NOT is_active WHERE team_id = '{team}'"),
        5 => format!("UPDATE teams SET is_active = NOT is_active WHERE id = '{team}'"),
        6 => format!("UPDATE teams SET owner_id = '{user}' WHERE id = '{team}'"),
        7 | 8 => format!("UPDATE projects SET visibility = '{visibility}' WHERE id = '{project}'"),
        9 => format!("UPDATE projects SET user_id = '{user}' WHERE id = '{project}'"),
        10 => format!(
            "INSERT INTO project_teams (project_id, team_id, access_level) SELECT id, '{team}', '{level}' FROM projects WHERE id = '{project}' ON CONFLICT (project_id, team_id) DO UPDATE SET access_level = '{level}'"
        ),
        11 => format!("DELETE FROM project_teams WHERE project_id = '{project}'"),
        12 => format!(
            "INSERT INTO project_privacy_settings (project_id, allow_team_access, restrict_to_specific_teams, allowed_team_ids) SELECT id, true, true, ARRAY['{team}'::uuid] FROM projects WHERE id = '{project}' ON CONFLICT (project_id) DO UPDATE SET allow_team_access = NOT project_privacy_settings.allow_team_access"
        ),
        13 => format!(
            "UPDATE generations SET project_id = (SELECT id FROM projects WHERE id = '{project}') WHERE id = '{generation}'"
        ),
        14 => format!("UPDATE generations SET user_id = '{user}' WHERE id = '{generation}'"),
        15 => {
            format!("UPDATE generations SET parent_generation_id = NULL WHERE id = '{generation}'")
        }
        16 => format!("UPDATE file_metadata SET user_id = '{user}' WHERE id = '{file}'"),
        _ => match chance.below(3) {
            0 => format!("DELETE FROM projects WHERE id = '{project}'"),
            1 => format!("DELETE FROM generations WHERE id = '{generation}'"),
            _ => format!("DELETE FROM file_metadata WHERE id = '{file}'"),
        },
    }
}
