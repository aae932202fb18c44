//! The way to the origin and back: connections, retries, time limits, failures, messages.

mod broken;
mod content;
mod crowd;
mod gone;
mod limits;
mod message;
mod pool;
mod reuse;
mod splitting;
mod stale;

use std::error::Error as _;

use serde_json::Value;

use crate::support::client::Streaming;
use crate::support::{Config, Exchange, Gateway, Http, Reply};

/// A public route for every path.
pub const ANY: &str = r#"- { path: "/{*rest}", access: public }"#;

/// One worker, so that there is one pool; every path is public.
pub fn one_pool(config: &mut Config) {
    config.set("workers", "1").routes(ANY);
}

pub async fn with_one_pool() -> Gateway {
    Gateway::with(one_pool).await
}

/// Answers with the request target, so that an answer shows whose it is.
pub fn echo_target(exchange: &mut Exchange) {
    let target = exchange.request().target.clone();
    exchange.reply(&Reply::ok().body(target));
}

/// On HTTP/2, an incomplete answer is a reset stream and not a lost connection.
#[track_caller]
pub fn is_broken(error: &hyper::Error, http: Http) {
    if http == Http::Two {
        let reset = error
            .source()
            .and_then(|source| source.downcast_ref::<h2::Error>())
            .is_some_and(h2::Error::is_reset);
        assert!(reset, "{error:?}");
    }
}

/// The rest of an answer must be aborted, on HTTP/2 with RST_STREAM, and the log must blame the
/// origin.
pub async fn breaks_off(gateway: &Gateway, http: Http, answer: Streaming) {
    assert_eq!(
        broken_off(gateway, http, answer).await["end"],
        "upstream_failed"
    );
}

/// The log line of an answer that breaks off.
pub async fn broken_off(gateway: &Gateway, http: Http, answer: Streaming) -> Value {
    let id = answer.id().to_owned();
    let error = answer
        .try_finish()
        .await
        .expect_err("a broken answer, not a complete one");
    is_broken(&error, http);
    gateway.log_line(&id)
}
