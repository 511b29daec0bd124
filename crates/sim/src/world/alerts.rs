//! Alerts of boards that are alone: their channels, which fail now and then, and what must never be told there.

use piccolo_core::{
    model::EventKind,
    node_agent::{Effect, Input, local_alerts::LocalNotice},
};

use super::World;

/// Of attempts, percent.
const CHANNEL_FAILS: u64 = 20;

impl World {
    pub(crate) fn tells_locally(&mut self, b: usize, notice: &LocalNotice) {
        let result = if self.randoms.channels.chance(CHANNEL_FAILS) {
            Err("it is out of order".to_owned())
        } else {
            self.judge.told_locally(b, notice);
            Ok(())
        };
        if let Some(agent) = &mut self.boards[b].agent {
            agent.inbox.push_back(Input::ToldLocally(result));
        }
    }

    /// While a master is there it tells, and in Maintenance nobody does.
    pub(crate) fn judge_local_alerts(&mut self, b: usize, effect: &Effect) {
        let Effect::JournalAppend(entry) = effect else { return };
        if entry.kind != EventKind::LocalAlertFiring {
            return;
        }
        if !entry.offline {
            self.judge.fail("a_node_alerts_while_it_is_alone", format!("board-{b}: {entry:?}"));
        }
        let disk = &self.boards[b].disk;
        // what only gets another number was told before
        let is_new = disk.journal.values().all(|old| old.fields != entry.fields);
        if is_new && disk.ledger.maintenance {
            self.judge.fail("no_alert_in_maintenance", format!("board-{b}: {entry:?}"));
        }
    }
}
