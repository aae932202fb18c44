//! Worlds: databases full of people, teams, projects, generations and files, each made from a seed,
//! with every case that rules are about: bans, idle memberships and teams, unknown visibilities,
//! lines of parents that are long, broken or circular.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::support::Postgres;

/// How many of everything there are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub users: usize,
    pub teams: usize,
    pub projects: usize,
    pub generations: usize,
    pub files: usize,
}

impl Size {
    /// Dense: every relation is likely between any two.
    pub const SMALL: Self = Self {
        users: 40,
        teams: 16,
        projects: 120,
        generations: 500,
        files: 80,
    };

    /// As large as the documented promises.
    pub const FULL: Self = Self {
        users: 10_000,
        teams: 2_000,
        projects: 50_000,
        generations: 500_000,
        files: 20_000,
    };
}

/// A person with a token.
#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    /// Roles that the identity server put into the token.
    pub roles: Vec<&'static str>,
}

/// A database's contents, as far as tests choose from them.
#[derive(Debug)]
pub struct World {
    pub users: Vec<User>,
    pub teams: Vec<String>,
    pub projects: Vec<String>,
    pub generations: Vec<String>,
    pub files: Vec<String>,
    random: Random,
}

/// Every visibility of the migrations, the aliases, and unknown words (which mean `private`).
pub const VISIBILITIES: [&str; 12] = [
    "private",
    "public",
    "team-only",
    "team-only",
    "team-only",
    "public_read",
    "team",
    "team_only",
    "team_restricted",
    "team_open",
    "public_full",
    "Public",
];

impl World {
    /// Makes a world in an empty database. The same seed makes the same one.
    pub fn create(postgres: &Postgres, size: Size, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut ids = |count: usize| -> Vec<String> { (0..count).map(|_| random.id()).collect() };
        let mut world = Self {
            users: Vec::new(),
            teams: ids(size.teams),
            projects: ids(size.projects),
            generations: ids(size.generations),
            files: ids(size.files),
            random: Random(seed ^ 0x5851_f42d_4c95_7f2d),
        };
        let user_ids: Vec<String> = (0..size.users).map(|_| world.random.id()).collect();
        world.create_users(postgres, user_ids);
        world.create_teams(postgres);
        world.create_projects(postgres);
        world.create_generations(postgres);
        world.create_files(postgres);
        postgres.sql("ANALYZE");
        world
    }

    fn create_users(&mut self, postgres: &Postgres, ids: Vec<String>) {
        let (mut profiles, mut accounts) = (String::new(), String::new());
        for (number, id) in ids.into_iter().enumerate() {
            // Everyone below 8 plays a part that every world must have; the others are mostly
            // ordinary.
            let part = if number < 8 {
                number
            } else {
                self.random.below(60)
            };
            let roles = match part {
                1 => vec!["admin"],
                2 => vec!["moderator"],
                3 => vec!["banned", "admin"],
                4 => vec!["editor", "premium"],
                5 => vec!["no_such_role"],
                _ => vec![],
            };
            let is_active = part != 6;
            let banned = match part {
                7 => "2999-01-01 00:00:00+00",
                // A ban that has ended.
                8 => "2001-01-01 00:00:00+00",
                _ => "\\N",
            };
            // What people write into their own row has no effect.
            let boast = if self.random.one_in(5) {
                "admin"
            } else {
                "user"
            };
            writeln!(profiles, "{id}\tu{number}@velro.test\t{boast}\t{is_active}").unwrap();
            writeln!(accounts, "{id}\tu{number}@velro.test\t{banned}").unwrap();
            self.users.push(User { id, roles });
        }
        postgres.copy("users", "id, email, role, is_active", &profiles);
        postgres.copy("auth.users", "id, email, banned_until", &accounts);
    }

    fn create_teams(&mut self, postgres: &Postgres) {
        let (mut teams, mut members) = (String::new(), String::new());
        let mut idle_owners = Vec::new();
        for number in 0..self.teams.len() {
            let team = self.teams[number].clone();
            let owner = self.a_user();
            let is_active = !self.random.one_in(6);
            writeln!(teams, "{team}\t{owner}\tteam{number}\t{is_active}").unwrap();
            if self.random.one_in(5) {
                idle_owners.push(format!("'{team}'"));
            }
            let mut inside = vec![owner];
            for _ in 0..self.random.below(9) {
                let user = self.a_user();
                if inside.contains(&user) {
                    continue;
                }
                let role = self
                    .random
                    .one_of(&["viewer", "viewer", "editor", "editor", "admin", "owner"]);
                let is_active = !self.random.one_in(5);
                writeln!(members, "{team}\t{user}\t{role}\t{is_active}").unwrap();
                inside.push(user);
            }
        }
        postgres.copy("teams", "id, owner_id, team_code, is_active", &teams);
        postgres.copy(
            "team_members",
            "team_id, user_id, role, is_active",
            &members,
        );
        if !idle_owners.is_empty() {
            // Half of them lose the row, the others become idle.
            let (gone, idle) = idle_owners.split_at(idle_owners.len() / 2);
            for (statement, teams) in [
                ("DELETE FROM team_members", gone),
                ("UPDATE team_members SET is_active = false", idle),
            ] {
                if !teams.is_empty() {
                    postgres.sql(&format!(
                        "{statement} WHERE role = 'owner' AND team_id IN ({})",
                        teams.join(",")
                    ));
                }
            }
        }
    }

    fn create_projects(&mut self, postgres: &Postgres) {
        let (mut projects, mut shares, mut privacy) = (String::new(), String::new(), String::new());
        for number in 0..self.projects.len() {
            let project = self.projects[number].clone();
            let owner = self.a_user();
            let visibility = match self.random.one_in(20) {
                true => "\\N",
                false => self.random.one_of(&VISIBILITIES),
            };
            writeln!(projects, "{project}\t{owner}\tp{number}\t{visibility}").unwrap();
            let mut shared = Vec::new();
            for _ in 0..self.random.below(4) {
                let team = self.random.one_of(&self.teams).clone();
                if shared.contains(&team) {
                    continue;
                }
                let level = self.random.one_of(&["read", "write", "admin"]);
                writeln!(shares, "{project}\t{team}\t{level}").unwrap();
                shared.push(team);
            }
            if self.random.one_in(4) {
                let allows = !self.random.one_in(3);
                let restricts = self.random.one_in(2);
                let named = shared.first().filter(|_| !self.random.one_in(4));
                let named = named.map_or_else(|| "{}".to_owned(), |team| format!("{{{team}}}"));
                writeln!(privacy, "{project}\t{allows}\t{restricts}\t{named}").unwrap();
            }
        }
        postgres.copy("projects", "id, user_id, title, visibility", &projects);
        postgres.copy(
            "project_teams",
            "project_id, team_id, access_level",
            &shares,
        );
        postgres.copy(
            "project_privacy_settings",
            "project_id, allow_team_access, restrict_to_specific_teams, allowed_team_ids",
            &privacy,
        );
    }

    /// Lines of parents come in runs: each generation of a run continues the one before.
    fn create_generations(&mut self, postgres: &Postgres) {
        let mut lines = String::new();
        let count = self.generations.len();
        let mut number = 0;
        while number < count {
            let length = match self.random.one_in(5) {
                true => 1,
                false => (1 + self.random.below(14)).min(count - number),
            };
            let end = number + length;
            // A line may begin with one in a cycle, or whose parent does not exist.
            let beginning = match self.random.below(6) {
                0 => self.generations[end - 1].clone(),
                1 => self.random.id(),
                _ => "\\N".to_owned(),
            };
            for at in number..end {
                let parent = match at == number {
                    true => beginning.clone(),
                    false => self.generations[at - 1].clone(),
                };
                let project = match self.random.below(8) {
                    0 => "\\N".to_owned(),
                    1 if self.random.one_in(4) => self.random.id(),
                    _ => self.random.one_of(&self.projects).clone(),
                };
                let owner = self.a_user();
                writeln!(
                    lines,
                    "{}\t{owner}\t{project}\t{parent}",
                    self.generations[at]
                )
                .unwrap();
            }
            number = end;
        }
        postgres.copy(
            "generations",
            "id, user_id, project_id, parent_generation_id",
            &lines,
        );
    }

    fn create_files(&mut self, postgres: &Postgres) {
        let mut lines = String::new();
        for number in 0..self.files.len() {
            let owner = self.a_user();
            let generation = self.random.one_of(&self.generations).clone();
            writeln!(
                lines,
                "{}\t{owner}\t{generation}\t{owner}/f{number}.png",
                self.files[number]
            )
            .unwrap();
        }
        postgres.copy(
            "file_metadata",
            "id, user_id, generation_id, file_path",
            &lines,
        );
    }

    fn a_user(&mut self) -> String {
        self.random.one_of(&self.users).id.clone()
    }

    /// The world's own random numbers, for tests that choose in it.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }
}

/// SplitMix64: small, and the same everywhere, so that a seed determines everything.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of a list.
    pub fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// A UUID of version 4.
    pub fn id(&mut self) -> String {
        let bits = (u128::from(self.next()) << 64) | u128::from(self.next());
        uuid::Builder::from_random_bytes(bits.to_be_bytes())
            .into_uuid()
            .to_string()
    }
}

/// An id of no resource.
pub fn nothing(random: &mut Random) -> String {
    let id = random.id();
    assert!(Uuid::parse_str(&id).is_ok());
    id
}
