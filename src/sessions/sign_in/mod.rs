//! Beginning, listing and ending the sessions of a user.
//!
//! Decides:  that a new session has a fresh id, which older sessions it replaces (`begin`), and
//!           the order in which a session ends: revoked first, then deleted (`end`).
//! Trusts:   its caller to have verified the user with the identity server.
//! Not here: calling the identity server, and ending the session there, too (`sign_in`).
//!
//! Operations of several steps complete even if their caller leaves: an index that misses a
//! session, or lists one that does not exist, would leave a session that nobody can end.

mod begin;
mod end;
mod list;

pub use self::begin::{NewSession, SignedInUser};
pub use self::end::{EndError, EndedSessions, OwnSession, SessionSelection};
pub use self::list::{SessionInfo, name_of_id};
