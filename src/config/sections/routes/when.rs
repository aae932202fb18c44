//! `when`: the condition of a route.
//!
//! The expression is written out, and there is a caller to evaluate it for.

use crate::config::check::Checker;
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
        field.then(|text| self.condition(text, access))
    }

    fn condition(&mut self, text: &Value<Text>, access: Option<Access>) -> Option<Condition> {
        if text.value.written.is_some() {
            return self.report.refuse_instead(
                &text.place,
                "a variable could change what the expression means",
                "write the expression out, without `${…}`",
            );
        }
        let condition = match Condition::parse(&text.value.value) {
            Ok(condition) => condition,
            Err(fault) => {
                self.report_fault(text, fault);
                return None;
            }
        };
        let why = match access? {
            Access::Deny => "nobody comes to a route with `access: deny`; remove `when`",
            Access::Public if condition.reads_caller() => {
                "a public route reads no credential, so `caller` is always anonymous; write `access: user` or `optional`, or use `request` only"
            }
            Access::Public | Access::Optional | Access::User => return Some(condition),
        };
        self.report.refuse(&text.place, why)
    }

    fn report_fault(&mut self, text: &Value<Text>, fault: ConditionError) {
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

/// Where a part of the text is in the file, if the text is there in one piece: bare, or in quotes
/// without escapes.
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

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]
mod tests {
    use crate::config::tests::*;

    fn place_of(route: &str) -> (u32, u32, String) {
        let problems = load_in(Path::new("."), &with_route(route)).unwrap_err();
        let reported = problems.to_json();
        let only = &reported[0];
        assert_eq!(reported.as_array().map(Vec::len), Some(1), "{reported}");
        let number = |key: &str| u32::try_from(only[key].as_u64().unwrap()).unwrap();
        (
            number("line"),
            number("column"),
            only["problem"].as_str().unwrap().to_owned(),
        )
    }

    #[test]
    fn a_bad_condition_is_reported_at_its_character() {
        let column_of = |route: &str, part: &str| {
            let line = with_route(route);
            let line = line
                .lines()
                .find(|line| line.contains(part))
                .unwrap()
                .to_owned();
            u32::try_from(line.find(part).unwrap()).unwrap() + 1
        };
        for when in [
            "when: caller.aal == 'aal2' && request.metod == 'GET'",
            "when: \"caller.aal == 'aal2' && request.metod == 'GET'\"",
        ] {
            let route = format!("path: /a, access: user, {when}");
            let (_, column, problem) = place_of(&route);
            assert!(
                problem.contains("`request.metod` is not a name"),
                "{problem}"
            );
            assert_eq!(column, column_of(&route, ".metod"));
        }
    }

    #[test]
    fn a_condition_that_no_request_could_fit_or_that_a_variable_could_change_is_refused() {
        for (route, message) in [
            (
                "path: /a, access: public, when: caller.known",
                "a public route reads no credential",
            ),
            (
                "path: /a, access: deny, when: request.method == 'GET'",
                "nobody comes",
            ),
            (
                "path: /a, access: user, when: \"request.host == '${PORT}'\"",
                "a variable could change",
            ),
            (
                "path: /a, access: user, when: \"request.path.matches('a')\"",
                "`matches` is not a function here",
            ),
        ] {
            let (_, _, problem) = place_of(route);
            assert!(problem.contains(message), "{problem}");
        }
    }
}
