//! Changes of one's own account: a stolen session cannot be used to guess passwords or to send
//! messages without end.

use super::*;
use crate::support::Answer;

fn change<'a>(desk: &'a Desk, http: Http, token: &str, body: &Value) -> Call<'a> {
    ask(desk, http, "PUT", "user")
        .header("content-type", "application/json")
        .bearer(token)
        .body(body.to_string())
}

#[tokio::test]
async fn guessing_a_proof_is_throttled_and_other_changes_are_not() {
    for (http, guess) in [
        (
            Http::One,
            json!({ "password": "new", "current_password": "guess" }),
        ),
        (Http::Two, json!({ "password": "new", "nonce": "123456" })),
        (Http::Two, json!({ "current_password": null, "data": {} })),
    ] {
        let desk = limited(
            Options::default(),
            "verify: { address: 100/d, account: 2/d }",
        )
        .await;
        let id = desk.double.add_user(EMAIL, PASSWORD);
        let token = desk.double.sign_in(&id).0;
        let wrong = Behave::Refuse(422, "reauthentication_not_valid");
        desk.double.behave("change-user", wrong);
        for _ in 0..2 {
            let answer = change(&desk, http, &token, &guess).send().await;
            says(&answer, 422, "reauthentication_not_valid");
        }
        for _ in 0..3 {
            let answer = change(&desk, http, &token, &guess).send().await;
            denied(&answer, Reason::TooManyAttempts);
        }
        assert_eq!(desk.double.calls("change-user"), 2, "{guess}");
        // Codes of a second factor cannot be guessed instead, and other users are not affected.
        desk.double.behave("change-user", Behave::Well);
        let data = json!({ "data": { "colour": "green" } });
        for _ in 0..5 {
            change(&desk, http, &token, &data).send().await.is_ok();
        }
        let eve = desk.double.add_user("eve@example.test", PASSWORD);
        let eve = desk.double.sign_in(&eve).0;
        let change = change(&desk, http, &eve, &json!({ "password": "something new" }));
        change.send().await.is_ok();
    }
}

#[tokio::test]
async fn an_attempt_left_undecided_by_an_outage_does_not_count() {
    // The server fails for all, by its own account or by that of a proxy.
    for (how, status) in [
        (Behave::Fail(500), 500),
        (Behave::Edge(502, "<html>"), 503),
        (Behave::Reset, 503),
    ] {
        let desk = limited(
            Options::default(),
            "verify: { address: 100/d, account: 1/d }",
        )
        .await;
        let id = desk.double.add_user(EMAIL, PASSWORD);
        let token = desk.double.sign_in(&id).0;
        let body = json!({ "nonce": "123456", "data": {} });
        desk.double.behave_always(how);
        for _ in 0..3 {
            let answer = admitted(&desk, &token, &body).await;
            assert_eq!(answer.status, status, "{}", answer.text());
        }
        // While a proxy has no server, not all calls are sent.
        let calls = desk.double.calls("change-user");
        assert!(calls == 3 || status == 503, "{calls}");
    }
}

#[tokio::test]
async fn an_attempt_at_which_a_healthy_server_fails_counts() {
    let desk = limited(
        Options::default(),
        "login: { address: 100/d, account: 2/d }, verify: { address: 100/d, account: 2/d }, reset: { address: 2/d }",
    )
    .await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let token = desk.double.sign_in(&id).0;
    for (kind, code) in [
        ("change-user", "unexpected_failure"),
        ("password", "unexpected_failure"),
        ("otp", "over_email_send_rate_limit"),
    ] {
        let status = if kind == "otp" { 429 } else { 500 };
        desk.double.behave(kind, Behave::Refuse(status, code));
        for number in 0..6 {
            let http = Http::BOTH[number % 2];
            let call = match kind {
                "change-user" => change(&desk, http, &token, &json!({ "nonce": "1", "data": {} })),
                "password" => post(&desk, http, "token?grant_type=password", &password("guess")),
                _ => post(&desk, http, "otp", &json!({ "email": EMAIL })),
            };
            let answer = call.send().await;
            match number {
                0 | 1 => assert_eq!(answer.status, status, "{kind} {}", answer.text()),
                _ => denied(&answer, Reason::TooManyAttempts),
            }
        }
        assert_eq!(desk.double.calls(kind), 2, "{kind}");
    }
}

#[tokio::test]
async fn a_message_that_may_have_been_sent_counts_although_the_answer_is_lost() {
    let desk = limited(Options::default(), "reset: { address: 2/d }").await;
    desk.double.add_user(EMAIL, PASSWORD);
    desk.double.behave("recover", Behave::Reset);
    for number in 0..4 {
        let recover = post(
            &desk,
            Http::BOTH[number % 2],
            "recover",
            &json!({ "email": EMAIL }),
        );
        let answer = recover.send().await;
        match number {
            0 | 1 => assert_eq!(answer.status, 503, "{}", answer.text()),
            _ => denied(&answer, Reason::TooManyAttempts),
        }
    }
    assert_eq!(desk.double.calls("recover"), 2);
}

/// The answer to an attempt, as soon as the one before no longer counts: it is given back in the
/// background.
async fn admitted(desk: &Desk, token: &str, body: &Value) -> Answer {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::time::Instant::now() < deadline {
        let answer = change(desk, Http::Two, token, body).send().await;
        if answer.status != 429 {
            return answer;
        }
    }
    panic!("the attempt before still counts");
}

#[tokio::test]
async fn changing_an_address_counts_as_sending_a_message() {
    let desk = limited(Options::default(), "reset: { address: 2/d }").await;
    let id = desk.double.add_user(EMAIL, PASSWORD);
    let token = desk.double.sign_in(&id).0;
    for (number, http) in [Http::One, Http::Two, Http::One, Http::Two]
        .into_iter()
        .enumerate()
    {
        let body = json!({ "email": format!("{number}@example.test") });
        let answer = change(&desk, http, &token, &body).send().await;
        match number {
            0 | 1 => drop(answer.is_ok()),
            _ => denied(&answer, Reason::TooManyAttempts),
        }
    }
    assert_eq!(desk.double.calls("change-user"), 2);
    // With a proof beside it, it counts as both.
    let both = json!({ "email": "last@example.test", "nonce": "123456" });
    let answer = change(&desk, Http::Two, &token, &both).send().await;
    denied(&answer, Reason::TooManyAttempts);
}
