//! Describes the device of a session in the user's list: a browser family and a network. Clients
//! can claim anything here, so nothing is authorized by it.

use std::net::IpAddr;

use ipnet::IpNet;

/// Browser families, each with its token in `User-Agent`. The first match counts, since most
/// browsers also name others.
const FAMILIES: [(&str, &str); 12] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
    ("okhttp/", "okhttp"),
    ("Dart/", "Dart"),
    ("node", "Node.js"),
];

/// The family of a user agent; `other` if it is not known, `unknown` if it is empty.
pub(super) fn family(user_agent: &str) -> String {
    let known = FAMILIES
        .iter()
        .find(|(word, _)| user_agent.contains(word))
        .map(|(_, family)| *family);
    let unknown = match user_agent.trim().is_empty() {
        true => "unknown",
        false => "other",
    };
    known.unwrap_or(unknown).to_owned()
}

/// The network of an address.
pub(super) fn network(address: IpAddr) -> String {
    let length = match address {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 48,
    };
    IpNet::new(address, length)
        .map(|network| network.trunc().to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_recognisable_but_not_trackable() {
        for (agent, expected) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
                "Chrome",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36 Edg/140.0",
                "Edge",
            ),
            (
                "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15",
                "Safari",
            ),
            ("<script>alert(1)</script>", "other"),
            ("", "unknown"),
        ] {
            assert_eq!(family(agent), expected, "{agent}");
        }
        for (address, expected) in [
            ("203.0.113.9", "203.0.113.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ] {
            assert_eq!(network(address.parse().expect("an address")), expected);
        }
    }
}
