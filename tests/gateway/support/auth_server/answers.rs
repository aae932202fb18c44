//! How the double writes answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};

use super::Called;

/// JSON, with the fields of every answer.
pub fn json(call: &Called, status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    if is_dated(call) {
        response = response.header("x-supabase-api-version", "2024-01-01");
    }
    response.body(Full::new(body.to_string().into())).unwrap()
}

/// An error in the format of the requested version.
pub fn error(call: &Called, status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = match is_dated(call) {
        true => json!({ "code": code, "message": message }),
        false => json!({ "code": status, "error_code": code, "msg": message }),
    };
    error_with(call, status, code, &body)
}

/// The same about a password that is too weak.
pub fn weak_password(call: &Called) -> Response<Full<Bytes>> {
    let message = "Password should be at least 6 characters.";
    let mut body = match is_dated(call) {
        true => json!({ "code": "weak_password", "message": message }),
        false => json!({ "code": 422, "error_code": "weak_password", "msg": message }),
    };
    body["weak_password"] = json!({ "reasons": ["length"] });
    error_with(call, 422, "weak_password", &body)
}

fn error_with(call: &Called, status: u16, code: &str, body: &Value) -> Response<Full<Bytes>> {
    let mut response = json(call, status, body);
    let code = code.parse().unwrap();
    response.headers_mut().insert("x-sb-error-code", code);
    response
}

/// An error of the OAuth part.
pub fn oauth_error(call: &Called, error: &str, description: &str) -> Response<Full<Bytes>> {
    let body = json!({ "error": error, "error_description": description });
    json(call, 400, &body)
}

/// 204.
pub fn nothing(call: &Called) -> Response<Full<Bytes>> {
    let mut response = json(call, 204, &Value::Null);
    *response.body_mut() = Full::default();
    response.headers_mut().remove("content-type");
    response
}

/// 303 to this location.
pub fn redirect(place: &str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(303)
        .header("location", place)
        .body(Full::default())
        .unwrap()
}

fn is_dated(call: &Called) -> bool {
    call.header("x-supabase-api-version") >= "2024-01-01"
}
