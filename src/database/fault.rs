//! Why no connection to the database can be made, from what PostgreSQL or the driver says.

use tokio_postgres::Error;

use crate::fault::Fault;

/// The fault behind an error of connecting.
pub(super) fn of_connecting(error: &Error) -> Fault {
    if let Some(refusal) = error.as_db_error() {
        let is_clear_text = [
            "no encryption",
            "SSL off",
            "SSL required",
            "SSL is required",
        ]
        .iter()
        .any(|phrase| refusal.message().contains(phrase));
        return of_state(refusal.code().code(), is_clear_text);
    }
    let debug = format!("{error:?}");
    if debug.contains("password missing") {
        return Fault::lasting("it wants a password: write `postgres://USER:PASSWORD@…`");
    }
    if debug.contains("authentication") {
        return Fault::lasting(
            "it wants another way of authentication than a password: see its pg_hba.conf",
        );
    }
    if debug.contains("kind: Parse") || debug.contains("UnexpectedMessage") {
        return Fault::lasting("what answers is not PostgreSQL: check host and port in the URL");
    }
    Fault::of_connection(&debug).unwrap_or_else(Fault::closed)
}

/// The fault behind a SQLSTATE (PostgreSQL manual, appendix A).
fn of_state(code: &str, is_clear_text: bool) -> Fault {
    match code {
        "28000" if is_clear_text => {
            Fault::lasting("it accepts only TLS: remove `sslmode=disable` from the URL")
        }
        "28000" => Fault::lasting(
            "it does not let this role in from here: check the role's name and LOGIN, and pg_hba.conf",
        ),
        "28P01" => Fault::lasting(
            "it refuses the role or its password: check them in the URL, where special characters are percent-encoded",
        ),
        "3D000" => Fault::lasting("it has no database of this name: check the end of the URL"),
        "42501" => Fault::lasting(
            "the role may not connect to this database: `grant connect on database … to …`",
        ),
        "53300" => Fault::passing(
            "it has no connection left: lower `database.pool`, or raise its `max_connections`",
        ),
        "57P03" => Fault::passing("it is starting, recovering or shutting down: wait"),
        "57P01" | "57P02" => Fault::passing("it is shutting down: wait"),
        code => Fault::passing(format!("it refuses the connection with SQLSTATE {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_password_lasts_and_a_restart_does_not() {
        assert!(of_state("28P01", false).is_lasting());
        assert!(!of_state("57P03", false).is_lasting());
        assert_ne!(of_state("28000", true), of_state("28000", false));
    }
}
