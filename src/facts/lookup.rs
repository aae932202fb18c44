//! For whom facts are looked up, and until when.

use std::net::IpAddr;
use std::time::Instant;

use crate::policy::outage::AccessClass;

/// The caller and the limits of a lookup.
#[derive(Clone, Copy, Debug)]
pub struct LookupContext<'a> {
    /// The caller's issuer and subject, if there is a caller.
    pub caller: Option<(&'a str, &'a str)>,
    /// The address of the client.
    pub client: IpAddr,
    /// The access class of the request.
    pub class: AccessClass,
    /// When the request must be decided.
    pub deadline: Instant,
}
