//! What the system check of a node found (HLD §4.1 (4)).

use piccolo_core::model::{CheckLevel, FieldError, Finding, SystemCheck};

use super::{time_or_epoch, timestamp, unknown_number};
use crate::v1;

/// # Errors
/// [`FieldError`] for 0 and for a number that is none.
pub fn check_level(field: &str, number: i32) -> Result<CheckLevel, FieldError> {
    match v1::CheckLevel::try_from(number) {
        Ok(v1::CheckLevel::Ok) => Ok(CheckLevel::Ok),
        Ok(v1::CheckLevel::Warning) => Ok(CheckLevel::Warning),
        Ok(v1::CheckLevel::Error) => Ok(CheckLevel::Error),
        Ok(v1::CheckLevel::Unspecified) | Err(_) => Err(unknown_number(field, number)),
    }
}

#[must_use]
pub fn check_level_to_wire(level: CheckLevel) -> v1::CheckLevel {
    match level {
        CheckLevel::Ok => v1::CheckLevel::Ok,
        CheckLevel::Warning => v1::CheckLevel::Warning,
        CheckLevel::Error => v1::CheckLevel::Error,
    }
}

impl From<&SystemCheck> for v1::SystemCheck {
    fn from(check: &SystemCheck) -> Self {
        let findings = check.findings.iter().map(Into::into).collect();
        Self { at: Some(timestamp(check.at)), findings, passed: 0 }
    }
}

/// For lists of nodes, which would be large with everything that is well.
pub(super) fn without_what_is_well(check: &SystemCheck) -> v1::SystemCheck {
    let well = check.count(CheckLevel::Ok);
    let findings = check.findings.iter().filter(|finding| finding.level != CheckLevel::Ok);
    v1::SystemCheck {
        at: Some(timestamp(check.at)),
        findings: findings.map(Into::into).collect(),
        passed: u32::try_from(well).unwrap_or(u32::MAX),
    }
}

impl From<&Finding> for v1::CheckFinding {
    fn from(finding: &Finding) -> Self {
        let Finding { name, level, value, limit, remedy } = finding.clone();
        Self { name, level: check_level_to_wire(level).into(), value, limit, remedy }
    }
}

impl TryFrom<v1::SystemCheck> for SystemCheck {
    type Error = FieldError;

    fn try_from(wire: v1::SystemCheck) -> Result<Self, FieldError> {
        let finding = |(i, wire): (usize, v1::CheckFinding)| {
            let level = check_level(&format!("findings[{i}].level"), wire.level)?;
            let v1::CheckFinding { name, value, limit, remedy, .. } = wire;
            Ok(Finding { name, level, value, limit, remedy })
        };
        let findings = wire.findings.into_iter().enumerate().map(finding);
        Ok(Self {
            at: time_or_epoch("at", wire.at.as_ref())?,
            findings: findings.collect::<Result<_, FieldError>>()?,
        })
    }
}
