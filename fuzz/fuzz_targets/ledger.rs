//! A ledger that holds anything: read, or put aside with its reason, and then writable again.
#![no_main]

use std::{cell::RefCell, fs};

use libfuzzer_sys::fuzz_target;
use piccolo_nodeagent::ledger::{Error, Ledger};
use tempfile::TempDir;

thread_local!(static FOLDER: RefCell<TempDir> = RefCell::new(
    tempfile::tempdir().expect("a temporary folder")
));

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let ledger = Ledger::new(folder.path().join("ledger"));
        fs::write(ledger.path(), bytes).expect("a file");
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
