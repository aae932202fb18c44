//! The token that a connection proved last.
//!
//! Decides:  nothing; like an entry of `cache`, it is a fact and never a verdict. Trusts: nobody; the whole text is compared.
//! Not here: whether the token is still good, which is asked on every hit.
//!
//! A client sends the same token with every request of its connection. To compare it with the last one costs a fraction of the digest by
//! which `cache` finds it, and touches nothing that other threads touch.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::Verified;

/// The last token that one connection proved. Its text is kept for as long as the connection.
#[derive(Default)]
pub struct Recent(RefCell<Option<Proven>>);

/// A token's text, and what it proved.
struct Proven {
    text: Box<[u8]>,
    verified: Arc<Verified>,
}

impl Recent {
    /// What was proven by this very text, if it was the last.
    pub(super) fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        let last = self.0.borrow();
        let last = last.as_ref()?;
        is_same(&last.text, token).then(|| Arc::clone(&last.verified))
    }

    /// Puts a token in the place of the last one.
    pub(super) fn remember(&self, token: &str, verified: &Arc<Verified>) {
        *self.0.borrow_mut() = Some(Proven {
            text: token.as_bytes().into(),
            verified: Arc::clone(verified),
        });
    }
}

/// Whether two texts are equal, in a time that does not tell where they differ: on a connection that carries several users, the last token
/// may be another's.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let difference = |(a, b): (&u8, &u8)| a ^ b;
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .map(difference)
            .fold(0, std::ops::BitOr::bitor)
            == 0
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recent(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_text_is_the_same() {
        assert!(is_same(b"", b""));
        assert!(is_same(b"abc", b"abc"));
        for other in [&b"abd"[..], b"ab", b"abcd", b"bbc", b""] {
            assert!(!is_same(b"abc", other));
        }
    }
}
