//! An issuer's discovery document (OpenID Connect Discovery 1.0, sections 4.2 and 4.3): where the
//! issuer's keys are.
//!
//! The document must name the issuer, and may not point to another site: that would be a server
//! that nobody configured, perhaps one behind our own firewall.

use serde_json::Value;

use crate::json;
use crate::policy::outbound_url::OutboundUrl;

/// The path of the keys that the document at `url` names for `issuer`. The error reveals nothing of
/// the document but a host.
pub(super) fn jwks_path(
    document: &[u8],
    url: &OutboundUrl,
    issuer: &str,
) -> Result<String, String> {
    if json::has_byte_order_mark(document) {
        return Err(json::BYTE_ORDER_MARK.to_owned());
    }
    let document = json::object(document).ok_or("it is not one JSON object")?;
    let text = |name| document.get(name).and_then(Value::as_str);
    if text("issuer") != Some(issuer) {
        return Err("its `issuer` is not the entry's".to_owned());
    }
    let written = text("jwks_uri").ok_or("it has no `jwks_uri`")?;
    let keys_url = OutboundUrl::parse(written).map_err(|why| format!("its `jwks_uri`: {why}"))?;
    if keys_url.site != url.site {
        let site = &keys_url.site;
        return Err(format!(
            "its `jwks_uri` is on another site, {site}; if that is right, name it with `jwks_url`"
        ));
    }
    Ok(keys_url.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> OutboundUrl {
        OutboundUrl::parse(text).unwrap_or_else(|why| unreachable!("{text}: {why}"))
    }

    #[test]
    fn a_discovery_document_may_name_keys_of_its_own_issuer_and_site_only() {
        let document_url = url("https://a.test/.well-known/openid-configuration");
        let parse =
            |document: &str| jwks_path(document.as_bytes(), &document_url, "https://a.test");
        let good = r#"{"issuer":"https://a.test","jwks_uri":"https://a.test:443/k?x=1"}"#;
        assert_eq!(parse(good), Ok("/k?x=1".to_owned()));
        for (document, why) in [
            ("[]", "JSON object"),
            (r#"{"issuer":"https://a.test"}"#, "no `jwks_uri`"),
            (r#"{"jwks_uri":"https://a.test/k"}"#, "`issuer`"),
            (
                r#"{"issuer":"https://a.test/","jwks_uri":"https://a.test/k"}"#,
                "`issuer`",
            ),
            (
                r#"{"issuer":["https://a.test"],"jwks_uri":"https://a.test/k"}"#,
                "`issuer`",
            ),
            (
                r#"{"issuer":"https://b","issuer":"https://a.test","jwks_uri":"https://a.test/k"}"#,
                "JSON object",
            ),
            (
                r#"{"issuer":"https://a.test","jwks_uri":5}"#,
                "no `jwks_uri`",
            ),
            (
                r#"{"issuer":"https://a.test","jwks_uri":"/k"}"#,
                "`jwks_uri`",
            ),
            (
                r#"{"issuer":"https://a.test","jwks_uri":"http://a.test/k"}"#,
                "clear text",
            ),
            (
                r#"{"issuer":"https://a.test","jwks_uri":"http://127.0.0.1/k"}"#,
                "another site",
            ),
            (
                r#"{"issuer":"https://a.test","jwks_uri":"https://b.test/k"}"#,
                "https://b.test",
            ),
            (
                r#"{"issuer":"https://a.test","jwks_uri":"https://a.test:8443/k"}"#,
                "another site",
            ),
            (
                r#"{"issuer":"https://a.test","jwks_uri":"https://a.test.evil/k"}"#,
                "another site",
            ),
            (
                r#"{"issuer":"https://a.test","jwks_uri":"https://a.test@evil/k"}"#,
                "password",
            ),
        ] {
            let error = parse(document).err().unwrap_or_default();
            assert!(error.contains(why), "{error:?} for {document}");
        }
    }
}
