//! The tokens that a worker proved of late.
//!
//! Decides:  nothing; like an entry of `cache`, it is a fact and never a verdict. Trusts: nobody; the whole text is compared.
//! Not here: whether the token is still good, which is asked on every hit.
//!
//! A client sends the same token with every request. To compare it with one that is at hand costs a fraction of the digest by which `cache`
//! finds it, and touches nothing that other threads touch.

use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::Verified;

/// How many tokens a worker keeps at hand. A choice, not a measurement; a token has at most 8 KiB.
const PLACES: usize = 256;

/// How much of a token, from its end, says which place it has: of the signature, which looks random.
const TAIL: usize = 32;

/// Some of the tokens that one worker proved last. A text is kept until another takes its place.
pub struct Recent {
    places: RefCell<Vec<Option<Proven>>>,
    /// Seeded, so that nobody can choose whom to push out.
    seed: RandomState,
}

/// A token's text, and what it proved.
struct Proven {
    text: Box<[u8]>,
    verified: Arc<Verified>,
}

impl Recent {
    /// What was proven by this very text, if that is at hand.
    pub(super) fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        let places = self.places.borrow();
        let known = places.get(self.place(token))?.as_ref()?;
        is_same(&known.text, token).then(|| Arc::clone(&known.verified))
    }

    /// Puts a token in the place of another.
    pub(super) fn remember(&self, token: &str, verified: &Arc<Verified>) {
        let token = token.as_bytes();
        if let Some(place) = self.places.borrow_mut().get_mut(self.place(token)) {
            *place = Some(Proven {
                text: token.into(),
                verified: Arc::clone(verified),
            });
        }
    }

    fn place(&self, token: &[u8]) -> usize {
        let tail = token.last_chunk::<TAIL>();
        let hash = self.seed.hash_one(tail) % PLACES as u64;
        usize::try_from(hash).unwrap_or_default()
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            places: RefCell::new((0..PLACES).map(|_| None).collect()),
            seed: RandomState::new(),
        }
    }
}

/// Whether two texts are equal, in a time that does not tell where they differ: what is at hand may be another caller's token.
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
