//! The test oracle: the rules as SQL (`oracle.sql`), evaluated through `psql`.

use std::fmt::Write as _;

use crate::support::Postgres;

const RULES: &str = include_str!("oracle.sql");

/// A question: may this caller do this to that resource?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// `sub` of the caller.
    pub subject: String,
    /// Roles in the caller's token.
    pub roles: Vec<&'static str>,
    /// `project`, `generation`, `file` or `user`.
    pub kind: &'static str,
    /// The id of the resource.
    pub thing: String,
    /// The action.
    pub action: &'static str,
}

/// The decision of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// The caller may do it.
    Allow,
    /// 403: the caller may do nothing.
    Forbidden,
    /// 404: it does not exist, or the caller may not see it.
    Hidden,
}

impl Ruling {
    /// The status of the gateway's answer, if the origin answers 200.
    pub fn status(self) -> u16 {
        match self {
            Self::Allow => 200,
            Self::Forbidden => 403,
            Self::Hidden => 404,
        }
    }
}

/// Installs the rules in a database.
pub fn install(postgres: &Postgres) {
    postgres.sql(RULES);
}

/// Answers all questions, in their order.
pub fn rule(postgres: &Postgres, questions: &[Question]) -> Vec<Ruling> {
    if questions.is_empty() {
        return Vec::new();
    }
    let mut query = "SELECT oracle.ruling(subject::uuid, roles::text[], kind, thing::uuid, action) FROM (VALUES ".to_owned();
    for (index, question) in questions.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(
            query,
            "{comma}({index},'{}','{{{}}}','{}','{}','{}')",
            question.subject,
            question.roles.join(","),
            question.kind,
            question.thing,
            question.action
        )
        .unwrap();
    }
    query.push_str(") AS asked (number, subject, roles, kind, thing, action) ORDER BY number");
    let rulings: Vec<Ruling> = postgres
        .rows(&query)
        .iter()
        .map(|row| match row[0].as_str() {
            "allow" => Ruling::Allow,
            "forbidden" => Ruling::Forbidden,
            "hidden" => Ruling::Hidden,
            other => panic!("not a ruling: {other}"),
        })
        .collect();
    assert_eq!(rulings.len(), questions.len());
    rulings
}
