//! Users with a project and a generation each, the generation with one parent.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::postgres::Postgres;

pub struct World {
    pub database: Postgres,
    /// A user, its project, and its generation.
    pub owned: Vec<[String; 3]>,
}

impl World {
    pub fn new(users: usize) -> Self {
        let database = Postgres::start();
        let mut owned = Vec::new();
        let [mut people, mut projects, mut generations] = [(); 3].map(|()| String::new());
        for _ in 0..users {
            let [user, project, parent, child] = [(); 4].map(|()| new_id());
            writeln!(people, "{user}\t{user}@example.com").unwrap();
            writeln!(projects, "{project}\t{user}\tprivate").unwrap();
            writeln!(generations, "{parent}\t{user}\t{project}\t\\N").unwrap();
            writeln!(generations, "{child}\t{user}\t{project}\t{parent}").unwrap();
            owned.push([user, project, child]);
        }
        database.copy("users", "id, email", &people);
        database.copy("projects", "id, user_id, visibility", &projects);
        let columns = "id, user_id, project_id, parent_generation_id";
        database.copy("generations", columns, &generations);
        database.sql("analyze");
        Self { database, owned }
    }
}

pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}
