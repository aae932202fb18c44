//! Why a server cannot be used, in an operator's words, and how soon to try it again.
//!
//! The words are this program's own. What a server or a driver wrote is only searched for known
//! phrases and never shown, since it may repeat a password.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::time::Duration;

/// Why a server cannot be used, and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    words: Cow<'static, str>,
    is_lasting: bool,
}

impl Fault {
    /// A fault that may end by itself, such as a restart.
    pub(crate) fn passing(words: impl Into<Cow<'static, str>>) -> Self {
        Self {
            words: words.into(),
            is_lasting: false,
        }
    }

    /// A fault that somebody must mend, such as a wrong password.
    pub(crate) fn lasting(words: impl Into<Cow<'static, str>>) -> Self {
        Self {
            words: words.into(),
            is_lasting: true,
        }
    }

    /// No answer within the time limit.
    pub(crate) fn silent() -> Self {
        Self::passing(
            "it does not answer in time: it is overloaded, or a firewall drops the packets",
        )
    }

    /// The server closed the connection.
    pub(crate) fn closed() -> Self {
        Self::passing(
            "it closes the connection: it restarts, or a proxy in front of it has no server",
        )
    }

    /// The fault behind an error of a connection, whose `Debug` text this is: drivers keep the text
    /// of an [`std::io::Error`] at most. `None` if the text is about something else.
    pub(crate) fn of_connection(debug: &str) -> Option<Self> {
        let has = |phrase: &str| debug.contains(phrase);
        if has("failed to lookup address") {
            return Some(Self::passing(
                "its name is not known to DNS: check the host in the URL, and the resolver",
            ));
        }
        if let Some((_, why)) = debug.split_once("InvalidCertificate(") {
            return Some(Self::lasting(certificate(why)));
        }
        if has("handshake eof") {
            return Some(Self::passing(
                "it closes the connection during the TLS handshake: it may not speak TLS, or a proxy in front of it has no server",
            ));
        }
        let not_tls = [
            "InvalidMessage(",
            "InvalidContentType",
            "server does not support TLS",
        ];
        if not_tls.iter().any(|phrase| has(phrase)) {
            return Some(Self::lasting(
                "it does not speak TLS: write the URL for clear text if the network is private, or turn TLS on in the server",
            ));
        }
        if has("AlertReceived(") || has("PeerIncompatible(") {
            return Some(Self::lasting(
                "it refuses the TLS handshake: it may want a client certificate, or an older version of TLS",
            ));
        }
        if has("ConnectionRefused") {
            return Some(Self::passing(
                "the connection is refused: nothing listens at this address and port",
            ));
        }
        if has("HostUnreachable") || has("NetworkUnreachable") || has("NetworkDown") {
            return Some(Self::passing("there is no route to its address"));
        }
        let late = ["TimedOut", "timed out", "Unresponsive connection"];
        if late.iter().any(|phrase| has(phrase)) {
            return Some(Self::silent());
        }
        let ends = [
            "ConnectionReset",
            "ConnectionAborted",
            "BrokenPipe",
            "UnexpectedEof",
            "onnection closed",
        ];
        let ends = ends.iter().any(|phrase| has(phrase));
        ends.then(Self::closed)
    }

    /// Whether somebody must mend it, so that it is no use to try again soon.
    pub(crate) fn is_lasting(&self) -> bool {
        self.is_lasting
    }
}

/// Why a certificate is refused; `why` begins with the name of rustls's reason.
fn certificate(why: &str) -> &'static str {
    let is = |reason: &str| why.starts_with(reason);
    if is("UnknownIssuer") {
        "its TLS certificate is signed by an authority that is not trusted: name the authority's file in `ca`, or install it in the system"
    } else if is("NotValidForName") {
        "its TLS certificate is for another name: write the certificate's name in the URL"
    } else if is("Expired") {
        "its TLS certificate has expired: renew it, or set this machine's clock"
    } else if is("NotValidYet") {
        "its TLS certificate is not valid yet: set this machine's clock"
    } else {
        "its TLS certificate is not valid"
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Fault {}

/// The pause after the first failed attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Upper bound of a pause while the fault may end by itself: a server that comes back is found
/// within this.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The same while somebody must mend something. Servers log, and some lock out, whoever tries a
/// wrong password all the time.
const LONGEST_LASTING_PAUSE: Duration = Duration::from_secs(10);

/// Pauses between attempts to use a server, which grow while the attempts fail.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after another attempt that failed with this fault. Shortened at random by up to a
    /// quarter, so that replicas that started together spread out.
    pub(crate) fn pause(&mut self, fault: &Fault) -> Duration {
        let longest = match fault.is_lasting {
            true => LONGEST_LASTING_PAUSE,
            false => LONGEST_PAUSE,
        };
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.failures.min(10))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        // Every new hasher has different keys: random enough to spread attempts.
        let random = RandomState::new().hash_one(()) % 1000;
        pause - pause / 4 * u32::try_from(random).unwrap_or_default() / 1000
    }

    /// Begins again with the first pause: the server was usable.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_own_words() {
        let texts = [
            r#"Custom { kind: Uncategorized, error: "failed to lookup address information: Name or service not known" }"#,
            r#"Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }"#,
            r#"Os { code: 113, kind: HostUnreachable, message: "No route to host" }"#,
            r#"Os { code: 104, kind: ConnectionReset, message: "Connection reset by peer" }"#,
            "Custom { kind: InvalidData, error: InvalidCertificate(UnknownIssuer) }",
            "Custom { kind: InvalidData, error: InvalidCertificate(ExpiredContext { time: 1 }) }",
            "Custom { kind: InvalidData, error: InvalidCertificate(NotValidForNameContext { }) }",
            "Custom { kind: InvalidData, error: InvalidMessage(InvalidContentType) }",
            "Custom { kind: InvalidData, error: AlertReceived(CertificateRequired) }",
            r#"Custom { kind: UnexpectedEof, error: "tls handshake eof" }"#,
            "Unresponsive connection.",
        ];
        let words: std::collections::BTreeSet<String> = texts
            .iter()
            .filter_map(|text| Fault::of_connection(text))
            .map(|fault| fault.to_string())
            .collect();
        assert_eq!(words.len(), texts.len(), "{words:#?}");
        assert_eq!(Fault::of_connection("p4ssw0rd"), None);
    }

    #[test]
    fn pauses_grow_to_a_bound_that_depends_on_whether_the_fault_ends_by_itself() {
        for (fault, longest) in [
            (Fault::silent(), LONGEST_PAUSE),
            (Fault::lasting("wrong password"), LONGEST_LASTING_PAUSE),
        ] {
            let mut backoff = Backoff::default();
            let mut bound = FIRST_PAUSE;
            for _ in 0..20 {
                let pause = backoff.pause(&fault);
                assert!(
                    pause <= bound && pause >= bound * 3 / 4,
                    "{pause:?} {bound:?}"
                );
                bound = (bound * 2).min(longest);
            }
            assert_eq!(bound, longest);
            backoff.reset();
            assert!(backoff.pause(&fault) <= FIRST_PAUSE);
        }
    }
}
