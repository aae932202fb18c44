//! Which layers do not enforce, until when, and why.
//!
//! Decides: that a waiver has an end, at most 30 days ahead, and a reason; the route's word is taken before the gateway's. Trusts: the clock, for
//! what is over. Not here: which layers can be waived at all (`auth`), and what a waiver does (`auth::chain`).

use super::Checker;
use crate::auth::NamedLayer;
use crate::auth::lineage::Lineage;
use crate::auth::ownership::Ownership;
use crate::auth::roles::Roles;
use crate::config::file::{Layer, Layers, Mode};
use crate::config::units::Date;
use crate::config::wire::{Field, Value};
use crate::policy::layers::{LayerName, WaivedMode, Waiver};

/// Longest time a layer may be waived: what is off for longer is off for good, and nobody decided that.
const MAX_DAYS: i64 = 30;
const DAY_SECONDS: i64 = 24 * 60 * 60;

impl Checker<'_> {
    /// The waivers of the whole gateway.
    pub(super) fn gateway_waivers(&mut self, field: &Field<Layers>) -> Option<Vec<Waiver>> {
        self.waivers(field, &[])
    }

    /// The waivers of a route: its own, and the gateway's for layers it does not speak of.
    pub(super) fn waivers(
        &mut self,
        field: &Field<Layers>,
        gateway: &[Waiver],
    ) -> Option<Vec<Waiver>> {
        let absent = Layers::absent();
        let layers = super::section(field, &absent)?;
        let mut waived = gateway.to_vec();
        for (name, layer) in known(layers) {
            match layer {
                Field::Absent => {}
                Field::Bad => return None,
                Field::Good(layer) => {
                    let waiver = self.waiver(name, &layer.value)?;
                    waived.retain(|other| other.layer != name);
                    waived.extend(waiver);
                }
            }
        }
        Some(waived)
    }

    /// `Some(None)` means that the layer enforces.
    fn waiver(&mut self, layer: LayerName, wire: &Layer) -> Option<Option<Waiver>> {
        let choice = "write one of `enforce`, `shadow` and `off`";
        let mode = match wire
            .mode
            .required(&wire.place, "mode", choice, self.report)?
            .value
        {
            Mode::Enforce => return self.enforced(wire).then_some(None),
            Mode::Waived(mode) => mode,
        };
        let until = self.waived_until(wire);
        let why = "write why, for the start, the log, and whoever finds it later";
        let reason = wire
            .reason
            .required(&wire.place, "reason", why, self.report);
        let reason = reason.and_then(|reason| self.name(&reason.value.value, &reason.place));
        let (until, reason) = (until?, reason?);
        if until.value.0 <= self.now {
            let word = match mode {
                WaivedMode::Shadow => "shadow",
                WaivedMode::Off => "off",
            };
            self.report.warn(
                &until.place,
                format!(
                    "is in the past: `mode: {word}` is over and the layer enforces again; remove it"
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
        let until = wire.until.good().map(|until| &until.place);
        let reason = wire.reason.good().map(|reason| &reason.place);
        for place in until.into_iter().chain(reason) {
            self.report
                .problem(place, "has no effect with `mode: enforce`; remove it");
        }
        !wire.until.is_written() && !wire.reason.is_written()
    }

    fn waived_until<'w>(&mut self, wire: &'w Layer) -> Option<&'w Value<Date>> {
        let example = "write when the layer enforces again, at most 30 days ahead, such as `until: 2027-01-01`";
        let until = wire
            .until
            .required(&wire.place, "until", example, self.report)?;
        if until.value.0 > self.now.saturating_add(MAX_DAYS * DAY_SECONDS) {
            self.report.problem(
                &until.place,
                "is more than 30 days ahead; write an earlier date, and renew it if it must be",
            );
            return None;
        }
        Some(until)
    }
}

/// The layers that can be waived, with what was written about each.
fn known(layers: &Layers) -> [(LayerName, &Field<Layer>); 3] {
    [
        (Roles::NAME, &layers.roles),
        (Ownership::NAME, &layers.ownership),
        (Lineage::NAME, &layers.lineage),
    ]
}
