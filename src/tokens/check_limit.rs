//! How many tokens of one address may be refused: each costs the check of a signature, and refusals
//! are not cached.
//!
//! Decides:  429 `tokens_too_many`, before the check.
//! Not here: tokens in a cache, which cost nothing and are never refused by this.
//!
//! An address is an IPv4 address or the /64 of an IPv6 address; its /48 has [`SITE_FACTOR`] times
//! the rate.

use std::num::NonZeroU32;

use crate::denial::{Denial, Extra, Reason};
use crate::network::Networks;
use crate::policy::rate::Rate;
use crate::store::{Bucket, Buckets, Draw};

/// How many times more tokens of a /48 may be refused than of each /64. A choice.
const SITE_FACTOR: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// The refused tokens of this process, by address.
#[derive(Debug, Default)]
pub struct RefusedTokens {
    buckets: Buckets,
}

/// The limit of one client.
#[derive(Clone, Copy, Debug)]
pub struct CheckLimit<'a> {
    /// What was refused so far.
    pub refused: &'a RefusedTokens,
    /// How many tokens of an address may be refused.
    pub rate: Rate,
    /// As whom the client is counted.
    pub client: Networks,
}

impl CheckLimit<'_> {
    /// Refuses a check if too many tokens of the address were refused.
    pub(super) fn admit(&self) -> Result<(), Denial> {
        match self.draw(Draw::Ask) {
            None => Ok(()),
            Some(extra) => Err(Denial {
                extra,
                ..Reason::TokensTooMany.into()
            }),
        }
    }

    /// Counts a refusal, if it took a check to decide it.
    pub(super) fn note(&self, reason: Reason) {
        let is_checked = matches!(
            reason,
            Reason::TokenKeyUnknown
                | Reason::TokenSignature
                | Reason::TokenExpired
                | Reason::TokenNotYetValid
                | Reason::TokenIssuedAhead
                | Reason::TokenAudience
                | Reason::TokenClaims
        );
        if is_checked {
            self.draw(Draw::Take);
        }
    }

    /// Draws from all buckets of the address; the response fields of a refusal if one is full.
    fn draw(&self, draw: Draw) -> Option<Extra> {
        let Networks { own, site } = &self.client;
        let own = Bucket {
            name: own.bytes(),
            rate: self.rate,
            draw,
        };
        let buckets = match site {
            None => vec![own],
            Some(site) => vec![
                own,
                Bucket {
                    name: site.bytes(),
                    rate: self.rate.times(SITE_FACTOR),
                    draw,
                },
            ],
        };
        let levels = self.refused.buckets.admit(&buckets);
        let mut full = levels.iter().zip(&buckets);
        let (level, bucket) = full.find(|(level, _)| !level.is_admitted)?;
        Some(Extra::Limited {
            limit: bucket.rate.burst.get(),
            wait: level.wait,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn checked_refusals_count_by_address_and_others_do_not() {
        let refused = RefusedTokens::default();
        let limit = |client: &str| CheckLimit {
            refused: &refused,
            rate: Rate::new(NonZeroU32::MIN, Duration::from_secs(100_000)),
            client: Networks::of(client.parse().unwrap_or_else(|_| unreachable!("{client}"))),
        };
        let one = limit("192.0.2.1");
        for reason in [
            Reason::TokenMalformed,
            Reason::TokenIssuer,
            Reason::KeysUnavailable,
        ] {
            one.note(reason);
            assert!(one.admit().is_ok(), "{reason:?}");
        }
        one.note(Reason::TokenSignature);
        let denial = one.admit().err();
        assert_eq!(
            denial.map(|denial| denial.reason),
            Some(Reason::TokensTooMany)
        );
        assert!(limit("::ffff:192.0.2.1").admit().is_err());
        assert!(limit("192.0.2.2").admit().is_ok());
        for network in 0..8 {
            let limit = limit(&format!("2001:db8:1:{network}::1"));
            assert!(limit.admit().is_ok(), "{network}");
            limit.note(Reason::TokenExpired);
            assert!(limit.admit().is_err(), "{network}");
        }
        assert!(limit("2001:db8:1:9::1").admit().is_err(), "the /48");
        assert!(limit("2001:db8:2::1").admit().is_ok());
    }
}
