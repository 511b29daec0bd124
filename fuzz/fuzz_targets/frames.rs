//! The frames of a session, both ways: what is taken from the wire goes back to it and is the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_core::session::ToAgent;
use piccolo_rpc::{convert::AgentFrame, v1};
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Some((way, bytes)) = bytes.split_first() else { return };
    if way % 2 == 0 {
        let Ok(wire) = v1::AgentMessage::decode(bytes) else { return };
        if let Ok(frame) = AgentFrame::try_from(wire) {
            let again = AgentFrame::try_from(v1::AgentMessage::from(frame.clone()));
            assert_eq!(again, Ok(frame));
        }
    } else {
        let Ok(wire) = v1::MasterMessage::decode(bytes) else { return };
        if let Ok(message) = ToAgent::try_from(wire) {
            let again = ToAgent::try_from(v1::MasterMessage::from(message.clone()));
            assert_eq!(again, Ok(message));
        }
    }
});
