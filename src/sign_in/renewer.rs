//! Renews the tokens of the sessions behind cookies, through the same code path as client refreshes
//! (`refresh`). When a session needs new tokens is decided in `sessions::renew`.

use super::refresh::{Holder, Refresh, RefreshOutcome};
use crate::secrets::secret::Secret;
use crate::sessions::record::{ClientInfo, InnerTokens};
use crate::sessions::renew::{Refusal, Renewed, Renewer, Renewing};

impl Renewer for Refresh {
    fn renew<'a>(&'a self, refresh: &'a Secret, client: ClientInfo) -> Renewing<'a> {
        Box::pin(async move {
            Ok(
                match &*self.refresh_for(Holder::Gateway, refresh, client).await? {
                    RefreshOutcome::Granted(grant) => Renewed::Granted(InnerTokens {
                        access: grant.access_token.clone(),
                        refresh: grant.refresh_token.clone(),
                    }),
                    RefreshOutcome::Refused(error)
                        if error.code == "refresh_token_already_used" =>
                    {
                        Renewed::Refused(Refusal::Used)
                    }
                    RefreshOutcome::Refused(_) => Renewed::Refused(Refusal::Over),
                },
            )
        })
    }
}
