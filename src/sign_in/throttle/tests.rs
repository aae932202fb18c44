#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use prometheus::Registry;

use super::*;
use crate::policy::sign_in::Limits;
use crate::store::Memory;

fn rate(count: u32, seconds: u64) -> Rate {
    let count = NonZeroU32::new(count).expect("not zero");
    Rate::new(count, Duration::from_secs(seconds))
}

/// Rates so slow that no token is refilled during a test.
fn throttling() -> Throttling {
    let limits = |address, account: Option<u32>| Limits {
        address: rate(address, 100_000),
        account: account.map(|count| rate(count, 100_000)),
    };
    Throttling {
        login: limits(20, Some(5)),
        register: limits(3, None),
        refresh: limits(10, None),
        reset: limits(2, None),
        verify: limits(10, Some(5)),
        challenge: limits(10, Some(3)),
        redirect: limits(30, None),
        account: limits(30, None),
        read: limits(30, None),
        everywhere: rate(10, 100_000),
        longest_delay: Duration::from_millis(2),
        refusal_floor: Duration::from_millis(300),
        waiting: 100,
    }
}

fn throttle() -> Arc<Throttle> {
    let store = Arc::new(Memory::new(100, crate::clock::unix_now));
    let metrics = ThrottleMetrics::new(&Registry::new()).expect("names differ");
    Throttle::new(store, &[], Arc::new(metrics)).expect("randomness")
}

fn address(last: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xc000_0200 + last))
}

fn at<'a>(client: IpAddr, account: &'a str) -> AttemptKey<'a> {
    AttemptKey {
        client: Some(Networks::of(client)),
        account: Some(account),
    }
}

/// Admits an attempt and counts it as a failure.
async fn fails(
    throttle: &Arc<Throttle>,
    attempt: Attempt,
    key: AttemptKey<'_>,
) -> Result<(), Denial> {
    let admission = throttle.admit(&throttling(), attempt, key).await?;
    admission.failed();
    Ok(())
}

/// How many of the attempts were admitted.
async fn admitted<'a>(
    throttle: &Arc<Throttle>,
    attempts: impl Iterator<Item = AttemptKey<'a>>,
) -> usize {
    let mut admitted = 0;
    for key in attempts {
        admitted += usize::from(fails(throttle, Attempt::Login, key).await.is_ok());
    }
    admitted
}

/// Waits until the updates in the background are done.
async fn settled() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn five_failures_on_one_account_from_one_network_are_the_limit() {
    let throttle = throttle();
    let attempts = (0..1000).map(|_| at(address(1), "a@b.test"));
    assert_eq!(admitted(&throttle, attempts).await, 5);
}

#[tokio::test]
async fn twenty_failures_from_one_network_are_the_limit() {
    let throttle = throttle();
    let accounts: Vec<String> = (0..1000).map(|n| format!("{n}@b.test")).collect();
    let attempts = accounts.iter().map(|account| at(address(1), account));
    assert_eq!(admitted(&throttle, attempts).await, 20);
}

#[tokio::test]
async fn an_office_behind_one_address_is_not_refused() {
    let throttle = throttle();
    for person in 0..200 {
        let account = format!("{person}@office.test");
        // Everybody mistypes once, then does not; now and then two at once.
        if person % 15 == 0 {
            let key = at(address(1), &account);
            fails(&throttle, Attempt::Login, key).await.expect("a typo");
        }
        let key = at(address(1), &account);
        let admission = throttle.admit(&throttling(), Attempt::Login, key).await;
        admission.expect("knows the password").succeeded();
        settled().await;
    }
}

#[tokio::test]
async fn the_owner_signs_in_while_a_thousand_networks_try_the_account() {
    let throttle = throttle();
    let attempts = (0..1000).map(|network| at(address(network), "a@b.test"));
    assert_eq!(admitted(&throttle, attempts).await, 1000);
    assert!(throttle.metrics.delayed.get() >= 980);
    let owner = at(address(5000), "A@b.test ");
    let admission = throttle.admit(&throttling(), Attempt::Login, owner).await;
    admission.expect("never locked").succeeded();
}

#[tokio::test]
async fn spellings_of_one_account_are_counted_together() {
    let throttle = throttle();
    let spellings = [
        "a@b.test",
        "A@B.test",
        " a@b.test",
        "a@b.test\t",
        "A@B.TEST",
        "a@B.test",
        "\u{a0}a@b.test\u{3000}",
    ];
    let attempts = spellings.iter().map(|account| at(address(1), account));
    assert_eq!(admitted(&throttle, attempts).await, 5);
    // As the identity server folds them: each letter has further spellings there.
    let spellings = ["vi", "v\u{130}", "VI", "V\u{130}", "vI", "Vi"]
        .map(|start| format!("{start}\u{212a}tim@b.test"));
    let attempts = spellings.iter().map(|account| at(address(2), account));
    assert_eq!(admitted(&throttle, attempts).await, 5);
}

#[tokio::test]
async fn an_ipv6_slash_64_is_counted_as_one_address() {
    let throttle = throttle();
    let accounts: Vec<String> = (0..100).map(|n| format!("{n}@b.test")).collect();
    let attempts = accounts.iter().enumerate().map(|(n, account)| {
        let last = u16::try_from(n).expect("small");
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, last, last, 0, last);
        at(address.into(), account)
    });
    assert_eq!(admitted(&throttle, attempts).await, 20);
    let next = Ipv6Addr::new(0x2001, 0xdb8, 0, 8, 0, 0, 0, 1);
    let other = at(next.into(), "z@b.test");
    assert!(fails(&throttle, Attempt::Login, other).await.is_ok());
    // An IPv4-mapped address is the same address.
    let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped());
    let attempts = accounts
        .iter()
        .enumerate()
        .map(|(n, account)| at([mapped, address(1)][n % 2], account));
    assert_eq!(admitted(&throttle, attempts).await, 20);
}

#[tokio::test]
async fn clients_that_a_proxy_does_not_name_count_by_account_alone() {
    let throttle = throttle();
    let key = |account| AttemptKey {
        client: None,
        account: Some(account),
    };
    let accounts: Vec<String> = (0..100).map(|n| format!("{n}@b.test")).collect();
    let attempts = accounts.iter().map(|account| key(account));
    assert_eq!(admitted(&throttle, attempts).await, 100);
    let guesses = (0..100).map(|_| key("a@b.test"));
    assert_eq!(admitted(&throttle, guesses).await, 5);
    let named = at(address(1), "a@b.test");
    assert!(fails(&throttle, Attempt::Login, named).await.is_ok());
}

#[tokio::test]
async fn a_slash_48_has_eight_times_the_attempts_of_one_slash_64() {
    let throttle = throttle();
    let in_site = |site: u16, network: u16| {
        let address = Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, 1);
        IpAddr::from(address)
    };
    let accounts: Vec<String> = (0..400).map(|n| format!("{n}@b.test")).collect();
    let from = |site: u16| {
        let accounts = accounts.iter().zip(0..);
        accounts.map(move |(account, network)| at(in_site(site, network), account))
    };
    assert_eq!(admitted(&throttle, from(1)).await, 160);
    assert_eq!(admitted(&throttle, from(2)).await, 160, "another customer");
    let one_account = (0..400).map(|network| at(in_site(3, network), "a@b.test"));
    assert_eq!(admitted(&throttle, one_account).await, 40);
    // Refreshes, which draw when they fail.
    let mut failed = 0;
    for network in 0..400 {
        let key = AttemptKey {
            client: Some(Networks::of(in_site(4, network))),
            account: None,
        };
        failed += usize::from(fails(&throttle, Attempt::Refresh, key).await.is_ok());
        settled().await;
    }
    assert_eq!(failed, 80);
}

#[tokio::test]
async fn a_success_returns_its_tokens() {
    let throttle = throttle();
    let key = at(address(1), "a@b.test");
    for _ in 0..4 {
        fails(&throttle, Attempt::Login, key).await.expect("a typo");
    }
    let admission = throttle.admit(&throttling(), Attempt::Login, key).await;
    admission.expect("the fifth").succeeded();
    settled().await;
    // The count of the account was reset, but the address keeps its four failures.
    assert_eq!(admitted(&throttle, std::iter::repeat_n(key, 9)).await, 5);
    let accounts: Vec<String> = (0..100).map(|n| format!("{n}@b.test")).collect();
    let attempts = accounts.iter().map(|account| at(address(1), account));
    assert_eq!(admitted(&throttle, attempts).await, 20 - 9);
}

#[tokio::test]
async fn an_undecided_attempt_returns_its_tokens() {
    let throttle = throttle();
    for _ in 0..50 {
        let key = at(address(1), "a@b.test");
        let admission = throttle.admit(&throttling(), Attempt::Login, key).await;
        admission.expect("nothing was taken").undecided();
        settled().await;
    }
}

#[tokio::test]
async fn registrations_and_messages_count_even_if_they_succeed() {
    for (attempt, count) in [(Attempt::Register, 3), (Attempt::Reset, 2)] {
        let throttle = throttle();
        let mut admitted = 0;
        for person in 0..10 {
            let account = format!("{person}@b.test");
            let key = at(address(1), &account);
            if let Ok(admission) = throttle.admit(&throttling(), attempt, key).await {
                admission.succeeded();
                admitted += 1;
            }
            settled().await;
        }
        assert_eq!(admitted, count, "{attempt:?}");
    }
}

#[tokio::test]
async fn a_failed_refresh_counts_and_is_answered_503_not_429() {
    let throttle = throttle();
    let key = AttemptKey {
        client: Some(Networks::of(address(1))),
        account: None,
    };
    for _ in 0..500 {
        let admission = throttle.admit(&throttling(), Attempt::Refresh, key).await;
        admission.expect("none failed").succeeded();
        settled().await;
    }
    let mut refused = None;
    for _ in 0..50 {
        match fails(&throttle, Attempt::Refresh, key).await {
            Ok(()) => settled().await,
            Err(denial) => refused = Some(denial),
        }
    }
    let denial = refused.expect("ten failures are enough");
    assert_eq!(denial.reason.status().as_u16(), 503);
    assert!(matches!(denial.extra, Extra::RetryAfter(_)));
}

#[tokio::test]
async fn a_refusal_says_when_to_try_again() {
    let throttle = throttle();
    let key = at(address(1), "a@b.test");
    for _ in 0..5 {
        fails(&throttle, Attempt::Login, key)
            .await
            .expect("a place");
    }
    let denial = fails(&throttle, Attempt::Login, key).await.unwrap_err();
    assert_eq!(denial.reason, Reason::TooManyAttempts);
    let Extra::Limited { limit, wait } = denial.extra else {
        unreachable!("says when");
    };
    assert_eq!(limit, 5);
    assert!((19_990..=20_000).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(denial.detail.as_deref(), Some("account"));
}

#[tokio::test]
async fn waiting_attempts_are_bounded_and_the_rest_is_refused() {
    let throttle = throttle();
    let throttling = Throttling {
        longest_delay: Duration::from_secs(30),
        waiting: 3,
        ..throttling()
    };
    for network in 0..10 {
        let key = at(address(network), "a@b.test");
        fails(&throttle, Attempt::Login, key).await.expect("free");
    }
    let waiting: Vec<_> = (100..103)
        .map(|network| {
            let (throttle, throttling) = (throttle.clone(), throttling.clone());
            tokio::spawn(async move {
                let key = at(address(network), "a@b.test");
                throttle.admit(&throttling, Attempt::Login, key).await
            })
        })
        .collect();
    while throttle.waiting.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    let key = at(address(200), "a@b.test");
    let refused = throttle.admit(&throttling, Attempt::Login, key).await;
    assert_eq!(refused.unwrap_err().reason, Reason::SignInBusy);
    for task in &waiting {
        task.abort();
    }
    for task in waiting {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!(throttle.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(throttle.metrics.waiting.get(), 0);
}

#[test]
fn debug_output_omits_the_account() {
    let key = at(address(1), "somebody@b.test");
    assert!(!format!("{key:?}").contains("somebody"));
}

#[tokio::test]
async fn concurrent_refreshes_are_bounded_and_successes_do_not_count() {
    let throttle = throttle();
    let key = AttemptKey {
        client: Some(Networks::of(address(1))),
        account: None,
    };
    let throttling = throttling();
    let refresh = || throttle.admit(&throttling, Attempt::Refresh, key);
    let mut under_way = Vec::new();
    for _ in 0..1000 {
        under_way.extend(refresh().await.ok());
    }
    assert_eq!(under_way.len(), 100, "ten times ten");
    assert_eq!(refresh().await.unwrap_err().reason, Reason::SignInBusy);
    let elsewhere = AttemptKey {
        client: Some(Networks::of(address(2))),
        ..key
    };
    let admission = throttle.admit(&throttling, Attempt::Refresh, elsewhere);
    admission.await.expect("another network").undecided();
    for (number, admission) in under_way.into_iter().enumerate() {
        match number % 2 {
            0 => admission.succeeded(),
            _ => admission.undecided(),
        }
    }
    settled().await;
    // An office that reconnects again and again.
    for _ in 0..5 {
        let mut office = Vec::new();
        for _ in 0..100 {
            office.push(refresh().await.expect("they are good"));
        }
        office.into_iter().for_each(Admission::succeeded);
        settled().await;
    }
    // Failures count as always.
    for _ in 0..10 {
        refresh().await.expect("not too many failed").failed();
        settled().await;
    }
    assert_eq!(refresh().await.unwrap_err().reason, Reason::SignInBusy);
}

#[tokio::test]
async fn messages_to_one_account_are_limited_and_never_delay_its_owner() {
    let throttle = throttle();
    let throttling = Throttling {
        reset: Limits {
            address: rate(60, 100_000),
            account: Some(rate(3, 100_000)),
        },
        everywhere: rate(1, 100_000),
        longest_delay: Duration::from_secs(3600),
        ..throttling()
    };
    for network in 0..3 {
        for number in 0..5 {
            let key = at(address(network), "a@b.test");
            let admitted = throttle.admit(&throttling, Attempt::Reset, key).await;
            assert_eq!(admitted.is_ok(), number < 3, "{network} {number}");
            admitted.into_iter().for_each(Admission::succeeded);
        }
        let other = at(address(network), "c@d.test");
        let admitted = throttle.admit(&throttling, Attempt::Reset, other).await;
        admitted.expect("another account").succeeded();
    }
    settled().await;
    // It would be delayed for an hour.
    let key = at(address(9), "a@b.test");
    let admitted = throttle.admit(&throttling, Attempt::Login, key).await;
    admitted.expect("not delayed").succeeded();
}

#[tokio::test]
async fn a_password_that_is_too_weak_counts_by_address_and_not_by_account() {
    let throttle = throttle();
    let throttling = Throttling {
        register: Limits {
            address: rate(8, 100_000),
            account: Some(rate(2, 100_000)),
        },
        ..throttling()
    };
    let mut admitted = 0;
    for _ in 0..20 {
        let key = at(address(1), "a@b.test");
        if let Ok(admission) = throttle.admit(&throttling, Attempt::Register, key).await {
            admission.refused_choice();
            admitted += 1;
        }
        settled().await;
    }
    assert_eq!(admitted, 8);
}
