-- The role with which Foregate reads facts and writes the profile of a new user. It can do nothing
-- else. Run once, as the owner of the tables:
--
--     psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -v password="$(openssl rand -hex 24)" -f deploy/sql/least_privilege.sql
--
-- Row-level security does not apply to the role, on purpose: policies for users (such as those on
-- team_members, which read themselves) would hide facts or fail. Its rights are limited by columns
-- instead. Adapt the names if your queries under `facts` and `resources` read other columns.

BEGIN;

CREATE ROLE foregate LOGIN PASSWORD :'password'
    NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION BYPASSRLS CONNECTION LIMIT 64;

-- Defence in depth behind the deadlines that the gateway sends with each statement.
ALTER ROLE foregate SET statement_timeout = '2s';
ALTER ROLE foregate SET lock_timeout = '1s';
ALTER ROLE foregate SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE foregate SET search_path = public;

GRANT USAGE ON SCHEMA public TO foregate;

-- Facts: only the columns that authorization reads.
GRANT SELECT (id, is_active) ON users TO foregate;
-- What `me` shows of the user's own row.
GRANT SELECT (full_name, credits_balance) ON users TO foregate;
GRANT SELECT (id, owner_id, is_active) ON teams TO foregate;
GRANT SELECT (team_id, user_id, role, is_active) ON team_members TO foregate;
GRANT SELECT (id, user_id, visibility) ON projects TO foregate;
GRANT SELECT (project_id, team_id, access_level) ON project_teams TO foregate;
GRANT SELECT (project_id, allow_team_access, restrict_to_specific_teams, allowed_team_ids) ON project_privacy_settings TO foregate;
GRANT SELECT (id, user_id, project_id, parent_generation_id) ON generations TO foregate;
GRANT SELECT (id, user_id, generation_id) ON file_metadata TO foregate;
-- Bans and deletions, which only the identity server writes.
GRANT USAGE ON SCHEMA auth TO foregate;
GRANT SELECT (id, banned_until, deleted_at) ON auth.users TO foregate;

-- Registration: inserts a profile and never changes one. `ON CONFLICT DO NOTHING` needs no right to
-- read.
GRANT INSERT (id, email, full_name) ON users TO foregate;

COMMIT;
