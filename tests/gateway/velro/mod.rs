//! The shipped route map of Velro, in front of real parts: the attacks that it must stop, what its
//! routes let through, and what two replicas know of each other's writes.

mod attacks;
mod doors;
mod replicas;

use crate::support::answer::Answer;
use crate::support::auth_server::PUBLISHABLE;
use crate::support::client::Call;
use crate::support::{Gateway, Http};

/// A request with a token, and with the project's key, as the Supabase clients send it.
fn call<'a>(
    gateway: &'a Gateway,
    http: Http,
    token: &str,
    (method, path): (&str, &str),
) -> Call<'a> {
    gateway
        .call(http, method, path)
        .bearer(token)
        .header("apikey", PUBLISHABLE)
}

/// The same, sent.
async fn ask(gateway: &Gateway, http: Http, token: &str, request: (&str, &str)) -> Answer {
    call(gateway, http, token, request).send().await
}

/// The same, with JSON.
async fn tell(
    gateway: &Gateway,
    http: Http,
    token: &str,
    request: (&str, &str),
    body: impl AsRef<str>,
) -> Answer {
    call(gateway, http, token, request)
        .header("content-type", "application/json")
        .body(body.as_ref().to_owned())
        .send()
        .await
}
