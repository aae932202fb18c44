//! The tokens that a worker proved of late.
//!
//! Decides:  nothing; like an entry of `cache`, it is a fact and never a verdict. Trusts: nobody; the whole text is compared.
//! Not here: whether the token is still good, which is asked on every hit.
//!
//! A client sends the same token with every request. To compare it with one that is at hand costs a fraction of the digest by which `cache`
//! finds it, and touches nothing that other threads touch.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::Verified;

/// How many tokens a worker keeps at hand. A choice, not a measurement; a token has at most 8 KiB.
const PLACES: usize = 1 << 8;

/// How much of a token, from its end, says which place it has: of the signature, which looks random. Whoever wants another's out of it has to
/// know that one, or to own a token for every place; the other's then costs a digest more.
const TAIL: usize = 8;

/// Some of the tokens that one worker proved last. A text is kept until another takes its place, or until it is presented and no longer accepted.
pub struct Recent {
    places: RefCell<Vec<Option<Proven>>>,
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
        let known = places.get(place(token))?.as_ref()?;
        is_same(&known.text, token).then(|| Arc::clone(&known.verified))
    }

    /// Forgets what was proven by a token that is not accepted any more.
    pub(super) fn forget(&self, token: &[u8]) {
        if let Some(place) = self.places.borrow_mut().get_mut(place(token)) {
            *place = None;
        }
    }

    /// Puts a token in the place of another.
    pub(super) fn remember(&self, token: &str, verified: &Arc<Verified>) {
        let token = token.as_bytes();
        if let Some(place) = self.places.borrow_mut().get_mut(place(token)) {
            *place = Some(Proven {
                text: token.into(),
                verified: Arc::clone(verified),
            });
        }
    }
}

/// The place of a token. Its last bytes have few random bits each, at the same places; in the uppermost bits of a product all of them count
/// (Knuth, The Art of Computer Programming, section 6.4).
fn place(token: &[u8]) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let tail = token
        .last_chunk::<TAIL>()
        .map_or(0, |tail| u64::from_le_bytes(*tail));
    let uppermost = tail.wrapping_mul(GOLDEN) >> (u64::BITS - PLACES.ilog2());
    usize::try_from(uppermost).unwrap_or_default()
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            places: RefCell::new((0..PLACES).map(|_| None).collect()),
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
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn tokens_are_spread_over_all_places() {
        let signature = |number: u32| {
            let digest =
                aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &number.to_le_bytes());
            URL_SAFE_NO_PAD.encode(digest)
        };
        let mut taken = [0; PLACES];
        for number in 0..16 * PLACES as u32 {
            *taken
                .get_mut(place(signature(number).as_bytes()))
                .expect("a place") += 1;
        }
        assert!(
            taken.iter().all(|count| (1..=48).contains(count)),
            "{taken:?}"
        );
    }

    #[test]
    fn only_the_very_same_text_is_the_same() {
        assert!(is_same(b"", b""));
        assert!(is_same(b"abc", b"abc"));
        for other in [&b"abd"[..], b"ab", b"abcd", b"bbc", b""] {
            assert!(!is_same(b"abc", other));
        }
    }
}
