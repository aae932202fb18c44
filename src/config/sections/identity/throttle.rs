//! `identity.throttle`: how often somebody may try to sign in, register, refresh, reset and verify,
//! and make other calls to the identity server.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::check::Checker;
use crate::config::macros::wire;
use crate::config::units::{HOUR, MINUTE, millis, secs};
use crate::config::wire::Field;
use crate::policy::rate::Rate;
use crate::policy::sign_in::{Limits, Throttling};

wire! {
    /// The limits of every kind of attempt.
    struct Throttle {
        login: AttemptLimits,
        register: AttemptLimits,
        refresh: AttemptLimits,
        reset: AttemptLimits,
        verify: AttemptLimits,
        redirect: AttemptLimits,
        account: AttemptLimits,
        read: AttemptLimits,
        everywhere: Rate = Rate::new(count(10), HOUR),
        longest_delay: Duration [Duration::ZERO..=secs(5)] = secs(2),
        // What a wrong password takes: bcrypt of cost 10 on a busy machine, and the round trip. A
        // choice.
        refusal_floor: Duration [Duration::ZERO..=secs(5)] = millis(300),
        waiting: usize [0..=100_000] = 1000,
    }

    /// The limits of one kind of attempt.
    struct AttemptLimits {
        address: Rate,
        account: Rate,
    }
}

impl Checker<'_> {
    pub(super) fn throttle(&mut self, field: &Field<Throttle>) -> Option<Throttling> {
        let wire = field.section()?;
        let login = self.limits(&wire.login, 20, Some(5));
        let register = self.limits(&wire.register, 3, None);
        let refresh = self.limits(&wire.refresh, 10, None);
        let reset = self.limits(&wire.reset, 2, None);
        let verify = self.limits(&wire.verify, 10, Some(5));
        let redirect = self.limits(&wire.redirect, 120, None);
        let account = self.limits(&wire.account, 3000, None);
        let read = self.limits(&wire.read, 120, None);
        Some(Throttling {
            login: login?,
            register: register?,
            refresh: refresh?,
            reset: reset?,
            verify: verify?,
            redirect: redirect?,
            account: account?,
            read: read?,
            everywhere: wire.everywhere()?,
            longest_delay: wire.longest_delay()?,
            refusal_floor: wire.refusal_floor()?,
            waiting: wire.waiting()?,
        })
    }

    /// Limits a minute. Where attempts are not counted by account, a limit by account is a mistake.
    fn limits(
        &mut self,
        field: &Field<AttemptLimits>,
        address: u32,
        account: Option<u32>,
    ) -> Option<Limits> {
        let wire = field.section()?;
        let a_minute = |number| Rate::new(count(number), MINUTE);
        if let (None, Some(place)) = (account, wire.account.place()) {
            return self.report.refuse(
                place,
                "nothing is counted by account here; remove it, or write it under `login` or `verify`",
            );
        }
        Some(Limits {
            address: wire.address.or(a_minute(address))?,
            account: match account {
                Some(number) => Some(wire.account.or(a_minute(number))?),
                None => None,
            },
        })
    }
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}
