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
        challenge: AttemptLimits,
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
        // Argued in `sign_in::throttle`.
        let login = self.limits(&wire.login, 30, Account::Default(5));
        let register = self.limits(&wire.register, 60, default_account(&wire.register, 5));
        let refresh = self.limits(&wire.refresh, 30, Account::Never);
        let reset = self.limits(&wire.reset, 60, default_account(&wire.reset, 3));
        let verify = self.limits(&wire.verify, 30, Account::Default(5));
        let challenge = self.limits(&wire.challenge, 300, Account::Default(10));
        let redirect = self.limits(&wire.redirect, 120, Account::Never);
        let account = self.limits(&wire.account, 3000, Account::Never);
        let read = self.limits(&wire.read, 600, Account::Never);
        Some(Throttling {
            login: login?,
            register: register?,
            refresh: refresh?,
            reset: reset?,
            verify: verify?,
            challenge: challenge?,
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
        account: Account,
    ) -> Option<Limits> {
        let wire = field.section()?;
        let a_minute = |number| Rate::new(count(number), MINUTE);
        if let (Account::Never, Some(place)) = (account, wire.account.place()) {
            return self.report.refuse(
                place,
                "nothing is counted by account here; remove it, or write it under `login`, `register`, `reset`, `verify` or `challenge`",
            );
        }
        Some(Limits {
            address: wire.address.or(a_minute(address))?,
            account: match account {
                Account::Default(number) => Some(wire.account.or(a_minute(number))?),
                Account::IfWritten => wire.account.optional()?.map(|rate| rate.value),
                Account::Never => None,
            },
        })
    }
}

/// Whether attempts of a kind have a limit by account.
#[derive(Clone, Copy)]
enum Account {
    /// This many a minute, unless another rate is written.
    Default(u32),
    /// The written rate, if there is one.
    IfWritten,
    Never,
}

/// The limit by account of attempts that had only one by address in earlier versions: a map that
/// says how many there may be by address means just that.
fn default_account(field: &Field<AttemptLimits>, number: u32) -> Account {
    match field
        .section()
        .is_some_and(|wire| wire.address.place().is_some())
    {
        true => Account::IfWritten,
        false => Account::Default(number),
    }
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}
