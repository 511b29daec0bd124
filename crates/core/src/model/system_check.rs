//! What the system check of a node found (HLD §4.1 (4)): told by the agent, judged by the master. What a look at
//! the hardware found (HLD §7.2.3) has the same shape.
//!
//! The findings are told at each session and kept in memory: their figures move with every check, and flash
//! wears out. What is stored is the condition that follows from them, and so a restarted master lets nobody
//! in whom it kept out.

use super::{FieldError, check_text};
use crate::time::WallTime;

/// Findings of one check at most.
pub const FINDINGS_MAX: usize = 64;
/// Bytes of a text of a finding at most.
pub const FINDING_TEXT_BYTES_MAX: usize = 512;
/// Bytes of all texts of one check at most.
pub const SYSTEM_CHECK_BYTES_MAX: usize = 32 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SystemCheck {
    /// By the node's clock.
    pub at: WallTime,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// E.g. `memory`.
    pub name: String,
    pub level: CheckLevel,
    pub value: String,
    pub limit: String,
    /// What to do; empty where all is well.
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckLevel {
    Ok,
    Warning,
    Error,
}

impl CheckLevel {
    pub const ALL: [Self; 3] = [Self::Ok, Self::Warning, Self::Error];

    /// As `system_check.sh` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl Finding {
    fn texts(&self) -> [(&'static str, &str); 4] {
        let Self { name, level: _, value, limit, remedy } = self;
        [("name", name), ("value", value), ("limit", limit), ("remedy", remedy)]
    }

    fn size_bytes(&self) -> usize {
        self.texts().iter().map(|(_, text)| text.len()).sum()
    }
}

impl SystemCheck {
    /// Refuses what is too large or cannot be printed; `field` is where it stands.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        let too_much = |problem| Err(FieldError::new(format!("{field}.findings"), problem));
        if self.findings.len() > FINDINGS_MAX {
            return too_much(format!(
                "has {} entries, more than {FINDINGS_MAX}",
                self.findings.len()
            ));
        }
        for (i, finding) in self.findings.iter().enumerate() {
            for (part, text) in finding.texts() {
                check_text(
                    format_args!("{field}.findings[{i}].{part}"),
                    text,
                    FINDING_TEXT_BYTES_MAX,
                )?;
            }
        }
        let bytes: usize = self.findings.iter().map(Finding::size_bytes).sum();
        if bytes > SYSTEM_CHECK_BYTES_MAX {
            return too_much(format!("has {bytes} bytes, more than {SYSTEM_CHECK_BYTES_MAX}"));
        }
        Ok(())
    }

    /// What the bounds leave room for, the worst first kept: a check with too much to say is still told.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        // stable: among those of one level the order of the check stays
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let mut bytes = 0;
        self.findings.retain(|finding| {
            bytes += finding.size_bytes();
            bytes <= SYSTEM_CHECK_BYTES_MAX
        });
        self.findings.truncate(FINDINGS_MAX);
        self
    }

    pub fn count(&self, level: CheckLevel) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    pub fn has_errors(&self) -> bool {
        self.count(CheckLevel::Error) > 0
    }

    /// The errors in one line, where there are any.
    pub fn errors(&self) -> Option<String> {
        let errors = self.findings.iter().filter(|finding| finding.level == CheckLevel::Error);
        let errors: Vec<_> = errors
            .map(|Finding { name, value, limit, .. }| match limit.as_str() {
                "" => format!("{name}: {value}"),
                limit => format!("{name}: {value} (limit {limit})"),
            })
            .collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &str, level: CheckLevel, value: &str) -> Finding {
        let (limit, remedy) = (">= 400".to_owned(), String::new());
        Finding { name: name.to_owned(), level, value: value.to_owned(), limit, remedy }
    }

    #[test]
    fn the_errors_are_named_with_what_was_found_and_the_limit() {
        let findings = vec![
            finding("memory", CheckLevel::Error, "300 MiB"),
            finding("podman", CheckLevel::Warning, "4.0"),
            Finding { limit: String::new(), ..finding("kernel", CheckLevel::Error, "3.2") },
        ];
        let check = SystemCheck { findings, ..SystemCheck::default() };
        assert_eq!(check.errors().unwrap(), "memory: 300 MiB (limit >= 400); kernel: 3.2");
        assert_eq!(SystemCheck::default().errors(), None);
    }

    #[test]
    fn whatever_is_too_much_is_refused_and_bounding_makes_it_acceptable() {
        let long = "x".repeat(FINDING_TEXT_BYTES_MAX);
        let many = vec![finding("a", CheckLevel::Ok, "b"); FINDINGS_MAX + 1];
        let large = vec![finding("a", CheckLevel::Warning, &long); FINDINGS_MAX];
        for mut findings in [many, large] {
            findings.push(finding("last", CheckLevel::Error, "1"));
            let check = SystemCheck { findings, ..SystemCheck::default() };
            assert_eq!(check.check("system_check").unwrap_err().field, "system_check.findings");
            let bounded = check.bounded();
            bounded.check("system_check").unwrap();
            assert_eq!(bounded.findings[0].name, "last");
        }
        let odd = vec![finding("a", CheckLevel::Ok, "\u{1b}[2J")];
        let odd = SystemCheck { findings: odd, ..SystemCheck::default() };
        assert_eq!(odd.check("system_check").unwrap_err().field, "system_check.findings[0].value");
    }
}
