//! Reads a file of policy tests: requests, callers, and expected outcomes. It is read like a route
//! map: every problem is reported at once, with its line.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::case::{BEFORE_LAYERS, Caller, Case, Cases, Expected, Request};
use super::wire::{CallerEntry, CallerField, CaseEntry, Document, ExpectEntry, File, RequestEntry};
use crate::auth::LAYERS;
use crate::clock;
use crate::config::check::Checker;
use crate::config::decode::Decode;
use crate::config::inputs::{self, Inputs};
use crate::config::interpolate::Variables;
use crate::config::node::Text;
use crate::config::problem::{Problem, Report};
use crate::config::wire::{Field, ManyOrEmpty, Named, Value};
use crate::config::{Problems, yaml};
use crate::denial::Reason;
use crate::policy::spelling::nearest;

/// Reads a file of cases.
///
/// # Errors
///
/// All problems.
pub(crate) fn load(path: &Path) -> Result<Cases, Problems> {
    let name = path.display().to_string();
    let text = inputs::read_text(path, "the cases")?;
    let environment = |name: &str| std::env::var(name).ok();
    read(&name, &text, &environment)
}

fn read(name: &str, text: &str, vars: &dyn Fn(&str) -> Option<String>) -> Result<Cases, Problems> {
    let mut report = Report::default();
    let file = yaml::parse(text, &mut Variables::new(vars), &mut report)
        .and_then(|node| File::decode(node, &mut report));
    let cases = file.and_then(|file| check(&file, &mut report));
    report.finish(name, text)?;
    cases.ok_or_else(|| {
        Problem::of_file(
            name,
            "the cases are invalid, but no problem was reported",
            None,
        )
        .into()
    })
}

fn check(file: &File, report: &mut Report) -> Option<Cases> {
    let facts = Checker {
        report,
        inputs: &mut Inputs::new(Path::new("")),
        now: clock::unix_now(),
    }
    .static_facts(&file.facts);
    let list = &file.cases.good()?.value;
    let mut names: BTreeMap<&str, u32> = BTreeMap::new();
    let mut cases = Vec::new();
    for entry in &list.items {
        if let Some(name) = entry.value.name.good()
            && let Some(line) = names.insert(&name.value.value, name.place.line)
        {
            report.problem_instead(
                &name.place,
                format!("is also the name of the case at line {line}"),
                "write another one, so that a failure names its case",
            );
        }
        cases.extend(case(&entry.value, report));
    }
    let is_whole = cases.len() == list.written;
    let facts = facts?;
    is_whole.then_some(Cases { facts, cases })
}

fn case(wire: &CaseEntry, report: &mut Report) -> Option<Case> {
    let request = wire.request.good();
    let request = request.and_then(|wire| self::request(&wire.value, report));
    let caller = wire.caller.good().and_then(|caller| match &caller.value {
        CallerField::Nobody => Some(None),
        CallerField::Caller(user) => self::caller(user).map(Some),
    });
    let expect = wire.expect.good();
    let expect = expect.and_then(|expect| expected(&expect.value, report));
    Some(Case {
        name: wire.name.good()?.value.value.clone(),
        line: wire.place.line,
        request: request?,
        caller: caller?,
        expect: expect?,
    })
}

fn request(wire: &RequestEntry, report: &mut Report) -> Option<Request> {
    let path = wire.path.good().filter(|path| {
        let is_rooted = path.value.value.starts_with('/');
        if !is_rooted {
            report.problem(&path.place, "must begin with `/`");
        }
        is_rooted
    });
    let method = wire.method.then(|text| {
        let method = Method::from_bytes(text.value.value.as_bytes());
        parsed(method, text, "is not a method", report)
    });
    let address = wire
        .address
        .then(|text| parsed(text.value.value.parse(), text, "is not an address", report));
    let headers = wire.headers.then(|named| headers(&named.value, report));
    let body = wire.body.optional()?.map(|document| {
        let Document(json) = &document.value;
        let text = json.as_str().map(str::to_owned);
        Bytes::from(text.unwrap_or_else(|| json.to_string()))
    });
    let mut headers = headers?.unwrap_or_default();
    if body.is_some() && !headers.iter().any(|(name, _)| *name == CONTENT_TYPE) {
        headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    }
    Some(Request {
        method: method?.unwrap_or(Method::GET),
        path: path?.value.value.clone(),
        host: optional(&wire.host)?,
        address: address?.unwrap_or(IpAddr::from([203, 0, 113, 1])),
        headers,
        body,
    })
}

fn headers(
    named: &Named<ManyOrEmpty<Text>>,
    report: &mut Report,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Some(Vec::new());
    for (name, values) in &named.0 {
        let field = HeaderName::try_from(name.value.as_str()).ok();
        if field.is_none() {
            report.problem(&name.place, "is not the name of a header field");
        }
        let mut all = Vec::new();
        let written = values.as_ref().map_or(1, |values| values.value.0.written);
        for value in values.iter().flat_map(|values| &values.value.0.items) {
            let bytes = HeaderValue::try_from(value.value.value.as_str());
            let what = "cannot be the value of a header field";
            all.extend(parsed(bytes, value, what, report));
        }
        match (&mut headers, field) {
            (Some(headers), Some(field)) if all.len() == written => {
                headers.extend(all.into_iter().map(|value| (field.clone(), value)));
            }
            _ => headers = None,
        }
    }
    headers
}

fn caller(wire: &CallerEntry) -> Option<Caller> {
    let mut claims = BTreeMap::new();
    if let Some(named) = wire.claims.good() {
        for (name, claim) in &named.value.0 {
            claims.insert(name.value.clone(), claim.as_ref()?.value.0.clone());
        }
    }
    let roles = wire.roles.optional()?;
    let roles = roles.into_iter().flat_map(|many| &many.value.0.items);
    Some(Caller {
        subject: wire.subject.good()?.value.value.clone(),
        issuer: optional(&wire.issuer)?,
        session: optional(&wire.session)?,
        roles: roles.map(|role| role.value.value.clone()).collect(),
        aal: wire.aal()?.0,
        anonymous: wire.anonymous()?,
        claims,
    })
}

fn expected(wire: &ExpectEntry, report: &mut Report) -> Option<Expected> {
    let route = optional(&wire.route)?;
    let layer = layer(&wire.layer, report)?;
    match (wire.allow.optional()?, wire.deny.optional()?) {
        (Some(allow), None) if allow.value => {
            if let Some(place) = wire.layer.place() {
                return report.refuse(place, "no layer refuses what is allowed; remove it");
            }
            if let (Some(_), Some(place)) = (wire.upstream.good(), wire.serve.place()) {
                let message =
                    "a request goes to an upstream or is answered by the gateway; remove one";
                return report.refuse(place, message);
            }
            Some(Expected::Allow {
                route,
                upstream: optional(&wire.upstream)?,
                serve: optional(&wire.serve)?,
            })
        }
        (None, Some(deny)) => {
            if let Some(place) = wire.upstream.place().or(wire.serve.place()) {
                return report.refuse(place, "what is refused goes nowhere; remove it");
            }
            Some(Expected::Deny {
                reason: reason(deny, report)?,
                layer,
                route,
            })
        }
        _ => report.refuse(&wire.place, "write either `allow: true` or `deny: REASON`"),
    }
}

fn reason(text: &Value<Text>, report: &mut Report) -> Option<Reason> {
    let word = text.value.value.as_str();
    let known = Reason::ALL.iter().find(|reason| reason.code() == word);
    if known.is_none() {
        let instead = match nearest(word, Reason::ALL.iter().map(|reason| reason.code())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "config/reasons.md has all of them: write the operator's code".to_owned(),
        };
        report.problem_instead(
            &text.place,
            format!("`{}` is not a reason", text.value.shown()),
            instead,
        );
    }
    known.copied()
}

fn layer(field: &Field<Text>, report: &mut Report) -> Option<Option<String>> {
    let layers = LAYERS.iter().map(|layer| layer.as_str());
    let names: Vec<&str> = layers.chain([BEFORE_LAYERS]).collect();
    field.then(|text| {
        text.parse(
            |word| names.contains(&word).then(|| word.to_owned()),
            "is not a layer",
            &format!("write one of {}", names.join(", ")),
            report,
        )
    })
}

fn optional(field: &Field<Text>) -> Option<Option<String>> {
    let text = field.optional()?;
    Some(text.map(|text| text.value.value.clone()))
}

fn parsed<T, E>(
    parsed: Result<T, E>,
    text: &Value<Text>,
    is_not: &str,
    report: &mut Report,
) -> Option<T> {
    if parsed.is_err() {
        report.problem(&text.place, format!("`{}` {is_not}", text.value.shown()));
    }
    parsed.ok()
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    reason = "a failed expectation is how a test fails"
)]
mod tests {
    use super::*;

    #[test]
    fn the_annotated_cases_have_every_key_and_load() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo.cases.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut all = Vec::new();
        File::keys(&mut all);
        // Facts are written as in a route map, whose example has them.
        let own = [
            "File",
            "CaseEntry",
            "RequestEntry",
            "CallerEntry",
            "ExpectEntry",
        ];
        all.retain(|(name, _)| own.contains(name));
        assert_eq!(all.len(), own.len());
        for (name, keys) in all {
            for key in keys {
                let shown = [format!(" {key}:"), format!("\n{key}:")];
                assert!(
                    shown.iter().any(|shown| text.contains(shown)),
                    "`{key}` of {name} is not in config/demo.cases.yaml"
                );
            }
        }
        assert!(load(&path).unwrap().cases.len() > 4);
    }
}
