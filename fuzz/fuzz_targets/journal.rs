//! A segment of the journal that holds anything: it opens, goes on, and what it kept can be read.
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
        // the first byte divides the rest among two segments
        let (at, rest) = bytes.split_first().map_or((0, bytes), |(at, rest)| (*at as usize, rest));
        let (first, second) = rest.split_at(rest.len() * at / 256);
        fs::write(folder.join("00000000000000000001.journal"), first).expect("a segment");
        fs::write(folder.join("00000000000000000002.journal"), second).expect("a segment");
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
