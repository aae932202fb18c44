//! The test harness itself: what it starts works, and it detects what it checks for.

use foregate::denial::Reason;

use crate::support::client::Door;
use crate::support::curl::curl;
use crate::support::raw_h2::{Ending, RawTwo};
use crate::support::{Gateway, Http, Postgres};

#[tokio::test]
async fn a_permitted_request_reaches_the_origin_and_its_answer_the_client() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let token = gateway.issuer.token();
        gateway
            .get(http, "/me?a=1")
            .bearer(&token)
            .send()
            .await
            .is_ok();
        let seen = gateway.origin.only();
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str()),
            ("GET", "/me?a=1")
        );
    }
}

#[tokio::test]
async fn an_expired_token_is_refused_and_never_reaches_the_origin() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let token = gateway.issuer.expired();
        gateway
            .get(http, "/me")
            .bearer(&token)
            .send()
            .await
            .is_denied(Reason::TokenExpired);
        gateway.origin.saw_nothing();
    }
}

#[tokio::test]
async fn raw_requests_are_answered_on_both_versions() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.raw(Door::Tls).await;
    raw.write("GET /public/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    raw.answer().await.answer().is_ok();
    raw.write("GET /me HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    raw.answer().await.answer().is_denied(Reason::TokenMissing);
    let mut two = gateway.connector(Http::Two, Door::Tls).raw_h2().await;
    let stream = two.request(&RawTwo::get("/public/x")).await;
    assert_eq!(two.ending(stream).await, Ending::Answered(b"ok".to_vec()));
    assert_eq!(two.reason(&RawTwo::get("/me")).await, "token_missing");
    assert_eq!(gateway.origin.take().len(), 2);
}

#[tokio::test]
async fn curl_is_served_on_both_versions() {
    let gateway = Gateway::start().await;
    for version in ["--http1.1", "--http2"] {
        let authorization = format!("Authorization: Bearer {}", gateway.issuer.token());
        let answer = curl(&gateway, "/me", &[version, "-H", &authorization]).await;
        assert_eq!(answer, (200, "ok".to_owned()));
        assert_eq!(curl(&gateway, "/me", &[version]).await.0, 401);
    }
}

#[test]
fn the_test_database_can_pause_and_resume_without_data_loss() {
    let mut postgres = Postgres::start();
    let user = "018f5b5e-0000-7000-8000-000000000001";
    postgres.copy(
        "users",
        "id, email, full_name",
        &format!("{user}\ta@velro.test\t\\N\n"),
    );
    postgres.sql(&format!(
        "INSERT INTO teams (id, owner_id, team_code) VALUES ('{user}', '{user}', 'one')"
    ));
    assert_eq!(
        postgres.rows("SELECT user_id, role, is_active FROM team_members"),
        [[user, "owner", "t"]],
        "the trigger makes the owner a member"
    );

    // Nothing is answered while the database is paused, on an open connection either.
    postgres.pause();
    let address = ("127.0.0.1", postgres.port());
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_millis(200)))
        .unwrap();
    // An SSLRequest, which a running server answers with one byte at once.
    std::io::Write::write_all(&mut stream, &[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    assert!(std::io::Read::read(&mut stream, &mut [0]).is_err());
    postgres.resume();
    stream
        .set_read_timeout(Some(crate::support::DEADLINE))
        .unwrap();
    assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap(), 1);

    postgres.kill();
    assert!(std::net::TcpStream::connect(address).is_err());
    postgres.start_again();
    assert_eq!(postgres.value("SELECT full_name IS NULL FROM users"), "t");
}
