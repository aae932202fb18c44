//! The two macros in which `file` is written.
//!
//! Decides: nothing; a struct and its keys are one list, so that no key can be read and not known, or known and not read. Trusts: `wire` for the
//! reading. Not here: which keys there are (`file`, `cases`).

/// Declares wire structs: their keys, the keys that do nothing yet, and the keys that are refused with a reason.
macro_rules! wire {
    ($(
        $(#[doc = $doc:literal])*
        struct $name:ident { $($field:ident: $type:ty,)* }
        $(later [$($later:literal),* $(,)?])?
        $(refused { $($refused:literal: $why:literal,)* })?
    )*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Debug)]
            pub(crate) struct $name {
                /// Where the mapping is.
                #[allow(dead_code, reason = "only mappings with required keys need it")]
                pub(crate) place: $crate::config::place::Place,
                $(pub(crate) $field: $crate::config::wire::Field<$type>,)*
            }

            impl $name {
                /// Every key that is read.
                pub(crate) const KEYS: &[&str] = &[$(stringify!($field)),*];

                /// What it is when nothing was written.
                #[allow(dead_code, reason = "only sections that may be left out need it")]
                pub(crate) fn absent() -> Self {
                    Self { place: $crate::config::place::Place::default(), $($field: $crate::config::wire::Field::Absent,)* }
                }
            }

            impl $crate::config::wire::Decode for $name {
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
                    Some(Self { $($field: keys.take(stringify!($field), report),)* place })
                }
            }
        )*

        /// The keys of every wire struct, for the test that keeps the annotated example complete.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &[&str])] = &[$((stringify!($name), $name::KEYS)),*];
    };
}

/// Declares choices between words, and which words do nothing yet.
macro_rules! words {
    ($(impl $type:ty { $($word:literal => $value:expr,)* } $(later [$($later:literal),*])?)*) => {$(
        impl $crate::config::wire::Decode for $type {
            fn decode(
                node: $crate::config::node::Node,
                report: &mut $crate::config::problem::Report,
            ) -> Option<Self> {
                $crate::config::wire::word(&node, &[$(($word, $value)),*], &[$($($later),*)?], report)
            }
        }
    )*};
}

pub(crate) use {wire, words};
