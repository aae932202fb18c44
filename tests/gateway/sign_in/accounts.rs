//! How `register` creates accounts: by the identity server's sign-up, which decides, or by its API
//! for administrators; and where the links of messages may lead.

use foregate::denial::Reason;
use serde_json::json;

use super::*;
use crate::support::auth_server::{Behave, CAPTCHA};

const ADMIN: &str = ", register: admin";

const TO_CONFIRM: &str = ", register: admin, confirm_email: required";

async fn desk(options: Options, supabase: &str) -> Desk {
    Desk::with(options, supabase, UNLIMITED, |_| {}).await
}

/// One whose identity server wants a captcha answered.
async fn with_captcha() -> Desk {
    let options = Options {
        captcha: true,
        ..Options::default()
    };
    desk(options, "").await
}

fn address(name: &str, http: Http) -> String {
    format!("{name}-{http:?}@example.test").to_lowercase()
}

#[tokio::test]
async fn what_the_identity_server_forbids_creates_no_account() {
    let closed = Options {
        disable_signup: true,
        ..Options::default()
    };
    let captcha = Options {
        captcha: true,
        ..Options::default()
    };
    let hook = Options {
        refused: Some(("hook-one@example.test", "Only from example.com")),
        ..Options::default()
    };
    for (options, name, reason) in [
        (closed, "closed", Reason::SignInClosed),
        (captcha, "captcha", Reason::CaptchaFailed),
        (hook, "hook", Reason::RegistrationRefused),
    ] {
        let desk = desk(options, "").await;
        let http = Http::One;
        let email = address(name, http);
        let answer = desk.post(http, "register", &login(&email, PASSWORD)).send();
        let answer = answer.await;
        answer.is_denied(reason);
        assert!(!desk.double.has_user(&email), "{name}");
        assert_eq!(desk.double.calls("signup"), 1, "{name}");
        assert_eq!(desk.double.calls("create-user"), 0, "{name}");
        if reason == Reason::RegistrationRefused {
            let errors = &answer.json()["errors"];
            assert_eq!(errors[0]["detail"], "Only from example.com");
        }
        desk.gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn a_captcha_is_answered_at_sign_up() {
    let desk = with_captcha().await;
    for http in Http::BOTH {
        let email = address("human", http);
        let newcomer = json!({ "email": email, "password": PASSWORD, "captcha_token": CAPTCHA });
        let answer = desk.post(http, "register", &newcomer).send().await;
        let token = text(&answer.is_ok().json(), "access_token").to_owned();
        desk.get(http, "me", &token).send().await.is_ok();
        assert_eq!(desk.double.calls("password"), 0);
    }
}

#[tokio::test]
async fn a_captcha_is_answered_in_either_form_and_its_refusal_discloses_no_account() {
    let desk = with_captcha().await;
    desk.double.add_user(EMAIL, PASSWORD);
    let nested = json!({ "captcha_token": CAPTCHA });
    for http in Http::BOTH {
        let mut credentials = login(EMAIL, PASSWORD);
        let answer = desk.post(http, "login", &credentials).send().await;
        answer.is_denied(Reason::CaptchaFailed);
        credentials["gotrue_meta_security"] = nested.clone();
        let answer = desk.post(http, "login", &credentials).send().await;
        answer.is_ok();
        for email in [EMAIL, "nobody@example.test"] {
            let wrong = json!({ "email": email, "captcha_token": "wrong" });
            let answer = desk.post(http, "password-reset", &wrong).send().await;
            answer.is_denied(Reason::CaptchaFailed);
            let right = json!({ "email": email, "gotrue_meta_security": nested });
            let answer = desk.post(http, "password-reset", &right).send().await;
            answer.is_ok();
        }
    }
    desk.double.has_seen("recover", 8).await;
}

#[tokio::test]
async fn a_sign_up_to_confirm_is_answered_alike_for_every_address() {
    let options = Options {
        autoconfirm: false,
        ..Options::default()
    };
    let desk = desk(options, "").await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        let email = address("new", http);
        let mut answers = Vec::new();
        for email in [email.as_str(), EMAIL] {
            let call = desk.post(http, "register", &login(email, PASSWORD));
            let answer = call.send().await;
            assert_eq!(answer.status, 202, "{}", answer.text());
            is_own(&answer);
            assert_eq!(answer.json()["email"], email);
            answers.push(answer.json()["message"].clone());
        }
        assert_eq!(answers[0], answers[1]);
        assert!(desk.double.code_for(&email).is_some(), "a message was sent");
        let early = desk.post(http, "login", &login(&email, PASSWORD)).send();
        early.await.is_denied(Reason::EmailNotConfirmed);
    }
}

#[tokio::test]
async fn a_sign_up_whose_answer_was_lost_is_found_out() {
    let options = Options {
        autoconfirm: false,
        ..Options::default()
    };
    let desk = desk(options, "").await;
    for http in Http::BOTH {
        desk.double.behave("signup", Behave::LoseAnswer);
        let email = address("lost", http);
        let answer = desk.post(http, "register", &login(&email, PASSWORD)).send();
        let answer = answer.await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert!(desk.double.has_user(&email));
        desk.double.behave("signup", Behave::Well);
    }
}

#[tokio::test]
async fn an_account_to_confirm_whose_creation_got_no_answer_is_found_out_or_said_to_be_unknown() {
    let desk = desk(Options::default(), TO_CONFIRM).await;
    // The account was created, and a second call says so.
    let lost = Behave::First(1, Box::new(Behave::LoseAnswer));
    desk.double.behave("create-user", lost);
    let email = address("lost", Http::One);
    let call = desk.post(Http::One, "register", &login(&email, PASSWORD));
    let answer = call.send().await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(desk.double.code_for(&email).is_some());
    // Nobody knows.
    desk.double.behave("create-user", Behave::Fail(500));
    for http in Http::BOTH {
        let call = desk.post(
            http,
            "register",
            &login(&address("unknown", http), PASSWORD),
        );
        call.send().await.is_denied(Reason::RegistrationUnknown);
    }
}

#[tokio::test]
async fn a_success_that_is_neither_tokens_nor_a_user_is_no_registration() {
    let desk = desk(Options::default(), "").await;
    desk.double.behave("signup", Behave::Fill(10));
    for http in Http::BOTH {
        let call = desk.post(http, "register", &login(&address("odd", http), PASSWORD));
        call.send().await.is_denied(Reason::IdentityUnavailable);
    }
}

#[tokio::test]
async fn two_registrations_of_one_address_at_once_make_one_account() {
    for (supabase, kind) in [("", "signup"), (ADMIN, "create-user")] {
        let desk = desk(Options::default(), supabase).await;
        for http in Http::BOTH {
            let email = address("twin", http);
            let register = |password: &str| {
                let newcomer = login(&email, password);
                desk.post(http, "register", &newcomer).send()
            };
            let before = desk.double.calls(kind);
            let (one, other) = tokio::join!(
                register("correct horse battery"),
                register("another password")
            );
            assert!(desk.double.calls(kind) >= before + 2);
            let mut statuses = [one.status.as_u16(), other.status.as_u16()];
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 409], "{} {}", one.text(), other.text());
        }
    }
}

#[tokio::test]
async fn by_the_administrators_api_a_closed_sign_up_stays_closed() {
    let closed = Options {
        disable_signup: true,
        ..Options::default()
    };
    for supabase in [ADMIN, TO_CONFIRM] {
        let desk = desk(closed.clone(), supabase).await;
        for http in Http::BOTH {
            let email = address("closed", http);
            let call = desk.post(http, "register", &login(&email, PASSWORD));
            call.send().await.is_denied(Reason::SignInClosed);
            assert!(!desk.double.has_user(&email));
        }
        assert_eq!(desk.double.calls("create-user"), 0);
        desk.gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn without_the_settings_no_account_is_created() {
    let desk = desk(Options::default(), ADMIN).await;
    for (how, reason) in [
        (Behave::Fail(500), Reason::IdentityUnavailable),
        (
            Behave::Refuse(401, "no_authorization"),
            Reason::IdentityUnavailable,
        ),
        (Behave::Fill(10), Reason::IdentityUnavailable),
    ] {
        desk.double.behave("settings", how);
        for http in Http::BOTH {
            let call = desk.post(http, "register", &login(EMAIL, PASSWORD));
            call.send().await.is_denied(reason);
        }
    }
    assert_eq!(desk.double.calls("create-user"), 0);
    assert!(!desk.double.has_user(EMAIL));
    desk.double.behave("settings", Behave::Well);
    let call = desk.post(Http::Two, "register", &login(EMAIL, PASSWORD));
    call.send().await.is_ok();
}

#[tokio::test]
async fn by_the_administrators_api_the_message_is_sent_with_the_clients_captcha() {
    let options = Options {
        captcha: true,
        ..Options::default()
    };
    let desk = desk(options, TO_CONFIRM).await;
    for http in Http::BOTH {
        let email = address("human", http);
        let newcomer = json!({ "email": email, "password": PASSWORD, "captcha_token": CAPTCHA });
        let answer = desk.post(http, "register", &newcomer).send().await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert!(desk.double.code_for(&email).is_some());
        // Without one there is an account and no message, and the answer says so.
        let email = address("robot", http);
        let answer = desk.post(http, "register", &login(&email, PASSWORD)).send();
        answer.await.is_denied(Reason::RegisteredOnly);
        assert!(desk.double.has_user(&email));
    }
}

#[tokio::test]
async fn a_link_leads_only_to_an_address_of_the_list() {
    let allowed = "https://app.test/new-password?from=mail";
    let list = format!(", redirect_to: [\"{allowed}\", \"app.test://reset\"]");
    let desk = desk(Options::default(), &list).await;
    desk.double.add_user(EMAIL, PASSWORD);
    for http in Http::BOTH {
        for (route, kind) in [("password-reset", "recover"), ("register", "signup")] {
            let before = desk.double.calls(kind);
            let mut body = login(&address(route, http), PASSWORD);
            for bad in [
                "https://app.test/",
                "https://evil.test/new-password",
                "https://app.test/new-password?from=mail#x",
                "https://app.test/new-password?from=mail&x",
                "javascript:alert(1)",
            ] {
                body["redirect_to"] = json!(bad);
                let answer = desk.post(http, route, &body).send().await;
                answer.is_denied(Reason::InputInvalid);
                assert_eq!(answer.json()["errors"][0]["field"], "redirect_to");
            }
            assert_eq!(desk.double.calls(kind), before);
            body["redirect_to"] = json!(allowed);
            desk.post(http, route, &body).send().await.is_ok();
            desk.double.has_seen(kind, before + 1).await;
            let target = desk.double.last(kind).target;
            let encoded = "redirect_to=https%3A%2F%2Fapp%2Etest%2Fnew%2Dpassword%3Ffrom%3Dmail";
            assert!(target.ends_with(encoded), "{target}");
        }
    }
    // Without a list none is taken, and without a wish none is sent.
    let plain = self::desk(Options::default(), "").await;
    let wish = json!({ "email": EMAIL, "redirect_to": allowed });
    let answer = plain.post(Http::Two, "password-reset", &wish).send().await;
    answer.is_denied(Reason::InputInvalid);
    let call = plain.post(Http::Two, "password-reset", &json!({ "email": EMAIL }));
    call.send().await.is_ok();
    plain.double.has_seen("recover", 1).await;
    assert!(plain.double.last("recover").target.ends_with("/recover"));
}
