//! The file with a key, its certificate and the authorities.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_rpc::tls::identity::Identity;

fuzz_target!(|pem: &str| {
    if let Ok(identity) = Identity::from_pem(pem) {
        let again = Identity::from_pem(&identity.expose_pem()).expect("what was written");
        assert_eq!(again.name(), identity.name());
    }
});
