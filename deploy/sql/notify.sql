-- Triggers that tell Foregate which facts have changed, for `database.notify_url`. Run once, as the owner of the tables:
--
--     psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -f deploy/sql/notify.sql
--
-- A payload is a kind and an id. The kinds are `caller`, `memberships` and those under `resources`; adapt the names if yours differ. Every
-- table that a query reads must tell, since with notifications reads believe a fact for an hour. The gateway looks: each such table needs
-- triggers without WHEN whose first argument is the kind, for inserts, deletes and updates of every column that the query reads, and
-- `foregate_tell_everything` for TRUNCATE. Where the query finds its rows by a column that is `$1`, their function is `foregate_tell` with that
-- column as its second argument; where it finds them through other rows, one called `foregate_tell_…` that finds everybody to tell of. What
-- has parents also needs `foregate_tell_children`, for the same events and columns. A primary key that is `$1` may be left out of the columns.
-- Until it finds them all it keeps to the ages without notifications, and says what is missing; so does `foregate check --connect`.
--
-- `notify_url` must be a direct connection to the database that `url` reads, and that one no standby: a pooler in transaction mode does not
-- pass notifications on, and a standby may be read before it has what was told.

BEGIN;

CREATE OR REPLACE FUNCTION foregate_tell() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kind text := TG_ARGV[0];
    key text := TG_ARGV[1];
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_notify('foregate_facts', kind || ' ' || (to_jsonb(OLD) ->> key));
    END IF;
    IF TG_OP <> 'DELETE' AND (TG_OP = 'INSERT' OR to_jsonb(NEW) ->> key IS DISTINCT FROM to_jsonb(OLD) ->> key) THEN
        PERFORM pg_notify('foregate_facts', kind || ' ' || (to_jsonb(NEW) ->> key));
    END IF;
    RETURN NULL;
END $$;

-- Everything was taken out of a table at once; whose it was is not said.
CREATE OR REPLACE FUNCTION foregate_tell_everything() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('foregate_facts', 'everything');
    RETURN NULL;
END $$;

-- A team that is switched off or deleted changes the memberships of everybody in it.
-- As the owner of the tables and with its names: row-level security of whoever writes must not hide who has to hear of it.
CREATE OR REPLACE FUNCTION foregate_tell_members() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM pg_notify('foregate_facts', TG_ARGV[0] || ' ' || user_id)
    FROM public.team_members WHERE team_id IN (OLD.id, NEW.id);
    RETURN NULL;
END $$;

-- What a generation was made from is part of what is known of it: whatever was made from it, ten steps down, must hear of a change.
CREATE OR REPLACE FUNCTION foregate_tell_children() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM pg_notify('foregate_facts', TG_ARGV[0] || ' ' || id) FROM (
        WITH RECURSIVE down AS (
            SELECT id, 1 AS depth FROM public.generations WHERE parent_generation_id = coalesce(NEW.id, OLD.id)
            UNION
            SELECT g.id, depth + 1 FROM down JOIN public.generations g ON g.parent_generation_id = down.id WHERE depth <= 10)
        SELECT DISTINCT id FROM down) AS descendants;
    RETURN NULL;
END $$;
-- Without it every change of a generation would read the whole table.
CREATE INDEX IF NOT EXISTS foregate_generations_by_parent ON generations (parent_generation_id);

CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE OF is_active ON users
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('caller', 'id');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE ON team_members
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('memberships', 'user_id');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE OF id, is_active, owner_id ON teams
    FOR EACH ROW EXECUTE FUNCTION foregate_tell_members('memberships');
-- Whoever owns a team may be in it without a row of team_members.
CREATE OR REPLACE TRIGGER foregate_tell_owner AFTER INSERT OR DELETE OR UPDATE OF id, is_active, owner_id ON teams
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('memberships', 'owner_id');
-- Bans and deletions at the identity server. That a ban is over tells nobody: it is seen when the fact has grown old.
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE OF banned_until, deleted_at ON auth.users
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('caller', 'id');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE OF user_id, visibility ON projects
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('project', 'id');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE ON project_teams
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('project', 'project_id');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE ON project_privacy_settings
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('project', 'project_id');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE OF user_id, project_id, parent_generation_id ON generations
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('generation', 'id');
CREATE OR REPLACE TRIGGER foregate_tell_children AFTER INSERT OR DELETE OR UPDATE OF user_id, project_id, parent_generation_id ON generations
    FOR EACH ROW EXECUTE FUNCTION foregate_tell_children('generation');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE OF user_id, generation_id ON file_metadata
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('file', 'id');
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON users FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON auth.users FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON teams FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON team_members FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON projects FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON project_teams FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON project_privacy_settings FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON generations FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();
CREATE OR REPLACE TRIGGER foregate_tell_everything AFTER TRUNCATE ON file_metadata FOR EACH STATEMENT EXECUTE FUNCTION foregate_tell_everything();

COMMIT;
