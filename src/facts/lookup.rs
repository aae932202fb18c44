//! For whom facts are looked up, and until when.

use std::time::Instant;

use crate::network::Networks;
use crate::policy::outage::AccessClass;

/// The caller and the limits of a lookup.
#[derive(Clone, Copy, Debug)]
pub struct LookupContext<'a> {
    /// The caller's issuer and subject, if there is a caller.
    pub caller: Option<(&'a str, &'a str)>,
    /// When the caller's token was first seen here, if the caller should have a row, so that
    /// `facts.caller` is looked up.
    pub row_since: Option<Instant>,
    /// As whom the client is counted, if it is.
    pub client: Option<Networks>,
    /// The access class of the request.
    pub class: AccessClass,
    /// When the request must be decided.
    pub deadline: Instant,
}
