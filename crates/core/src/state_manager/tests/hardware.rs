//! What a node tells of its hardware.

use std::sync::Arc;

use super::*;
use crate::{model::Condition, session::Picture};

#[test]
fn what_a_node_says_of_its_hardware_is_shown_and_keeps_it_ready() {
    let mut cluster = joined_under(Readiness::Enforce);
    let _ = cluster.open_with(30, "n1", ("s1", None), |_| {});
    let kind = ConditionKind::HardwareDegraded;
    let message = "flash wear of mmcblk0".to_owned();
    let condition = Condition { kind, reason: "OverLimit".to_owned(), message, since: WallTime(0) };
    let picture = Picture { conditions: vec![condition], ..Picture::default() };
    let report = StatusReport {
        picture: Some(picture),
        hardware: Some(Arc::new(found(CheckLevel::Error))),
        ..StatusReport::default()
    };
    let _ = cluster.say(40, "n1", "s1", ToMaster::Status(Box::new(report)));
    let expect = (NodeStatus::Ready, vec![(kind, "flash wear of mmcblk0".to_owned())]);
    assert_eq!(standing(&cluster), expect);
    let hardware = |cluster: &Cluster| cluster.machine.nodes().next().unwrap().hardware;
    assert_eq!(hardware(&cluster).as_deref(), Some(&found(CheckLevel::Error)));
    let _ = cluster.open_with(50, "n1", ("s2", Some("s1")), |_| {});
    assert_eq!(hardware(&cluster), None, "another agent may see less: it tells anew");
}
