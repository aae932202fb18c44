//! Tokens for a caller whose session is in a cookie: they go behind the cookie, and none to the
//! page, as at the gateway's own `login`.

use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{SET_COOKIE, USER_AGENT};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::cookie_caller::CookieCaller;
use super::{Exchange, reply};
use crate::denial::{Denial, Reason};
use crate::sessions::CachedSession;
use crate::sessions::record::{Carrier, InnerTokens};
use crate::sessions::sign_in::{NewSession, SignedInUser};
use crate::sign_in::call::Reply;
use crate::sign_in::grant::Grant;
use crate::sign_in::session::{check_new, seen};
use crate::tokens::claims_of;

impl Exchange {
    /// Puts the tokens of a grant behind the caller's cookie, and answers without them. If they are
    /// of another session, that replaces the cookie's.
    ///
    /// # Errors
    ///
    /// The session has ended, or a new one cannot be stored. Nobody gets the tokens.
    pub(super) async fn keep_behind(
        &self,
        cookie: &CookieCaller,
        grant: &Grant,
        asked_at: i64,
    ) -> Result<Response<Bytes>, Denial> {
        let tokens = InnerTokens {
            access: grant.access_token.clone(),
            refresh: grant.refresh_token.clone(),
        };
        let begun = self.take_behind(cookie, tokens, asked_at).await?;
        let members: Option<Map<String, Value>> = serde_json::from_slice(&grant.raw).ok();
        let mut members = members.ok_or(Reason::Internal)?;
        for name in reply::TOKENS {
            members.remove(name);
        }
        members.insert("token_type".to_owned(), json!("cookie"));
        if let Some(csrf) = begun.csrf {
            members.insert("csrf_token".to_owned(), json!(csrf));
        }
        let body = Value::Object(members).to_string().into();
        let mut response = reply::grant(&body, self.version);
        if let Some(cookie) = begun.set_cookie {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// The same for tokens in a redirect, as after a link in a message. A link to another user's
    /// account must not sign a browser in that somebody else uses: its tokens are dropped.
    pub(super) async fn keep_redirected(
        &self,
        cookie: &CookieCaller,
        tokens: InnerTokens,
        redirect: &Reply,
        asked_at: i64,
    ) -> Result<Response<Bytes>, Denial> {
        let is_same_user = Claims::of(&tokens).is_of_user(&cookie.live);
        let set_cookie = match is_same_user {
            true => self.take_behind(cookie, tokens, asked_at).await?.set_cookie,
            false => {
                self.drop_session(tokens.access);
                None
            }
        };
        let mut redirect = redirect.clone();
        let failure = (!is_same_user).then_some(
            "error=access_denied&error_description=Another+user+is+signed+in+with+this+browser",
        );
        reply::remove_tokens(&mut redirect, failure)?;
        let mut response = reply::answer(&redirect, self.version)?;
        if let Some(cookie) = set_cookie {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// Renews the tokens behind a cookie whose level has fallen.
    pub(super) async fn lower(&self, cookie: &CookieCaller) {
        // A token that is issued in the second of the revocation is refused like those before.
        sleep(Duration::from_secs(1)).await;
        let client = seen(self.client, self.fields.get(USER_AGENT));
        let sessions = self.context.sessions();
        sessions.renew_stale(&cookie.live, client).await;
    }

    async fn take_behind(
        &self,
        cookie: &CookieCaller,
        tokens: InnerTokens,
        asked_at: i64,
    ) -> Result<NewSession, Denial> {
        match Claims::of(&tokens).is_of_session(&cookie.live) {
            true => self.adopt(cookie, tokens).await,
            false => self.replace(cookie, tokens, asked_at).await,
        }
    }

    /// New tokens of the cookie's own session.
    async fn adopt(
        &self,
        cookie: &CookieCaller,
        tokens: InnerTokens,
    ) -> Result<NewSession, Denial> {
        self.context.sessions().adopt(&cookie.live, tokens).await?;
        // Replicas that hold the session use its new tokens once they refuse the old one. If that
        // is not stored, they use it until they renew it.
        if let Some((verified, token)) = &self.user {
            let old = verified.revocation(token);
            self.context.revocations().revoke(old).await;
        }
        Ok(NewSession {
            set_cookie: None,
            csrf: None,
        })
    }

    /// Another session in place of the cookie's, under a new cookie.
    async fn replace(
        &self,
        cookie: &CookieCaller,
        tokens: InnerTokens,
        asked_at: i64,
    ) -> Result<NewSession, Denial> {
        let refused = || Reason::IdentityRefused.because("the token is not accepted here");
        let verified = self.verify_token(tokens.access()).await;
        let verified = verified.ok_or_else(refused)?;
        check_new(&self.context, &verified, Carrier::Cookie, asked_at)?;
        let granted = SignedInUser {
            issuer: verified.issuer().to_owned(),
            subject: verified.subject().to_owned(),
            session: verified.session().map(str::to_owned),
            tokens,
            asked_at,
        };
        let seen = seen(self.client, self.fields.get(USER_AGENT));
        let sessions = self.context.sessions();
        let replaces = sessions.cookies().read(&cookie.value);
        let begun = sessions.begin(granted, Carrier::Cookie, seen, replaces);
        begun
            .await
            .map_err(|why| Reason::SessionUnavailable.because(why.as_str()))
    }
}

/// The claims of an access token that the identity server itself sent: it need not be verified to
/// find out whose it is. It is when it is used.
struct Claims(Map<String, Value>);

impl Claims {
    fn of(tokens: &InnerTokens) -> Self {
        Self(claims_of(tokens.access()).unwrap_or_default())
    }

    fn is_of_user(&self, live: &CachedSession) -> bool {
        let session = live.session();
        self.is("iss", Some(&session.issuer)) && self.is("sub", Some(&session.subject))
    }

    fn is_of_session(&self, live: &CachedSession) -> bool {
        let session = live.session().session.as_deref();
        session.is_some() && self.is_of_user(live) && self.is("session_id", session)
    }

    fn is(&self, name: &str, expected: Option<&str>) -> bool {
        self.0.get(name).and_then(Value::as_str) == expected
    }
}
