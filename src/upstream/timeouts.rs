//! The timeouts of exchanges, which a worker polls ten times a second: up to a tenth of a second
//! late, and never early.
//!
//! The runtime's timers would be exact. But where one is set, every wait for events sets a timer in
//! the kernel, too, and cancels it when an event arrives: on a virtual machine, 3 to 4 % of what a
//! new connection with one request costs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use crate::weak_list::WeakList;

/// The timeouts of one worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeouts(WeakList<State>);

/// The timeout of one connection. It stays set from one request to the next, which costs one
/// wake-up at most.
#[derive(Debug)]
pub(super) struct Timeout(Rc<State>);

#[derive(Debug)]
struct State {
    due: Cell<Option<Instant>>,
    has_passed: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Timeouts {
    /// Adds a timeout that is not set.
    pub(super) fn add(&self) -> Timeout {
        let state = Rc::new(State {
            due: Cell::new(None),
            has_passed: Cell::new(false),
            waker: RefCell::new(Waker::noop().clone()),
        });
        self.0.add(&state);
        Timeout(state)
    }

    /// Wakes the tasks whose timeout has passed at `now`.
    pub(super) fn expire(&self, now: Instant) {
        self.0.each(|timeout| {
            if timeout.due.get().is_some_and(|due| due <= now) {
                timeout.due.set(None);
                timeout.has_passed.set(true);
                timeout.waker.borrow().wake_by_ref();
            }
        });
    }
}

impl Timeout {
    /// Ready once the worker has noticed that `due` has passed.
    pub(super) fn poll(&self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let State {
            due: known,
            has_passed,
            waker,
        } = &*self.0;
        // It expired at this moment or at an earlier one.
        if has_passed.take() && due <= Instant::now() {
            return Poll::Ready(());
        }
        known.set(Some(due));
        let mut waker = waker.borrow_mut();
        if !waker.will_wake(context.waker()) {
            waker.clone_from(context.waker());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timeout_expires_at_the_poll_after_its_last_due_time() {
        let (timeouts, now) = (Timeouts::default(), Instant::now());
        let timeout = timeouts.add();
        let context = &mut Context::from_waker(Waker::noop());
        let (past, later) = (
            now - Duration::from_millis(1),
            now + Duration::from_secs(60),
        );
        assert!(timeout.poll(past, context).is_pending(), "not polled yet");
        assert!(timeout.poll(later, context).is_pending());
        timeouts.expire(now);
        assert!(timeout.poll(past, context).is_pending(), "it was postponed");
        timeouts.expire(now);
        assert!(
            timeout.poll(later, context).is_pending(),
            "and again, after it had expired"
        );
        timeouts.expire(now);
        assert!(timeout.poll(past, context).is_pending());
        timeouts.expire(now);
        assert!(timeout.poll(past, context).is_ready());
        assert!(timeout.poll(past, context).is_pending(), "once");
    }
}
