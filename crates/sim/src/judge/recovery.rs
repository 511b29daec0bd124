//! What recovery may do on a board, and what it owes to people.

use std::{collections::BTreeMap, time::Duration};

use piccolo_core::{
    action_controller::recovery::{Failure, Policy},
    model::{EventKind, JournalEntry},
    node_agent::Effect,
    session::ToMaster,
    time::WallTime,
};

use super::Judge;
use crate::{
    clock::{SECOND, True},
    world::Disk,
};

/// Clocks differ by less than this in an hour, and a second life begins where the first ends.
const SLACK: u64 = 30 * SECOND;
const HOUR: u64 = 3_600 * SECOND;
/// What fails again sooner than this is the same failure.
const STABLE: u64 = 600 * SECOND;
/// After a boot, for a reboot that the disk does not remember.
const UNCOUNTED_REBOOT_AFTER: Duration = Duration::from_secs(12 * 3_600);
/// Attempts at one container before a person is told.
const CONTAINER_ATTEMPTS: usize = 5;

/// What was done on one board.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    /// Of the agent's process: its own clock counts, and a later life knows of it only by the wall.
    boot: u32,
    attempts: Vec<True>,
    /// What this process may tell at most: what it told, and what the plan has had done since.
    spent_max: Option<u32>,
    /// By failure, each as soon after the one before that it is the same; of one disk.
    life: u64,
    rows: BTreeMap<Failure, Vec<True>>,
    /// When, and what the board's clock showed.
    told: BTreeMap<String, (True, WallTime)>,
}

impl Judge {
    pub(super) fn note_recovery(
        &mut self,
        (at, board, boot): (True, usize, u32),
        disk: &Disk,
        effect: &Effect,
    ) {
        let account = self.recoveries.entry(board).or_default();
        if account.boot != boot {
            (account.boot, account.attempts, account.spent_max) = (boot, Vec::new(), None);
        }
        if account.life != disk.journal_life {
            account.life = disk.journal_life;
            account.rows.clear();
            account.told.clear();
        }
        let problem = match effect {
            Effect::Recover { failure, forced, .. } => {
                account.attempted(at, failure, *forced, disk)
            }
            Effect::JournalAppend(entry) if entry.kind == EventKind::PersonNeeded => {
                let problem = account.person_told(at, entry);
                let failure = entry.fields.get("failure").cloned().unwrap_or_default();
                account.told.insert(failure, (at, entry.at));
                problem
            }
            Effect::Send(ToMaster::Status(report)) => {
                report.picture.as_ref().and_then(|picture| account.spent(picture.recovery.spent))
            }
            _ => None,
        };
        if let Some((invariant, what)) = problem {
            self.fail(invariant, format!("board-{board}: {what}"));
        }
    }
}

impl Judge {
    /// Unless a person wants it: not again and again because no life knows of the one before, and not for a state
    /// folder that can be written.
    pub(crate) fn reboots(&mut self, b: usize, failure: &Failure, refuses: bool, up_for: Duration) {
        let what = || format!("board-{b}, for {failure}, after {up_for:?}");
        if refuses && up_for < UNCOUNTED_REBOOT_AFTER {
            self.fail("a_reboot_that_is_forgotten_comes_rarely", what());
        }
        if !refuses && *failure == Failure::StateFolder {
            self.fail("no_reboot_for_a_folder_that_can_be_written", what());
        }
    }
}

type Problem = Option<(&'static str, String)>;

impl Recoveries {
    fn attempted(&mut self, at: True, failure: &Failure, forced: bool, disk: &Disk) -> Problem {
        if forced {
            return None;
        }
        if disk.ledger.maintenance {
            return Some(("nothing_is_done_in_maintenance", failure.to_string()));
        }
        self.attempts.push(at);
        self.spent_max = self.spent_max.map(|max| max + 1);
        let hour = self.attempts.iter().filter(|then| at - **then + SLACK < HOUR).count();
        let max = Policy::default().attempts_per_hour_max;
        if hour > max {
            return Some(("recovery_keeps_to_its_budget", format!("{hour} attempts in an hour")));
        }
        let row = self.rows.entry(failure.clone()).or_default();
        if row.last().is_some_and(|last| at - last + SLACK > STABLE) {
            row.clear();
        }
        row.push(at);
        let owed = matches!(failure, Failure::Container(_)) && row.len() > CONTAINER_ATTEMPTS;
        // a long name is told as far as there is room for it
        let name = failure.to_string();
        let told = self.told.keys().any(|told| name.starts_with(told.as_str()));
        if owed && !told {
            let what = format!("{} attempts at {failure}", row.len());
            return Some(("a_person_is_told_at_last", what));
        }
        None
    }

    /// What is told of the budget is the plan's own; operators take nothing from it.
    fn spent(&mut self, told: u32) -> Problem {
        let max = self.spent_max.replace(told)?;
        let what = || format!("{told} attempts are told, and the plan has made {max}");
        (told > max).then(|| ("a_forced_step_costs_no_attempt", what()))
    }

    fn person_told(&mut self, at: True, entry: &JournalEntry) -> Problem {
        let failure = entry.fields.get("failure").cloned().unwrap_or_default();
        let (before, shown) = self.told.get(&failure).copied()?;
        // an entry that had to step over an earlier life's numbers is the same one
        let again = shown != entry.at && at - before + SLACK < STABLE;
        again.then_some(("a_person_is_told_once", failure))
    }
}
