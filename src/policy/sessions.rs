//! Settings of sessions in a cookie, and the cookie names that browsers protect.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Sessions in a cookie, and how many sessions a user may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Name of the cookie. Except in development it begins with `__Host-` (RFC 6265bis, section
    /// 4.1.3.2). Default [`DEFAULT_COOKIE`].
    ///
    /// [`DEFAULT_COOKIE`]: crate::request::headers::DEFAULT_COOKIE
    pub cookie: String,
    /// The cookie's `SameSite` attribute. Default: lax.
    pub same_site: SameSite,
    /// How long a session may go without a request. Default 30 min.
    pub idle: Duration,
    /// How long a session lives at most. Default 12 h.
    pub lifetime: Duration,
    /// Sessions of one user at once, by cookie or by token; one more ends the oldest. Default 10.
    pub max_per_user: usize,
    /// How many sessions a process caches. Default 100,000.
    pub cache: NonZeroUsize,
}

/// The prefix of a cookie that browsers accept only with `Secure`, `Path=/` and no `Domain`, so
/// that no other host and no page in clear text can set it (RFC 6265bis, section 4.1.3.2).
pub const HOST_PREFIX: &str = "__Host-";

/// Whether browsers accept a cookie of this name only with `Secure`. Other names are allowed only
/// in development.
pub fn is_secure_name(name: &str) -> bool {
    name.starts_with(HOST_PREFIX) || name.starts_with("__Secure-")
}

/// The `SameSite` attribute: on which requests from other sites a browser sends a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// When a user follows a link.
    Lax,
    /// On none.
    Strict,
    /// On all.
    None,
}

pub(crate) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
