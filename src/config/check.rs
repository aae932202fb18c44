//! What every check has at hand: the report, the files, the time, and checks that several sections
//! need.
//!
//! A check notes what it finds and goes on with the rest. `None` means "noted": there is no
//! configuration unless every check gave `Some`.

use super::inputs::Inputs;
use super::node::Text;
use super::place::Place;
use super::problem::Report;
use super::wire::{Field, List, Named, Value};
use crate::policy::outbound_url::host;

/// The context of a check. Each section adds its own checks to it.
pub(crate) struct Checker<'a> {
    /// Where problems go.
    pub report: &'a mut Report,
    /// Where certificates, keys and secrets are read.
    pub inputs: &'a mut Inputs,
    /// The present, in Unix seconds: dates are compared with it.
    pub now: i64,
}

impl Checker<'_> {
    /// Text that is a name: printable, and short enough to be a metric label.
    pub(super) fn name(&mut self, text: &str, place: &Place) -> Option<String> {
        let fits = !text.trim().is_empty()
            && text.chars().count() <= 200
            && !text.chars().any(char::is_control);
        if !fits {
            let message = "needs 1 to 200 printable characters";
            return self.report.refuse(place, message);
        }
        Some(text.to_owned())
    }

    /// The name that is the value of a key.
    pub(super) fn name_in(&mut self, text: &Value<Text>) -> Option<String> {
        self.name(&text.value.value, &text.place)
    }

    /// Every entry of a list, checked; `check` notes what is wrong with an entry.
    pub(super) fn each<T, U>(
        &mut self,
        list: &List<T>,
        mut check: impl FnMut(&mut Self, &Value<T>) -> Option<U>,
    ) -> Option<Vec<U>> {
        let items = list.items.iter();
        let checked: Vec<U> = items.filter_map(|item| check(self, item)).collect();
        (checked.len() == list.written).then_some(checked)
    }

    /// Every entry of a mapping, checked, in the order it was written. `check` gets no value where
    /// it was bad.
    pub(super) fn each_named<T, U>(
        &mut self,
        named: &Named<T>,
        mut check: impl FnMut(&mut Self, &Value<String>, Option<&Value<T>>) -> Option<U>,
    ) -> Option<Vec<U>> {
        let entries = named.0.iter();
        let checked: Vec<U> = entries
            .filter_map(|(name, value)| check(self, name, value.as_ref()))
            .collect();
        (checked.len() == named.0.len()).then_some(checked)
    }

    /// Every entry of a mapping that may be left out, checked.
    pub(super) fn each_of<T, U>(
        &mut self,
        field: &Field<Named<T>>,
        check: impl FnMut(&mut Self, &Value<String>, Option<&Value<T>>) -> Option<U>,
    ) -> Option<Vec<U>> {
        let checked = field.then(|named| self.each_named(&named.value, check));
        checked.map(Option::unwrap_or_default)
    }

    /// Entries that are not empty.
    pub(super) fn words(&mut self, list: &List<Text>) -> Option<Vec<String>> {
        self.each(list, |checker, text| match text.value.value.as_str() {
            "" => checker.report.refuse(&text.place, "is empty"),
            word => Some(word.to_owned()),
        })
    }

    /// Host names without port, lower case. Nothing written means any host.
    pub(super) fn hosts(&mut self, field: &Field<List<Text>>) -> Option<Vec<String>> {
        let hosts = field.then(|list| {
            self.each(&list.value, |checker, text| {
                text.parse(
                    host,
                    "is not a host name",
                    "write the name alone, without scheme, port and path, such as `api.example.com`",
                    checker.report,
                )
            })
        });
        hosts.map(Option::unwrap_or_default)
    }

    /// The one key of several that was written, by its name. `none` says what is missing, and what
    /// to write.
    pub(super) fn one_of<'w, T>(
        &mut self,
        parent: &Place,
        keys: &[(&'static str, &'w Field<T>)],
        none: (&str, &str),
    ) -> Option<(&'static str, &'w Value<T>)> {
        let mut written = keys.iter().filter(|(_, field)| field.is_written());
        let Some((name, field)) = written.next() else {
            return self.report.refuse_instead(parent, none.0, none.1);
        };
        if let Some((other, field)) = written.next() {
            let below = || parent.below(other);
            let place = field.place().cloned().unwrap_or_else(below);
            let message = format!("cannot be combined with `{name}`; remove one of the two");
            return self.report.refuse(&place, message);
        }
        field.good().map(|value| (*name, value))
    }

    /// A file that holds one secret text. `make_one` says where such a text comes from.
    ///
    /// Editors and `echo` end a file with a newline that nobody means as part of the secret; one is
    /// cut, not more.
    pub(super) fn secret_file(&mut self, name: &Value<Text>, make_one: &str) -> Option<String> {
        let (_, contents) = self.inputs.read(name, self.report)?;
        let Ok(text) = String::from_utf8(contents) else {
            let message = "the file does not hold text";
            return self.report.refuse_instead(&name.place, message, make_one);
        };
        let cut = text.strip_suffix('\n').map_or(text.as_str(), |text| {
            text.strip_suffix('\r').unwrap_or(text)
        });
        Some(cut.to_owned())
    }
}
