//! `layers`: which layers do not enforce, until when, and why.
//!
//! A waiver has an end, at most 30 days ahead, and a reason. The route's waiver of a layer replaces
//! the gateway's.

use crate::auth::NamedLayer as _;
use crate::auth::lineage::Lineage;
use crate::auth::ownership::Ownership;
use crate::auth::roles::Roles;
use crate::config::check::Checker;
use crate::config::macros::{wire, words};
use crate::config::node::Text;
use crate::config::units::Date;
use crate::config::wire::{Field, Value};
use crate::policy::layers::{LayerName, WaivedMode, Waiver};

wire! {
    /// The layers that can be waived.
    struct Layers {
        roles: Layer,
        ownership: Layer,
        lineage: Layer,
    }
    later ["abuse", "audit", "context", "emergency", "media"]
    refused {
        "identity": "the layer `identity` is always enforced; remove the key",
        "identifiers": "the layer `identifiers` is always enforced; remove the key",
        "when": "the layer `when` is always enforced; remove the key, or the route's `when`",
        "performance": "the layer `performance` wraps the others and refuses nothing by itself; see `budget`",
    }

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
        for (name, layer) in [
            (Roles::NAME, &layers.roles),
            (Ownership::NAME, &layers.ownership),
            (Lineage::NAME, &layers.lineage),
        ] {
            if let Some(layer) = layer.optional()? {
                let waiver = self.waiver(name, &layer.value)?;
                waived.retain(|other| other.layer != name);
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
    use crate::config::tests::*;

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
