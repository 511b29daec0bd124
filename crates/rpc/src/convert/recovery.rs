//! Where recovery stands, and what a node proved of itself (HLD §10).

use piccolo_core::{
    action_controller::recovery::Step,
    model::{FieldError, ProbePart, ProbeReport, RecoveryLine, RecoveryReport},
};

use super::{time_or_epoch, timestamp, wall_time};
use crate::v1;

/// # Errors
/// [`FieldError`] for a word that is no step.
pub fn recovery_step(field: &str, name: &str) -> Result<Step, FieldError> {
    let known = || Step::ALL.into_iter().filter(|step| step.is_ours()).map(Step::name);
    Step::from_name(name).ok_or_else(|| {
        let known = known().collect::<Vec<_>>().join(", ");
        FieldError::new(field, format!("is no step of recovery; one of {known} was expected"))
    })
}

impl From<RecoveryReport> for v1::Recovery {
    fn from(RecoveryReport { lines, spent, spent_max }: RecoveryReport) -> Self {
        Self { lines: lines.into_iter().map(Into::into).collect(), spent, spent_max }
    }
}

impl TryFrom<v1::Recovery> for RecoveryReport {
    type Error = FieldError;

    fn try_from(
        v1::Recovery { lines, spent, spent_max }: v1::Recovery,
    ) -> Result<Self, FieldError> {
        let lines = lines.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { lines, spent, spent_max })
    }
}

impl From<RecoveryLine> for v1::RecoveryLine {
    fn from(line: RecoveryLine) -> Self {
        let RecoveryLine { failure, ladder, step, attempts, since, next_at, waits, why } = line;
        let (since, next_at) = (Some(timestamp(since)), next_at.map(timestamp));
        Self { failure, ladder, step, attempts, since, next_at, waits, why }
    }
}

impl TryFrom<v1::RecoveryLine> for RecoveryLine {
    type Error = FieldError;

    fn try_from(wire: v1::RecoveryLine) -> Result<Self, FieldError> {
        let v1::RecoveryLine { failure, ladder, step, attempts, since, next_at, waits, why } = wire;
        let since = time_or_epoch("since", since.as_ref())?;
        let next_at = next_at.map(|at| wall_time("next_at", &at)).transpose()?;
        Ok(Self { failure, ladder, step, attempts, since, next_at, waits, why })
    }
}

impl From<ProbeReport> for v1::Probe {
    fn from(ProbeReport { at, parts }: ProbeReport) -> Self {
        Self { at: Some(timestamp(at)), parts: parts.into_iter().map(Into::into).collect() }
    }
}

impl From<ProbePart> for v1::ProbePart {
    fn from(ProbePart { name, ok, took_ms, problem }: ProbePart) -> Self {
        Self { name, ok, took_ms, problem }
    }
}

impl From<v1::ProbePart> for ProbePart {
    fn from(v1::ProbePart { name, ok, took_ms, problem }: v1::ProbePart) -> Self {
        Self { name, ok, took_ms, problem }
    }
}
