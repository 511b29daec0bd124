//! Everything else that comes as protobuf from outside: registrations, reports, topologies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_core::topology::TopologyUpdate;
use piccolo_rpc::{
    convert::{RegistrationText, ReportFrom},
    v1,
};
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Some((what, bytes)) = bytes.split_first() else { return };
    match what % 3 {
        0 => {
            let Ok(wire) = v1::NodeRegistrationRequest::decode(bytes) else { return };
            let Ok(text) = RegistrationText::try_from(wire) else { return };
            let wire = v1::NodeRegistrationRequest::from(text.clone());
            assert!(RegistrationText::try_from(wire) == Ok(text.clone()));
            let _ = text.into_registration(None, String::new()).check();
        }
        1 => {
            let Ok(wire) = v1::StatusReport::decode(bytes) else { return };
            if let Ok(from) = ReportFrom::try_from(wire) {
                let _ = from.report.check();
            }
        }
        _ => {
            if let Ok(wire) = v1::ClusterTopology::decode(bytes) {
                let _ = TopologyUpdate::try_from(wire);
            }
        }
    }
});
