//! `layers`: which layers do not enforce, until when, and why.
//!
//! A waiver has an end, at most 30 days ahead, and a reason. The route's waiver of a layer replaces
//! the gateway's.

use crate::auth::LAYERS;
use crate::config::check::Checker;
use crate::config::decode::Decode;
#[cfg(test)]
use crate::config::decode::KeysOf;
use crate::config::macros::{wire, words};
use crate::config::node::{Node, Text};
use crate::config::problem::Report;
use crate::config::units::Date;
use crate::config::wire::{Field, Keys, Names, Section, Value};
use crate::policy::layers::{LayerName, WaivedMode, Waiver};

/// The layers that can be waived, each with what is written. The keys are the names in the table of
/// layers.
#[derive(Clone, Debug)]
pub(crate) struct Layers(Vec<(LayerName, Field<Layer>)>);

/// Layers of the design that do not work yet.
const LATER: &[&str] = &["abuse", "audit", "context", "emergency", "media"];

impl Section for Layers {
    fn absent() -> Self {
        Self(Vec::new())
    }
}

impl Decode for Layers {
    fn decode(node: Node, report: &mut Report) -> Option<Self> {
        let (waivable, enforced): (Vec<LayerName>, Vec<LayerName>) =
            LAYERS.iter().partition(|layer| layer.can_be_waived());
        let known: Vec<&str> = waivable.iter().map(|layer| layer.as_str()).collect();
        let why: Vec<(&str, String)> = enforced
            .iter()
            .map(|layer| (layer.as_str(), why_enforced(layer.as_str())))
            .collect();
        let refused: Vec<(&str, &str)> = why.iter().map(|(name, why)| (*name, &**why)).collect();
        let names = Names {
            known: &known,
            later: LATER,
            refused: &refused,
        };
        let mut keys = Keys::open(node, &names, report)?;
        let read = |layer: &LayerName| (*layer, keys.take(layer.as_str(), report));
        Some(Self(waivable.iter().map(read).collect()))
    }

    #[cfg(test)]
    fn keys(all: &mut Vec<KeysOf>) {
        Layer::keys(all);
    }
}

fn why_enforced(layer: &str) -> String {
    match layer {
        "performance" => {
            "the layer `performance` wraps the others and refuses nothing by itself; see `budget`"
                .to_owned()
        }
        "when" | "rest" => {
            format!(
                "the layer `{layer}` is always enforced; remove the key, or the route's `{layer}`"
            )
        }
        _ => format!("the layer `{layer}` is always enforced; remove the key"),
    }
}

wire! {
    /// How one layer is waived.
    struct Layer {
        mode: Mode => "write one of `enforce`, `shadow` and `off`",
        until: Date,
        reason: Text,
    }
}

/// How a layer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As designed.
    Enforce,
    /// Not so, for a time.
    Waived(WaivedMode),
}

words! {
    impl Mode {
        "enforce" => Mode::Enforce,
        "shadow" => Mode::Waived(WaivedMode::Shadow),
        "off" => Mode::Waived(WaivedMode::Off),
    }
}

/// A choice: a layer that is off for longer is off for good, and nobody decided that.
const MAX_DAYS: i64 = 30;
const DAY_SECONDS: i64 = 24 * 60 * 60;

impl Checker<'_> {
    /// The waivers of a route, or of the gateway: those written here, and those of `outer` for
    /// layers that are not.
    pub(super) fn waivers(
        &mut self,
        field: &Field<Layers>,
        outer: &[Waiver],
    ) -> Option<Vec<Waiver>> {
        let layers = field.section()?;
        let mut waived = outer.to_vec();
        for (name, layer) in &layers.0 {
            if let Some(layer) = layer.optional()? {
                let waiver = self.waiver(*name, &layer.value)?;
                waived.retain(|other| other.layer != *name);
                waived.extend(waiver);
            }
        }
        Some(waived)
    }

    /// `Some(None)` means that the layer enforces.
    fn waiver(&mut self, layer: LayerName, wire: &Layer) -> Option<Option<Waiver>> {
        let mode = match wire.mode.good()?.value {
            Mode::Enforce => return self.enforced(wire).then_some(None),
            Mode::Waived(mode) => mode,
        };
        let until = self.waived_until(wire);
        let why = "write why, for the start, the log, and whoever finds it later";
        let reason = wire
            .reason
            .required(&wire.place, "reason", why, self.report)
            .and_then(|reason| self.name_in(reason));
        let (until, reason) = (until?, reason?);
        if until.value.0 <= self.now {
            let word = match mode {
                WaivedMode::Shadow => "shadow",
                WaivedMode::Off => "off",
            };
            self.report.warn(
                &until.place,
                format!(
                    "is in the past: `mode: {word}` has ended and the layer enforces again; remove it"
                ),
            );
            return Some(None);
        }
        Some(Some(Waiver {
            layer,
            mode,
            until: until.value.0,
            reason,
        }))
    }

    fn enforced(&mut self, wire: &Layer) -> bool {
        for place in wire.until.place().into_iter().chain(wire.reason.place()) {
            let message = "has no effect with `mode: enforce`; remove it";
            self.report.problem(place, message);
        }
        !wire.until.is_written() && !wire.reason.is_written()
    }

    fn waived_until<'w>(&mut self, wire: &'w Layer) -> Option<&'w Value<Date>> {
        let example = "write when the layer enforces again, at most 30 days ahead, such as `until: 2027-01-01`";
        let until = wire
            .until
            .required(&wire.place, "until", example, self.report)?;
        if until.value.0 > self.now.saturating_add(MAX_DAYS * DAY_SECONDS) {
            let message =
                "is more than 30 days ahead; write an earlier date, and renew it if it must be";
            return self.report.refuse(&until.place, message);
        }
        Some(until)
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]
mod tests {
    use crate::auth::LAYERS;
    use crate::config::tests::*;

    #[test]
    fn every_waivable_layer_has_a_key_and_every_other_says_why_not() {
        for layer in LAYERS {
            let waived = with_route(&format!(
                "path: /a, access: user, layers: {{ {layer:?}: {{ mode: shadow, until: 2026-12-31, reason: a }} }}"
            ));
            if layer.can_be_waived() {
                assert_eq!(good(&waived).config.routes[0].waived[0].layer, *layer);
                let shown = example("foregate.yaml").contains(&format!("{layer:?}: {{ mode:"));
                assert!(shown, "`{layer:?}` is not in config/foregate.yaml");
            } else {
                let reported = reported(&waived);
                let place = format!("routes[0].layers.{layer:?}: ");
                assert!(reported[0].starts_with(&place), "{reported:#?}");
                assert!(
                    reported[0].contains("remove the key") || reported[0].contains("see `budget`"),
                    "{reported:#?}"
                );
            }
        }
    }

    #[test]
    fn a_waived_layer_has_an_end_and_a_reason() {
        let waived = |layer: &str| {
            with_route(&format!(
                "path: /a, access: user, layers: {{ roles: {{ {layer} }} }}"
            ))
        };
        for (layer, key, word) in [
            ("until: 2026-12-02", ".mode", "is missing"),
            ("mode: shadow, reason: a", ".until", "at most 30 days"),
            ("mode: shadow, until: 2026-12-02", ".reason", "is missing"),
            (
                "mode: shadow, until: 2027-01-01, reason: a",
                ".until",
                "more than 30 days",
            ),
            ("mode: enforce, reason: a", ".reason", "no effect"),
        ] {
            let reported = reported(&waived(layer));
            assert_eq!(reported.len(), 1, "{layer} {reported:#?}");
            assert!(
                reported[0].starts_with(&format!("routes[0].layers.roles{key}: "))
                    && reported[0].contains(word),
                "{layer} {reported:#?}"
            );
        }
        let waiver = good(&waived("mode: off, until: 2026-12-31, reason: a"))
            .config
            .routes[0]
            .waived[0]
            .clone();
        assert_eq!(
            (waiver.layer, waiver.until),
            (
                <crate::auth::roles::Roles as crate::auth::NamedLayer>::NAME,
                NOW + 30 * 24 * 60 * 60
            )
        );

        let over = good(&waived("mode: off, until: 2026-12-01, reason: a"));
        assert!(over.config.routes[0].waived.is_empty());
        assert!(
            over.warnings[0].contains("enforces again"),
            "{:?}",
            over.warnings
        );
    }
}
