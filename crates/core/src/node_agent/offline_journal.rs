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
    /// No master can have heard of this one, nor of those above.
    unsent_from: u64,
    entries_max: usize,
    bytes_max: usize,
}

impl OfflineJournal {
    pub fn restored(
        entries: Vec<JournalEntry>,
        next_sequence: u64,
        unsent_from: Option<u64>,
        entries_max: usize,
        bytes_max: usize,
    ) -> Self {
        let newest = entries.last().map_or(0, |e| e.sequence);
        let next_sequence = next_sequence.max(newest + 1);
        Self {
            bytes: entries.iter().map(JournalEntry::size_bytes).sum(),
            next_sequence,
            unsent_from: unsent_from.unwrap_or(next_sequence).min(next_sequence),
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

    /// To be sent: the oldest that were not acknowledged, as many as the master takes at once, and one at least.
    pub fn batch(&mut self) -> Vec<JournalEntry> {
        let mut bytes = 0;
        let fits = |entry: &&JournalEntry| {
            bytes += entry.size_bytes();
            bytes <= EVENT_BATCH_BYTES_MAX || bytes == entry.size_bytes()
        };
        let batch: Vec<_> =
            self.entries.iter().take(EVENTS_PER_BATCH_MAX).take_while(fits).cloned().collect();
        let last = batch.last().map_or(0, |e| e.sequence);
        self.unsent_from = self.unsent_from.max(last + 1);
        batch
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

    /// A master that acknowledged what was never sent has met an earlier life of this board: go on above it, or our
    /// events would be taken for its own. What was never sent moves there, and is returned; all below is to be
    /// trimmed.
    pub fn skip_to(&mut self, acknowledged: u64) -> Vec<JournalEntry> {
        // what no journal ever counted to was not ours
        let skips = (self.unsent_from..=SEQUENCE_MAX).contains(&acknowledged);
        if !skips || mutant!("an earlier life is not stepped over") {
            return Vec::new();
        }
        let first = self.next_sequence.max(acknowledged + 1);
        let unsent = self.entries.iter_mut().filter(|entry| entry.sequence >= self.unsent_from);
        let moved: Vec<_> = unsent
            .zip(first..)
            .map(|(entry, sequence)| {
                entry.sequence = sequence;
                entry.clone()
            })
            .collect();
        self.unsent_from = first;
        self.next_sequence = first + moved.len() as u64;
        moved
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
    use std::{collections::BTreeMap, ops::RangeInclusive};

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
        OfflineJournal::restored(vec![], 1, None, entries_max, 1 << 20)
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
        let mut journal = OfflineJournal::restored(vec![], 1, None, 100, 200);
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
        let again = OfflineJournal::restored(vec![], journal.next_sequence(), None, 10, 100);
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
    fn what_was_never_sent_is_not_taken_for_what_an_earlier_life_sent_under_its_number() {
        let entries = |sequences: RangeInclusive<u64>| {
            sequences.map(|sequence| JournalEntry { sequence, ..entry(Severity::Info) }).collect()
        };
        // 1 was kept and told; 2 and 3 were told, and could not be kept; then 2 to 4 were kept by another life, without
        // a master; and 5 by this one
        let mut journal = OfflineJournal::restored(entries(1..=4), 5, Some(2), 10, 1 << 20);
        let _ = journal.append(entry(Severity::Info));
        let moved: Vec<_> = journal.skip_to(3).iter().map(|e| e.sequence).collect();
        assert_eq!(moved, [6, 7, 8, 9]);
        assert!(journal.acknowledged(5));
        let left: Vec<_> = journal.batch().iter().map(|e| e.sequence).collect();
        assert_eq!(left, [6, 7, 8, 9]);
        // now they are sent, so an acknowledgement is of them
        assert!(journal.skip_to(6).is_empty());
    }

    #[test]
    fn what_an_earlier_life_may_have_told_is_not_told_again() {
        let told = JournalEntry { sequence: 1, ..entry(Severity::Info) };
        let mut journal = OfflineJournal::restored(vec![told], 2, None, 10, 1 << 20);
        assert!(journal.skip_to(40).is_empty());
        assert!(journal.acknowledged(40));
        assert_eq!(journal.append(entry(Severity::Info)).0.sequence, 41);
    }

    #[test]
    fn a_sequence_that_nothing_could_follow_is_not_stepped_over() {
        let mut journal = journal(10);
        assert!(journal.skip_to(u64::MAX).is_empty());
        assert_eq!(journal.append(entry(Severity::Info)).0.sequence, 1);
    }

    #[test]
    fn a_batch_is_what_the_master_takes_and_never_nothing() {
        let mut journal = OfflineJournal::restored(vec![], 1, None, 100, 1 << 24);
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
