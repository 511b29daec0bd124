//! When the system is checked, and what became of it: at the start, now and then, and when somebody asks.
//!
//! The check runs beside the loop and takes its time; one is under way at most, and whoever asks meanwhile
//! is answered by that one.

use std::time::Duration;

use super::{Effect, NodeAgent, observe::printable};
use crate::{
    model::{Finding, SystemCheck},
    mutant::mutant,
    session::ToMaster,
    time::{Deadline, Now, Timestamp},
};

/// Between two checks where all is well, or nearly.
const CHECK_EVERY: Duration = Duration::from_secs(3600);
/// Between two checks where something is wrong: it may have been mended.
const CHECK_AGAIN: Duration = Duration::from_secs(600);
/// Commands that wait for one check at most.
const ASKED_MAX: usize = 16;

/// How often a node checks its system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckPace {
    pub every: Duration,
    /// While there are errors.
    pub again: Duration,
}

impl Default for CheckPace {
    fn default() -> Self {
        Self { every: CHECK_EVERY, again: CHECK_AGAIN }
    }
}

#[derive(Debug)]
pub(super) struct Checks {
    /// `None`: this node has no system check.
    pace: Option<CheckPace>,
    due: Timestamp,
    under_way: bool,
    newest: Option<SystemCheck>,
    /// The master knows the newest.
    told: bool,
    /// Commands that wait for the check that is under way.
    asked: Vec<String>,
}

impl Checks {
    pub(super) fn new(pace: Option<CheckPace>, now: Timestamp) -> Self {
        Self { pace, due: now, under_way: false, newest: None, told: false, asked: Vec::new() }
    }

    /// The first has not been made yet.
    pub(super) fn is_pending(&self) -> bool {
        self.pace.is_some() && self.newest.is_none()
    }

    /// For a Hello: the master knows it from now on.
    pub(super) fn tell_all(&mut self) -> Option<SystemCheck> {
        self.told = true;
        self.newest.clone()
    }

    /// For a report: where the master does not know it yet.
    pub(super) fn untold(&mut self) -> Option<SystemCheck> {
        let told = std::mem::replace(&mut self.told, true);
        self.newest.clone().filter(|_| !told)
    }

    pub(super) fn newest(&self) -> Option<&SystemCheck> {
        self.newest.as_ref()
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let waits = self.pace.is_some() && !self.under_way;
        waits.then_some(Deadline { at: self.due, why: "system check" })
    }
}

impl NodeAgent {
    pub(super) fn check_if_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.checks.deadline().is_some_and(|deadline| deadline.at <= now.at) {
            self.checks.under_way = true;
            out.push(Effect::CheckSystem);
        }
    }

    /// A command: answered when the check is done.
    pub(super) fn check_asked(&mut self, out: &mut Vec<Effect>, id: String) {
        let refusal = if self.checks.pace.is_none() {
            "this node has no system check: its agent was not installed from a release, or \
             `system_check` is `none`"
        } else if self.checks.asked.len() >= ASKED_MAX {
            "too many ask for a check of this node at once; try again"
        } else {
            self.checks.asked.push(id);
            if !std::mem::replace(&mut self.checks.under_way, true) {
                out.push(Effect::CheckSystem);
            }
            return;
        };
        self.say(out, ToMaster::CommandResult { id, success: false, message: refusal.to_owned() });
    }

    /// What was found is told before the commands that asked for it are answered.
    pub(super) fn checked(&mut self, now: Now, out: &mut Vec<Effect>, check: SystemCheck) {
        let Some(pace) = self.checks.pace else { return };
        let findings = check.findings.into_iter().map(presentable).collect();
        let check = SystemCheck { at: now.wall, findings }.bounded();
        let soon = check.has_errors() && !mutant!("a failed check is not repeated soon");
        self.checks.due = now.at + if soon { pace.again } else { pace.every };
        self.checks.under_way = false;
        self.checks.newest = Some(check);
        self.checks.told = false;
        self.report(now, out);
        for id in std::mem::take(&mut self.checks.asked) {
            let message = "the system was checked".to_owned();
            self.say(out, ToMaster::CommandResult { id, success: true, message });
        }
    }
}

/// The master refuses a session with a text that is too long or cannot be printed.
fn presentable(finding: Finding) -> Finding {
    Finding {
        name: printable(&finding.name),
        level: finding.level,
        value: printable(&finding.value),
        limit: printable(&finding.limit),
        remedy: printable(&finding.remedy),
    }
}
