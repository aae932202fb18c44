//! Users and passwords of Redis, with every printable character.

use std::path::Path;

use foregate::store::Kind;

use super::{later, one_key, open};
use crate::support::RedisServer;

/// Every printable ASCII character.
fn printable() -> impl Iterator<Item = char> {
    ' '..='~'
}

/// A text for a URL, in which everything but letters and digits is percent-encoded.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

/// Opens the store with these credentials, and uses it.
async fn works(server: &RedisServer, user: &str, password: &str) {
    let url = format!(
        "redis://{}:{}@127.0.0.1:{}",
        encoded(user),
        encoded(password),
        server.port()
    );
    let opened = open(
        Path::new("."),
        &one_key(),
        &format!("{{ redis: \"{url}\", timeout: 5s }}"),
    );
    opened.answers().await;
    opened
        .store
        .put(Kind::KeySet, b"a", b"value", later())
        .await
        .unwrap();
    let value = opened.store.get(Kind::KeySet, b"a").await;
    assert_eq!(value, Ok(Some(b"value".to_vec())), "{user:?} {password:?}");
}

fn set_user(server: &RedisServer, user: &str, passwords: &[String]) {
    let passwords: Vec<String> = passwords.iter().map(|it| format!(">{it}")).collect();
    let mut command: Vec<&[u8]> = vec![b"ACL", b"SETUSER", user.as_bytes()];
    for word in ["reset", "on", "~*", "&*", "+@all"] {
        command.push(word.as_bytes());
    }
    command.extend(passwords.iter().map(|it| it.as_bytes()));
    assert_eq!(server.call(&command).text(), "OK", "{user:?}");
}

#[tokio::test]
async fn a_password_may_hold_every_printable_character_and_utf8() {
    let server = RedisServer::start();
    let mut passwords: Vec<String> = printable().map(|it| format!("p{it}x")).collect();
    passwords.push(printable().collect());
    passwords.push("\" \\ ' \t\r\n Grüße 🔑".to_owned());
    set_user(&server, "gate", &passwords);
    for password in &passwords {
        works(&server, "gate", password).await;
    }
    // The password of the server itself, without a user.
    for password in [r#"p x"'\ %20"#, " ", "\""] {
        let set = [
            b"CONFIG".as_slice(),
            b"SET",
            b"requirepass",
            password.as_bytes(),
        ];
        server.connect().call(&set).unwrap();
        works(&server, "", password).await;
        let auth = [b"AUTH".as_slice(), password.as_bytes()];
        let mut connection = server.connect();
        connection.call(&auth).unwrap();
        let clear = [b"CONFIG".as_slice(), b"SET", b"requirepass", b""];
        assert_eq!(connection.call(&clear).unwrap().text(), "OK");
    }
    // A password for a server that has none is let in, as before.
    works(&server, "", "unused").await;
}

#[tokio::test]
async fn a_user_name_may_hold_every_character_that_redis_allows() {
    let server = RedisServer::start();
    // Redis allows no blank in a name.
    let names = || printable().filter(|it| *it != ' ');
    let mut users: Vec<String> = names().map(|it| format!("u{it}x")).collect();
    users.push(names().collect());
    users.push("grüße🔑".to_owned());
    for user in &users {
        set_user(&server, user, &["p \"x".to_owned()]);
        works(&server, user, "p \"x").await;
    }
}
