//! Whole databases, and the rules as SQL beside them: the gateway must answer as the rules do.

mod comparison;
mod jobs;
mod oracle;
mod trial;
mod world;

use std::cell::RefCell;
use std::collections::HashMap;

use crate::support::Postgres;
use oracle::{Question, Ruling};
use world::{Random, Size, World};

/// A small database in which every name is a person or a resource: each line of the rules has a
/// case here.
const STAGE: &str = r"
INSERT INTO users (id, email, role, is_active)
SELECT id(name), name, 'superuser', name <> 'idle'
FROM unnest(ARRAY['owner', 'maker', 'viewer', 'editor', 'lead', 'chief', 'former', 'stranger', 'idle', 'banned', 'gone', 'pardoned']) AS name;
INSERT INTO auth.users (id, banned_until, deleted_at) VALUES
    (id('banned'), now() + interval '1 day', NULL), (id('gone'), NULL, now()), (id('pardoned'), now() - interval '1 day', NULL);

INSERT INTO teams (id, owner_id, team_code, is_active) VALUES
    (id('team'), id('chief'), 'team', true), (id('closed'), id('chief'), 'closed', false), (id('other'), id('stranger'), 'other', true);
INSERT INTO team_members (team_id, user_id, role, is_active) VALUES
    (id('team'), id('viewer'), 'viewer', true), (id('team'), id('editor'), 'editor', true), (id('team'), id('lead'), 'admin', true),
    (id('team'), id('former'), 'admin', false), (id('closed'), id('lead'), 'admin', true);
-- Whoever owns a team is in it, whatever the row says.
UPDATE team_members SET is_active = false WHERE user_id = id('chief');

INSERT INTO projects (id, user_id, visibility)
SELECT id(name), id('owner'), CASE WHEN name LIKE 'odd%' THEN 'team_open' ELSE split_part(name, ' ', 1) END
FROM unnest(ARRAY['private', 'public', 'public_read', 'team-only read', 'team_only write', 'team_restricted admin', 'team closed',
    'team-only barred', 'team-only named', 'team-only unnamed', 'odd']) AS name;
INSERT INTO projects (id, user_id, visibility) VALUES (id('nothing'), id('owner'), NULL);
INSERT INTO project_teams (project_id, team_id, access_level)
SELECT id(name), id(CASE WHEN name = 'team closed' THEN 'closed' ELSE 'team' END), coalesce((regexp_match(name, ' (read|write)'))[1], 'admin')
FROM unnest(ARRAY['private', 'public', 'team-only read', 'team_only write', 'team_restricted admin', 'team closed',
    'team-only barred', 'team-only named', 'team-only unnamed', 'odd', 'nothing']) AS name;
INSERT INTO project_privacy_settings (project_id, allow_team_access, restrict_to_specific_teams, allowed_team_ids) VALUES
    (id('team-only barred'), false, false, '{}'), (id('team-only named'), true, true, ARRAY[id('team')]),
    (id('team-only unnamed'), true, true, ARRAY[id('other')]);

INSERT INTO generations (id, user_id, project_id, parent_generation_id) VALUES
    (id('loose'), id('maker'), NULL, NULL),
    (id('in private'), id('maker'), id('private'), NULL),
    (id('in public'), id('maker'), id('public'), NULL),
    (id('in team'), id('maker'), id('team-only read'), NULL),
    (id('lost'), id('maker'), id('no project'), NULL),
    -- A child made by somebody else: who made the parent has nothing to do with it.
    (id('child'), id('stranger'), NULL, id('in public')),
    (id('child of private'), id('stranger'), id('public'), id('in private')),
    (id('orphan'), id('maker'), NULL, id('no parent')),
    (id('self'), id('maker'), NULL, id('self')),
    (id('one'), id('maker'), NULL, id('two')), (id('two'), id('maker'), NULL, id('one'));
INSERT INTO generations (id, user_id, parent_generation_id)
SELECT id('line ' || n), id('maker'), CASE WHEN n > 0 THEN id('line ' || n - 1) END FROM generate_series(0, 12) AS n;
INSERT INTO file_metadata (id, user_id, generation_id) VALUES (id('file'), id('maker'), id('in public'));
";

#[test]
fn the_sql_oracle_matches_the_decisions() {
    let postgres = Postgres::start();
    oracle::install(&postgres);
    postgres.sql("CREATE FUNCTION id(name text) RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT md5(name)::uuid'");
    postgres.sql(STAGE);
    let known = RefCell::new(HashMap::new());
    let id = |name: &str| -> String {
        let ask = || postgres.value(&format!("SELECT id('{name}')"));
        let mut known = known.borrow_mut();
        known.entry(name.to_owned()).or_insert_with(ask).clone()
    };
    let all = ["read", "write", "delete", "admin"];
    // Who may do how many of these actions, in that order, to what.
    type May = (&'static str, usize);
    let cases: Vec<(&str, &str, Vec<May>)> = vec![
        (
            "project",
            "private",
            vec![
                ("owner", 4),
                ("lead", 0),
                ("chief", 0),
                ("stranger", 0),
                ("pardoned", 0),
            ],
        ),
        (
            "project",
            "public",
            vec![("owner", 4), ("lead", 1), ("stranger", 1), ("pardoned", 1)],
        ),
        ("project", "public_read", vec![("stranger", 1)]),
        (
            "project",
            "team-only read",
            vec![
                ("owner", 4),
                ("viewer", 1),
                ("editor", 1),
                ("lead", 1),
                ("chief", 1),
                ("former", 0),
                ("stranger", 0),
            ],
        ),
        (
            "project",
            "team_only write",
            vec![("viewer", 1), ("editor", 2), ("lead", 2), ("chief", 2)],
        ),
        (
            "project",
            "team_restricted admin",
            vec![
                ("viewer", 1),
                ("editor", 3),
                ("lead", 3),
                ("chief", 3),
                ("former", 0),
            ],
        ),
        ("project", "team closed", vec![("lead", 0), ("chief", 0)]),
        (
            "project",
            "team-only barred",
            vec![("owner", 4), ("lead", 0), ("chief", 0)],
        ),
        (
            "project",
            "team-only named",
            vec![("lead", 3), ("stranger", 0)],
        ),
        ("project", "team-only unnamed", vec![("lead", 0)]),
        ("project", "odd", vec![("owner", 4), ("lead", 0)]),
        ("project", "nothing", vec![("owner", 4), ("lead", 0)]),
        ("project", "no project", vec![("owner", 0)]),
        (
            "generation",
            "loose",
            vec![("maker", 4), ("owner", 0), ("lead", 0)],
        ),
        (
            "generation",
            "in private",
            vec![("maker", 4), ("owner", 4), ("lead", 0), ("stranger", 0)],
        ),
        (
            "generation",
            "in public",
            vec![("maker", 4), ("owner", 4), ("stranger", 1)],
        ),
        (
            "generation",
            "in team",
            vec![
                ("maker", 4),
                ("owner", 4),
                ("viewer", 1),
                ("lead", 1),
                ("stranger", 0),
            ],
        ),
        (
            "generation",
            "lost",
            vec![("maker", 4), ("owner", 0), ("stranger", 0)],
        ),
        (
            "generation",
            "child",
            vec![("stranger", 4), ("maker", 0), ("owner", 0)],
        ),
        (
            "generation",
            "child of private",
            vec![("stranger", 4), ("maker", 1), ("owner", 4), ("viewer", 1)],
        ),
        ("generation", "orphan", vec![("maker", 0)]),
        ("generation", "self", vec![("maker", 0)]),
        ("generation", "one", vec![("maker", 0)]),
        ("generation", "line 0", vec![("maker", 4)]),
        ("generation", "line 10", vec![("maker", 4)]),
        ("generation", "line 11", vec![("maker", 0)]),
        ("generation", "no generation", vec![("maker", 0)]),
        (
            "file",
            "file",
            vec![("maker", 4), ("owner", 0), ("stranger", 0)],
        ),
        ("user", "owner", vec![("owner", 4), ("maker", 0)]),
    ];
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    let mut ask = |subject: &str,
                   roles: &[&'static str],
                   kind: &'static str,
                   thing: &str,
                   action: &'static str,
                   ruling| {
        asked.push(Question {
            subject: id(subject),
            roles: roles.to_vec(),
            kind,
            thing: id(thing),
            action,
        });
        expected.push((
            format!("{subject} {roles:?} {action} {kind} {thing}"),
            ruling,
        ));
    };
    for (kind, thing, people) in cases {
        for (person, may) in people {
            for (number, action) in all.into_iter().enumerate() {
                ask(
                    person,
                    &[],
                    kind,
                    thing,
                    action,
                    if number < may {
                        Ruling::Allow
                    } else {
                        Ruling::Hidden
                    },
                );
            }
        }
        // A person who is not admitted may do nothing, not even to what is public or does not
        // exist.
        for person in ["idle", "banned", "gone", "no such person"] {
            ask(person, &["admin"], kind, thing, "read", Ruling::Forbidden);
        }
        ask("owner", &["banned"], kind, thing, "read", Ruling::Forbidden);
    }
    // Roles grant access beyond relations, but not to what does not exist or is inconsistent; some
    // of them only to see.
    for (role, action, thing, ruling) in [
        ("admin", "delete", "in private", Ruling::Allow),
        ("superuser", "read", "in private", Ruling::Allow),
        ("moderator", "read", "in private", Ruling::Allow),
        ("moderator", "write", "in private", Ruling::Hidden),
        ("editor", "read", "in private", Ruling::Hidden),
        ("admin", "read", "no generation", Ruling::Hidden),
        ("admin", "read", "one", Ruling::Hidden),
    ] {
        ask("stranger", &[role], "generation", thing, action, ruling);
    }
    let found = oracle::rule(&postgres, &asked);
    for ((what, ruling), found) in expected.iter().zip(found) {
        assert_eq!(found, *ruling, "{what}");
    }
}

#[test]
fn a_world_is_complete_and_the_same_for_the_same_seed() {
    let postgres = Postgres::start();
    oracle::install(&postgres);
    let mut world = World::create(&postgres, Size::SMALL, 1);
    let questions: Vec<Question> = (0..2000).map(|_| a_question(&mut world)).collect();
    let mut seen: HashMap<(&str, &str, Ruling), usize> = HashMap::new();
    for (question, ruling) in questions.iter().zip(oracle::rule(&postgres, &questions)) {
        *seen
            .entry((question.kind, question.action, ruling))
            .or_default() += 1;
    }
    for kind in ["project", "generation", "file"] {
        for action in ["read", "write", "delete"] {
            for ruling in [Ruling::Allow, Ruling::Forbidden, Ruling::Hidden] {
                assert!(
                    seen.contains_key(&(kind, action, ruling)),
                    "{kind} {action} {ruling:?}: {seen:?}"
                );
            }
        }
    }
    // Every way by which somebody may see a resource, and every way by which a line of parents is
    // inconsistent, occurs.
    for (what, query) in [
        (
            "a team's project",
            "SELECT count(*) FROM oracle.project v JOIN projects p ON p.id = thing WHERE person <> user_id",
        ),
        (
            "a lead in a team",
            "SELECT count(*) FROM oracle.project v JOIN projects p ON p.id = thing WHERE person <> user_id AND rank = 3",
        ),
        (
            "an open project",
            "SELECT count(*) FROM oracle.open_project",
        ),
        (
            "a sound line",
            "SELECT count(*) FROM generations WHERE parent_generation_id IS NOT NULL AND oracle.is_sound(id)",
        ),
        (
            "an unsound line",
            "SELECT count(*) FROM generations WHERE NOT oracle.is_sound(id)",
        ),
        (
            "a circle of one",
            "SELECT count(*) FROM generations WHERE id = parent_generation_id",
        ),
        (
            "a missing parent",
            "SELECT count(*) FROM generations g WHERE parent_generation_id NOT IN (SELECT id FROM generations)",
        ),
        (
            "a missing project",
            "SELECT count(*) FROM generations g WHERE project_id NOT IN (SELECT id FROM projects)",
        ),
        (
            "an idle owner",
            "SELECT count(*) FROM team_members WHERE role = 'owner' AND NOT is_active",
        ),
    ] {
        assert_ne!(postgres.value(query), "0", "{what}");
    }
    let again = Postgres::start();
    let same = World::create(&again, Size::SMALL, 1);
    assert_eq!(
        (&world.projects, &world.generations),
        (&same.projects, &same.generations)
    );
    let digest = "SELECT md5(string_agg(g::text, '' ORDER BY id)) FROM (SELECT id, user_id, project_id, parent_generation_id FROM generations) g";
    assert_eq!(postgres.value(digest), again.value(digest));
}

/// A question that somebody of the world could ask.
fn a_question(world: &mut World) -> Question {
    let random: &mut Random = world.random();
    let mut chance = random.clone();
    random.next();
    let user = chance.one_of(&world.users).clone();
    let kind = *chance.one_of(&["project", "project", "generation", "generation", "file"]);
    let things = match kind {
        "project" => &world.projects,
        "generation" => &world.generations,
        _ => &world.files,
    };
    let thing = match chance.one_in(20) {
        true => world::nothing(&mut chance),
        false => chance.one_of(things).clone(),
    };
    Question {
        subject: user.id,
        roles: user.roles,
        kind,
        thing,
        action: chance.one_of::<&'static str>(&["read", "read", "write", "delete"]),
    }
}
