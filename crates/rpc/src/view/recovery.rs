//! What is done about failures of a node, and its probes (HLD §10).

use prost_types::Timestamp;
use serde::Serialize;

use super::time;
use crate::v1;

/// `piccolo node recovery`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Recovery))]
pub struct RecoveryView {
    pub node: String,
    /// An operator has paused it until then.
    pub paused_until: Option<String>,
    /// Attempts within the last hour, and how many there may be.
    pub spent: u32,
    pub spent_max: u32,
    pub failures: Vec<FailureView>,
    /// The newest.
    pub probe: Option<ProbeView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Failure))]
pub struct FailureView {
    pub failure: String,
    pub ladder: String,
    pub step: String,
    pub attempts: u32,
    pub since: Option<String>,
    pub next_at: Option<String>,
    pub waits: String,
    pub why: String,
}

/// `piccolo node probe`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Probe))]
pub struct ProbeView {
    pub at: Option<String>,
    pub parts: Vec<ProbePartView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ProbePart))]
pub struct ProbePartView {
    pub name: String,
    pub ok: bool,
    pub took_ms: u32,
    pub problem: String,
}

impl From<&v1::Probe> for ProbeView {
    fn from(probe: &v1::Probe) -> Self {
        let part = |part: &v1::ProbePart| ProbePartView {
            name: part.name.clone(),
            ok: part.ok,
            took_ms: part.took_ms,
            problem: part.problem.clone(),
        };
        Self { at: time(probe.at.as_ref()), parts: probe.parts.iter().map(part).collect() }
    }
}

impl RecoveryView {
    #[must_use]
    pub fn of(node: &v1::Node, now: &Timestamp) -> Self {
        let recovery = node.recovery.clone().unwrap_or_default();
        let failure = |line: &v1::RecoveryLine| FailureView {
            failure: line.failure.clone(),
            ladder: line.ladder.clone(),
            step: line.step.clone(),
            attempts: line.attempts,
            since: time(line.since.as_ref()),
            next_at: time(line.next_at.as_ref()),
            waits: line.waits.clone(),
            why: line.why.clone(),
        };
        Self {
            node: node.name.clone(),
            paused_until: paused_until(node, now).and_then(|until| time(Some(until))),
            spent: recovery.spent,
            spent_max: recovery.spent_max,
            failures: recovery.lines.iter().map(failure).collect(),
            probe: node.probe.as_ref().map(ProbeView::from),
        }
    }
}

/// While it is not over.
#[must_use]
pub fn paused_until<'n>(node: &'n v1::Node, now: &Timestamp) -> Option<&'n Timestamp> {
    node.recovery_paused_until.as_ref().filter(|until| until.seconds > now.seconds)
}
