//! The form of a token.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

use super::*;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn good() -> String {
    hs256().sign(&claims()).unwrap()
}

#[test]
fn a_good_token_proves_a_user() {
    let verified = user(&[hs_entry()], &good());
    assert_eq!(verified.issuer(), ISSUER);
    assert_eq!(verified.subject(), "subject-1");
    assert_eq!(verified.role(), Some("authenticated"));
    assert_eq!((verified.aal(), verified.is_anonymous()), (1, false));
    assert_eq!(verified.expires(), NOW + 3600);
    assert!(verified.session().is_some());
    assert_eq!(verified.claims().get("sub").unwrap(), "subject-1");
}

#[test]
fn a_verified_token_prints_neither_subject_nor_claims() {
    let token = hs256()
        .sign(&claims().email("someone@example.test"))
        .unwrap();
    let printed = format!("{:?}", user(&[hs_entry()], &token));
    assert!(printed.contains(ISSUER));
    for private in ["subject-1", "someone", "session"] {
        assert!(!printed.contains(private), "{printed}");
    }
}

#[test]
fn a_token_of_8_kib_is_read_and_a_longer_one_is_not() {
    let token = |size| {
        hs256()
            .sign(&claims().with("pad", "x".repeat(size)))
            .unwrap()
    };
    assert!(token(5000).len() < 8192);
    user(&[hs_entry()], &token(5000));
    assert!(token(6500).len() > 8192);
    assert_eq!(refused(&[hs_entry()], &token(6500)), Reason::TokenTooLarge);
    assert_eq!(
        refused(&[hs_entry()], &format!("sb_{}", "x".repeat(9000))),
        Reason::TokenTooLarge
    );
}

#[test]
fn a_token_has_exactly_three_parts() {
    let token = good();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let unsigned = format!("{signed}.");
    let five_parts = "eyJhbGciOiJkaXIifQ..AAAA.AAAA.AAAA".to_owned();
    let json = r#"{"payload":"e30","signatures":[]}"#.to_owned();
    for text in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        signed.to_owned(),
        unsigned,
        format!("{token}."),
        format!("{token}.e30"),
        format!(".{token}"),
        five_parts,
        json,
    ] {
        assert_eq!(
            refused(&[hs_entry()], &text),
            Reason::TokenMalformed,
            "{text}"
        );
    }
}

#[test]
fn a_token_has_one_spelling() {
    let token = good();
    let mut spellings = vec![
        format!("{token}="),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        token.replacen('.', " .", 1),
        token.replacen('.', "=.", 1),
        token.replacen('.', "\r\n.", 1),
    ];
    // 43 characters hold 258 bits of a signature's 256: the last two may be anything to a lax
    // decoder.
    let mut trailing = token.clone();
    let last = trailing.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.find(last).unwrap() + 1;
    trailing.push(alphabet.chars().nth(next).unwrap());
    spellings.push(trailing);
    for spelling in spellings {
        assert_eq!(
            refused(&[hs_entry()], &spelling),
            Reason::TokenMalformed,
            "{spelling}"
        );
    }
}

#[test]
fn the_other_alphabet_and_padding_are_refused_even_when_signed() {
    let payload = Value::Object(claims().with("x", "???>>>~~~").as_object().clone()).to_string();
    let signed = |header: String, payload: String| {
        hs256().sign_text(&format!("{header}.{payload}")).unwrap()
    };
    let header = URL_SAFE_NO_PAD.encode(HEADER);
    user(
        &[hs_entry()],
        &signed(header.clone(), URL_SAFE_NO_PAD.encode(&payload)),
    );
    let padded = format!("{payload} ");
    let texts = [
        STANDARD.encode(&payload),
        URL_SAFE.encode(&payload),
        URL_SAFE.encode(&padded),
    ];
    let strange = texts.iter().filter(|text| text.contains(['=', '+', '/']));
    assert!(strange.clone().count() >= 2);
    for text in strange {
        let token = signed(header.clone(), text.clone());
        assert_eq!(refused(&[hs_entry()], &token), Reason::TokenMalformed);
    }
}

#[test]
fn a_header_is_one_object_with_a_string_alg() {
    user(&[hs_entry()], &with_header(HEADER));
    for header in [
        "[]",
        "null",
        "\"HS256\"",
        "{",
        "{}x",
        r#"{"alg":"HS256"}{}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":5}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"none"}"#,
        r#"{"alg":"HS256","kid":5}"#,
        r#"{"alg":"HS256","x":{"a":1,"a":2}}"#,
        "\u{feff}{\"alg\":\"HS256\"}",
    ] {
        assert_eq!(refused_header(header), Reason::TokenMalformed, "{header}");
    }
}

#[test]
fn a_payload_is_one_object_without_repeated_members() {
    let good = Value::Object(claims().as_object().clone()).to_string();
    let twice = good.replacen('{', r#"{"sub":"admin","#, 1);
    let deep = good.replacen('{', r#"{"x":{"y":1,"y":2},"#, 1);
    let infinite = good.replacen('{', r#"{"x":1e999,"#, 1);
    for payload in ["[]", "5", "{", "{}{}", &twice, &deep, &infinite] {
        let token = hs256().sign_raw(HEADER, payload).unwrap();
        assert_eq!(
            refused(&[hs_entry()], &token),
            Reason::TokenMalformed,
            "{payload}"
        );
    }
    let not_utf8 = [b"{\"sub\":\"".as_slice(), &[0xff], b"\"}"].concat();
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(HEADER),
        URL_SAFE_NO_PAD.encode(not_utf8)
    );
    let token = hs256().sign_text(&signed).unwrap();
    assert_eq!(refused(&[hs_entry()], &token), Reason::TokenMalformed);
}

#[test]
fn critical_header_extensions_are_refused() {
    for header in [
        r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
    ] {
        assert_eq!(refused_header(header), Reason::TokenCritical, "{header}");
    }
    for header in [
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256","b64":true}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
    ] {
        assert_eq!(refused_header(header), Reason::TokenMalformed, "{header}");
    }
}

#[test]
fn typ_is_absent_or_that_of_an_access_token() {
    for kind in [
        "JWT",
        "jwt",
        "at+jwt",
        "AT+JWT",
        "application/jwt",
        "Application/at+JWT",
    ] {
        user(
            &[hs_entry()],
            &with_header(&format!(r#"{{"alg":"HS256","typ":"{kind}"}}"#)),
        );
    }
    user(&[hs_entry()], &with_header(r#"{"alg":"HS256"}"#));
    for kind in [
        r#""""#,
        r#""logout+jwt""#,
        r#""dpop+jwt""#,
        r#""JOSE""#,
        "5",
        "null",
    ] {
        let header = format!(r#"{{"alg":"HS256","typ":{kind}}}"#);
        assert_eq!(refused_header(&header), Reason::TokenMalformed, "{header}");
    }
}

#[test]
fn supabase_keys_prove_no_user_or_are_refused_under_any_configuration() {
    for entries in [vec![hs_entry()], vec![]] {
        let verify = |text: &str| tokens(&entries).verify(text, NOW);
        assert!(matches!(
            verify("sb_publishable_abc_def"),
            Ok(Presented::Nobody)
        ));
        assert_eq!(
            verify("sb_secret_abc").unwrap_err().reason,
            Reason::ServiceKeyRefused
        );
        assert_eq!(verify("sb_abc").unwrap_err().reason, Reason::TokenMalformed);

        let key = |role: &str| {
            let claims = claims().role(role).without("sub").with("iss", "supabase");
            Signer::secret(&[7; 32], Algorithm::HS256)
                .unwrap()
                .sign(&claims)
                .unwrap()
        };
        assert!(matches!(verify(&key("anon")), Ok(Presented::Nobody)));
        assert_eq!(
            verify(&key("service_role")).unwrap_err().reason,
            Reason::ServiceKeyRefused
        );
    }
    let named = hs256().sign(&claims().role("service_role")).unwrap();
    assert_eq!(refused(&[hs_entry()], &named), Reason::ServiceKeyRefused);
    let with_subject = Signer::secret(&[7; 32], Algorithm::HS256).unwrap();
    let with_subject = with_subject.sign(&claims().role("anon")).unwrap();
    assert_eq!(
        refused(&[hs_entry()], &with_subject),
        Reason::TokenSignature
    );
}
