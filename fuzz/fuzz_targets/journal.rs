//! A segment of the journal that holds anything: it opens, goes on, and what it kept can be read.
//!
//! The first byte of the input divides the rest among two segments. Where it is odd, checksums are made right
//! and the first bytes too: what is behind them is not found by chance.
#![no_main]

use std::{cell::RefCell, fs};

use libfuzzer_sys::fuzz_target;
use piccolo_nodeagent::journal::{Criticality, Journal, Limits};
use tempfile::TempDir;

thread_local!(static FOLDER: RefCell<TempDir> = RefCell::new(
    tempfile::tempdir().expect("a temporary folder")
));

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let folder = folder.path().join("journal");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        let (at, rest) = bytes.split_first().map_or((0, bytes), |(at, rest)| (*at as usize, rest));
        let (first, second) = rest.split_at(rest.len() * at / 256);
        for (number, part) in [(1, first), (2, second)] {
            let mut segment = part.to_vec();
            if at % 2 == 1 {
                make_right(&mut segment);
            }
            fs::write(folder.join(format!("{number:020}.journal")), segment).expect("a segment");
        }
        let Ok(mut journal) = Journal::open(&folder, Limits::default()) else { return };
        let kept: Vec<_> = journal.iter_from(0).collect();
        assert!(kept.iter().all(Result::is_ok), "{kept:?}");
        assert_eq!(kept.len(), journal.len());
        let sequences: Vec<_> = kept.iter().flatten().map(|entry| entry.sequence).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
        if let Ok(sequence) = journal.append(Criticality::Normal, b"after") {
            assert!(sequences.last().is_none_or(|last| *last < sequence));
            let entries = journal.len();
            journal.sync().expect("a sync");
            drop(journal);
            let journal = Journal::open(&folder, Limits::default()).expect("it opened before");
            assert_eq!(journal.len(), entries);
            assert_eq!(journal.next_sequence(), sequence + 1);
        }
    });
});

/// As crates/nodeagent/src/journal/segment.rs has it.
fn make_right(segment: &mut [u8]) {
    let Some((header, mut rest)) = segment.split_at_mut_checked(48) else { return };
    header[..8].copy_from_slice(b"PICJRNL1");
    let checksum = crc32fast::hash(&header[..40]);
    header[40..44].copy_from_slice(&checksum.to_le_bytes());
    while let Some((prefix, after)) = rest.split_at_mut_checked(8) {
        let length = usize::from(prefix[0]) % after.len().max(1);
        let (body, following) = after.split_at_mut(length);
        prefix[..4].copy_from_slice(&(length as u32).to_le_bytes());
        prefix[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        rest = following;
    }
}
