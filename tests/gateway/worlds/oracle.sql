-- Who may do what to what, as SQL over the tables themselves.
--
-- This is the judge of the judge: it is written from the rules alone, and thinks in sets where the gateway thinks in steps. For every kind
-- of thing there is a view of all (person, thing, rank) that hold by some relation; a ruling asks whether the view has a row. Ranks:
-- 1 sees, 2 changes, 3 also deletes and shares, 4 also whatever else there is, which is for who owns it or what it is in.

CREATE SCHEMA oracle;

CREATE TABLE oracle.needs (action text PRIMARY KEY, rank int NOT NULL);
INSERT INTO oracle.needs VALUES ('read', 1), ('write', 2), ('delete', 3), ('share', 3), ('admin', 4);

-- Words of several vocabularies. A word that is not here is `private`, and so is no word.
CREATE TABLE oracle.words (word text PRIMARY KEY, means text NOT NULL);
INSERT INTO oracle.words VALUES
    ('public', 'public'), ('public_read', 'public'),
    ('team-only', 'team'), ('team', 'team'), ('team_only', 'team'), ('team_restricted', 'team');

-- Active members of active teams; whoever owns a team is its owner, even if the member's row is gone or not active.
CREATE VIEW oracle.crew AS
    SELECT user_id AS person, team_id AS team,
        CASE role WHEN 'viewer' THEN 1 WHEN 'editor' THEN 3 WHEN 'admin' THEN 3 WHEN 'owner' THEN 3 END AS rank
    FROM team_members WHERE is_active
        AND team_id IN (SELECT id FROM teams WHERE is_active)
    UNION ALL
    SELECT owner_id, id, 3 FROM teams WHERE is_active;

-- Teams that a project was shared with. A privacy row that does not allow teams shuts all of them out; one that names teams, the others.
CREATE VIEW oracle.shared AS
    SELECT pt.project_id AS project, pt.team_id AS team,
        CASE access_level WHEN 'read' THEN 1 WHEN 'write' THEN 2 WHEN 'admin' THEN 3 END AS rank
    FROM project_teams pt
    WHERE NOT EXISTS (
        SELECT FROM project_privacy_settings s
        WHERE s.project_id = pt.project_id
            AND (NOT s.allow_team_access OR (s.restrict_to_specific_teams AND pt.team_id <> ALL (s.allowed_team_ids))));

-- By relation to a project. Sharing counts only where the project is for teams.
CREATE VIEW oracle.project AS
    SELECT user_id AS person, id AS thing, 4 AS rank FROM projects
    UNION ALL
    SELECT crew.person, p.id, least(crew.rank, shared.rank)
    FROM projects p
        JOIN oracle.words ON word = visibility AND means = 'team'
        JOIN oracle.shared ON shared.project = p.id
        JOIN oracle.crew ON crew.team = shared.team;

-- What everybody who is signed in may do with a project.
CREATE VIEW oracle.open_project AS
    SELECT p.id AS thing, 1 AS rank FROM projects p JOIN oracle.words ON word = visibility AND means = 'public';

-- A generation: its owner, and whoever has a relation to the project it is in.
CREATE VIEW oracle.generation AS
    SELECT user_id AS person, id AS thing, 4 AS rank FROM generations
    UNION ALL
    SELECT project.person, g.id, project.rank FROM generations g JOIN oracle.project ON project.thing = g.project_id;

CREATE VIEW oracle.open_generation AS
    SELECT g.id AS thing, open_project.rank FROM generations g JOIN oracle.open_project ON open_project.thing = g.project_id;

-- A file belongs to its owner alone.
CREATE VIEW oracle.file AS
    SELECT user_id AS person, id AS thing, 4 AS rank FROM file_metadata;

-- Whether the line of parents comes to an end within ten steps. One that goes in a circle, ends in the void or is too long does not.
CREATE FUNCTION oracle.is_sound(generation uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up AS (
        SELECT id, parent_generation_id AS parent, 0 AS steps FROM generations WHERE id = generation
        UNION ALL
        SELECT g.id, g.parent_generation_id, steps + 1 FROM up JOIN generations g ON g.id = up.parent WHERE steps < 10)
    SELECT EXISTS (SELECT FROM up WHERE parent IS NULL)
$$;

-- Whether a person may come in at all: a profile that is active, and nothing at the identity server that says otherwise.
CREATE FUNCTION oracle.is_welcome(subject uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM users WHERE id = subject AND is_active)
        AND NOT EXISTS (SELECT FROM auth.users WHERE id = subject AND (banned_until > now() OR deleted_at IS NOT NULL))
$$;

-- Roles come from the token, where only the identity server writes them. Some reach over every relation.
CREATE FUNCTION oracle.reaches_over(roles text[], action text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT roles && ARRAY['admin', 'superuser'] OR (action = 'read' AND 'moderator' = ANY (roles))
$$;

-- `allow`, `forbidden` (403: the person) or `hidden` (404: the thing, whether it is not there or not theirs).
CREATE FUNCTION oracle.ruling(subject uuid, roles text[], kind text, thing uuid, action text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    rank_needed int := (SELECT rank FROM oracle.needs WHERE needs.action = ruling.action);
    is_there boolean;
    holds boolean;
BEGIN
    IF 'banned' = ANY (roles) OR NOT oracle.is_welcome(subject) THEN
        RETURN 'forbidden';
    END IF;
    CASE kind
        WHEN 'project' THEN
            is_there := EXISTS (SELECT FROM projects WHERE id = thing);
            holds := EXISTS (SELECT FROM oracle.project v WHERE v.thing = ruling.thing AND person = subject AND rank >= rank_needed)
                OR EXISTS (SELECT FROM oracle.open_project v WHERE v.thing = ruling.thing AND rank >= rank_needed);
        WHEN 'generation' THEN
            is_there := oracle.is_sound(thing);
            holds := EXISTS (SELECT FROM oracle.generation v WHERE v.thing = ruling.thing AND person = subject AND rank >= rank_needed)
                OR EXISTS (SELECT FROM oracle.open_generation v WHERE v.thing = ruling.thing AND rank >= rank_needed);
        WHEN 'file' THEN
            is_there := EXISTS (SELECT FROM file_metadata WHERE id = thing);
            holds := EXISTS (SELECT FROM oracle.file v WHERE v.thing = ruling.thing AND person = subject AND rank >= rank_needed);
        WHEN 'user' THEN
            -- The identity server's subject is the thing; whether there is a row does not matter.
            is_there := true;
            holds := thing = subject;
    END CASE;
    RETURN CASE WHEN is_there AND (holds OR oracle.reaches_over(roles, action)) THEN 'allow' ELSE 'hidden' END;
END $$;
