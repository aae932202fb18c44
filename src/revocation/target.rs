//! What a revocation says, its name, and how it is written down.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock;
use crate::metrics::labels;
use crate::secrets::digest::{self, Digest};
use crate::secrets::hex;
use crate::secrets::secret::Secret;

/// Identifies a revocation among all replicas. Two revocations with one name are the same; the
/// later expiry is kept, and the later time of receipt with it.
pub type Name = Digest;

/// A target that is refused from now on.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// The target.
    #[serde(rename = "what")]
    pub target: Target,
    /// When the gateway received it, in Unix milliseconds: the start of the measured lag.
    #[serde(rename = "told")]
    pub received_at: i64,
    /// When it ceases to have effect, in Unix seconds.
    pub expires: i64,
    /// The operator who made it; `None` for a logout or a webhook, whose records every version
    /// reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
}

/// The author of an entry and the reason.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The name of the operator.
    pub by: String,
    /// The operator's reason; it may be empty.
    pub reason: String,
}

/// The target of a revocation.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// One token.
    Token {
        /// See [`token_digest`].
        #[serde(with = "hex")]
        sha256: Digest,
        /// `iss`, if it is known.
        issuer: Option<String>,
        /// `session_id`, if it is known: used for coarsening.
        session: Option<String>,
        /// `sub`, if it is known: used for coarsening.
        subject: Option<String>,
    },
    /// Every token of one session.
    Session {
        /// `iss`.
        issuer: String,
        /// `session_id`.
        session: String,
        /// `sub`, if it is known: used for coarsening.
        subject: Option<String>,
    },
    /// The tokens of one user from sign-ins up to a time.
    Subject {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
        /// Unix seconds: sign-ins up to here are refused.
        not_before: i64,
        /// Exempt sessions.
        except: Vec<String>,
        /// This entry replaces revoked sessions in a full list. A token that names no time of
        /// sign-in, only one of issue, is refused whatever that is: refreshing a revoked session
        /// must not restore it.
        strict: bool,
    },
    /// The tokens of one issuer from sign-ins up to a time.
    Issuer {
        /// `iss`.
        issuer: String,
        /// Unix seconds: sign-ins up to here are refused.
        not_before: i64,
    },
    /// The tokens of some users of an issuer from sign-ins up to a time: the coarsest entry, made
    /// only by a full list.
    Bucket {
        /// `iss`.
        issuer: String,
        /// How many bits of [`bucket_of`] the prefix has, at most 16.
        bits: u8,
        /// The first bits of [`bucket_of`] of these users.
        prefix: u16,
        /// Unix seconds: sign-ins up to here are refused.
        not_before: i64,
        /// See [`Self::Subject`].
        strict: bool,
    },
    /// Nothing: an operator undid the revocation. The entry has its name and a later expiry, so it
    /// replaces the revocation in every list and in the log, in whatever order they are read.
    Undone {
        /// What was undone.
        revocation: Box<Revocation>,
    },
}

/// Spreads the users of an issuer over buckets.
pub fn bucket_of(issuer: &str, subject: &str) -> u16 {
    let subject = canonical_id(subject);
    let digest = digest::of_parts([issuer.as_bytes(), subject.as_bytes()]);
    let [first, second, ..] = digest;
    u16::from_be_bytes([first, second])
}

/// The first `bits` of a bucket that is given by `of` bits.
pub(super) fn widened(prefix: u16, of: u8, bits: u8) -> u16 {
    let dropped = u32::from(of.saturating_sub(bits));
    prefix.checked_shr(dropped).unwrap_or(0)
}

/// The digest that identifies a token in the list: SHA-256 of its text up to the signature. The
/// signature does not identify a token: whoever has one signed with ES256 can produce another valid
/// signature without the key.
pub fn token_digest(token: &str) -> Digest {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    digest::of(signed.as_bytes())
}

/// The canonical spelling of a `sub` or `session_id`, by which it is named and listed: without
/// white space around it, and a UUID in lower case with hyphens (RFC 9562, section 4), however the
/// token or the operator writes it.
pub fn canonical_id(id: &str) -> Cow<'_, str> {
    let id = id.trim();
    match Uuid::try_parse(id) {
        Ok(uuid) => Cow::Owned(uuid.hyphenated().to_string()),
        Err(_) => Cow::Borrowed(id),
    }
}

impl Target {
    /// The kind of this target.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Token { .. } => Kind::Token,
            Self::Session { .. } => Kind::Session,
            Self::Subject { .. } => Kind::Subject,
            Self::Issuer { .. } => Kind::Issuer,
            Self::Bucket { .. } => Kind::Bucket,
            Self::Undone { revocation } => revocation.target.kind(),
        }
    }

    /// The issuer, session and subject that it names.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        let (issuer, session, subject) = match self {
            Self::Token {
                issuer,
                session,
                subject,
                ..
            } => (issuer.as_deref(), session.as_deref(), subject.as_deref()),
            Self::Session {
                issuer,
                session,
                subject,
            } => (
                Some(issuer.as_str()),
                Some(session.as_str()),
                subject.as_deref(),
            ),
            Self::Subject {
                issuer, subject, ..
            } => (Some(issuer.as_str()), None, Some(subject.as_str())),
            Self::Issuer { issuer, .. } | Self::Bucket { issuer, .. } => {
                (Some(issuer.as_str()), None, None)
            }
            Self::Undone { .. } => (None, None, None),
        };
        [issuer, session, subject].into_iter().flatten()
    }

    /// Whether it says that a revocation was undone.
    pub fn is_undone(&self) -> bool {
        matches!(self, Self::Undone { .. })
    }

    /// Whether sessions that begin here after it was received are exempt, so that the later of two
    /// with one name refuses more.
    pub fn exempts_later_sessions(&self) -> bool {
        match self {
            Self::Subject { .. } | Self::Bucket { .. } => true,
            Self::Token { .. }
            | Self::Session { .. }
            | Self::Issuer { .. }
            | Self::Undone { .. } => false,
        }
    }

    /// Whether it stands for other entries in a full list, and so refuses more than was asked.
    pub fn is_wide(&self) -> bool {
        match self {
            Self::Subject { strict, .. } => *strict,
            Self::Bucket { .. } => true,
            Self::Token { .. }
            | Self::Session { .. }
            | Self::Issuer { .. }
            | Self::Undone { .. } => false,
        }
    }

    /// With canonical ids. Two spellings would be two revocations with one entry in the list, and
    /// the expiry of the first would remove it for both.
    fn canonical(mut self) -> Self {
        let to_canonical = |id: &mut String| *id = canonical_id(id).into_owned();
        match &mut self {
            Self::Token {
                session, subject, ..
            } => session.iter_mut().chain(subject).for_each(to_canonical),
            Self::Session {
                session, subject, ..
            } => std::iter::once(session)
                .chain(subject)
                .for_each(to_canonical),
            Self::Subject {
                subject, except, ..
            } => std::iter::once(subject)
                .chain(except)
                .for_each(to_canonical),
            Self::Issuer { .. } | Self::Bucket { .. } => {}
            Self::Undone { revocation } => {
                let target = revocation.target.clone().canonical();
                revocation.target = target;
            }
        }
        self
    }
}

impl Revocation {
    /// Revokes a bearer token that names no session: the token is the whole session.
    pub fn of_bearer(token: &Secret, issuer: &str, subject: &str, expires: i64) -> Self {
        let target = Target::Token {
            sha256: token_digest(&String::from_utf8_lossy(token.expose())),
            issuer: Some(issuer.to_owned()),
            session: None,
            subject: Some(subject.to_owned()),
        };
        Self::new(target, clock::unix_millis(), expires)
    }

    /// A revocation received at `received_at`, in Unix milliseconds, that expires at `expires`, in
    /// Unix seconds.
    pub fn new(target: Target, received_at: i64, expires: i64) -> Self {
        Self {
            target: target.canonical(),
            received_at,
            expires,
            note: None,
        }
    }

    /// The revocation that this entry undoes, if it does.
    pub fn undone(&self) -> Option<&Self> {
        match &self.target {
            Target::Undone { revocation } => Some(revocation),
            Target::Token { .. }
            | Target::Session { .. }
            | Target::Subject { .. }
            | Target::Issuer { .. }
            | Target::Bucket { .. } => None,
        }
    }

    /// Whether this one of two revocations with one name also refuses sessions that began after the
    /// other one was received.
    pub fn refuses_more_than(&self, other: &Self) -> bool {
        self.target.exempts_later_sessions()
            && other.target.exempts_later_sessions()
            && self.received_at > other.received_at
    }

    /// With an author and a reason.
    #[must_use]
    pub fn noted(self, note: Note) -> Self {
        Self {
            note: Some(note),
            ..self
        }
    }

    /// The name. It does not cover what is only used for coarsening, nor the time of receipt.
    pub fn name(&self) -> Name {
        let kind = self.target.kind().as_str();
        match &self.target {
            Target::Token { sha256, .. } => digest::of_parts([kind.as_bytes(), sha256]),
            Target::Session {
                issuer, session, ..
            } => digest::of_parts([kind, issuer, session].map(str::as_bytes)),
            Target::Subject {
                issuer,
                subject,
                not_before,
                except,
                strict,
            } => {
                let (time, strict) = (not_before.to_be_bytes(), [u8::from(*strict)]);
                let fixed = [
                    kind.as_bytes(),
                    issuer.as_bytes(),
                    subject.as_bytes(),
                    &time,
                    &strict,
                ];
                digest::of_parts(fixed.into_iter().chain(except.iter().map(String::as_bytes)))
            }
            Target::Issuer { issuer, not_before } => {
                let time = not_before.to_be_bytes();
                digest::of_parts([kind.as_bytes(), issuer.as_bytes(), &time])
            }
            Target::Bucket {
                issuer,
                bits,
                prefix,
                not_before,
                strict,
            } => {
                let (time, prefix) = (not_before.to_be_bytes(), prefix.to_be_bytes());
                let flags = [*bits, u8::from(*strict)];
                digest::of_parts([kind.as_bytes(), issuer.as_bytes(), &time, &prefix, &flags])
            }
            Target::Undone { revocation } => revocation.name(),
        }
    }

    /// Encodes the revocation for the store.
    pub fn to_record(&self) -> Vec<u8> {
        // Strings, numbers and booleans always encode.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Decodes a record of any replica. `None` if this version does not understand it.
    pub fn from_record(record: &[u8]) -> Option<Self> {
        let read: Self = serde_json::from_slice(record).ok()?;
        let target = read.target.canonical();
        Some(Self { target, ..read })
    }
}

/// Shows no ids: subjects and sessions belong to users, and not into every log.
impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {}", self.target.kind().as_str(), self.expires)
    }
}

labels! {
    /// The kind of a target.
    #[derive(Ord, PartialOrd)]
    pub enum Kind {
        /// One token.
        Token = "token",
        /// One session.
        Session = "session",
        /// One user.
        Subject = "subject",
        /// One issuer.
        Issuer = "issuer",
        /// Some users of one issuer.
        Bucket = "bucket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(target: Target) -> Revocation {
        Revocation {
            target,
            received_at: 1,
            expires: 2,
            note: None,
        }
    }

    fn session(issuer: &str, session: &str, subject: Option<&str>) -> Revocation {
        of(Target::Session {
            issuer: issuer.to_owned(),
            session: session.to_owned(),
            subject: subject.map(str::to_owned),
        })
    }

    fn subject(not_before: i64, except: &[&str], strict: bool) -> Revocation {
        of(Target::Subject {
            issuer: "i".to_owned(),
            subject: "s".to_owned(),
            not_before,
            except: except.iter().map(|&id| id.to_owned()).collect(),
            strict,
        })
    }

    #[test]
    fn a_name_covers_the_target_and_nothing_else() {
        let one = session("i", "s", None);
        let later = Revocation {
            received_at: 7,
            expires: 9,
            ..session("i", "s", Some("u"))
        };
        assert_eq!(one.name(), later.name());
        let names = [
            one.name(),
            session("is", "", None).name(),
            session("", "is", None).name(),
            subject(1, &[], false).name(),
            subject(2, &[], false).name(),
            subject(1, &[], true).name(),
            subject(1, &["a"], false).name(),
            subject(1, &["a", "b"], false).name(),
            of(Target::Issuer {
                issuer: "i".to_owned(),
                not_before: 1,
            })
            .name(),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(!names.iter().skip(index + 1).any(|other| other == name));
        }
    }

    #[test]
    fn a_record_decodes_and_anything_else_does_not() {
        let token = of(Target::Token {
            sha256: [0xab; 32],
            issuer: Some("i".to_owned()),
            session: None,
            subject: None,
        });
        let noted = session("i", "s", None).noted(Note {
            by: "alice".to_owned(),
            reason: "lost".to_owned(),
        });
        let undone = of(Target::Undone {
            revocation: Box::new(noted.clone()),
        });
        assert_eq!(undone.name(), noted.name());
        for written in [
            token,
            session("i", "s", Some("u")),
            subject(1, &["a"], true),
            of(Target::Bucket {
                issuer: "i".to_owned(),
                bits: 4,
                prefix: 9,
                not_before: 1,
                strict: true,
            }),
            noted,
            undone,
        ] {
            assert_eq!(
                Revocation::from_record(&written.to_record()),
                Some(written.clone())
            );
        }
        // The stored form: replicas of other versions read it.
        let issuer = of(Target::Issuer {
            issuer: "i".to_owned(),
            not_before: 1,
        });
        let stored =
            r#"{"what":{"kind":"issuer","issuer":"i","not_before":1},"told":1,"expires":2}"#;
        assert_eq!(issuer.to_record(), stored.as_bytes());
        assert_eq!(Revocation::from_record(stored.as_bytes()), Some(issuer));
        for strange in [
            "",
            "{}",
            "null",
            r#"{"what":{"kind":"tenant","issuer":"i"},"told":1,"expires":2}"#,
            r#"{"what":{"kind":"issuer","issuer":"i","not_before":1},"told":1,"expires":2,"unless":3}"#,
            r#"{"what":{"kind":"issuer","issuer":"i","not_before":1,"except":["a"]},"told":1,"expires":2}"#,
            r#"{"what":{"kind":"token","sha256":"ab","issuer":null,"session":null,"subject":null},"told":1,"expires":2}"#,
        ] {
            assert_eq!(
                Revocation::from_record(strange.as_bytes()),
                None,
                "{strange}"
            );
        }
    }

    #[test]
    fn an_id_has_one_canonical_spelling() {
        let uuid = "0190a6f4-7c1e-7a52-9d3b-5f2a8c4e6b70";
        for written in [
            uuid.to_owned(),
            uuid.to_uppercase(),
            format!(" {uuid}\t"),
            uuid.replace('-', ""),
        ] {
            assert_eq!(canonical_id(&written), uuid);
            let made = Revocation::new(session("i", &written, Some(&written)).target, 1, 2);
            assert_eq!(made, session("i", uuid, Some(uuid)));
            let made = Revocation::new(subject(1, &[&written], false).target, 1, 2);
            assert_eq!(made, subject(1, &[uuid], false));
            let record = session("i", &written, None).to_record();
            let read = Revocation::from_record(&record).expect("a record");
            assert_eq!(read.name(), session("i", uuid, None).name());
        }
        // An id that is no UUID keeps its case: two users may differ by it.
        assert_eq!(canonical_id(" User|A "), "User|A");
    }
}
