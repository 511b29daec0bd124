//! A peer's certificate, before anything in it is believed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_rpc::tls::names::{PeerIdentity, check_id};

fuzz_target!(|der: &[u8]| {
    if let Ok(peer) = PeerIdentity::from_certificate(der, 1_800_000_000) {
        assert!(check_id("id", &peer.id).is_ok() && check_id("id", &peer.cluster_id).is_ok());
        let _ = (peer.principal(), peer.expired_at(0), peer.expired_at(u64::MAX));
    }
});
