//! The outcome of a case.

use std::fmt;

use serde_json::{Value, json};

use crate::denial::Reason;

/// The outcome of a request.
pub(super) struct Outcome {
    pub(super) decision: Decision,
    /// The name of the route, if one was matched.
    pub(super) route: Option<String>,
    /// Each layer and its verdict.
    pub(super) steps: Vec<String>,
}

pub(super) enum Decision {
    Upstream(String),
    Served(&'static str),
    Preflight,
    Denied {
        reason: Reason,
        layer: &'static str,
        detail: Option<String>,
    },
}

impl Outcome {
    /// `allow`, `preflight` or `deny REASON`.
    pub(super) fn verdict(&self) -> String {
        match &self.decision {
            Decision::Upstream(_) | Decision::Served(_) => "allow".to_owned(),
            Decision::Preflight => "preflight".to_owned(),
            Decision::Denied { reason, .. } => format!("deny {}", reason.code()),
        }
    }

    /// The upstream it is allowed to.
    pub(super) fn upstream(&self) -> Option<&str> {
        match &self.decision {
            Decision::Upstream(name) => Some(name),
            Decision::Served(_) | Decision::Preflight | Decision::Denied { .. } => None,
        }
    }

    /// What the gateway answers itself.
    pub(super) fn serve(&self) -> Option<&str> {
        match self.decision {
            Decision::Served(what) => Some(what),
            Decision::Upstream(_) | Decision::Preflight | Decision::Denied { .. } => None,
        }
    }

    /// The layer that refused it.
    pub(super) fn layer(&self) -> Option<&str> {
        match self.decision {
            Decision::Denied { layer, .. } => Some(layer),
            Decision::Upstream(_) | Decision::Served(_) | Decision::Preflight => None,
        }
    }

    /// The outcome, as JSON.
    pub(super) fn to_json(&self) -> Value {
        let (reason, detail) = match &self.decision {
            Decision::Denied { reason, detail, .. } => (Some(reason.code()), detail.as_deref()),
            Decision::Upstream(_) | Decision::Served(_) | Decision::Preflight => (None, None),
        };
        json!({
            "verdict": self.verdict().split(' ').next(),
            "reason": reason,
            "layer": self.layer(),
            "detail": detail,
            "route": self.route,
            "upstream": self.upstream(),
            "serve": self.serve(),
            "steps": self.steps,
        })
    }
}

impl fmt::Display for Outcome {
    /// Describes what happened, for a reader who expected something else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = self.route.as_deref().unwrap_or("none");
        match &self.decision {
            Decision::Upstream(name) => {
                write!(f, "it was allowed to upstream `{name}` by route `{route}`")?
            }
            Decision::Served(what) => write!(
                f,
                "it was allowed and is answered by the gateway ({what}) on route `{route}`"
            )?,
            Decision::Preflight => {
                f.write_str("it was answered as a preflight, which no layer checks")?
            }
            Decision::Denied {
                reason,
                layer,
                detail,
            } => {
                write!(
                    f,
                    "it was refused by `{layer}` on route `{route}`: {}",
                    reason.code()
                )?;
                if let Some(detail) = detail {
                    write!(f, " ({detail})")?;
                }
            }
        }
        if !self.steps.is_empty() {
            write!(f, "; {}", self.steps.join(", "))?;
        }
        Ok(())
    }
}
