//! A gateway with the route map of Velro in front of a world, asked question by question.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::oracle::{self, Question, Ruling};
use super::world::{Random, Size, User, World};
use crate::support::auth_server::PUBLISHABLE;
use crate::support::client::Client;
use crate::support::tokens::ISSUER;
use crate::support::velro;
use crate::support::{Gateway, Http, Postgres};

/// A route of the map, its action and its resource type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Door {
    pub kind: &'static str,
    pub action: &'static str,
    method: &'static str,
    before: &'static str,
    after: &'static str,
}

const fn door(
    kind: &'static str,
    action: &'static str,
    method: &'static str,
    before: &'static str,
    after: &'static str,
) -> Door {
    Door {
        kind,
        action,
        method,
        before,
        after,
    }
}

const PROJECT: &str = "/api/v1/projects/";
const ONE: &str = "/api/v1/generations/";
const TWO: &str = "/generations/";
const FILE: &str = "/api/v1/storage/files/";

/// Every route of the map that names a resource.
pub const DOORS: [Door; 23] = [
    door("project", "read", "GET", PROJECT, ""),
    door("project", "read", "HEAD", PROJECT, ""),
    door("project", "read", "GET", PROJECT, "/stats"),
    door("project", "write", "PUT", PROJECT, ""),
    door("project", "delete", "DELETE", PROJECT, ""),
    door(
        "project",
        "admin",
        "POST",
        "/api/v1/storage/projects/",
        "/setup-folders",
    ),
    door("generation", "read", "GET", ONE, ""),
    door("generation", "read", "GET", TWO, "/"),
    door("generation", "delete", "DELETE", ONE, ""),
    door("generation", "delete", "DELETE", TWO, ""),
    door("generation", "write", "POST", ONE, "/favorite"),
    door("generation", "write", "POST", TWO, "/favorite"),
    door("generation", "read", "GET", ONE, "/media-urls"),
    door("generation", "read", "GET", TWO, "/media-urls"),
    door("file", "read", "GET", FILE, ""),
    door("file", "write", "PUT", FILE, ""),
    door("file", "delete", "DELETE", FILE, ""),
    door("file", "read", "GET", FILE, "/download"),
    door("file", "read", "POST", FILE, "/signed-url"),
    door("file", "write", "POST", FILE, "/move-to-project"),
    door("user", "read", "GET", "/api/v1/users/", ""),
    door("user", "write", "PATCH", "/api/v1/users/", ""),
    door("user", "delete", "DELETE", "/api/v1/users/", ""),
];

/// A question, and the route that it is sent to.
#[derive(Clone, Debug)]
pub struct Asked {
    pub question: Question,
    pub door: Door,
}

/// The parts of one trial.
#[derive(Debug)]
pub struct Trial {
    pub postgres: Postgres,
    pub world: World,
    pub gateway: Gateway,
    client: Client,
    tokens: HashMap<String, String>,
    /// Pairs of a person and a resource, by resource type, that some relation connects.
    related: HashMap<&'static str, Vec<(String, String)>>,
}

/// The shipped map, except for addresses.
pub async fn gateway(postgres: &Postgres, more: &[(&str, &str)]) -> Gateway {
    let sections = velro::sections();
    let url = format!("{}?sslmode=disable", postgres.url());
    Gateway::with(|config| {
        for wanted in ["roles", "facts", "resources", "routes"] {
            let (_, text) = sections.iter().find(|(key, _)| *key == wanted).unwrap();
            config.set(wanted, text.trim_end());
        }
        let origin = config.get("upstreams").to_owned();
        let both = ["kong:", "supabase:"].map(|name| origin.replace("origin:", name));
        // Answers may take their time: deadlines are tested elsewhere.
        config
            .set("upstreams", &both.concat())
            .set("defaults", "{ upstream: kong }")
            .set("identity", &format!("{{ supabase: {{ url: \"https://identity.test\", issuer: \"{ISSUER}\", publishable_keys: [{PUBLISHABLE}] }} }}"))
            .set("database", &format!("{{ url: \"{url}\" }}"))
            .set("budget", "5s");
        for (key, value) in more {
            config.set(key, &value.replace("URL", &url));
        }
    })
    .await
}

impl Trial {
    /// A new world, and a gateway that has cached nothing of it yet.
    pub async fn start(size: Size, seed: u64, more: &[(&str, &str)]) -> Self {
        let postgres = Postgres::start();
        oracle::install(&postgres);
        let world = World::create(&postgres, size, seed);
        Self::within(postgres, world, more).await
    }

    /// The same for an existing world.
    pub async fn within(postgres: Postgres, world: World, more: &[(&str, &str)]) -> Self {
        let gateway = gateway(&postgres, more).await;
        let client = gateway.connect(Http::Two).await;
        let mut trial = Self {
            postgres,
            world,
            gateway,
            client,
            tokens: HashMap::new(),
            related: HashMap::new(),
        };
        for kind in ["project", "generation", "file"] {
            let query = format!(
                "SELECT person, thing FROM oracle.{kind} ORDER BY md5(person::text || thing) LIMIT 20000"
            );
            let pairs = trial.postgres.rows(&query);
            let pairs = pairs
                .into_iter()
                .map(|row| (row[0].clone(), row[1].clone()));
            trial.related.insert(kind, pairs.collect());
        }
        trial
    }

    /// So many questions, most of them about related people and resources.
    pub fn questions(&mut self, count: usize) -> Vec<Asked> {
        (0..count).map(|_| self.question()).collect()
    }

    fn question(&mut self) -> Asked {
        let random = self.world.random();
        let mut chance = Random(random.next());
        let door = *chance.one_of(&DOORS);
        let (user, thing) = match (door.kind, chance.below(10)) {
            ("user", roll) => {
                let user = chance.one_of(&self.world.users).clone();
                let thing = match roll {
                    0..5 => user.id.clone(),
                    5..9 => chance.one_of(&self.world.users).id.clone(),
                    _ => chance.id(),
                };
                (user, thing)
            }
            (_, 0) => (chance.one_of(&self.world.users).clone(), chance.id()),
            (_, 1..3) => {
                let things = match door.kind {
                    "project" => &self.world.projects,
                    "generation" => &self.world.generations,
                    _ => &self.world.files,
                };
                (
                    chance.one_of(&self.world.users).clone(),
                    chance.one_of(things).clone(),
                )
            }
            (kind, _) => {
                let (person, thing) = chance.one_of(&self.related[kind]).clone();
                (self.user(&person), thing)
            }
        };
        // The roles that a token may contain besides those that the world gave.
        let mut roles = user.roles.clone();
        if chance.one_in(3) {
            roles = vec![chance.one_of::<&'static str>(&[
                "viewer",
                "premium",
                "editor",
                "moderator",
                "admin",
                "superuser",
                "banned",
            ])];
        }
        Asked {
            question: Question {
                subject: user.id,
                roles,
                kind: door.kind,
                thing,
                action: door.action,
            },
            door,
        }
    }

    fn user(&self, id: &str) -> User {
        let found = self.world.users.iter().find(|user| user.id == id);
        found.unwrap().clone()
    }

    /// The decision of the rules for each question.
    pub fn rulings(&self, asked: &[Asked]) -> Vec<Ruling> {
        let questions: Vec<Question> = asked.iter().map(|asked| asked.question.clone()).collect();
        questions
            .chunks(5000)
            .flat_map(|questions| oracle::rule(&self.postgres, questions))
            .collect()
    }

    /// The gateway's answer. A refused request never reaches the origin, and a permitted one
    /// reaches it once.
    pub async fn answer(&mut self, asked: &Asked) -> u16 {
        let Asked { question, door } = asked;
        let key = format!("{} {:?}", question.subject, question.roles);
        let issuer = &self.gateway.issuer;
        let token = self.tokens.entry(key).or_insert_with(|| {
            let claims = issuer.claims().with("sub", question.subject.as_str());
            issuer.sign(&claims.roles(question.roles.iter().copied()))
        });
        let path = format!("{}{}{}", door.before, question.thing, door.after);
        let answer = self
            .client
            .call(door.method, &path)
            .bearer(token)
            .send()
            .await;
        let status = answer.status.as_u16();
        let seen = self.gateway.origin.take();
        match status {
            200 => assert_eq!(seen.len(), 1, "{asked:?}"),
            _ => assert!(seen.is_empty(), "{status}, but the origin saw {asked:?}"),
        }
        status
    }

    /// A new connection. One that is idle for ten seconds is closed, and the rules may have taken
    /// longer.
    pub async fn reconnect(&mut self) {
        self.client = self.gateway.connect(Http::Two).await;
    }

    /// Asks every question, and compares each answer with the rules.
    pub async fn compare(&mut self, when: &str, asked: &[Asked], rulings: &[Ruling]) {
        self.reconnect().await;
        let mut differences = Vec::new();
        for (asked, ruling) in asked.iter().zip(rulings) {
            let status = self.answer(asked).await;
            if status != ruling.status() {
                differences.push(format!("{ruling:?}, but {status}: {asked:?}"));
            }
        }
        assert!(
            differences.is_empty(),
            "{when}: {} of {} differ:\n{}",
            differences.len(),
            asked.len(),
            differences[..differences.len().min(20)].join("\n")
        );
    }

    /// One question of each combination of role, relation, visibility, consistency, account status,
    /// action and route that occurs among these.
    pub fn one_of_each(&self, asked: Vec<Asked>) -> Vec<Asked> {
        let mut query = "SELECT DISTINCT ON (roles, relation, visibility, sound, door, welcome) number FROM (SELECT number, roles, door, \
            CASE WHEN kind = 'project' THEN (SELECT max(rank) FROM oracle.project v WHERE v.thing = asked.thing::uuid AND person = subject::uuid) \
                 WHEN kind = 'generation' THEN (SELECT max(rank) * 10 + max((g.user_id = person)::int) FROM oracle.generation v JOIN generations g ON g.id = v.thing WHERE v.thing = asked.thing::uuid AND person = subject::uuid) \
                 WHEN kind = 'file' THEN (SELECT max(rank) FROM oracle.file v WHERE v.thing = asked.thing::uuid AND person = subject::uuid) \
                 ELSE (subject = thing)::int END AS relation, \
            CASE WHEN kind = 'project' THEN (SELECT visibility FROM projects p WHERE p.id = asked.thing::uuid) \
                 WHEN kind = 'generation' THEN (SELECT visibility FROM projects p JOIN generations g ON g.project_id = p.id WHERE g.id = asked.thing::uuid) END AS visibility, \
            kind = 'generation' AND oracle.is_sound(thing::uuid) AS sound, oracle.is_welcome(subject::uuid) AS welcome FROM (VALUES ".to_owned();
        for (index, Asked { question, door }) in asked.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(
                query,
                "{comma}({index},'{}','{}','{}','{}','{} {}{}')",
                question.subject,
                question.roles.join(","),
                question.kind,
                question.thing,
                door.method,
                door.before,
                door.after
            )
            .unwrap();
        }
        query.push_str(") AS asked (number, subject, roles, kind, thing, door)) AS combined");
        let mut kept: Vec<usize> = self
            .postgres
            .rows(&query)
            .iter()
            .map(|row| row[0].parse().unwrap())
            .collect();
        // Not grouped by what they have in common.
        kept.sort_unstable();
        kept.into_iter()
            .map(|number| asked[number].clone())
            .collect()
    }
}
