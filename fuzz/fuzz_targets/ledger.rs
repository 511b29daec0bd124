//! A ledger that holds anything: read, or put aside with its reason, and then writable again.
//!
//! Where the first byte of the input is odd, the checksum of the rest is made right.
#![no_main]

use std::{cell::RefCell, fs};

use libfuzzer_sys::fuzz_target;
use piccolo_nodeagent::ledger::{Error, Ledger};
use tempfile::TempDir;

thread_local!(static FOLDER: RefCell<TempDir> = RefCell::new(
    tempfile::tempdir().expect("a temporary folder")
));

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if how % 2 == 1 && bytes.len() >= 20 {
        let checksum = crc32fast::hash(&[&bytes[..16], &bytes[20..]].concat());
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    }
    FOLDER.with_borrow(|folder| {
        let ledger = Ledger::new(folder.path().join("ledger"));
        fs::write(ledger.path(), &bytes).expect("a file");
        match ledger.load() {
            Ok(contents) => assert!(contents.is_some_and(|contents| contents.len() < bytes.len())),
            Err(Error::Newer { .. }) => return,
            Err(_) => assert!(matches!(ledger.load(), Ok(None)), "it was put aside"),
        }
        // what the contents mean is the core's business
        let _ = ledger.save(b"new");
        assert_eq!(ledger.load().ok().flatten().as_deref(), Some(&b"new"[..]));
    });
});
