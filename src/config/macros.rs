//! The two macros that declare keys: [`wire`] for the keys of a mapping, [`words`] for a key that
//! takes one of a few words.
//!
//! A struct and its keys are one list, so no key can be read without being known, or known without
//! being read. The declaration of a key holds all that concerns the key alone:
//!
//! ```text
//! name: Type,                          may be left out; the check decides what that means
//! name: Type = default,                may be left out; `wire.name()` is the value or the default
//! name: Type [least..=most] = default, as above, within a range
//! name: Type => "write …",             must be written; the text says what to write
//! ```

/// Declares wire structs: their keys, the keys that have no effect yet, and the keys that are
/// refused with a reason.
macro_rules! wire {
    ($(
        $(#[doc = $doc:literal])*
        struct $name:ident {
            $($field:ident: $type:ty $([$range:expr])? $(= $default:expr)? $(=> $example:expr)?,)*
        }
        $(later [$($later:literal),* $(,)?])?
        $(refused { $($refused:literal: $why:literal,)* })?
    )*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Debug)]
            pub(crate) struct $name {
                /// Where the mapping is.
                #[allow(dead_code, reason = "only some checks report a problem of the whole mapping")]
                pub(crate) place: $crate::config::place::Place,
                $(pub(crate) $field: $crate::config::wire::Field<$type>,)*
            }

            impl $name {
                /// Every key that is read.
                pub(crate) const KEYS: &[&str] = &[$(stringify!($field)),*];

                $($(
                    /// The value, or the default. `None` if a bad one was written.
                    pub(crate) fn $field(&self) -> Option<$type> {
                        self.$field.or_else(|| $default)
                    }
                )?)*
            }

            impl $crate::config::wire::Section for $name {
                fn absent() -> Self {
                    Self {
                        place: $crate::config::place::Place::default(),
                        $($field: $crate::config::wire::Field::Absent,)*
                    }
                }
            }

            impl $crate::config::decode::Decode for $name {
                fn decode(
                    node: $crate::config::node::Node,
                    report: &mut $crate::config::problem::Report,
                ) -> Option<Self> {
                    let names = $crate::config::wire::Names {
                        known: Self::KEYS,
                        later: &[$($($later),*)?],
                        refused: &[$($(($refused, $why)),*)?],
                    };
                    let place = node.place.clone();
                    let mut keys = $crate::config::wire::Keys::open(node, &names, report)?;
                    Some(Self {
                        $($field: $crate::config::macros::key!(
                            keys, place, report, $field $([$range])? $(=> $example)?
                        ),)*
                        place,
                    })
                }

                #[cfg(test)]
                fn keys(all: &mut Vec<$crate::config::decode::KeysOf>) {
                    all.push((stringify!($name), Self::KEYS));
                    $($crate::config::macros::keys!(all, $type $([$range])?);)*
                }
            }
        )*
    };
}

/// Reads one key: a part of [`wire`].
macro_rules! key {
    ($keys:ident, $place:ident, $report:ident, $field:ident) => {
        $keys.take(stringify!($field), $report)
    };
    ($keys:ident, $place:ident, $report:ident, $field:ident [$range:expr]) => {
        $keys.take_within(stringify!($field), $range, $report)
    };
    ($keys:ident, $place:ident, $report:ident, $field:ident => $example:expr) => {
        $keys.take(stringify!($field), $report).or_missing(
            &$place,
            stringify!($field),
            $example,
            $report,
        )
    };
}

/// Collects the keys below a key: a part of [`wire`]. What has a range has no keys.
#[cfg(test)]
macro_rules! keys {
    ($all:ident, $type:ty) => {
        <$type as $crate::config::decode::Decode>::keys($all)
    };
    ($all:ident, $type:ty [$range:expr]) => {};
}

/// Declares choices between words, and which words have no effect yet.
macro_rules! words {
    ($(impl $type:ty { $($word:literal => $value:expr,)* } $(later [$($later:literal),*])?)*) => {$(
        impl $crate::config::decode::Decode for $type {
            fn decode(
                node: $crate::config::node::Node,
                report: &mut $crate::config::problem::Report,
            ) -> Option<Self> {
                $crate::config::wire::word(
                    &node, &[$(($word, $value)),*], &[$($($later),*)?], report,
                )
            }
        }
    )*};
}

#[cfg(test)]
pub(crate) use keys;
pub(crate) use {key, wire, words};
