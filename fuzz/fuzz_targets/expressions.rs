//! Rules of alerts, as people apply them: a condition, one that ends it, and a text with expressions in it. What cannot
//! be read is refused with a place inside it; what can, meets a node, a container and the cluster without a panic.
//!
//! The first byte says what the rule is about; the three parts are lines.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use piccolo_core::{
    model::{
        ContainerReport, NodeId, NodeKind, NodeName, NodeRecord, NodeRole, NodeStatus, NodeView,
        Resources, Severity, SystemInfo,
    },
    monitoring_server::alerts::{
        Alerts, Out, Stored,
        expression::Expression,
        facts::ClusterFacts,
        requests::AlertRequest,
        rule::{On, Rule},
    },
    state_manager::RequestId,
    time::{Now, Timestamp, WallTime},
};

fuzz_target!(|text: &str| {
    let Some((what, text)) = text.split_at_checked(1) else { return };
    let on = On::ALL[usize::from(what.as_bytes()[0]) % On::ALL.len()];
    if let Err(error) = Expression::parse(text, on) {
        assert!(error.at + error.length <= text.len() && !error.to_string().is_empty());
    }
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default().to_owned();
    let rule = Rule {
        name: "fuzz".to_owned(),
        on,
        expression: line(),
        clear: line(),
        for_s: 0,
        keep_s: 0,
        severity: Severity::Warning,
        labels: Default::default(),
        message: line(),
        group_min: 2,
        group_by: "site".to_owned(),
        escalate_s: 1,
        in_maintenance: false,
        disabled: false,
    };
    let checked = rule.check("rule");
    let mut now = Now { at: Timestamp::from_millis(1_000), wall: WallTime(1_800_000_000_000) };
    let day = Duration::from_secs(86_400);
    let mut alerts = Alerts::restore(Stored::default(), "fuzz", day, 1, now);
    let mut out = Out::default();
    let request = AlertRequest::ApplyRules { rules: vec![rule], generation: 0, dry_run: false };
    let applied = alerts.request(now, RequestId(1), "user:fuzz", request, &mut out);
    assert!(applied.is_err() || checked.is_ok());
    for _ in 0..3 {
        for node in ["n1", "n2"] {
            alerts.seen(now, &view(node, now), &mut out);
        }
        let facts = ClusterFacts { store: "ok".to_owned(), ..ClusterFacts::default() };
        alerts.told(now, facts, (2, 1), &mut out);
        now = Now {
            at: now.at + Duration::from_secs(20),
            wall: now.wall.plus(Duration::from_secs(20)),
        };
        alerts.at_deadline(now, (2, 1), &mut out);
    }
    assert!(alerts.alerts().count() < 100);
});

fn view(node: &str, now: Now) -> NodeView {
    let record = NodeRecord {
        id: NodeId::parse("node_id", node).expect("an id"),
        name: NodeName::parse("name", node).expect("a name"),
        ip: "10.0.0.1".to_owned(),
        role: NodeRole::Sub,
        kind: NodeKind::Embedded,
        status: NodeStatus::Ready,
        status_since: now.wall,
        initialized: true,
        resources: Resources::default(),
        system: SystemInfo::default(),
        labels: [("site".to_owned(), "seoul".to_owned())].into(),
        conditions: Vec::new(),
        created_at: WallTime(0),
        key_fingerprint: String::new(),
        previous_key_fingerprints: Vec::new(),
        joined_with: String::new(),
        acknowledged_sequence: 0,
        events_dropped: 0,
        applied_generation: 1,
        certificate_expires_at: None,
        speaks_sessions: true,
        identity_reset: false,
        recovery_paused_until: None,
        reboots_since: None,
        recovery: Default::default(),
    };
    let web = ContainerReport { name: "web".to_owned(), ..ContainerReport::default() };
    NodeView {
        record,
        last_heartbeat: Some(now.wall),
        connected: true,
        containers: vec![web],
        containers_at: None,
        metrics: [("cpu_percent".to_owned(), "91.5".to_owned())].into(),
        sampled_at: Some(now.wall),
        system_check: None,
        hardware: None,
        recovery: Default::default(),
        probe: None,
        revision: 1,
    }
}
