-- The tables of the Velro database that authorization reads, as they are after its migrations, with the columns that only the live
-- database has (`users.role`, `users.display_name`). What clients could do through row-level security is left out: the gateway's facts
-- are read by a role of their own.
--
-- There is no foreign key behind `generations.project_id`, `generations.parent_generation_id` and `file_metadata.generation_id`: a layer
-- must not trust that the other row exists, so a test must be able to take it away.

CREATE SCHEMA auth;

-- The identity server's table, with the columns that say whether somebody may sign in.
CREATE TABLE auth.users (
    id uuid PRIMARY KEY,
    email text,
    banned_until timestamptz,
    deleted_at timestamptz
);

CREATE TYPE user_role AS ENUM ('banned', 'viewer', 'user', 'premium', 'editor', 'moderator', 'admin', 'superuser');

CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    full_name text,
    display_name text,
    avatar_url text,
    -- Users may write this column themselves. No rule may believe it.
    role user_role DEFAULT 'user',
    is_active boolean NOT NULL DEFAULT true,
    credits_balance integer NOT NULL DEFAULT 100,
    current_plan text NOT NULL DEFAULT 'free' CHECK (current_plan IN ('free', 'basic', 'pro', 'enterprise')),
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE projects (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name text NOT NULL DEFAULT '',
    title text NOT NULL DEFAULT '',
    description text,
    -- `private`, `team-only` or `public` by the migrations' CHECK; other words are in code and in old rows, so that tests need them.
    visibility text DEFAULT 'private',
    tags text[] NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX projects_by_owner ON projects (user_id);

CREATE TABLE teams (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name text NOT NULL DEFAULT '',
    team_code text NOT NULL UNIQUE,
    is_active boolean NOT NULL DEFAULT true,
    max_members integer NOT NULL DEFAULT 10,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX teams_by_owner ON teams (owner_id);

CREATE TABLE team_members (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    team_id uuid NOT NULL REFERENCES teams ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
    invited_by uuid,
    joined_at timestamptz NOT NULL DEFAULT now(),
    is_active boolean NOT NULL DEFAULT true,
    UNIQUE (team_id, user_id)
);
CREATE INDEX team_members_by_user ON team_members (user_id);

CREATE FUNCTION add_team_owner_as_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO team_members (team_id, user_id, role) VALUES (NEW.id, NEW.owner_id, 'owner')
    ON CONFLICT (team_id, user_id) DO NOTHING;
    RETURN NEW;
END $$;
CREATE TRIGGER add_team_owner_as_member AFTER INSERT ON teams
    FOR EACH ROW EXECUTE FUNCTION add_team_owner_as_member();

CREATE TABLE team_invitations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    team_id uuid NOT NULL REFERENCES teams ON DELETE CASCADE,
    invited_email text NOT NULL,
    role text NOT NULL CHECK (role IN ('admin', 'editor', 'viewer')),
    invitation_token text NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL DEFAULT now() + interval '7 days',
    status text NOT NULL DEFAULT 'pending'
);

CREATE TABLE project_teams (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    team_id uuid NOT NULL REFERENCES teams ON DELETE CASCADE,
    access_level text NOT NULL DEFAULT 'read' CHECK (access_level IN ('read', 'write', 'admin')),
    granted_by uuid,
    UNIQUE (project_id, team_id)
);
CREATE INDEX project_teams_by_team ON project_teams (team_id);

CREATE TABLE project_privacy_settings (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id uuid NOT NULL UNIQUE REFERENCES projects ON DELETE CASCADE,
    allow_team_access boolean NOT NULL DEFAULT false,
    restrict_to_specific_teams boolean NOT NULL DEFAULT false,
    allowed_team_ids uuid[] NOT NULL DEFAULT '{}',
    hide_from_other_teams boolean NOT NULL DEFAULT true
);

CREATE TABLE generations (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    project_id uuid,
    status text NOT NULL DEFAULT 'completed' CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    prompt text NOT NULL DEFAULT '',
    parent_generation_id uuid,
    team_context_id uuid,
    collaboration_intent text,
    output_urls text[] NOT NULL DEFAULT '{}',
    media_url text,
    media_files jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX generations_by_owner ON generations (user_id);
CREATE INDEX generations_by_project ON generations (project_id);

CREATE TABLE generation_collaborations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    generation_id uuid NOT NULL REFERENCES generations ON DELETE CASCADE,
    team_id uuid,
    contributor_id uuid,
    collaboration_type text NOT NULL CHECK (collaboration_type IN ('original', 'improvement', 'iteration', 'fork', 'remix')),
    parent_generation_id uuid
);

CREATE TABLE file_metadata (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    generation_id uuid,
    bucket_name text NOT NULL DEFAULT 'media',
    file_path text NOT NULL DEFAULT '',
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE credit_transactions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    amount integer NOT NULL,
    transaction_type text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
