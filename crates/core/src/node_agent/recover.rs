//! Recovery on the node itself: what fails here, and what the plan says of it.
//!
//! It works with a master and without. What the plan does not do by itself, the uplink and systemd do; their
//! steps are given their time, and then it is a person's turn.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Effect, Failure, Hold, Ledger, NodeAgent, Outcome, Phase, Reboot, Runtime, Step,
    observe::printable,
};
use crate::{
    action_controller::recovery::{
        Line, Memory, Next, REBOOTS_PER_DAY_MAX, plan, plan::changes_at,
    },
    model::{EventKind, JournalEntry, RECOVERY_LINES_MAX, RecoveryReport, Severity},
    mutant::mutant,
    session::{RecoveryOrders, ToMaster},
    time::Now,
};

/// Of a pause at most, whatever this board's clock shows.
const PAUSE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// A pause that is told anew is the same if it ends as soon as that.
const SAME_PAUSE: Duration = Duration::from_secs(5);

/// So that reboots that nobody counts are no more in a day than those that are counted.
const UNCOUNTED_REBOOT_AFTER: Duration = Duration::from_secs(86_400 / REBOOTS_PER_DAY_MAX as u64);

/// Of one failure, without what moves all the time: failure, step, attempts, why it waits.
pub(super) type Told = (Failure, (Step, u32, &'static str));

/// As the ledger has it.
pub(super) fn hold_of(ledger: &Ledger, now: Now) -> Option<Hold> {
    let left = ledger.recovery_paused_until.since(now.wall.max(ledger.clock_floor)).min(PAUSE_MAX);
    if ledger.maintenance {
        Some(Hold::Maintenance)
    } else {
        (!left.is_zero()).then(|| Hold::Paused { until: now.at + left })
    }
}

/// Of what persons were told, the journal may know more than the memory.
pub(super) fn recall_told(memory: &mut Memory, journal: &[JournalEntry]) {
    for entry in journal.iter().filter(|entry| entry.kind == EventKind::PersonNeeded) {
        let told = entry.fields.get("failure").map(String::as_str).unwrap_or_default();
        memory.recall_told(entry.at, |failure| printable(&failure.to_string()) == told);
    }
}

impl NodeAgent {
    /// Called after everything that may matter to it.
    pub(super) fn recover(&mut self, now: Now, out: &mut Vec<Effect>) {
        let failing = self.failing();
        if self.phase == Phase::Stopped || (failing.is_empty() && self.ledger.recovery.is_empty()) {
            self.recover_at = None;
            return;
        }
        if matches!(self.hold, Some(Hold::Paused { until }) if until <= now.at) {
            self.hold = None;
        }
        // attempts are kept by the wall clock: not by one that is known to be wrong
        let now = Now { wall: now.wall.max(self.ledger.clock_floor), ..now };
        let policy = self.settings.recovery;
        let backoff = &mut self.backoff;
        let mut dice = || backoff.random();
        let overdue = self.ledger.recovery.observe(&failing, &policy, now, &mut dice);
        for (failure, step) in overdue {
            let outcome = Outcome::Failed("it has not ended in time".to_owned());
            self.tell_outcome(now, out, &failure, step.name(), &outcome);
        }
        let mut lines = plan(&policy, self.hold, &self.ledger.recovery, now.at);
        let begins = |line: &Line| line.next == Next::Attempt;
        if lines.iter().any(begins) {
            for line in lines.into_iter().filter(begins) {
                self.attempt_recovery(now, out, line.failure, line.step, false);
            }
            lines = plan(&policy, self.hold, &self.ledger.recovery, now.at);
        }
        self.recover_at = changes_at(&lines, now.at);
        // this comes after every input, and mostly nothing is new
        let told = |line: &Line| (line.step, line.attempts, line.waits());
        let is_known = lines.len() == self.told_recovery.len()
            && lines
                .iter()
                .zip(&self.told_recovery)
                .all(|(line, (failure, rest))| line.failure == *failure && told(line) == *rest);
        if !is_known {
            self.told_recovery =
                lines.iter().map(|line| (line.failure.clone(), told(line))).collect();
            self.report(now, out);
        }
    }

    fn failing(&self) -> BTreeSet<Failure> {
        let mut failing = BTreeSet::new();
        if self.state_problem.is_some() {
            failing.insert(Failure::StateFolder);
        }
        if matches!(self.observed.runtime, Some(Runtime::Down { .. })) {
            failing.insert(Failure::Podman);
        }
        if matches!(self.alone, Some((_, true))) && self.ledger.generation > 0 {
            let refused = self.removed || self.phase == Phase::Stranded;
            failing.insert(if refused { Failure::Identity } else { Failure::Master });
        }
        let containers = self.observed.containers.iter().flatten();
        failing.extend(
            containers
                .filter(|container| container.restart.wants_to_run(container))
                .map(|container| Failure::Container(container.name.clone())),
        );
        failing
    }

    /// Remembered first, then done: a crash in between costs an attempt, and never gives one.
    fn attempt_recovery(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        failure: Failure,
        step: Step,
        forced: bool,
    ) {
        let attempts = self.ledger.recovery.attempts(&failure);
        if step == Step::Alert {
            return self.tell_a_person(now, out, &failure, attempts);
        }
        if forced {
            self.ledger.recovery.begin_forced(&failure, step, now);
        } else {
            self.ledger.recovery.begin(&failure, step, now);
        }
        if !step.is_ours() {
            return;
        }
        if step == Step::Reboot {
            let (failure, boot) = (failure.clone(), self.boot.clone());
            self.ledger.reboot = Some(Reboot { failure, boot });
        }
        out.push(Effect::SaveLedger(self.ledger.clone()));
        let number = attempts.saturating_add(1);
        let why =
            if forced { "an operator wants it".to_owned() } else { format!("attempt {number}") };
        let message = format!("recovery of {failure}: {}, {why}", step.name());
        let (severity, kind) = (Severity::Warning, EventKind::RecoveryAttempted);
        let about = [("failure", &*failure.to_string())];
        self.record(now, out, severity, kind, message, &about);
        out.push(Effect::Recover { failure, step, forced });
    }

    /// Told first, then remembered: after a crash in between the journal still knows ([`recall_told`]).
    fn tell_a_person(&mut self, now: Now, out: &mut Vec<Effect>, failure: &Failure, attempts: u32) {
        let message = format!("{failure} does not get well, {attempts} attempts were made");
        let kind = EventKind::PersonNeeded;
        let about = [("failure", &*failure.to_string())];
        self.record(now, out, Severity::Critical, kind, message, &about);
        self.ledger.recovery.begin(failure, Step::Alert, now);
        out.push(Effect::SaveLedger(self.ledger.clone()));
    }

    pub(super) fn recovered(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        failure: &Failure,
        outcome: Outcome,
    ) {
        let dice = self.backoff.random();
        let policy = self.settings.recovery;
        if self.ledger.recovery.ended(failure, &outcome, &policy, now.at, dice) {
            self.tell_outcome(now, out, failure, "attempt", &outcome);
        }
    }

    /// A reboot that comes about ends the agent too: the next one tells of it.
    pub(super) fn tell_of_the_reboot(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(reboot) = &self.ledger.reboot else { return };
        if reboot.boot != self.boot {
            let failure = reboot.failure.clone();
            self.tell_outcome(now, out, &failure, Step::Reboot.name(), &Outcome::Done);
        }
    }

    fn tell_outcome(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        failure: &Failure,
        what: &str,
        outcome: &Outcome,
    ) {
        let (severity, ended) = match outcome {
            Outcome::Done => (Severity::Info, "done".to_owned()),
            Outcome::Failed(why) => (Severity::Warning, format!("failed: {why}")),
            Outcome::LeftAlone(why) => (Severity::Info, format!("left alone: {why}")),
        };
        let message = format!("recovery of {failure}: {what} {ended}");
        let about = [("failure", &*failure.to_string())];
        self.record(now, out, severity, EventKind::RecoveryEnded, message, &about);
        if self.ledger.reboot.take_if(|reboot| reboot.failure == *failure).is_some() {
            out.push(Effect::SaveLedger(self.ledger.clone()));
        }
    }

    /// Kept, so that a node that boots alone is still held back.
    pub(super) fn take_orders(&mut self, now: Now, out: &mut Vec<Effect>, orders: RecoveryOrders) {
        let paused_for = orders.paused_for.min(PAUSE_MAX);
        let until = if paused_for.is_zero() {
            crate::time::WallTime::default()
        } else {
            now.wall.max(self.ledger.clock_floor).plus(paused_for)
        };
        let kept = self.ledger.recovery_paused_until;
        let moved = until.since(kept).max(kept.since(until));
        self.hold = if orders.maintenance {
            Some(Hold::Maintenance)
        } else {
            (!paused_for.is_zero()).then(|| Hold::Paused { until: now.at + paused_for })
        };
        if moved > SAME_PAUSE || self.ledger.maintenance != orders.maintenance {
            self.ledger.recovery_paused_until = until;
            self.ledger.maintenance = orders.maintenance;
            out.push(Effect::SaveLedger(self.ledger.clone()));
        }
    }

    /// What an operator wants goes before pause, back-off and budget, and counts against none of them.
    pub(super) fn recovery_forced(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        id: String,
        step: Step,
        container: String,
    ) {
        let failure = match step {
            Step::RestartContainer => Failure::Container(container),
            Step::Reboot => Failure::System,
            Step::RestartPodman
            | Step::Reconnect
            | Step::Register
            | Step::RestartAgent
            | Step::Alert => Failure::Podman,
        };
        let refusal = self.why_not_forced(&failure, step, now);
        let success = refusal.is_none();
        let message = refusal.unwrap_or_else(|| format!("{} of {failure} has begun", step.name()));
        self.say(out, ToMaster::CommandResult { id, success, message: printable(&message) });
        if success {
            self.attempt_recovery(now, out, failure, step, true);
        }
    }

    fn why_not_forced(&mut self, failure: &Failure, step: Step, now: Now) -> Option<String> {
        let policy = self.settings.recovery;
        let known = |name: &str| self.observed.containers.iter().flatten().any(|c| c.name == name);
        match (step, failure) {
            (Step::RestartPodman, _) if policy.podman => {}
            (Step::Reboot, _) if policy.reboot => {}
            (Step::RestartContainer, Failure::Container(name)) if known(name) => {}
            (Step::RestartContainer, Failure::Container(name)) => {
                return Some(format!("there is no container {name} here"));
            }
            (step, _) => return Some(why_off(step)),
        }
        if self.ledger.recovery.is_under_way(failure) {
            return Some(format!("an attempt at {failure} is under way already"));
        }
        let room = self.ledger.recovery.admit(failure, now);
        (!room).then(|| "too much fails on this node at once".to_owned())
    }

    pub(super) fn recovery_report(&self, now: Now) -> RecoveryReport {
        let policy = &self.settings.recovery;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let lines = plan(policy, self.hold, &self.ledger.recovery, now.at).into_iter();
        let mut lines: Vec<_> = lines.map(|line| line.told(policy, now)).collect();
        lines.truncate(RECOVERY_LINES_MAX);
        for line in &mut lines {
            line.failure = printable(&line.failure);
            line.why = printable(&line.why);
        }
        RecoveryReport {
            lines,
            spent: number(self.ledger.recovery.spent(now.at)),
            spent_max: number(policy.attempts_per_hour_max),
        }
    }
}

/// What an operator is told who wants a step that the node's configuration does not allow.
fn why_off(step: Step) -> String {
    let turned_on_by = match step {
        Step::Reboot => "recovery.reboot: true",
        Step::RestartPodman => "the units of Podman in recovery.podman_units",
        Step::RestartContainer
        | Step::Reconnect
        | Step::Register
        | Step::RestartAgent
        | Step::Alert => return format!("{} happens by itself", step.name()),
    };
    format!(
        "{} is off in the configuration of this node, and was not done; \
         to allow it, set {turned_on_by} in its nodeagent.yaml and restart its agent",
        step.name()
    )
}

/// Why a container that has ended is nobody's business but its owner's, or Podman's; `None`: start it.
pub fn handled_elsewhere(ended: &Ended) -> Option<String> {
    if ended.running {
        return Some("it runs again".to_owned());
    }
    if let Some(unit) = &ended.unit {
        return Some(format!("the systemd unit {unit} looks after it"));
    }
    if !matches!(ended.podman_policy.as_str(), "" | "no") {
        return Some(format!("Podman's own restart policy {} looks after it", ended.podman_policy));
    }
    if ended.stopped_by_user {
        return Some("an operator has stopped it".to_owned());
    }
    // success, or one of the signals with which people and `podman stop` end things
    let may_be_stopped = matches!(ended.exit_code, 0 | 130 | 137 | 143) && !ended.out_of_memory;
    if may_be_stopped && !ended.tells_who_stopped {
        let code = ended.exit_code;
        return Some(format!(
            "it ended with {code}, and this Podman does not tell whether an operator stopped it"
        ));
    }
    None
}

/// Why the node is not rebooted. `counted`: on the disk. Where it is not, the next life knows of none, and only
/// the time since the last boot keeps one reboot from following the other for ever. Where it is, a state folder that
/// could not be written can be.
pub fn why_no_reboot(failure: &Failure, counted: bool, up_for: Option<Duration>) -> Option<String> {
    if counted
        && *failure == Failure::StateFolder
        && !mutant!("a node is rebooted for a folder that can be written")
    {
        return Some(
            "the state folder took the count of this reboot: it can be written again".to_owned(),
        );
    }
    let may = counted
        || up_for.is_some_and(|up_for| up_for >= UNCOUNTED_REBOOT_AFTER)
        || mutant!("a reboot that nobody will remember is done");
    (!may).then(|| {
        let hours = UNCOUNTED_REBOOT_AFTER.as_secs() / 3600;
        format!(
            "the state folder cannot be written, so this reboot could not be counted; \
             without that a node is rebooted only when it has been up for {hours} h"
        )
    })
}

/// Why systemd's units, in these states, are not to be restarted: nothing failed, somebody stopped them.
pub fn stopped_units<'s>(mut states: impl Iterator<Item = &'s str>) -> Option<String> {
    states
        .all(|state| state == "inactive")
        .then(|| "systemd says that it was stopped, and not that it has failed".to_owned())
}

/// A container that has ended, looked at closely.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    pub running: bool,
    pub exit_code: i32,
    pub out_of_memory: bool,
    pub stopped_by_user: bool,
    /// This Podman is new enough to know.
    pub tells_who_stopped: bool,
    /// As Podman calls it; empty or `no` for none.
    pub podman_policy: String,
    /// Of systemd, that runs it.
    pub unit: Option<String>,
}
