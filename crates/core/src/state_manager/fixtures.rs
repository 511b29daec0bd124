//! Records for tests.

use crate::{
    model::{
        Labels, NodeId, NodeKind, NodeName, NodeRecord, NodeRole, NodeStatus, Resources, SystemInfo,
    },
    time::WallTime,
};

pub(crate) fn node_record(id: &str, name: &str) -> NodeRecord {
    NodeRecord {
        id: NodeId::parse("node_id", id).unwrap(),
        name: NodeName::parse("hostname", name).unwrap(),
        ip: "127.0.0.1".to_owned(),
        role: NodeRole::Sub,
        kind: NodeKind::Embedded,
        status: NodeStatus::Ready,
        status_since: WallTime(0),
        initialized: true,
        resources: Resources { cpu: 4, memory: 1024, disk: 16 },
        system: SystemInfo::default(),
        labels: Labels::new(),
        conditions: vec![],
        created_at: WallTime(0),
        key_fingerprint: format!("key-{id}"),
        previous_key_fingerprints: Vec::new(),
        joined_with: "token".to_owned(),
        acknowledged_sequence: 0,
        events_dropped: 0,
        applied_generation: 1,
        certificate_expires_at: None,
        speaks_sessions: false,
        identity_reset: false,
    }
}
