//! What the store may hold: any value under any of our keys is refused by its key, or the machine begins with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use piccolo_core::{
    model::NodeName,
    state_manager::{Settings, Snapshot, StateManager},
    time::{Now, Timestamp, WallTime},
};

const KEYS: [&str; 8] = [
    "topology",
    "heartbeats",
    "meta/epoch",
    "events/00000000000000000001",
    "audit/00000000000000000001",
    "nodes/n1",
    "tokens/ab",
    "users/admin",
];

fuzz_target!(|bytes: &[u8]| {
    let now = Now { at: Timestamp::from_millis(1_000), wall: WallTime(1_800_000_000_000) };
    let name = NodeName::parse("name", "fuzz").expect("a name");
    let mut snapshot = Snapshot::empty("fuzz-cluster", name);
    // each line is one value; its first byte chooses the key
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((which, value)) = line.split_first() else { continue };
        let key = format!("/piccolo/v1/{}", KEYS[usize::from(*which) % KEYS.len()]);
        if let Err(problem) = snapshot.add(&key, value) {
            assert_eq!(problem.key, key);
            return;
        }
    }
    let mut manager = StateManager::restore(snapshot, Settings::default(), now);
    let _ = manager.start(now);
    let later = Now { at: Timestamp::from_millis(3_700_000), ..now };
    let _ = manager.handle_deadline(later);
    let _ = (manager.deadline(), manager.timing(), manager.nodes().count(), manager.revision());
});
