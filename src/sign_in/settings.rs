//! The identity server's public settings, cached for a moment: whether it accepts new accounts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use serde::Deserialize;

use super::call::Call;
use super::client::IdentityServer;
use crate::clock;
use crate::denial::{Denial, Reason};

/// How long the settings are cached: how long registration goes on after an operator closed it. A
/// choice.
const LIFETIME: Duration = Duration::from_secs(10);

/// The settings as they were last read.
#[derive(Debug, Default)]
pub struct SettingsCache(ArcSwapOption<(Instant, Settings)>);

/// The settings that the gateway honours.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Settings {
    /// Whether nobody may create an account.
    disable_signup: bool,
}

impl SettingsCache {
    /// Lets a registration pass only if the identity server accepts new accounts. `call` reads its
    /// settings.
    ///
    /// # Errors
    ///
    /// 403 `sign_in_closed`; or a 5xx if the settings cannot be read, and then no account may be
    /// created.
    pub(super) async fn require_open_sign_up(
        &self,
        identity: &IdentityServer,
        call: Call,
    ) -> Result<(), Denial> {
        let settings = match self.cached() {
            Some(settings) => settings,
            None => self.read(identity, call).await?,
        };
        match settings.disable_signup {
            true => Err(Reason::SignInClosed.because("`disable_signup` of the identity server")),
            false => Ok(()),
        }
    }

    fn cached(&self) -> Option<Settings> {
        let (read, settings) = **self.0.load().as_ref()?;
        (clock::now().saturating_duration_since(read) < LIFETIME).then_some(settings)
    }

    async fn read(&self, identity: &IdentityServer, call: Call) -> Result<Settings, Denial> {
        let began = clock::now();
        let reply = identity.call(call).await?;
        // Neither an error nor a proxy's page says that sign-up is open.
        let settings = reply.status.is_success().then_some(&reply.body);
        let settings = settings.and_then(|body| serde_json::from_slice(body).ok());
        let settings: Settings = settings.ok_or_else(|| {
            let status = reply.status.as_u16();
            Reason::IdentityUnavailable.because(format!("no settings: status {status}"))
        })?;
        self.0.store(Some(Arc::new((began, settings))));
        Ok(settings)
    }
}
