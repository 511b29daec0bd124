//! Every event of every journal is in the log once, in order, or counted as dropped; the audit chain holds.

use std::collections::{BTreeMap, BTreeSet};

use piccolo_core::{
    model::{AuditEntry, Event, EventKind, JournalEntry, NodeId, verify_chain},
    node_agent,
    time::WallTime,
};

use super::{Judge, rules};
use crate::world::Disk;

/// What one node's journal truly held.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Durable, and not in the log yet.
    pub(super) waiting: BTreeMap<u64, JournalEntry>,
    dropped: BTreeSet<u64>,
    /// Went down with a journal; they may still have been under way.
    sunk: Vec<JournalEntry>,
    pub(super) logged_through: u64,
    /// In the log, and still on the disk when what was not written was lost.
    pub(super) told: BTreeSet<What>,
    /// To a master that was lost since: an acknowledgement of it may still be under way.
    pub(super) delivered: u64,
    pub(super) drops_told: u64,
    /// It was lost once, and begun again: sequences were stepped over.
    lost: bool,
}

impl Journal {
    /// What got another number, above what an earlier life had told.
    fn moved_above(&mut self, through: u64) -> Result<(), String> {
        let above = self.waiting.split_off(&(through + 1));
        let moved: BTreeSet<_> = above.values().map(what).collect();
        self.waiting.retain(|_, entry| !moved.contains(&what(entry)));
        self.waiting.extend(above);
        let again = moved.intersection(&self.told).next();
        again.map_or(Ok(()), |what| Err(format!("{what:?} is to be told again")))
    }
}

type What = (String, WallTime, EventKind);

fn is_of(entry: &JournalEntry, event: &Event) -> bool {
    entry.message == event.message && entry.at == event.at
}

fn what(entry: &JournalEntry) -> What {
    (entry.message.clone(), entry.at, entry.kind)
}

impl Judge {
    pub(super) fn note_journal(&mut self, _board: usize, disk: &Disk, effect: &node_agent::Effect) {
        match effect {
            node_agent::Effect::JournalAppend(entry) => {
                let journal = self.journals.entry(disk.node.clone()).or_default();
                journal.waiting.insert(entry.sequence, entry.clone());
            }
            node_agent::Effect::JournalDrop { sequence } => {
                let journal = self.journals.entry(disk.node.clone()).or_default();
                journal.waiting.remove(sequence);
                journal.dropped.insert(*sequence);
            }
            node_agent::Effect::JournalTrim { through } => {
                rules!(self, nothing_is_told_again(disk, *through));
                self.lost_with_the_master(disk, *through);
                rules!(self, trimmed_only_when_logged(disk, *through));
            }
            _ => {}
        }
    }

    fn nothing_is_told_again(&mut self, disk: &Disk, through: u64) -> Result<(), String> {
        let lost = self.journals.get_mut(&disk.node).filter(|journal| journal.lost);
        let again = lost.map_or(Ok(()), |journal| journal.moved_above(through));
        // two boards with one disk tell the same twice
        if self.cloned.contains(&disk.node) { Ok(()) } else { again }
    }

    /// What the lost master acknowledged is gone with it.
    fn lost_with_the_master(&mut self, disk: &Disk, through: u64) {
        let Some(journal) = self.journals.get_mut(&disk.node) else { return };
        if journal.delivered > 0 {
            let acknowledged = through.min(journal.delivered);
            journal.waiting.retain(|sequence, _| *sequence > acknowledged);
        }
    }

    /// An entry leaves the disk when it is in the log, and not before.
    fn trimmed_only_when_logged(&self, disk: &Disk, through: u64) -> Result<(), String> {
        if self.cloned.contains(&disk.node) {
            return Ok(());
        }
        let Some(journal) = self.journals.get(&disk.node) else { return Ok(()) };
        match journal.waiting.range(..=through).next() {
            Some((sequence, entry)) if disk.journal.contains_key(sequence) => {
                Err(format!("{}: {sequence} is lost: {entry:?}", disk.node))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn events_exactly_once_in_order(
        &mut self,
        events: Vec<Event>,
    ) -> Result<(), String> {
        for event in events {
            let leaps = std::mem::take(&mut self.first_event_leaps);
            if leaps && event.id <= self.last_event {
                return Err(format!("after a restore event {} comes again", event.id));
            }
            if event.id <= self.last_event {
                // the same commit, taken twice by the store
                continue;
            }
            if event.id != self.last_event + 1 && !leaps {
                return Err(format!("event {} follows {}", event.id, self.last_event));
            }
            self.last_event = event.id;
            if event.kind == EventKind::EventsDropped
                && let Some(node) = &event.node
            {
                let count = event.fields.get("count").and_then(|count| count.parse().ok());
                let journal = self.journals.entry(node.clone()).or_default();
                journal.drops_told += count.unwrap_or(0u64);
            }
            if event.node_sequence > 0 {
                self.one_event_in_order(event)?;
            }
        }
        Ok(())
    }

    fn one_event_in_order(&mut self, event: Event) -> Result<(), String> {
        let Some(node) = event.node.clone() else { return Err("an event of nobody".to_owned()) };
        let sequence = event.node_sequence;
        let cloned = self.cloned.contains(&node);
        let journal = self.journals.entry(node.clone()).or_default();
        if sequence <= journal.logged_through {
            return Err(format!("{node}: {sequence} after {}", journal.logged_through));
        }
        let passed_over = journal.waiting.range(..sequence).next().map(|(s, _)| *s);
        journal.logged_through = sequence;
        let waits = journal.waiting.get(&sequence).is_some_and(|entry| is_of(entry, &event));
        if waits {
            journal.waiting.remove(&sequence);
        }
        // told by an earlier life, before its journal went down
        let sunk = |entry: &JournalEntry| entry.sequence == sequence && is_of(entry, &event);
        let is_true = waits || journal.sunk.iter().any(sunk);
        if cloned {
            return Ok(());
        }
        if let Some(passed_over) = passed_over
            && !journal.lost
        {
            return Err(format!("{node}: {passed_over} was passed over by {sequence}"));
        }
        // or dropped while it was under way
        if is_true || journal.dropped.contains(&sequence) {
            return Ok(());
        }
        Err(format!("{node}: {sequence} was never written: {}", event.message))
    }

    pub(super) fn journal_within_bound(
        &self,
        disk: &Disk,
        effect: &node_agent::Effect,
    ) -> Result<(), String> {
        // twice as many while entries are renumbered, above an earlier life or a clone's
        let renumbered = self.cloned.contains(&disk.node)
            || self.journals.get(&disk.node).is_some_and(|journal| journal.lost);
        let max = if renumbered { self.journal_max * 2 } else { self.journal_max };
        if disk.journal.len() <= max {
            return Ok(());
        }
        let held = disk.journal.len();
        Err(format!("{}: {held} entries before {effect:?}", disk.node))
    }

    pub(super) fn audit_chain_intact(&mut self, entries: Vec<AuditEntry>) -> Result<(), String> {
        for entry in entries {
            let last = self.last_audit.as_ref();
            if last == Some(&entry) {
                continue;
            }
            verify_chain([&entry]).map_err(|e| e.to_string())?;
            let (before, hash) = last.map_or((0, ""), |last| (last.id, last.hash.as_str()));
            if (entry.id, entry.previous_hash.as_str()) != (before + 1, hash) {
                return Err(format!("{entry:?} follows {last:?}"));
            }
            self.last_audit = Some(entry);
        }
        Ok(())
    }

    /// Who joins again is a new node.
    pub(super) fn events_of_a_removed_node(&mut self, node: &NodeId) {
        if let Some(journal) = self.journals.get_mut(node) {
            journal.logged_through = 0;
        }
    }

    /// But for what the next life finds.
    pub(crate) fn journal_lost(&mut self, disk: &Disk) {
        let journal = self.journals.entry(disk.node.clone()).or_default();
        let is_found = |sequence: &u64| disk.journal.contains_key(sequence);
        let waiting = std::mem::take(&mut journal.waiting).into_iter();
        let (found, sunk): (BTreeMap<_, _>, _) = waiting.partition(|(s, _)| is_found(s));
        journal.waiting = found;
        // also what was told already, where the master that heard it is lost or has removed the node
        let unknown = disk.journal.range(journal.logged_through + 1..);
        journal.waiting.extend(unknown.map(|(sequence, entry)| (*sequence, entry.clone())));
        journal.sunk.extend(sunk.into_values());
        let told = disk.journal.range(..=journal.logged_through).map(|(_, entry)| entry);
        // two starts of a board without a clock look alike; no two ends of a container do
        journal.told = told.filter(|entry| entry.fields.contains_key("id")).map(what).collect();
        journal.lost = true;
    }

    pub(crate) fn cloned(&mut self, node: &NodeId) {
        self.cloned.insert(node.clone());
    }

    pub(crate) fn is_cloned(&self, node: &NodeId) -> bool {
        self.cloned.contains(node)
    }

    /// At the end: whatever was written is in the log, or was told as dropped.
    pub(crate) fn events_left_behind(&self, node: &NodeId, dropped: u64) -> Option<String> {
        let journal = self.journals.get(node).filter(|_| !self.cloned.contains(node))?;
        if let Some((sequence, entry)) = journal.waiting.first_key_value() {
            return Some(format!("{sequence} never came: {entry:?}"));
        }
        (journal.drops_told < dropped)
            .then(|| format!("{} drops were told of {dropped}", journal.drops_told))
    }
}
