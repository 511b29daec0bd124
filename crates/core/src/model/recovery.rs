//! Where the recovery of a node stands, as it is told, and what it proved of itself (HLD §10.1, §10.2).

use super::{FieldError, check_text};
use crate::time::WallTime;

/// Failures of one node that are told at most.
pub const RECOVERY_LINES_MAX: usize = 32;
/// Bytes of each text of a line at most.
const TEXT_BYTES_MAX: usize = 1024;

/// Everything that fails, or failed a short while ago.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    pub lines: Vec<RecoveryLine>,
    /// Attempts of the last hour, and how many there may be; 0 of 0 before it was told.
    pub spent: u32,
    pub spent_max: u32,
}

/// One failure. Words and not enums: a newer agent may know more of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryLine {
    /// `podman`, `container/NAME`, ...
    pub failure: String,
    /// All of its steps in order, for people.
    pub ladder: String,
    /// The one that it stands on.
    pub step: String,
    pub attempts: u32,
    pub since: WallTime,
    /// When that may change, where it is known.
    pub next_at: Option<WallTime>,
    /// One CamelCase word: why nothing is done now.
    pub waits: String,
    /// The same as a sentence.
    pub why: String,
}

impl RecoveryReport {
    /// Refuses what is too large or cannot be printed.
    pub fn check(&self) -> Result<(), FieldError> {
        if self.lines.len() > RECOVERY_LINES_MAX {
            return Err(FieldError::new("recovery.lines", "has too many entries"));
        }
        for (i, line) in self.lines.iter().enumerate() {
            let RecoveryLine { failure, ladder, step, waits, why, .. } = line;
            for (field, text) in [
                ("failure", failure),
                ("ladder", ladder),
                ("step", step),
                ("waits", waits),
                ("why", why),
            ] {
                check_text(format_args!("recovery.lines[{i}].{field}"), text, TEXT_BYTES_MAX)?;
            }
        }
        Ok(())
    }
}

/// Parts of a probe at most.
pub const PROBE_PARTS_MAX: usize = 16;

/// What a node proved of itself when the master asked (HLD §10.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbeReport {
    /// By the master's clock.
    pub at: WallTime,
    /// `loop` is the way there and back, through the loop that does the agent's work.
    pub parts: Vec<ProbePart>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProbePart {
    /// `loop`, `podman`, `disk`.
    pub name: String,
    pub ok: bool,
    pub took_ms: u32,
    /// What is wrong; empty where all is well.
    pub problem: String,
}

impl ProbePart {
    /// Refuses what is too large or cannot be printed.
    pub fn check_all(parts: &[Self]) -> Result<(), FieldError> {
        if parts.len() > PROBE_PARTS_MAX {
            return Err(FieldError::new("parts", "has too many entries"));
        }
        for (i, part) in parts.iter().enumerate() {
            check_text(format_args!("parts[{i}].name"), &part.name, TEXT_BYTES_MAX)?;
            check_text(format_args!("parts[{i}].problem"), &part.problem, TEXT_BYTES_MAX)?;
        }
        Ok(())
    }
}

impl ProbeReport {
    /// What is wrong, in one line; `None` where all is well.
    pub fn problem(&self) -> Option<String> {
        let bad = self.parts.iter().filter(|part| !part.ok);
        let bad: Vec<_> = bad.map(|part| format!("{}: {}", part.name, part.problem)).collect();
        (!bad.is_empty()).then(|| bad.join("; "))
    }
}
