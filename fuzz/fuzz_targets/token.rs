//! Join tokens and principals: what is accepted prints as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_rpc::tls::{names::Principal, token::JoinToken};

fuzz_target!(|text: &str| {
    if let Ok(token) = text.parse::<JoinToken>() {
        let again: JoinToken = token.expose().parse().expect("what was printed");
        assert_eq!(again.ca_digest(), token.ca_digest());
        assert_eq!(again.secret().expose(), token.secret().expose());
    }
    if let Ok(principal) = text.parse::<Principal>() {
        assert_eq!(principal.to_string(), text);
    }
});
