//! The NodeAgent's configuration file.
#![no_main]

use std::{cell::RefCell, fs};

use libfuzzer_sys::fuzz_target;
use piccolo_nodeagent::config::{Config, Flags};
use tempfile::NamedTempFile;

thread_local!(static FILE: RefCell<NamedTempFile> = RefCell::new(
    NamedTempFile::new().expect("a temporary file")
));

fuzz_target!(|yaml: &[u8]| {
    FILE.with_borrow(|file| {
        fs::write(file.path(), yaml).expect("a temporary file");
        let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
        if let Err(error) = Config::from_parts(&flags, Vec::new()) {
            assert!(!error.to_string().is_empty());
        }
    });
});
