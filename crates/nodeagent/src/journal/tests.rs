use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const SMALL: Limits = Limits { entries_max: 5, bytes_max: 64 * 1024 };

fn open(dir: &TempDir, limits: Limits) -> Journal {
    Journal::open(dir.path().join("journal"), limits).unwrap()
}

/// Sequence numbers, critical ones with a `!`.
fn kept(journal: &Journal) -> String {
    let entries = journal.iter_from(0).map(Result::unwrap);
    let names = entries.map(|entry| match entry.criticality {
        Criticality::Normal => entry.sequence.to_string(),
        Criticality::Critical => format!("{}!", entry.sequence),
    });
    names.collect::<Vec<_>>().join(" ")
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.path().join("journal")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn entries_come_back_in_order_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(&dir, SMALL);
    assert_eq!(journal.append(Criticality::Normal, b"one").unwrap(), 1);
    assert_eq!(journal.append(Criticality::Critical, b"").unwrap(), 2);
    drop(journal);
    let journal = open(&dir, SMALL);
    let entries: Vec<_> = journal.iter_from(1).map(Result::unwrap).collect();
    let expected = [
        Entry { sequence: 1, criticality: Criticality::Normal, bytes: b"one".to_vec() },
        Entry { sequence: 2, criticality: Criticality::Critical, bytes: Vec::new() },
    ];
    assert_eq!(entries, expected);
    assert_eq!(journal.iter_from(2).count(), 1);
    assert_eq!(journal.recovery(), Recovery::default());
}

#[test]
fn when_full_the_oldest_that_is_not_critical_goes_and_is_counted() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(&dir, SMALL);
    for critical in [true, false, true, false, true] {
        let criticality = if critical { Criticality::Critical } else { Criticality::Normal };
        journal.append(criticality, b"x").unwrap();
    }
    journal.append(Criticality::Normal, b"x").unwrap();
    assert_eq!(kept(&journal), "1! 3! 4 5! 6");
    for _ in 0..2 {
        journal.append(Criticality::Critical, b"x").unwrap();
    }
    assert_eq!(kept(&journal), "1! 3! 5! 7! 8!");
    journal.append(Criticality::Critical, b"x").unwrap();
    assert_eq!((kept(&journal).as_str(), journal.dropped_total()), ("3! 5! 7! 8! 9!", 4));
    drop(journal);
    let again = open(&dir, SMALL);
    assert_eq!((kept(&again).as_str(), again.dropped_total()), ("3! 5! 7! 8! 9!", 4));
}

#[test]
fn bytes_are_bounded_too() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(&dir, Limits { entries_max: 1000, bytes_max: 64 * 1024 });
    for _ in 0..100 {
        journal.append(Criticality::Normal, &[0; 10_000]).unwrap();
        assert!(journal.disk_bytes() < 2 * 64 * 1024 + 2 * 16 * 1024 + 10_100);
    }
    assert_eq!((kept(&journal).as_str(), journal.dropped_total()), ("95 96 97 98 99 100", 94));
    let too_large = vec![0; ENTRY_BYTES_MAX + 1];
    let refused = journal.append(Criticality::Critical, &too_large);
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    journal.append(Criticality::Normal, &too_large[1..]).unwrap();
    assert_eq!(kept(&journal), "101");
}

#[test]
fn numbers_never_go_back_even_when_everything_is_acknowledged() {
    let dir = TempDir::new().unwrap();
    for round in 0..20 {
        let mut journal = open(&dir, SMALL);
        assert_eq!(journal.next_sequence(), round * 3 + 1);
        for _ in 0..3 {
            journal.append(Criticality::Normal, &[7; 9000]).unwrap();
        }
        journal.trim_through(u64::MAX).unwrap();
        assert!(journal.is_empty());
        assert!(files(&dir).len() <= 2, "acknowledged segments are deleted");
    }
}

#[test]
fn a_number_chosen_by_the_owner_must_be_new() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(&dir, SMALL);
    journal.append_as(41, Criticality::Normal, b"x").unwrap();
    let used = journal.append_as(41, Criticality::Normal, b"y");
    assert!(matches!(used, Err(Error::SequenceUsed { sequence: 41, next: 42 })));
    journal.drop_entry(41).unwrap();
    journal.drop_entry(41).unwrap();
    assert_eq!((journal.len(), journal.dropped_total(), journal.next_sequence()), (0, 1, 42));
    assert_eq!(open(&dir, SMALL).next_sequence(), 42);
}

#[test]
fn an_idle_journal_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(&dir, SMALL);
    journal.append(Criticality::Normal, b"x").unwrap();
    assert!(!journal.is_synced());
    journal.sync().unwrap();
    journal.trim_through(1).unwrap();
    journal.sync().unwrap();
    let before = journal.disk_bytes();
    for _ in 0..100 {
        journal.sync().unwrap();
        journal.trim_through(1).unwrap();
        assert!(journal.is_synced());
    }
    assert_eq!(journal.disk_bytes(), before);
}

#[test]
fn a_tail_torn_anywhere_is_cut_at_the_last_whole_record() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(&dir, SMALL);
    for text in ["one", "two", "three"] {
        journal.append(Criticality::Normal, text.as_bytes()).unwrap();
    }
    drop(journal);
    let file = files(&dir).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let third = whole.len() - (segment::PAYLOAD_OFFSET + 5);
    for length in third..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let mut journal = open(&dir, SMALL);
        assert_eq!(kept(&journal), "1 2", "cut at {length}");
        assert_eq!(journal.recovery().cut_bytes, (length - third) as u64);
        assert_eq!(journal.append(Criticality::Normal, b"again").unwrap(), 3);
        drop(journal);
        assert_eq!(kept(&open(&dir, SMALL)), "1 2 3");
    }
}

#[test]
fn a_damaged_record_in_the_middle_hides_no_other() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(&dir, SMALL);
    for text in ["one", "two", "three"] {
        journal.append(Criticality::Normal, text.as_bytes()).unwrap();
    }
    drop(journal);
    let file = files(&dir).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let second = segment::HEADER_BYTES + segment::PAYLOAD_OFFSET + 3;
    bytes[second + segment::PAYLOAD_OFFSET] ^= 0xff;
    fs::write(&file, &bytes).unwrap();
    let journal = open(&dir, SMALL);
    assert_eq!((kept(&journal).as_str(), journal.recovery().damaged_records), ("1 3", 1));
}

#[test]
fn a_file_that_is_no_segment_is_put_aside() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir, SMALL));
    let file = files(&dir).pop().unwrap();
    fs::write(&file, b"not a segment").unwrap();
    let mut journal = open(&dir, SMALL);
    assert_eq!(journal.recovery().damaged_segments, 1);
    journal.append(Criticality::Normal, b"x").unwrap();
    assert!(files(&dir).iter().any(|path| path.to_string_lossy().ends_with(".corrupt-1")));
}

fn header(next_sequence: u64, trimmed_through: u64, dropped_total: u64) -> segment::Header {
    segment::Header { is_base: false, next_sequence, trimmed_through, dropped_total }
}

/// A segment as somebody else might have written it, with one entry.
fn segment_of_others(dir: &TempDir, name: &str, header: &segment::Header, sequence: u64) {
    let entry = Record::Entry { sequence, criticality: Criticality::Normal, bytes: b"x" };
    let other = TempDir::new().unwrap();
    Segment::create(other.path(), 1, header, &[entry]).unwrap();
    fs::create_dir_all(dir.path().join("journal")).unwrap();
    let written = other.path().join("00000000000000000001.journal");
    fs::copy(written, dir.path().join("journal").join(name)).unwrap();
}

#[test]
fn no_number_is_given_twice_at_the_end_of_all_numbers() {
    let begun = |header, sequence| {
        let dir = TempDir::new().unwrap();
        segment_of_others(&dir, "00000000000000000001.journal", &header, sequence);
        let journal = open(&dir, SMALL);
        (dir, journal)
    };
    // the last one that there is: nothing can follow it
    let (_dir, mut journal) = begun(header(1, 0, u64::MAX), SEQUENCE_MAX);
    assert_eq!((journal.len(), journal.next_sequence()), (1, u64::MAX));
    let refused = journal.append(Criticality::Normal, b"y");
    assert!(matches!(refused, Err(Error::SequencesUsedUp { .. })), "{refused:?}");
    journal.drop_entry(SEQUENCE_MAX).unwrap();
    assert_eq!((journal.len(), journal.dropped_total()), (0, u64::MAX));
    journal.trim_through(u64::MAX).unwrap();
    // one more is none of ours, and neither is a header that says all of them were acknowledged
    let (_dir, mut journal) = begun(header(1, 0, 0), u64::MAX);
    assert_eq!((journal.len(), journal.append(Criticality::Normal, b"y").unwrap()), (0, 1));
    let (_dir, mut journal) = begun(header(1, u64::MAX, 0), 1);
    assert_eq!(journal.recovery().damaged_segments, 1);
    assert_eq!(journal.append(Criticality::Normal, b"y").unwrap(), 1);
}

#[test]
fn what_only_an_older_segment_knows_is_not_deleted_with_it() {
    let dir = TempDir::new().unwrap();
    segment_of_others(&dir, "00000000000000000001.journal", &header(9, 8, 7), 1);
    segment_of_others(&dir, "00000000000000000002.journal", &header(1, 0, 0), 2);
    for _ in 0..2 {
        let journal = open(&dir, SMALL);
        assert_eq!((journal.len(), journal.next_sequence(), journal.dropped_total()), (0, 9, 7));
    }
}

#[test]
fn a_file_with_a_number_that_was_never_reached_is_left_alone() {
    let dir = TempDir::new().unwrap();
    segment_of_others(&dir, &format!("{}.journal", u64::MAX), &header(9, 0, 0), 9);
    let mut journal = open(&dir, SMALL);
    assert_eq!(journal.append(Criticality::Normal, b"x").unwrap(), 1);
    drop(journal);
    assert_eq!(kept(&open(&dir, SMALL)), "1");
    assert_eq!(files(&dir).len(), 2);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let error = Journal::open("/proc/no/journal", SMALL).unwrap_err();
    assert!(error.to_string().starts_with("cannot make /proc/no/journal"), "{error}");
}

#[test]
fn a_critical_entry_asks_for_a_sync_and_many_share_one() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(&dir, SMALL);
    journal.append(Criticality::Normal, b"x").unwrap();
    assert!(!journal.awaits_sync());
    for _ in 0..3 {
        journal.append(Criticality::Critical, b"x").unwrap();
        assert!(journal.awaits_sync());
    }
    journal.sync().unwrap();
    assert!(!journal.awaits_sync() && journal.is_synced());
}

/// What a caller may do.
#[derive(Debug, Clone)]
enum Step {
    Append { critical: bool, length: usize },
    Trim { back: u64 },
    Drop { back: u64 },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (any::<bool>(), 0..6000_usize)
            .prop_map(|(critical, length)| Step::Append { critical, length }),
        1 => (0..6_u64).prop_map(|back| Step::Trim { back }),
        1 => (0..6_u64).prop_map(|back| Step::Drop { back }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The journal against the simplest thing that could be right: a map in memory.
    #[test]
    fn the_journal_does_what_a_map_in_memory_does(steps in steps()) {
        let limits = Limits { entries_max: 12, bytes_max: 64 * 1024 };
        let dir = TempDir::new().unwrap();
        let mut journal = open(&dir, limits);
        let (mut model, mut next, mut dropped) = (BTreeMap::new(), 1_u64, 0_u64);
        for step in steps {
            match step {
                Step::Append { critical, length } => {
                    let bytes = vec![next as u8; length];
                    let criticality =
                        if critical { Criticality::Critical } else { Criticality::Normal };
                    let total = |m: &BTreeMap<u64, (bool, Vec<u8>)>| -> usize {
                        m.values().map(|(_, bytes)| bytes.len()).sum()
                    };
                    while model.len() >= 12 || total(&model) + length > 64 * 1024 {
                        let normal = model.iter().find(|(_, (critical, _))| !critical);
                        let gone = *normal.or_else(|| model.iter().next()).unwrap().0;
                        model.remove(&gone);
                        dropped += 1;
                    }
                    prop_assert_eq!(journal.append(criticality, &bytes).unwrap(), next);
                    model.insert(next, (critical, bytes));
                    next += 1;
                }
                Step::Trim { back } => {
                    let through = next.saturating_sub(1 + back);
                    journal.trim_through(through).unwrap();
                    model.retain(|&sequence, _| sequence > through);
                }
                Step::Drop { back } => {
                    let sequence = next.saturating_sub(1 + back);
                    journal.drop_entry(sequence).unwrap();
                    dropped += u64::from(model.remove(&sequence).is_some());
                }
                Step::Reopen => {
                    drop(journal);
                    journal = open(&dir, limits);
                    prop_assert_eq!(journal.recovery(), Recovery::default());
                }
            }
            let entries: BTreeMap<_, _> = journal
                .iter_from(0)
                .map(Result::unwrap)
                .map(|e| (e.sequence, (e.criticality == Criticality::Critical, e.bytes)))
                .collect();
            prop_assert_eq!(&entries, &model);
            prop_assert_eq!((journal.next_sequence(), journal.dropped_total()), (next, dropped));
        }
    }

    #[test]
    fn whatever_is_in_the_files_opening_does_not_panic(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        place in any::<prop::sample::Index>(),
    ) {
        let dir = TempDir::new().unwrap();
        let mut journal = open(&dir, SMALL);
        for n in 0..8_u8 {
            journal.append(Criticality::Normal, &[n; 40]).unwrap();
        }
        drop(journal);
        let file = files(&dir).pop().unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let at = place.index(bytes.len());
        bytes.splice(at.., noise);
        fs::write(&file, &bytes).unwrap();
        let mut journal = open(&dir, SMALL);
        let sequence = journal.append(Criticality::Normal, b"on").unwrap();
        drop(journal);
        prop_assert_eq!(open(&dir, SMALL).iter_from(sequence).count(), 1);
    }
}
