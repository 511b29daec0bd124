//! The context file of `piccolo`. Whatever is wrong with it, no piece of the key is in the message.
#![no_main]

use std::{cell::RefCell, fs};

use libfuzzer_sys::fuzz_target;
use piccolo_cli::context::Context;
use tempfile::NamedTempFile;

thread_local!(static FILE: RefCell<NamedTempFile> = RefCell::new(
    NamedTempFile::new().expect("a temporary file")
));

fuzz_target!(|yaml: &[u8]| {
    // made with mode 0600
    FILE.with_borrow(|file| {
        fs::write(file.path(), yaml).expect("a temporary file");
        let _ = Context::load(file.path());
    });
});
