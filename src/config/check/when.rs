//! The condition of a route.
//!
//! Decides: that the expression is written out, and that somebody comes to be asked. Trusts: `auth::when`, which compiles it and says what is wrong.
//! Not here: asking it.

use super::Checker;
use crate::config::node::Text;
use crate::config::place::Place;
use crate::config::wire::{Field, Value};
use crate::policy::condition::{Condition, ConditionError};
use crate::policy::route::Access;

impl Checker<'_> {
    /// `Some(None)` if the route has none.
    pub(super) fn when(
        &mut self,
        field: &Field<Text>,
        access: Option<Access>,
    ) -> Option<Option<Condition>> {
        let text = match field {
            Field::Absent => return Some(None),
            Field::Bad => return None,
            Field::Good(text) => text,
        };
        if text.value.written.is_some() {
            let message = "a variable could change what the expression means";
            let instead = "write the expression out, without `${…}`";
            self.report.problem_instead(&text.place, message, instead);
            return None;
        }
        let condition = match Condition::parse(&text.value.value) {
            Ok(condition) => condition,
            Err(fault) => {
                self.tell_fault(text, fault);
                return None;
            }
        };
        let useless = match access? {
            Access::Deny => Some("nobody comes to a route with `access: deny`; remove `when`"),
            Access::Public if condition.reads_caller() => Some(
                "a public route reads no credential, so that `caller` is always nobody; write `access: user` or `optional`, or ask `request` only",
            ),
            Access::Public | Access::Optional | Access::User => None,
        };
        if let Some(why) = useless {
            self.report.problem(&text.place, why);
            return None;
        }
        Some(Some(condition))
    }

    fn tell_fault(&mut self, text: &Value<Text>, fault: ConditionError) {
        let (place, is_exact) = within(&text.place, &text.value.value, &fault);
        let message = match is_exact {
            true => fault.message,
            false => format!(
                "{} (at character {})",
                fault.message,
                fault.at.saturating_add(1)
            ),
        };
        match fault.instead {
            Some(instead) => self.report.problem_instead(&place, message, instead),
            None => self.report.problem(&place, message),
        }
    }
}

/// Where a part of the text stands in the file, if the text stands there in one piece: bare, or in quotes without escapes.
fn within(place: &Place, text: &str, fault: &ConditionError) -> (Place, bool) {
    let length = text.chars().count();
    let quotes = usize::try_from(place.width)
        .unwrap_or(0)
        .checked_sub(length);
    let (Some(quotes @ (0 | 2)), false) = (quotes, text.contains('\n')) else {
        return (place.clone(), false);
    };
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let place = Place {
        column: place
            .column
            .saturating_add(number(fault.at.saturating_add(quotes / 2))),
        width: number(fault.width),
        ..place.clone()
    };
    (place, true)
}
