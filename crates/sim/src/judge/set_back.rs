//! A master that was set back: what goes back with it, and what must not.

use std::collections::BTreeSet;

use piccolo_core::{
    model::{AuditEntry, EventKind, NodeId, NodeStatus},
    session::{GoodbyeReason, ToAgent},
    state_manager::{Effect, StateManager},
    time::WallTime,
};

use super::{Judge, nodes::Account, rules};
use crate::{clock::True, store::Store, world::Disk};

/// Certificates count whole seconds: what was issued within the backup's may be from before it.
const SECOND_MS: i64 = 1_000;

/// What the judge knew when a backup was made, and goes back to with it.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    last_audit: Option<AuditEntry>,
    gone: BTreeSet<NodeId>,
}

impl Judge {
    pub(crate) fn mark(&self) -> Mark {
        Mark { last_audit: self.last_audit.clone(), gone: self.gone.clone() }
    }

    /// The store is what it was, and the world is not.
    pub(crate) fn set_back(
        &mut self,
        backup_at: WallTime,
        mark: Mark,
        store: &Store,
        disks: &[&Disk],
    ) {
        self.set_back_to = Some(backup_at);
        self.first_event_leaps = true;
        self.last_audit = mark.last_audit;
        self.gone = mark.gone;
        self.removed.retain(|(node, _)| !store.nodes.contains_key(node));
        self.joined_with =
            store.nodes.values().map(|n| (n.id.clone(), n.joined_with.clone())).collect();
        rules!(self, tokens_are_not_restored(store));
        for (node, journal) in &mut self.journals {
            let record = store.nodes.get(node);
            journal.delivered = journal.delivered.max(journal.logged_through);
            journal.told.clear();
            journal.logged_through = record.map_or(0, |r| r.acknowledged_sequence);
            journal.drops_told = record.map_or(0, |r| r.events_dropped);
        }
        // what was delivered is lost with the master; but for what the agents still have
        for disk in disks {
            let Some(journal) = self.journals.get_mut(&disk.node) else { continue };
            let unknown = disk.journal.range(journal.logged_through + 1..);
            journal.waiting.extend(unknown.map(|(sequence, entry)| (*sequence, entry.clone())));
        }
    }

    pub(crate) fn was_set_back(&self) -> bool {
        self.set_back_to.is_some()
    }

    fn tokens_are_not_restored(&self, store: &Store) -> Result<(), String> {
        if store.tokens.is_empty() { Ok(()) } else { Err(format!("{:?}", store.tokens)) }
    }

    pub(super) fn revisions_never_go_back(&self, machine: &StateManager) -> Result<(), String> {
        let (before, now) = (self.revision, machine.revision());
        if now >= before { Ok(()) } else { Err(format!("from {before} to {now}")) }
    }

    /// A node that is taken in is a node from then on.
    pub(super) fn note_adopted(&mut self, at: True, effects: &[Effect]) {
        if self.set_back_to.is_none() {
            return;
        }
        for effect in effects {
            let Effect::Happened(event) = effect else { continue };
            let Some(node) = event.node.as_ref().filter(|_| event.kind == EventKind::NodeAdopted)
            else {
                continue;
            };
            let waits = effects.iter().any(|effect| {
                matches!(effect, Effect::Changed(view)
                    if view.record.id == *node && view.record.status == NodeStatus::Pending)
            });
            let status = if waits { NodeStatus::Pending } else { NodeStatus::Initializing };
            self.accounts.insert(node.clone(), Account::new(status, at));
            self.well_until = 0;
        }
    }

    /// Whom people took out, as far as the master can know, comes in by a token only.
    pub(super) fn who_is_gone_stays_out(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Removed { node, .. } => drop(self.gone.insert(node.clone())),
            Effect::Changed(view) if self.gone.contains(&view.record.id) => {
                // with a token, or it would have no business here
                if view.record.joined_with.is_empty() {
                    return Err(format!("{} is back: {:?}", view.record.id, view.record));
                }
                self.gone.remove(&view.record.id);
            }
            Effect::Send { node, message: ToAgent::Welcome(_), .. } => {
                // what its old session brings comes before its agent hears this
                if let Some(journal) = self.journals.get_mut(node) {
                    journal.delivered = 0;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Its certificate proves that it joined after the backup, and nobody has removed it since.
    pub(super) fn who_joined_since_is_taken_in(
        &self,
        effect: &Effect,
        store: &Store,
    ) -> Result<(), String> {
        let (Some(backup_at), Effect::Close { node, session, goodbye }) =
            (self.set_back_to, effect)
        else {
            return Ok(());
        };
        let turned_away = goodbye.reason == GoodbyeReason::Removed
            && !store.nodes.contains_key(node)
            && !self.gone.contains(node)
            && !self.cloned.contains(node);
        let Some((_, by)) = self.sessions.get(session).filter(|_| turned_away) else {
            return Ok(());
        };
        let issued = by.valid_from.0 + crate::world::BACKDATED_MS;
        if by.expired || issued < backup_at.0 + SECOND_MS {
            return Ok(());
        }
        Err(format!("{node} is told: {}; {by:?}", goodbye.message))
    }
}
