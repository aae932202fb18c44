//! `learn`: the id of a new resource that an upstream's response names, which then belongs to the
//! caller.

use super::context::RouteContext;
use super::route::Route;
use crate::config::check::Checker;
use crate::config::node::Text;
use crate::config::sections::facts::Attributes;
use crate::config::sections::routes::wire::KIND;
use crate::config::wire::Value;
use crate::policy::resources::{self as checked, RowSource};
use crate::policy::route::{Access, Target};

impl Checker<'_> {
    /// `Some(None)` if nothing is learned.
    pub(super) fn learn(
        &mut self,
        wire: &Route,
        access: Option<Access>,
        context: &RouteContext<'_>,
    ) -> Option<Option<checked::Learn>> {
        wire.learn.then(|learn| {
            let attributes = context.attributes?;
            let wire = &learn.value;
            let kind = wire
                .kind
                .good()
                .and_then(|kind| self.learned_kind(kind, attributes));
            let field = wire
                .field
                .good()
                .and_then(|field| self.learned_field(field));
            if access.is_some_and(|access| access != Access::User) {
                return self.report.refuse(
                    &learn.place,
                    "binds what it learns to the caller, so it needs `access: user`",
                );
            }
            Some(checked::Learn {
                kind: kind?,
                field: field?,
                keep: wire.keep()?,
            })
        })
    }

    fn learned_kind(&mut self, kind: &Value<Text>, attributes: &Attributes) -> Option<usize> {
        let index = self.kind_index(kind, &attributes.names())?;
        let source = &attributes.kinds.get(index)?.rows;
        if !matches!(source, RowSource::Learned) {
            let message = "is a resource type whose rows are known already";
            return self.report.refuse_instead(&kind.place, message, KIND);
        }
        Some(index)
    }

    fn learned_field(&mut self, field: &Value<Text>) -> Option<Vec<String>> {
        let parts: Vec<String> = field.value.value.split('.').map(str::to_owned).collect();
        if parts.iter().any(String::is_empty) {
            return self.report.refuse(&field.place, "has an empty part");
        }
        Some(parts)
    }

    /// Only an upstream's response teaches something.
    pub(super) fn learns_from_upstream(&mut self, wire: &Route, target: Option<Option<Target>>) {
        if let (Some(place), Some(Some(Target::Serve(_)))) = (wire.learn.place(), target) {
            let message =
                "nothing is learned from a response of the gateway itself; remove `learn`";
            self.report.problem(place, message);
        }
    }
}
