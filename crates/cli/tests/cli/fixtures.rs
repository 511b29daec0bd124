//! A cluster at one fixed moment: two boards that are well, one that is lost, one that waits.

use piccolo_rpc::v1;
use prost_types::Timestamp;

/// 2026-11-23T18:50:00Z.
pub(crate) const NOW: i64 = 1_795_459_800;

/// A moment so many seconds ago.
pub(crate) fn ago(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: NOW - seconds, nanos: 0 })
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn container(name: &str, state: &str, code: Option<i32>) -> v1::ContainerStatus {
    let running = state == "running";
    v1::ContainerStatus {
        id: format!("{name}-0123456789abcdef0123456789abcdef"),
        name: name.to_owned(),
        image: format!("registry.local/{name}:1.4"),
        state: state.to_owned(),
        exit_code: code,
        health: if running { "healthy".to_owned() } else { String::new() },
        started_at: ago(7_260),
        finished_at: if running { None } else { ago(95) },
        memory_bytes: 48 << 20,
        cpu_basis_points: 325,
        restarts: u32::from(!running),
        restart: String::new(),
    }
}

fn board(id: &str, name: &str, ip: &str, status: v1::NodeStatus) -> v1::Node {
    v1::Node {
        id: id.to_owned(),
        name: name.to_owned(),
        ip: ip.to_owned(),
        role: v1::NodeRole::Sub as i32,
        kind: v1::NodeKind::Embedded as i32,
        status: status as i32,
        status_since: ago(3_600),
        resources: Some(v1::ResourceInfo { cpu: 4, memory: 3_907, disk: 28 }),
        created_at: ago(400_000),
        last_heartbeat: ago(4),
        agent_version: "0.1.0".to_owned(),
        architecture: "aarch64".to_owned(),
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        kernel: "6.1.0-28-arm64".to_owned(),
        runtime_version: "4.3.1".to_owned(),
        applied_generation: 4,
        revision: 120,
        connected: true,
        certificate_expires_at: ago(-2_505_600),
        ..v1::Node::default()
    }
}

fn hardware() -> v1::SystemCheck {
    let finding = |name: &str, level: v1::CheckLevel, value: &str, limit: &str, remedy: &str| {
        v1::CheckFinding {
            name: name.to_owned(),
            level: level as i32,
            value: value.to_owned(),
            limit: limit.to_owned(),
            remedy: remedy.to_owned(),
        }
    };
    let (ok, warning) = (v1::CheckLevel::Ok, v1::CheckLevel::Warning);
    let remedy = "plan to replace the board or its flash; keep a backup";
    let findings = vec![
        finding("flash wear of mmcblk0", warning, "90 %", "<= 80 %", remedy),
        finding("temperature of cpu-thermal", ok, "49 °C", "<= 95 °C", ""),
    ];
    v1::SystemCheck { at: ago(60), findings, passed: 0 }
}

pub(crate) fn nodes() -> Vec<v1::Node> {
    let zone_a = v1::Node {
        labels: map(&[("soc", "a78"), ("site", "seoul")]),
        containers: vec![
            container("logger", "exited", Some(1)),
            container("camera", "running", None),
        ],
        metrics: map(&[
            ("cpu_basis_points", "1234"),
            ("memory_used_bytes", "1610612736"),
            ("temperature_millidegrees", "48312"),
            ("uptime_s", "187200"),
            ("round_trip_seconds", "0.000314"),
            ("load_1m", "0.52"),
        ]),
        system_check: Some(v1::SystemCheck {
            at: ago(2_000),
            findings: vec![v1::CheckFinding {
                name: "cpu_load".to_owned(),
                level: v1::CheckLevel::Warning as i32,
                value: "2.61 per core (4)".to_owned(),
                limit: "<= 2".to_owned(),
                remedy: "something keeps them busy: see top".to_owned(),
            }],
            passed: 19,
        }),
        hardware: Some(hardware()),
        ..board("6f1c2d3e-0001", "zone-a", "192.168.7.11", v1::NodeStatus::Ready)
    };
    let zone_b = v1::Node {
        status_since: ago(332),
        last_heartbeat: ago(337),
        connected: false,
        applied_generation: 3,
        certificate_expires_at: ago(10),
        conditions: vec![v1::Condition {
            kind: "SessionLost".to_owned(),
            reason: "SessionLost".to_owned(),
            message: "the session broke and did not come back".to_owned(),
            since: ago(332),
        }],
        containers: vec![container("evil\u{1b}[2Jname", "running", None)],
        containers_at: ago(337),
        // what it told while it had a session says nothing of its link now
        metrics: map(&[("round_trip_seconds", "0.024")]),
        ..board("6f1c2d3e-0002", "zone-b", "192.168.7.12", v1::NodeStatus::NotReady)
    };
    let hpc = v1::Node {
        role: v1::NodeRole::Master as i32,
        containers: vec![container("db", "running", None), container("web", "running", None)],
        ..board("6f1c2d3e-0000", "hpc", "192.168.7.10", v1::NodeStatus::Ready)
    };
    let fresh = v1::Node {
        resources: None,
        created_at: ago(41),
        status_since: ago(41),
        last_heartbeat: None,
        connected: false,
        runtime_version: String::new(),
        applied_generation: 0,
        certificate_expires_at: None,
        conditions: vec![v1::Condition {
            kind: "AwaitingApproval".to_owned(),
            reason: "AwaitingApproval".to_owned(),
            message: "an operator has to approve it".to_owned(),
            since: ago(41),
        }],
        ..board("6f1c2d3e-0003", "new-board", "192.168.7.13", v1::NodeStatus::Pending)
    };
    vec![zone_b, zone_a, hpc, fresh]
}

/// Of a past moment: one of which all is known that can be, one of which nothing is.
pub(crate) fn nodes_then() -> Vec<v1::Node> {
    let then = |name: &str, status: v1::NodeStatus| v1::Node {
        id: format!("id-of-{name}"),
        name: name.to_owned(),
        status: status.into(),
        ..v1::Node::default()
    };
    let known = v1::Node {
        status_since: ago(7_200),
        role: v1::NodeRole::Sub.into(),
        containers: vec![container("camera", "running", None)],
        ..then("zone-a", v1::NodeStatus::Ready)
    };
    vec![known, then("zone-b", v1::NodeStatus::Unspecified)]
}

/// More than one answer holds, of a node of their own.
pub(crate) fn many_events() -> Vec<v1::Event> {
    let event = |id| v1::Event { id, node_name: "many".to_owned(), ..v1::Event::default() };
    (1..=2_500).map(event).collect()
}

pub(crate) fn events() -> Vec<v1::Event> {
    let event =
        |id, seconds, severity: v1::Severity, kind: &str, node: &str, message: &str| v1::Event {
            id,
            at: ago(seconds),
            severity: severity as i32,
            kind: kind.to_owned(),
            node_id: if node.is_empty() { String::new() } else { format!("id-of-{node}") },
            node_name: node.to_owned(),
            message: message.to_owned(),
            ..v1::Event::default()
        };
    use v1::Severity::{Critical, Info, Warning};
    let mut all = vec![
        event(41, 86_400, Info, "MasterStarted", "", "the master has started"),
        event(42, 332, Warning, "NodeNotReady", "zone-b", "is NotReady: SessionLost"),
        event(
            43,
            95,
            Critical,
            "ContainerDied",
            "zone-a",
            "container logger ended with 1\u{1b}[31m",
        ),
        event(44, 12, Info, "NodeReady", "zone-a", "is Ready"),
    ];
    all[2].fields = map(&[("container", "logger"), ("exit_code", "1")]);
    all[2].node_sequence = 17;
    all[2].delivered_late = true;
    all
}

pub(crate) fn topology() -> v1::ClusterTopology {
    topology_of(nodes())
}

fn topology_of(nodes: Vec<v1::Node>) -> v1::ClusterTopology {
    let (masters, subs) =
        nodes.into_iter().partition(|node| node.role == v1::NodeRole::Master as i32);
    v1::ClusterTopology {
        id: "c7f3a1".to_owned(),
        name: "robot".to_owned(),
        r#type: v1::TopologyType::BasicEmbedded as i32,
        master_nodes: masters,
        sub_nodes: subs,
        config: map(&[("heartbeat_interval_seconds", "10"), ("site", "hall 3")]),
        generation: 4,
        applied_by: 2,
        ..v1::ClusterTopology::default()
    }
}

/// Of a cluster with many nodes at three sites: most are well, the seventh of each ten is lost.
pub(crate) fn crowd(nodes: usize) -> v1::ClusterTopology {
    let node = |index: usize| {
        let (name, ip) = (format!("board-{index:03}"), format!("10.0.0.{index}"));
        let lost = index % 10 == 7;
        let status = if lost { v1::NodeStatus::NotReady } else { v1::NodeStatus::Ready };
        v1::Node {
            labels: map(&[("site", ["seoul", "busan", "jeju"][index % 3])]),
            connected: !lost,
            metrics: map(&[("round_trip_seconds", "0.0012")]),
            containers: vec![container("camera", "running", None); index % 4],
            ..board(&name, &name, &ip, status)
        }
    };
    v1::ClusterTopology { sub_nodes: (0..nodes).map(node).collect(), ..topology_of(vec![]) }
}

/// About the cluster, about one of its nodes, and about some of a crowd.
pub(crate) fn alerts() -> Vec<v1::Alert> {
    let alert = |severity: v1::Severity, nodes: &[&str]| v1::Alert {
        severity: severity.into(),
        state: "firing".to_owned(),
        members: nodes
            .iter()
            .map(|id| v1::AlertMember { node_id: (*id).to_owned(), ..Default::default() })
            .collect(),
        ..Default::default()
    };
    use v1::Severity::{Critical, Info, Warning};
    vec![
        alert(Critical, &["6f1c2d3e-0002", "board-007"]),
        alert(Warning, &["6f1c2d3e-0002", "board-012"]),
        alert(Info, &[""]),
    ]
}

pub(crate) fn status() -> v1::GetClusterStatusResponse {
    v1::GetClusterStatusResponse {
        cluster_id: "c7f3a1".to_owned(),
        cluster_name: "robot".to_owned(),
        master_version: "0.1.0".to_owned(),
        started_at: ago(86_400),
        now: ago(0),
        store_kind: "embedded".to_owned(),
        store_health: "ok".to_owned(),
        store_size_bytes: 212_992,
        revision: 120,
        generation: 4,
        nodes_by_status: [
            ("Ready".to_owned(), 2),
            ("NotReady".to_owned(), 1),
            ("Pending".to_owned(), 1),
        ]
        .into(),
        sessions: 2,
        watchers: 1,
        approval: "manual".to_owned(),
        ca_expires_at: ago(-315_000_000),
        events_kept: 44,
        master_address: "192.168.7.10:47098".to_owned(),
        containers_running: 4,
        containers_total: 5,
        ..v1::GetClusterStatusResponse::default()
    }
}

pub(crate) fn tokens() -> Vec<v1::JoinToken> {
    vec![
        v1::JoinToken {
            id: "3f2a91c04b7d".to_owned(),
            role: v1::NodeRole::Sub as i32,
            created_at: ago(600),
            expires_at: ago(-3_000),
            uses_left: 2,
            created_by: "admin:first".to_owned(),
            used_by: vec!["6f1c2d3e-0001".to_owned()],
            ..v1::JoinToken::default()
        },
        v1::JoinToken {
            id: "99aa00bb11cc".to_owned(),
            role: v1::NodeRole::Master as i32,
            created_at: ago(9_000),
            expires_at: ago(5_400),
            uses_left: 1,
            node_name: "hpc-2".to_owned(),
            created_by: "admin:kim".to_owned(),
            ..v1::JoinToken::default()
        },
    ]
}

pub(crate) fn api_tokens() -> Vec<v1::ApiToken> {
    let token = |name: &str, role: v1::UserRole, id: &str, left: i64| v1::ApiToken {
        id: id.to_owned(),
        name: name.to_owned(),
        role: role as i32,
        created_at: ago(9_000),
        expires_at: ago(-left),
        created_by: "admin:first".to_owned(),
    };
    vec![
        token("ci", v1::UserRole::Operator, "3f2a91c04b7d", 86_400),
        token("grafana", v1::UserRole::Viewer, "99aa00bb11cc", -60),
    ]
}

pub(crate) fn users() -> Vec<v1::User> {
    vec![v1::User {
        name: "alice".to_owned(),
        role: v1::UserRole::Viewer as i32,
        created_at: ago(864_000),
        expires_at: ago(-30_672_000),
        serial: "8f01c2".to_owned(),
        created_by: "admin:first".to_owned(),
    }]
}

pub(crate) fn audit() -> Vec<v1::AuditEntry> {
    let entry = |id: u64, call: &str, who: &str, outcome: &str| v1::AuditEntry {
        id,
        at: ago(600),
        who: who.to_owned(),
        from: "192.168.7.40".to_owned(),
        call: call.to_owned(),
        target: "zone-a".to_owned(),
        outcome: outcome.to_owned(),
        previous_hash: vec![0xab; 32],
        hash: vec![0xcd; 32],
    };
    vec![
        entry(7, "LabelNode", "operator:kim", "ok"),
        entry(8, "RemoveNode", "viewer:alice", "refused: role viewer may not call RemoveNode"),
    ]
}

/// Of what was asked for, by node and container: three points and a gap.
pub(crate) fn figures(query: &v1::QueryMetricsRequest) -> v1::QueryMetricsResponse {
    if query.figure.is_empty() {
        let figures = ["cpu_percent", "memory_available_bytes"].map(str::to_owned).to_vec();
        let of_containers = ["cpu_percent", "memory_bytes"].map(str::to_owned).to_vec();
        let figures = if query.container.is_some() { of_containers } else { figures };
        return v1::QueryMetricsResponse { figures, ..Default::default() };
    }
    if query.figure != "cpu_percent" {
        return v1::QueryMetricsResponse { from: ago(240), step_seconds: 60, ..Default::default() };
    }
    let row = |node: &str, points: &[f32]| {
        let all = map(&[("node", node), ("container", "web")]);
        let labels = all.into_iter().filter(|(label, _)| query.by.contains(label)).collect();
        v1::MetricRow { labels, points: points.to_vec() }
    };
    v1::QueryMetricsResponse {
        from: ago(240),
        step_seconds: 60,
        rows: vec![
            row("hpc", &[12.0, 48.5, f32::NAN, 24.25]),
            row("zone-a", &[3.0, 3.0, 3.0, 3.0]),
        ],
        truncated: false,
        figures: vec![],
    }
}

/// More than the master takes at once.
pub(crate) fn dead_letters() -> Vec<v1::DeadLetter> {
    let letter = |number: u32| v1::DeadLetter {
        id: format!("3-{number}"),
        channel: "pager".to_owned(),
        kind: "firing".to_owned(),
        alert_id: "3-1".to_owned(),
        message: "node zone-a is NotReady".to_owned(),
        given_up_at: ago(60),
        why: "the server answered 422".to_owned(),
        ..Default::default()
    };
    (2..42).map(letter).collect()
}
