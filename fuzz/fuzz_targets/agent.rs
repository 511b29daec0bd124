//! The NodeAgent's side of a session: a master that says anything. No panic, no busy loop, no work lost.
//!
//! The input is a list of frames, each after two bytes that say how long it is.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use piccolo_core::{
    action_controller::recovery::Policy,
    model::{NodeId, Resources, SystemInfo},
    node_agent::{
        Host, Input, NodeAgent, Settings, Snapshot, Standing, check::CheckPace, hardware::Limits,
        local_alerts::Local, pressure::Thresholds,
    },
    session::ToAgent,
    time::{Now, Timestamp, WallTime},
};
use piccolo_rpc::v1;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let mut now = Now { at: Timestamp::from_millis(1_000), wall: WallTime(1_800_000_000_000) };
    let mut agent = begin(now);
    serve(&mut agent, &mut now);
    let _ = agent.handle(now, Input::Connected { ip: "127.0.0.1".to_owned() });
    let mut rest = bytes;
    while let [low, high, after @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (frame, more) = after.split_at(length);
        rest = more;
        if let Ok(wire) = v1::MasterMessage::decode(frame)
            && let Ok(message) = ToAgent::try_from(wire)
        {
            let _ = agent.handle(now, Input::FromMaster(message));
        } else {
            // what cannot be read ends the session in the shell, and it finds its way back
            let _ = agent.handle(now, Input::Disconnected { why: "unreadable".to_owned() });
            serve(&mut agent, &mut now);
            let _ = agent.handle(now, Input::Connected { ip: "127.0.0.1".to_owned() });
        }
        serve(&mut agent, &mut now);
    }
    let _ = agent.view();
});

/// Time passes until nothing is due; a deadline that stays in the past would be a busy loop.
fn serve(agent: &mut NodeAgent, now: &mut Now) {
    now.at = now.at + Duration::from_millis(700);
    for _ in 0..100 {
        if agent.deadline().is_none_or(|deadline| deadline.at > now.at) {
            return;
        }
        let _ = agent.handle_deadline(*now);
    }
    panic!("{:?} is never served", agent.deadline());
}

fn begin(now: Now) -> NodeAgent {
    let settings = Settings {
        node: NodeId::parse("node_id", "n1").expect("an id"),
        masters: vec!["127.0.0.1:47098".to_owned()],
        reconnect_max: Duration::from_secs(30),
        thresholds: Thresholds::default(),
        hardware: Limits::default(),
        journal_entries_max: 100,
        journal_bytes_max: 64 * 1024,
        system_check: Some(CheckPace::default()),
        recovery: Policy { reboot: true, ..Policy::default() },
        alerts: Local { channel: true, ..Local::default() },
    };
    let host = Host {
        hostname: "host-n1".to_owned(),
        boot: "boot-1".to_owned(),
        system: SystemInfo::default(),
        resources: Resources::default(),
    };
    let day = Duration::from_secs(86_400);
    let standing =
        Standing::Certified { renew_at: now.wall.plus(day), expires_at: now.wall.plus(day * 2) };
    NodeAgent::restore(settings, host, Snapshot::default(), standing, 7, now)
}
