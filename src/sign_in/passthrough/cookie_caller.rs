//! The session of the cookie that proved a caller.

use std::sync::Arc;

use crate::auth::Permit;
use crate::request::headers::GatewayCookie;
use crate::sessions::CachedSession;
use crate::sign_in::context::Context;

/// The session of the cookie that proved the caller.
#[derive(Clone)]
pub(in crate::sign_in) struct CookieCaller {
    pub(super) live: Arc<CachedSession>,
    /// The value of the cookie.
    pub(super) value: String,
}

impl CookieCaller {
    /// The caller of a permitted request, if a cookie proved them.
    pub(in crate::sign_in) fn of(context: &Context, permit: &Permit) -> Option<Self> {
        let live = permit.caller().cookie_session()?.clone();
        let Some(GatewayCookie::One(value)) = permit.request().cookie() else {
            return None;
        };
        context.sessions().cookies().read(value)?;
        let value = value.to_string();
        Some(Self { live, value })
    }
}
