//! What an error of Redis or of its driver means, and the words for it.
//!
//! Redis begins an error with a code in capitals. The codes that are about the data or the memory
//! are known; every other one is about the server, or about what this gateway may do there. `ERR`
//! is the code of what has no other, so it says nothing by itself.

use fred::error::{Error, ErrorKind};

use crate::fault::Fault;

/// What an error means for the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Meaning {
    /// The key holds another type, which no gateway wrote.
    OtherType,
    /// Redis is out of memory. Nothing was written.
    Full,
    /// Redis refused this command, and says nothing about others.
    Refused,
    /// No answer before the deadline.
    Silent,
    /// There is no connection, or it broke.
    Gone,
    /// A script keeps the server busy.
    Busy,
    /// The server answers, but cannot be used, or not by this gateway: it is the wrong one, or it
    /// serves nobody.
    Unusable(Fault),
}

pub(super) fn meaning(error: &Error) -> Meaning {
    let details = error.details();
    match code(details) {
        Some("WRONGTYPE") => Meaning::OtherType,
        Some("OOM") => Meaning::Full,
        Some("BUSY") => Meaning::Busy,
        // Redis 7.0 reports a missing permission inside a script without its code.
        Some("ERR") if details.contains("user executing the script") => {
            Meaning::Unusable(forbidden("a command of a script"))
        }
        Some("ERR") if details.contains("max number of clients") => {
            Meaning::Unusable(of_code("MAXCLIENTS"))
        }
        Some("ERR" | "NOSCRIPT" | "EXECABORT") => Meaning::Refused,
        Some(code) => Meaning::Unusable(of_code(code)),
        None if *error.kind() == ErrorKind::Timeout => Meaning::Silent,
        None => Meaning::Gone,
    }
}

/// The code of an error of Redis; `None` for an error of the driver.
fn code(details: &str) -> Option<&str> {
    let word = details.split([' ', '\r', '\n']).next().unwrap_or_default();
    let is_code = word.len() > 1
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    is_code.then_some(word)
}

/// Why no connection could be made. `has_tls` is whether it was tried with TLS.
pub(super) fn of_connecting(error: &Error, has_tls: bool) -> Fault {
    let details = error.details();
    match code(details) {
        Some("ERR")
            if details.contains("DB index") || details.contains("SELECT is not allowed") =>
        {
            return Fault::lasting(
                "it has no database of this number: change the number at the end of the URL",
            );
        }
        Some("ERR") if !details.contains("max number of clients") => {
            return Fault::lasting(
                "it does not understand a command that begins a connection: use Redis 7.0 or newer, and rename no command",
            );
        }
        Some(_) => {
            if let Meaning::Unusable(fault) = meaning(error) {
                return fault;
            }
        }
        None => {}
    }
    if *error.kind() == ErrorKind::Timeout {
        return match has_tls {
            // Without TLS, Redis waits for the end of what it takes for a command.
            true => Fault::passing(
                "it does not answer in time: it does not speak TLS (`redis://`), it is overloaded, or a firewall drops the packets",
            ),
            false => Fault::silent(),
        };
    }
    // The driver's words for a connection that ends before the first answer.
    let is_closed = details.contains("Expected string");
    if !is_closed && matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Parse) {
        return Fault::lasting("what answers is not Redis: check host and port in the URL");
    }
    match Fault::of_connection(details) {
        Some(fault) if fault != Fault::closed() => fault,
        _ => closed_early(has_tls),
    }
}

/// The connection ended before Redis answered anything.
pub(super) fn closed_early(has_tls: bool) -> Fault {
    match has_tls {
        true => Fault::closed(),
        false => Fault::passing(
            "it closes the connection without an answer: it may expect TLS (`rediss://`), or a proxy in front of it has no server",
        ),
    }
}

/// What the user lacks a permission for.
pub(super) fn forbidden(what: &str) -> Fault {
    Fault::lasting(format!(
        "the Redis user may not use {what}: give it the rights of the ACL rule in README.md"
    ))
}

/// The fault behind a code of Redis that is not about the data.
pub(super) fn of_code(code: &str) -> Fault {
    match code {
        "READONLY" => Fault::passing(
            "it is a read-only replica: wait for the failover, or point the URL to the primary",
        ),
        "MASTERDOWN" => Fault::passing(
            "it is a replica that has lost its primary: wait for the failover, or point the URL to the primary",
        ),
        "LOADING" => Fault::passing("it is still loading its data: wait"),
        "NOREPLICAS" => Fault::passing(
            "it refuses writes because too few replicas follow it: mend them, or lower `min-replicas-to-write`",
        ),
        "MISCONF" => Fault::passing(
            "it refuses writes because it cannot save to its disk: see the log of Redis",
        ),
        "MAXCLIENTS" => Fault::passing("it has no connection left: raise its `maxclients`"),
        "WRONGPASS" => Fault::lasting(
            "it refuses the user or the password: check them in the URL, where special characters are percent-encoded",
        ),
        "NOAUTH" => Fault::lasting(
            "it wants a password: write `redis://:PASSWORD@…` or `redis://USER:PASSWORD@…`",
        ),
        "NOPERM" => forbidden("a command or a name that is needed"),
        "DENIED" => Fault::lasting(
            "it is in protected mode: set a password in Redis, and bind it to an address",
        ),
        "CLUSTERDOWN" => Fault::passing(
            "it is part of a Redis Cluster that is down; a cluster does not work in this version",
        ),
        "MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT" => Fault::lasting(
            "it is part of a Redis Cluster, which does not work in this version: use a single primary",
        ),
        // Codes are short words in capitals, so this repeats no secret.
        code if code.len() <= 16 => Fault::passing(format!("it answers every command with {code}")),
        _ => Fault::passing("it answers every command with an error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(details: &'static str) -> Meaning {
        meaning(&Error::new(ErrorKind::Unknown, details))
    }

    #[test]
    fn every_code_but_those_about_data_and_memory_is_about_the_server() {
        for server in [
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "LOADING Redis is loading the dataset in memory",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "MOVED 3999 127.0.0.1:6381",
            "ASK 3999 127.0.0.1:6381",
            "CLUSTERDOWN Hash slot not served",
            "NOREPLICAS Not enough good replicas to write.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "NOPERM this user has no permissions to run the 'set' command",
            "ERR The user executing the script can't run this command or subcommand script: 3f, on @user_script:1.",
            "ERR max number of clients reached",
            "DENIED Redis is running in protected mode",
            "NOMASTERLINK Can't SYNC while not connected with my master",
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            "READONLY",
        ] {
            assert!(matches!(of(server), Meaning::Unusable(_)), "{server}");
        }
        assert_eq!(of("WRONGTYPE Operation against a key"), Meaning::OtherType);
        assert_eq!(of("OOM command not allowed"), Meaning::Full);
        assert_eq!(of("BUSY Redis is busy running a script."), Meaning::Busy);
        assert_eq!(of("ERR syntax error"), Meaning::Refused);
        for driver in ["Connection closed.", "channel closed", "Canceled.", ""] {
            assert_eq!(of(driver), Meaning::Gone, "{driver}");
        }
        let late = Error::new(ErrorKind::Timeout, "Request timed out.");
        assert_eq!(meaning(&late), Meaning::Silent);
    }

    #[test]
    fn words_never_repeat_what_the_server_wrote() {
        for details in [
            "ERR unknown command `AUTH`, with args beginning with: `default`, `p4ssw0rd`",
            "WRONGPASS p4ssw0rd",
            "p4ssw0rd",
            "ERR DB index is out of range p4ssw0rd",
        ] {
            let error = Error::new(ErrorKind::Unknown, details);
            let words = of_connecting(&error, false).to_string();
            assert!(!words.contains("p4ssw0rd"), "{words}");
        }
    }
}
