//! A small world in a real PostgreSQL: users, teams, projects and generations, and a gateway's
//! configuration that authorizes by them.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use uuid::Uuid;

use super::{Config, Gateway, Postgres};

/// The database of a world.
#[derive(Debug)]
pub struct World {
    pub database: Postgres,
}

/// The gateway's queries about callers, one per line.
const FACTS: &str = "
  caller: select is_active as active from users where id = $1
  memberships: select m.team_id as team, m.role from team_members m join teams t on t.id = m.team_id where m.user_id = $1 and m.is_active and t.is_active";

/// The resource types.
const RESOURCES: &str = "
  project:
    query: select user_id as owner, visibility, (select jsonb_agg(jsonb_build_object('team', team_id, 'access', access_level)) from project_teams where project_id = $1) as teams from projects where id = $1
  generation:
    query: select user_id as owner, project_id as within, parent_generation_id as parent from generations where id = $1
    within: project
    parent: generation
  async_job: { learned: true }";

const ROUTES: &str = r#"
  - { path: /health, methods: [GET], access: public, serve: health }
  - { path: /me, access: user, resource: none }
  - { path: "/things/{thing_id:uuid}", access: user, resource: none }
  - { path: "/projects/{project_id:uuid}", methods: [GET, PUT, DELETE], access: user, resource: project }
  - { path: "/projects/{project_id:uuid}/download", methods: [GET], access: user, action: download, resource: project }
  - { path: "/projects/{project_id:uuid}/moderate", methods: [POST], access: user, action: "write:any", resource: project }
  - { path: "/shown/{project_id:uuid}", methods: [GET], access: optional, resource: project }
  - { path: "/generations/{generation_id:uuid}", methods: [GET, PUT, DELETE], access: user, resource: generation }
  - { path: "/projects/{project_id:uuid}/generations/{id:uuid}", methods: [GET], access: user, resource: [{ kind: generation, id: path.id, within: path.project_id }] }
  - { path: "/compare", methods: [GET], access: user, resource: [{ kind: generation, id: query.left }, { kind: generation, id: query.right }] }
  - { path: /jobs, methods: [POST], access: user, resource: none, learn: { kind: async_job, field: job.id, keep: 1h } }
  - { path: "/jobs/{async_job_id:uuid}", methods: [GET, DELETE], access: user, resource: async_job }
  - { path: /generations, methods: [POST, GET], access: user, resource: none, body: { limit: 64KiB, ids: [{ field: project_id, kind: project, max: 1 }, { field: parent_generation_id, kind: generation, action: read }, { field: "items[].id", kind: generation, action: read, max: 3 }] } }
  - { path: "/users/{user_id:uuid}", methods: [GET, PATCH], access: user, resource: { self: path.user_id } }
"#;

impl World {
    /// An empty world.
    pub fn new() -> Self {
        Self {
            database: Postgres::start(),
        }
    }

    /// A gateway in front of this world whose database has answered: until then, facts are
    /// unavailable.
    pub async fn gateway(&self) -> Gateway {
        let gateway = Gateway::with(|config| self.configure(config)).await;
        crate::performance::is_ready(&gateway).await;
        gateway
    }

    /// Configures a gateway to authorize by this world.
    pub fn configure(&self, config: &mut Config) {
        let url = format!("{}?sslmode=disable", self.database.url());
        config
            // A machine that runs many tests may take its time to fork a server process, and to
            // answer a statement.
            .set(
                "database",
                &format!("{{ url: \"{url}\", connect_timeout: 10s, statement_timeout: 3s }}"),
            )
            .set("facts", FACTS)
            .set("resources", RESOURCES)
            .set(
                "roles",
                "{ grants: { user: [read, write], viewer: [read], moderator: [\"read:any\", \"write:any\"], admin: [\"*\"] } }",
            )
            .set("routes", ROUTES);
    }

    /// The subject of a new user.
    pub fn user(&self) -> String {
        let id = new_id();
        self.sql(&format!(
            "insert into users (id, email) values ('{id}', '{id}@example.com')"
        ));
        id
    }

    /// The id of a new project.
    pub fn project(&self, owner: &str, visibility: &str) -> String {
        let id = new_id();
        self.sql(&format!(
            "insert into projects (id, user_id, visibility) values ('{id}', '{owner}', '{visibility}')"
        ));
        id
    }

    /// The id of a new team.
    pub fn team(&self, owner: &str) -> String {
        let id = new_id();
        self.sql(&format!(
            "insert into teams (id, owner_id, team_code) values ('{id}', '{owner}', '{id}')"
        ));
        id
    }

    /// Makes a user a member of a team.
    pub fn join(&self, team: &str, user: &str, role: &str) {
        self.sql(&format!(
            "insert into team_members (team_id, user_id, role) values ('{team}', '{user}', '{role}')"
        ));
    }

    /// Shares a project with a team.
    pub fn share(&self, project: &str, team: &str, access: &str) {
        self.sql(&format!(
            "insert into project_teams (project_id, team_id, access_level) values ('{project}', '{team}', '{access}')"
        ));
    }

    /// A project of this owner, to which a team of theirs, with this member as an editor, has this
    /// access.
    pub fn team_project(&self, owner: &str, member: &str, access: &str) -> String {
        let team = self.team(owner);
        self.join(&team, member, "editor");
        let project = self.project(owner, "team-only");
        self.share(&project, &team, access);
        project
    }

    /// The id of a new generation.
    pub fn generation(&self, owner: &str, project: Option<&str>, parent: Option<&str>) -> String {
        let id = new_id();
        let quoted = |id: Option<&str>| id.map_or("null".to_owned(), |id| format!("'{id}'"));
        self.sql(&format!(
            "insert into generations (id, user_id, project_id, parent_generation_id) values ('{id}', '{owner}', {}, {})",
            quoted(project),
            quoted(parent)
        ));
        id
    }

    /// Locks a table until the lock is dropped.
    pub fn lock(&self, table: &str) -> Lock {
        let mut holder = Command::new("psql")
            .args(["-X", "-q"])
            .arg(self.database.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let script = format!("begin; lock table {table} in access exclusive mode;\n");
        let stdin = holder.stdin.as_mut().unwrap();
        stdin.write_all(script.as_bytes()).unwrap();
        let lock = Lock(holder);
        let held = format!(
            "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and relation = '{table}'::regclass and granted"
        );
        while self.database.value(&held) == "0" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        lock
    }

    /// Executes statements.
    #[track_caller]
    pub fn sql(&self, statements: &str) {
        self.database.sql(statements);
    }
}

/// A locked table: a client that has begun a transaction, and keeps it open.
#[derive(Debug)]
pub struct Lock(Child);

impl Lock {
    /// Whether the client still runs.
    pub fn is_held(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The end of its input ends the client, and thereby its transaction.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// An id of no resource.
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}
