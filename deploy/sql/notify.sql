-- Triggers that report changed rows to Foregate, for `database.notify_url`. Run once, as the owner
-- of the tables:
--
--     psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -f deploy/sql/notify.sql
--
-- A payload is a resource type and an id. The types are `caller`, `memberships` and the names under
-- `resources`; adapt them if yours differ.
--
-- With notifications, reads use cached facts for up to an hour, so every table that a query reads
-- must report its changes. The gateway verifies that. Each such table needs:
--
--   * Triggers without WHEN whose first argument is the resource type, on INSERT, DELETE, and
--     UPDATE of every column that the query reads. A primary key that equals `$1` may be left out
--     of the columns. Where the query finds rows by a column that equals `$1`, the function is
--     `foregate_tell`, with that column as its second argument. Where it finds them through other
--     tables, the function has a name of the form `foregate_tell_...` and finds all affected ids
--     itself.
--   * The same without a list of columns, if a BEFORE UPDATE trigger of yours may change a column
--     that the query reads: PostgreSQL runs `UPDATE OF` triggers only for columns that the
--     statement names.
--   * `foregate_tell_everything` on TRUNCATE.
--   * If resources of the type have parents: `foregate_tell_children`, on the same events and
--     columns.
--   * ENABLE ALWAYS for each of them, or restores and logical replication
--     (`session_replication_role = replica`) would report nothing. The end of this file does that.
--
-- For a bulk load, disable the triggers, and run this file again afterwards: the gateway notices both
-- within seconds, and uses the short cache lifetime (30 s) for facts that were loaded before. To have
-- every replica read all facts anew at once, after the load or after rows were changed past the
-- triggers in any other way:
--
--     SELECT pg_notify('foregate_facts', 'everything');
--
-- Until all triggers exist, the gateway uses the short cache lifetime (30 s) and logs what is
-- missing; `foregate check --connect` prints it, too. No trigger reports that time has passed:
-- facts of a query that uses now() or a similar function always keep the short lifetime.
--
-- `notify_url` must be a direct connection to the database that `url` reads, and not to a standby:
-- a pooler in transaction mode does not deliver notifications, and a standby may be read before it
-- has applied what was reported.

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

-- TRUNCATE does not say which rows it removes, so everything may have changed.
CREATE OR REPLACE FUNCTION foregate_tell_everything() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('foregate_facts', 'everything');
    RETURN NULL;
END $$;

-- Deactivating or deleting a team changes the memberships of all its members. The function runs as
-- the owner of the tables, with a fixed search path: row-level security of the writer must not hide
-- members.
CREATE OR REPLACE FUNCTION foregate_tell_members() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM pg_notify('foregate_facts', TG_ARGV[0] || ' ' || user_id)
    FROM public.team_members WHERE team_id IN (OLD.id, NEW.id);
    RETURN NULL;
END $$;

-- The facts of a generation include its parents, so a change is reported for all descendants down
-- to ten levels.
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
-- Without this index every change of a generation would scan the whole table.
CREATE INDEX IF NOT EXISTS foregate_generations_by_parent ON generations (parent_generation_id);

CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE OF is_active ON users
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('caller', 'id');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE ON team_members
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('memberships', 'user_id');
CREATE OR REPLACE TRIGGER foregate_tell AFTER INSERT OR DELETE OR UPDATE OF id, is_active, owner_id ON teams
    FOR EACH ROW EXECUTE FUNCTION foregate_tell_members('memberships');
-- The owner of a team is a member without a row in team_members.
CREATE OR REPLACE TRIGGER foregate_tell_owner AFTER INSERT OR DELETE OR UPDATE OF id, is_active, owner_id ON teams
    FOR EACH ROW EXECUTE FUNCTION foregate_tell('memberships', 'owner_id');
-- Bans and deletions at the identity server. The end of a ban changes no row; it is seen when the
-- cached fact expires.
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

-- Replacing a trigger enables it for ordinary sessions only.
DO $$
DECLARE
    trigger record;
BEGIN
    FOR trigger IN SELECT tgrelid::regclass AS name, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'foregate\_tell%' LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', trigger.name, trigger.tgname);
    END LOOP;
END $$;

COMMIT;
