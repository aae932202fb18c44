//! The limit of refused tokens: bad tokens cost a check of their signature, good ones in a cache do
//! not.

use foregate::denial::Reason;

use crate::support::{Answer, Gateway, Http};

/// A token with the signature of another.
fn forged(gateway: &Gateway) -> String {
    let [one, other] = [(); 2].map(|()| gateway.issuer.token());
    let (head, _) = one.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    format!("{head}.{signature}")
}

/// A gateway behind a proxy on this machine.
async fn behind_a_proxy(refused: &str) -> Gateway {
    Gateway::with(|config| {
        config
            .set("connections", &format!("{{ refused_tokens: {refused} }}"))
            .set("trusted_proxies", "{ from: [127.0.0.1], hops: 1 }");
    })
    .await
}

async fn send(gateway: &Gateway, http: Http, from: &str, token: &str) -> Answer {
    let call = gateway.get(http, "/me").header("x-forwarded-for", from);
    call.bearer(token).send().await
}

#[tokio::test]
async fn an_address_that_sent_too_many_bad_tokens_gets_no_more_of_them_checked() {
    let gateway = behind_a_proxy("3/d").await;
    for (number, http) in Http::BOTH.into_iter().enumerate() {
        let here = format!("203.0.113.{number}");
        let there = format!("198.51.100.{number}");
        let known = gateway.issuer.token();
        send(&gateway, http, &here, &known).await.is_ok();
        gateway.origin.take();
        // What needs no check does not count.
        for _ in 0..5 {
            let answer = send(&gateway, http, &here, "not.a.token").await;
            answer.is_denied(Reason::TokenMalformed);
        }
        let unknown = gateway.issuer.signer().clone().with_kid("other");
        let unknown = unknown.sign(&gateway.issuer.claims()).unwrap();
        for (token, reason) in [
            (forged(&gateway), Reason::TokenSignature),
            (unknown, Reason::TokenKeyUnknown),
            (gateway.issuer.expired(), Reason::TokenExpired),
        ] {
            send(&gateway, http, &here, &token).await.is_denied(reason);
        }
        for token in [forged(&gateway), gateway.issuer.token()] {
            let answer = send(&gateway, http, &here, &token).await;
            answer.is_denied(Reason::TokensTooMany);
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!((28_000..=28_800).contains(&wait), "{wait}");
        }
        gateway.origin.saw_nothing();
        // A token that was verified before is not affected, and neither is another address.
        send(&gateway, http, &here, &known).await.is_ok();
        send(&gateway, http, &there, &gateway.issuer.token())
            .await
            .is_ok();
        let answer = send(&gateway, http, &there, &forged(&gateway)).await;
        answer.is_denied(Reason::TokenSignature);
        gateway.origin.take();
    }
}

#[tokio::test]
async fn a_proxy_that_names_no_client_has_no_limit() {
    let gateway = behind_a_proxy("1/d").await;
    for http in Http::BOTH {
        for _ in 0..5 {
            let call = gateway.get(http, "/me").bearer(&forged(&gateway));
            call.send().await.is_denied(Reason::TokenSignature);
        }
    }
    gateway.origin.saw_nothing();
}
