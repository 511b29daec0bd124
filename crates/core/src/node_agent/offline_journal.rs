//! Events that no master has acknowledged yet: in order, each delivered exactly once, bounded.
//!
//! When there is no room, the oldest of the least severe goes first, and is counted. Sequence numbers
//! never go back, not even when everything was acknowledged.

use std::collections::VecDeque;

use crate::{
    model::{EventKind, JournalEntry},
    mutant::mutant,
    session::{EVENT_BATCH_BYTES_MAX, EVENTS_PER_BATCH_MAX, SEQUENCE_MAX},
};

#[derive(Debug, Clone)]
pub struct OfflineJournal {
    entries: VecDeque<JournalEntry>,
    bytes: usize,
    next_sequence: u64,
    entries_max: usize,
    bytes_max: usize,
}

impl OfflineJournal {
    pub fn restored(
        entries: Vec<JournalEntry>,
        next_sequence: u64,
        entries_max: usize,
        bytes_max: usize,
    ) -> Self {
        let newest = entries.last().map_or(0, |e| e.sequence);
        Self {
            bytes: entries.iter().map(JournalEntry::size_bytes).sum(),
            next_sequence: next_sequence.max(newest + 1),
            entries: entries.into(),
            entries_max: entries_max.max(1),
            bytes_max,
        }
    }

    /// Gives `entry` its sequence and keeps it; returns it, and what had to go.
    pub fn append(&mut self, mut entry: JournalEntry) -> (JournalEntry, Vec<u64>) {
        entry.sequence = self.next_sequence;
        self.next_sequence += 1;
        self.bytes += entry.size_bytes();
        self.entries.push_back(entry.clone());
        let mut dropped = Vec::new();
        while !mutant!("the journal has no bound") && self.entries.len() > self.entries_max
            || (self.bytes > self.bytes_max && self.entries.len() > 1)
        {
            dropped.extend(self.drop_one());
        }
        (entry, dropped)
    }

    /// The oldest that were not acknowledged: as many as the master takes at once, and one at least.
    pub fn batch(&self) -> Vec<JournalEntry> {
        let mut bytes = 0;
        let fits = |entry: &&JournalEntry| {
            bytes += entry.size_bytes();
            bytes <= EVENT_BATCH_BYTES_MAX || bytes == entry.size_bytes()
        };
        self.entries.iter().take(EVENTS_PER_BATCH_MAX).take_while(fits).cloned().collect()
    }

    /// Whether an event of this kind would be trimmed.
    pub fn would_lose(&self, kind: EventKind, through: u64) -> bool {
        self.entries.iter().take_while(|e| e.sequence <= through).any(|e| e.kind == kind)
    }

    /// Whether anything was there to be trimmed.
    pub fn acknowledged(&mut self, through: u64) -> bool {
        let before = self.entries.len();
        while self.entries.front().is_some_and(|e| e.sequence <= through) {
            if let Some(entry) = self.entries.pop_front() {
                self.bytes -= entry.size_bytes();
            }
        }
        self.entries.len() < before
    }

    /// A master that acknowledged more than we ever wrote has met an earlier life of this board:
    /// go on above it, or our events would be taken for repetitions.
    pub fn skip_to(&mut self, acknowledged: u64) -> Vec<JournalEntry> {
        // what no journal ever counted to was not ours
        if acknowledged > SEQUENCE_MAX {
            return Vec::new();
        }
        if acknowledged < self.next_sequence || mutant!("an earlier life is not stepped over") {
            return Vec::new();
        }
        let first = acknowledged + 1;
        for (entry, sequence) in self.entries.iter_mut().zip(first..) {
            entry.sequence = sequence;
        }
        self.next_sequence = first + self.entries.len() as u64;
        self.entries.iter().cloned().collect()
    }

    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn drop_one(&mut self) -> Option<u64> {
        let last = self.entries.len() - 1;
        // the newest stays: it is the one we were called for
        let index = (0..last).min_by_key(|i| (self.entries[*i].severity, *i)).unwrap_or(last);
        let entry = self.entries.remove(index)?;
        self.bytes -= entry.size_bytes();
        Some(entry.sequence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        model::{EventKind, Severity},
        time::WallTime,
    };

    fn entry(severity: Severity) -> JournalEntry {
        JournalEntry {
            sequence: 0,
            at: WallTime(0),
            severity,
            kind: EventKind::ContainerDied,
            message: "x".to_owned(),
            fields: BTreeMap::new(),
            offline: true,
        }
    }

    fn journal(entries_max: usize) -> OfflineJournal {
        OfflineJournal::restored(vec![], 1, entries_max, 1 << 20)
    }

    #[test]
    fn the_oldest_of_the_least_severe_goes_first() {
        let mut journal = journal(3);
        for severity in [Severity::Critical, Severity::Info, Severity::Warning] {
            assert_eq!(journal.append(entry(severity)).1, Vec::<u64>::new());
        }
        assert_eq!(journal.append(entry(Severity::Info)).1, vec![2]);
        assert_eq!(journal.append(entry(Severity::Info)).1, vec![4]);
        assert_eq!(journal.append(entry(Severity::Critical)).1, vec![5]);
        assert_eq!(journal.append(entry(Severity::Critical)).1, vec![3]);
        let left: Vec<_> = journal.batch().iter().map(|e| e.sequence).collect();
        assert_eq!(left, vec![1, 6, 7]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut journal = OfflineJournal::restored(vec![], 1, 100, 200);
        for _ in 0..50 {
            let _ = journal.append(entry(Severity::Critical));
            assert!(journal.bytes <= 200);
        }
        assert_eq!(journal.len(), 3);
    }

    #[test]
    fn sequences_never_go_back() {
        let mut journal = journal(10);
        let _ = journal.append(entry(Severity::Info));
        assert!(journal.acknowledged(1));
        assert!(journal.is_empty());
        assert_eq!(journal.append(entry(Severity::Info)).0.sequence, 2);
        let again = OfflineJournal::restored(vec![], journal.next_sequence(), 10, 100);
        assert_eq!(again.next_sequence(), 3);
    }

    #[test]
    fn an_earlier_life_is_stepped_over() {
        let mut journal = journal(10);
        let _ = journal.append(entry(Severity::Info));
        let moved = journal.skip_to(40);
        assert_eq!(moved[0].sequence, 41);
        assert_eq!(journal.next_sequence(), 42);
        assert!(journal.skip_to(40).is_empty());
    }

    #[test]
    fn a_sequence_that_nothing_could_follow_is_not_stepped_over() {
        let mut journal = journal(10);
        assert!(journal.skip_to(u64::MAX).is_empty());
        assert_eq!(journal.append(entry(Severity::Info)).0.sequence, 1);
    }

    #[test]
    fn a_batch_is_what_the_master_takes_and_never_nothing() {
        let mut journal = OfflineJournal::restored(vec![], 1, 100, 1 << 24);
        let large = |bytes| JournalEntry { message: "x".repeat(bytes), ..entry(Severity::Info) };
        let _ = journal.append(large(2 * EVENT_BATCH_BYTES_MAX));
        assert_eq!(journal.batch().len(), 1);
        let _ = journal.acknowledged(1);
        for _ in 0..10 {
            let _ = journal.append(large(EVENT_BATCH_BYTES_MAX / 4));
        }
        assert_eq!(journal.batch().len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn whatever_happens_nothing_is_lost_uncounted(
            steps in proptest::collection::vec((0u8..4, 0u64..6), 1..120),
            entries_max in 1usize..12,
        ) {
            let mut journal = journal(entries_max);
            let (mut appended, mut dropped, mut acknowledged) = (0u64, 0u64, 0u64);
            for (step, by) in steps {
                let severity = [Severity::Info, Severity::Warning, Severity::Critical][usize::from(step) % 3];
                if step < 3 {
                    let (entry, gone) = journal.append(entry(severity));
                    appended += 1;
                    dropped += gone.len() as u64;
                    proptest::prop_assert!(!gone.contains(&entry.sequence), "the newest stays");
                } else {
                    let before = journal.len() as u64;
                    let through = journal.batch().first().map_or(0, |e| e.sequence + by);
                    journal.acknowledged(through.min(journal.next_sequence() - 1));
                    acknowledged += before - journal.len() as u64;
                }
                proptest::prop_assert!(journal.len() <= entries_max);
                let batch: Vec<_> = journal.batch().iter().map(|e| e.sequence).collect();
                proptest::prop_assert!(batch.windows(2).all(|w| w[0] < w[1]));
                proptest::prop_assert!(batch.iter().all(|s| *s < journal.next_sequence()));
                proptest::prop_assert_eq!(appended, dropped + acknowledged + journal.len() as u64);
            }
        }
    }
}
