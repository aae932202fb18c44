//! What routes are checked against.

use super::wire::Defaults;
use crate::config::sections::facts::Attributes;
use crate::policy::Environment;
use crate::policy::layers::Waiver;

/// The other sections of the file, as far as routes depend on them.
pub(crate) struct RouteContext<'a> {
    pub(super) environment: Option<Environment>,
    pub(super) defaults: &'a Defaults,
    /// Names of the upstreams, in order; those that are themselves wrong included.
    pub(super) upstreams: Vec<&'a str>,
    /// For each of them, whether it speaks HTTP/2.
    pub(super) speak_http2: Vec<bool>,
    /// The gateway's hosts; empty if any host is answered.
    pub(super) hosts: Vec<String>,
    pub(super) has_tokens: bool,
    /// Whether publishable keys are known.
    pub(super) has_identity: bool,
    pub(super) waived: Vec<Waiver>,
    /// What resources may be named; `None` if they are wrong.
    pub(super) attributes: Option<&'a Attributes>,
}
