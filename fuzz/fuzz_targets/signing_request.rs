//! What strangers ask to have signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_master::certificate_authority::request_spki_sha256;

fuzz_target!(|request: &[u8]| {
    if let Ok(fingerprint) = request_spki_sha256(request) {
        assert_eq!(fingerprint.len(), 64);
    }
});
