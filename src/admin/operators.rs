//! Authenticates operators by the token digests of the configuration: 401 without an operator's
//! token, 403 for a call from a web page, 421 for a host name that is not this listener's.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;

use super::places::{Place, Stage};
use super::{AdminError, body, check_body_fields};
use crate::clock;
use crate::log::LogThrottle;
use crate::policy::admin::{Admin, Operator};
use crate::secrets::digest;

/// The deadline of the body of a call.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Limits the warning about refused calls, which anyone who reaches the address can cause.
static REFUSED: LogThrottle = LogThrottle::new();

/// The operator who makes this call.
pub(super) fn caller<'a, B>(
    admin: &'a Admin,
    request: &Request<B>,
) -> Result<&'a Operator, AdminError> {
    let headers = request.headers();
    // Only browsers send `Origin`, and no operator calls from one.
    if headers.contains_key(header::ORIGIN) {
        return Err(AdminError::new(
            StatusCode::FORBIDDEN,
            "calls from web pages are refused",
        ));
    }
    // In a DNS rebinding attack, `Host` has the name of the attacker's page.
    if !is_known_host(admin, headers) {
        return Err(AdminError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "call this listener by an address, by `localhost`, or by one of `admin.hosts`",
        ));
    }
    if admin.operators.is_empty() {
        return Err(AdminError::new(
            StatusCode::FORBIDDEN,
            "the configuration has no `admin.operators`",
        ));
    }
    let token = bearer(headers).ok_or_else(|| {
        AdminError::new(
            StatusCode::UNAUTHORIZED,
            "send `Authorization: Bearer <an operator's token>`",
        )
    })?;
    let presented = digest::of(token.as_bytes());
    // Compares with every digest, so that the time discloses nothing.
    let mut found = None;
    for operator in &admin.operators {
        if verify_slices_are_equal(&operator.token_sha256, &presented).is_ok() {
            found = Some(operator);
        }
    }
    found.ok_or_else(|| {
        if REFUSED.may_log(clock::unix_now()) {
            tracing::warn!("refused a call with an unknown operator's token");
        }
        AdminError::new(StatusCode::UNAUTHORIZED, "no operator has this token")
    })
}

/// Reads an operator's call: who makes it, and its body.
///
/// # Errors
///
/// The refusals of [`caller`]; 400, 408 or 413 for the body.
pub(super) async fn call<T: DeserializeOwned>(
    admin: &Admin,
    request: Request<Incoming>,
    place: &Place,
) -> Result<(String, T), AdminError> {
    let operator = caller(admin, &request)?;
    place.enter(Stage::Call);
    check_body_fields(request.headers())?;
    let body = body(request, BODY_DEADLINE).await?;
    let call = serde_json::from_slice(&body);
    let call = call.map_err(|error| AdminError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok((operator.name.clone(), call))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn is_known_host(admin: &Admin, headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::HOST).iter();
    let (Some(only), None) = (fields.next(), fields.next()) else {
        return false;
    };
    let Ok(authority) = only
        .to_str()
        .unwrap_or_default()
        .parse::<hyper::http::uri::Authority>()
    else {
        return false;
    };
    let name = authority.host().to_ascii_lowercase();
    let address = name.trim_matches(['[', ']']);
    address.parse::<std::net::IpAddr>().is_ok()
        || name == "localhost"
        || admin.hosts.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_localhost_or_listed() {
        let admin = Admin {
            address: ([127, 0, 0, 1], 9901).into(),
            hosts: vec!["admin.internal".to_owned()],
            operators: Vec::new(),
        };
        let known = |hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                let value = hyper::header::HeaderValue::from_str(host).expect("visible ASCII");
                headers.append(header::HOST, value);
            }
            is_known_host(&admin, &headers)
        };
        for good in [
            "127.0.0.1:9901",
            "10.1.2.3",
            "[::1]:9901",
            "localhost",
            "LOCALHOST:1",
            "Admin.internal:9901",
        ] {
            assert!(known(&[good]), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "x@localhost@evil.example",
            "",
            " ",
            "127.0.0.1/",
        ] {
            assert!(!known(&[bad]), "{bad}");
        }
        assert!(!known(&[]));
        assert!(!known(&["localhost", "localhost"]));
    }
}
