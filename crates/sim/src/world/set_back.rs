//! The master is set back: its store becomes an older copy of itself, as `piccolo backup restore` makes it.

use std::collections::BTreeMap;

use piccolo_core::time::WallTime;

use super::World;
use crate::{clock::SECOND, judge::Mark};

/// In place of a restore.
const NEWER_BACKUP_PERCENT: u64 = 30;

/// What was stored when it was made, and what the judge knew then.
#[derive(Debug, Clone)]
pub(crate) struct Backup {
    values: BTreeMap<String, Vec<u8>>,
    at: WallTime,
    mark: Mark,
}

impl World {
    /// The first time a backup is made; later it is restored, or replaced by a newer one.
    pub(super) fn set_back_fault(&mut self) {
        let newer = self.randoms.faults.chance(NEWER_BACKUP_PERCENT);
        if self.master.backup.is_none() || newer {
            return self.back_up();
        }
        let down_for = self.randoms.faults.scale(SECOND, 20 * SECOND);
        self.set_back(down_for);
    }

    pub(crate) fn back_up(&mut self) {
        self.tell(|| "people: make a backup".to_owned());
        self.master.backup = Some(Backup {
            values: self.master.store.values().clone(),
            at: self.master.clock.now(self.now).wall,
            mark: self.judge.mark(),
        });
    }

    /// The master is stopped, and starts on the backup after `down_for`.
    pub(crate) fn set_back(&mut self, down_for: u64) {
        let Some(backup) = self.master.backup.clone() else { return };
        self.disturb_all();
        self.master_dies(false, down_for);
        self.tell(|| "people: restore the backup".to_owned());
        let at = self.master.clock.now(self.now).wall;
        if let Err(why) = self.master.store.set_back(&backup.values, (backup.at, at)) {
            return self.judge.fail("what_is_stored_can_be_read", why);
        }
        let journals: Vec<_> = self.boards.iter().map(|board| &board.disk).collect();
        self.judge.set_back(backup.at, backup.mark, &self.master.store, &journals);
        self.operator.set_back(self.master.store.users());
    }
}
