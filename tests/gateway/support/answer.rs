//! An answer, and what must be true of every answer.

use bytes::Bytes;
use foregate::denial::Reason;
use hyper::{HeaderMap, StatusCode};
use serde_json::Value;

use super::gateway::request_line;
use super::log::Log;

/// A complete answer that has passed the checks of this module.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    log: Log,
}

/// Members of a problem document, all of them and no other.
const PROBLEM: [&str; 7] = [
    "type",
    "title",
    "status",
    "detail",
    "code",
    "request_id",
    "status_code",
];

impl Answer {
    /// Checks what every answer must have and must not have.
    pub fn checked(
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
        trailers: Option<HeaderMap>,
        over_tls: bool,
        log: Log,
    ) -> Self {
        check_head(status, &headers, over_tls);
        for name in trailers.iter().flat_map(HeaderMap::keys) {
            assert!(!is_forbidden(name.as_str()), "a trailer says `{name}`");
        }
        Self {
            status,
            headers,
            body,
            trailers,
            log,
        }
    }

    /// The decision id.
    pub fn id(&self) -> &str {
        self.header("x-request-id")
    }

    /// A field that occurs once; empty if it does not occur.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let values = self.all(name);
        assert!(values.len() <= 1, "`{name}` occurs {} times", values.len());
        values.first().copied().unwrap_or_default()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The operator's line about this request.
    pub fn log_line(&self) -> Value {
        request_line(&self.log, self.id())
    }

    /// It was permitted, and the origin answered 200.
    #[track_caller]
    pub fn is_ok(&self) -> &Self {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, StatusCode::OK, "{body}");
        self
    }

    /// It was refused for this reason: status, public code, problem document, fields, and the
    /// operator's line all agree.
    #[track_caller]
    pub fn is_denied(&self, reason: Reason) -> &Self {
        self.is_refused(reason, "application/problem+json");
        // An answer to HEAD has the fields and not the body.
        if self.log_line()["method"] != "HEAD" {
            self.is_problem(reason);
        }
        self
    }

    /// It was refused for this reason in the format of Supabase Auth: these are its code and its
    /// body in both versions.
    #[track_caller]
    pub fn is_denied_in_gotrue(&self, reason: Reason, code: &str) -> &Self {
        self.is_refused(reason, "application/json");
        assert_eq!(self.header("x-sb-error-code"), code);
        let told = self.json();
        let members = told.as_object().unwrap();
        if self.header("x-supabase-api-version") == "2024-01-01" {
            assert_eq!(members.len(), 2, "{told}");
            assert_eq!(told["code"], code);
            assert!(told["message"].is_string(), "{told}");
        } else {
            assert!(!self.headers.contains_key("x-supabase-api-version"));
            assert_eq!(members.len(), 3, "{told}");
            assert_eq!(told["code"], reason.status().as_u16());
            assert_eq!(told["error_code"], code);
            assert!(told["msg"].is_string(), "{told}");
        }
        self
    }

    /// It was refused for this reason in the format of PostgREST.
    #[track_caller]
    pub fn is_denied_in_postgrest(&self, reason: Reason, code: &str) -> &Self {
        self.is_refused(reason, "application/json; charset=utf-8");
        if self.log_line()["method"] != "HEAD" {
            let told = self.json();
            assert_eq!(told.as_object().unwrap().len(), 4, "{told}");
            assert_eq!(told["code"], code);
            assert!(told["details"].is_null() && told["hint"].is_null());
            assert!(told["message"].is_string(), "{told}");
        }
        self
    }

    /// Status, fields, and the operator's line agree that it was refused for this reason.
    #[track_caller]
    fn is_refused(&self, reason: Reason, content_type: &str) {
        let body = String::from_utf8_lossy(&self.body);
        let line = self.log_line();
        assert_eq!(line["reason"], reason.code(), "{body}\n{line}");
        assert_eq!(self.status, reason.status(), "{body}");
        assert_eq!(line["status"], reason.status().as_u16());
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.header("content-type"), content_type);
        let unauthorized = self.status == StatusCode::UNAUTHORIZED;
        assert_eq!(unauthorized, self.headers.contains_key("www-authenticate"));
        let unavailable = self.status == StatusCode::SERVICE_UNAVAILABLE;
        let limited = self.status == StatusCode::TOO_MANY_REQUESTS;
        let comes_again = unavailable || limited;
        assert_eq!(comes_again, self.headers.contains_key("retry-after"));
        let not_allowed = reason == Reason::MethodNotAllowed;
        assert_eq!(not_allowed, self.headers.contains_key("allow"));
        assert!(line["reason"] == reason.code() && line["decision"] != "preflight");
        if line["method"] != "HEAD" {
            assert_eq!(self.header("content-length"), self.body.len().to_string());
        }
    }

    #[track_caller]
    fn is_problem(&self, reason: Reason) {
        let problem = self.json();
        let members = problem.as_object().unwrap();
        // Errors of fields are listed exactly if the reason is about fields.
        let names_fields = matches!(
            reason,
            Reason::InputInvalid | Reason::WeakPassword | Reason::RegistrationRefused
        );
        assert_eq!(members.contains_key("errors"), names_fields, "{problem}");
        let count = PROBLEM.len() + usize::from(names_fields);
        assert_eq!(members.len(), count, "{problem}");
        for member in PROBLEM {
            assert!(
                members.contains_key(member),
                "`{member}` is missing: {problem}"
            );
        }
        assert_eq!(problem["code"], reason.public_code());
        assert_eq!(problem["status"], reason.status().as_u16());
        assert_eq!(problem["status_code"], reason.status().as_u16());
        assert_eq!(problem["request_id"], self.id());
    }
}

/// What every head must have and must not have.
#[track_caller]
pub fn check_head(status: StatusCode, headers: &HeaderMap, over_tls: bool) {
    let ids: Vec<_> = headers.get_all("x-request-id").iter().collect();
    assert_eq!(ids.len(), 1, "one decision id: {headers:?}");
    let id = ids[0].to_str().unwrap();
    assert!(
        uuid::Uuid::try_parse(id).is_ok_and(|id| id.get_version_num() == 7),
        "{id}"
    );
    for name in headers.keys() {
        // Only a change of protocol names the protocol.
        let changes = status == StatusCode::SWITCHING_PROTOCOLS && name == "upgrade";
        assert!(
            changes || is_own_keep_alive(name.as_str(), headers) || !is_forbidden(name.as_str()),
            "an answer says `{name}`"
        );
    }
    let hsts = headers.get("strict-transport-security");
    assert_eq!(
        hsts.is_some(),
        over_tls,
        "HSTS belongs on TLS and nowhere else"
    );
}

/// Whether this is `Keep-Alive` as the gateway writes it on HTTP/1.1; no origin of the tests sends
/// these values.
fn is_own_keep_alive(name: &str, headers: &HeaderMap) -> bool {
    let timeout = headers
        .get("keep-alive")
        .and_then(|value| value.to_str().ok());
    name == "keep-alive"
        && headers
            .get("connection")
            .is_some_and(|options| options == "keep-alive")
        && headers.get_all("keep-alive").iter().count() == 1
        && timeout.is_some_and(|value| value.starts_with("timeout=") && value != "timeout=5")
}

/// What no client may ever see: fields for the backend, fields that reveal it, and hop-by-hop
/// fields.
fn is_forbidden(name: &str) -> bool {
    name.replace(['_', '.'], "-").starts_with("x-foregate")
        || matches!(
            name,
            "alt-svc" | "keep-alive" | "proxy-connection" | "upgrade" | "te" | "http2-settings"
        )
}
