//! What became of a request of a case.

use std::fmt;

use serde_json::{Value, json};

use crate::denial::Reason;

/// What became of a request.
pub(super) struct Outcome {
    pub(super) became: Became,
    /// The name of the route, if it came that far.
    pub(super) route: Option<String>,
    /// Each layer and what it said.
    pub(super) steps: Vec<String>,
}

pub(super) enum Became {
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
        match &self.became {
            Became::Upstream(_) | Became::Served(_) => "allow".to_owned(),
            Became::Preflight => "preflight".to_owned(),
            Became::Denied { reason, .. } => format!("deny {}", reason.code()),
        }
    }

    /// The upstream it was let in to.
    pub(super) fn upstream(&self) -> Option<&str> {
        match &self.became {
            Became::Upstream(name) => Some(name),
            Became::Served(_) | Became::Preflight | Became::Denied { .. } => None,
        }
    }

    /// What is answered here.
    pub(super) fn serve(&self) -> Option<&str> {
        match self.became {
            Became::Served(what) => Some(what),
            Became::Upstream(_) | Became::Preflight | Became::Denied { .. } => None,
        }
    }

    /// Who refused it.
    pub(super) fn layer(&self) -> Option<&str> {
        match self.became {
            Became::Denied { layer, .. } => Some(layer),
            Became::Upstream(_) | Became::Served(_) | Became::Preflight => None,
        }
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let (reason, detail) = match &self.became {
            Became::Denied { reason, detail, .. } => (Some(reason.code()), detail.as_deref()),
            Became::Upstream(_) | Became::Served(_) | Became::Preflight => (None, None),
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
    /// What happened, for somebody who expected something else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = self.route.as_deref().unwrap_or("none");
        match &self.became {
            Became::Upstream(name) => write!(f, "it was let in to `{name}` by route `{route}`")?,
            Became::Served(what) => write!(
                f,
                "it was let in to be answered here ({what}) by route `{route}`"
            )?,
            Became::Preflight => {
                f.write_str("it was answered as a preflight, which no layer judges")?
            }
            Became::Denied {
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
