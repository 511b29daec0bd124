//! What events tell of moments, told by hand; whole stories are in `state_manager/tests/past.rs`.

use EventKind::*;

use super::*;
use crate::{
    model::{ConditionKind, ContainerReport, RecoveryReport, Severity},
    state_manager::fixtures::node_record,
};

/// An event of the master about `node`, or, where that is empty, about the cluster.
fn told(at: i64, node: &str, kind: EventKind) -> Event {
    let named = |node: &str| NodeName::parse("name", node).unwrap();
    Event {
        id: u64::try_from(at).unwrap(),
        at: WallTime(at),
        severity: Severity::Info,
        kind,
        node: (!node.is_empty()).then(|| NodeId::parse("id", &format!("id-{node}")).unwrap()),
        node_name: (!node.is_empty()).then(|| named(node)),
        message: format!("at {at}"),
        node_sequence: 0,
        fields: BTreeMap::new(),
        delivered_late: false,
    }
}

/// An event of the agent of `node` about its container `web`.
fn web(at: i64, node: &str, kind: EventKind, exit_code: &str) -> Event {
    let mut event = Event { node_sequence: 7, ..told(at, node, kind) };
    let fields = [("id", "w1"), ("container", "web"), ("exit_code", exit_code)];
    event.fields.extend(fields.map(|(key, value)| (key.to_owned(), value.to_owned())));
    event
}

fn present(name: &str, created_at: i64, status: NodeStatus, since: i64) -> NodeView {
    let mut record = node_record(&format!("id-{name}"), name);
    record.created_at = WallTime(created_at);
    (record.status, record.status_since) = (status, WallTime(since));
    NodeView {
        record,
        last_heartbeat: None,
        connected: true,
        containers: Vec::new(),
        containers_at: None,
        metrics: BTreeMap::new(),
        sampled_at: None,
        system_check: None,
        hardware: None,
        recovery: RecoveryReport::default(),
        probe: None,
        revision: 0,
    }
}

fn at(moment: i64, events: &[Event], present: &[NodeView]) -> Past {
    let mut fold = Fold::new(WallTime(moment));
    events.iter().for_each(|event| fold.push(event));
    fold.finish(present.iter())
}

/// `name status@since`, and `name/container running|exit code@since`, joined by spaces.
fn check(moment: i64, events: &[Event], present: &[NodeView], seen: &str) {
    let told = |node: &PastNode| {
        let status = node.status.map_or("unknown".to_owned(), |status| status.to_string());
        let since = node.since.map_or("?".to_owned(), |at| at.0.to_string());
        let containers = node.containers.iter().map(|container| {
            let code = container.exit_code.map_or("?".to_owned(), |code| code.to_string());
            let state = if container.is_running { "running".to_owned() } else { code };
            format!(" {}/{} {state}@{}", node.name, container.name, container.since.0)
        });
        format!("{} {status}@{since}{}", node.name, containers.collect::<String>())
    };
    let nodes: Vec<String> = at(moment, events, present).nodes.iter().map(told).collect();
    assert_eq!(nodes.join(" "), seen, "at {moment}");
}

#[test]
fn a_node_that_came_was_lost_and_came_back_is_seen_so_at_each_moment() {
    let events = [
        told(10, "a", NodeRegistered),
        told(20, "a", NodeApproved),
        told(30, "a", NodeReady),
        told(40, "a", NodeNotReady),
        told(50, "a", NodeReady),
        told(60, "a", NodeMaintenance),
        told(70, "a", NodeMaintenanceEnded),
        told(80, "a", NodeReady),
    ];
    let now = [present("a", 10, NodeStatus::Ready, 80)];
    let story = [
        (9, ""),
        (10, "a Pending@10"),
        (20, "a Initializing@20"),
        (39, "a Ready@30"),
        (40, "a NotReady@40"),
        (55, "a Ready@50"),
        (60, "a Maintenance@60"),
        (70, "a NotReady@70"),
        (80, "a Ready@80"),
        (1000, "a Ready@80"),
    ];
    for (moment, seen) in story {
        check(moment, &events, &now, seen);
    }
}

#[test]
fn a_node_that_was_approved_by_itself_began_to_be_set_up_at_once() {
    let events = [told(10, "a", NodeRegistered), told(30, "a", NodeReady)];
    check(15, &events, &[present("a", 10, NodeStatus::Ready, 30)], "a Initializing@10");
}

#[test]
fn what_is_so_since_before_the_kept_events_was_so_then_too() {
    let events = [told(100, "", MasterStarted)];
    let now = [present("a", 1, NodeStatus::Maintenance, 50)];
    check(60, &events, &now, "a Maintenance@50");
    check(49, &events, &now, "a unknown@?");
    assert!(!at(60, &events, &now).is_whole, "nodes may have been removed before");
    assert!(at(100, &events, &now).is_whole);
    assert_eq!(at(60, &events, &now).kept_since, Some(WallTime(100)));
}

#[test]
fn a_node_that_is_gone_was_there_until_it_was_removed() {
    let events =
        [told(10, "a", NodeRegistered), told(20, "a", NodeReady), told(30, "a", NodeRemoved)];
    check(9, &events, &[], "");
    check(25, &events, &[], "a Ready@20");
    check(30, &events, &[], "");
    check(25, &events[2..], &[], "a unknown@?");
}

#[test]
fn a_node_that_was_rejected_waited_before() {
    let events = [told(10, "a", NodeRegistered), told(30, "a", NodeRejected)];
    check(20, &events, &[], "a Pending@10");
    check(30, &events, &[], "");
}

#[test]
fn a_board_that_joins_again_under_its_id_is_seen_in_both_lives() {
    let events = [
        told(10, "a", NodeRegistered),
        told(20, "a", NodeReady),
        told(30, "a", NodeRemoved),
        told(40, "a", NodeRegistered),
        told(50, "a", NodeReady),
    ];
    let now = [present("a", 40, NodeStatus::Ready, 50)];
    check(25, &events, &now, "a Ready@20");
    check(35, &events, &now, "");
    check(45, &events, &now, "a Initializing@40");
}

#[test]
fn containers_are_seen_as_their_newest_event_before_tells_also_if_it_came_late() {
    let events = [
        told(10, "a", NodeReady),
        web(12, "a", ContainerStarted, ""),
        web(30, "a", ContainerStarted, ""),
        // told after what it happened before
        web(20, "a", ContainerDied, "137"),
        web(40, "a", ContainerRemoved, ""),
    ];
    let now = [present("a", 1, NodeStatus::Ready, 10)];
    check(11, &events, &now, "a Ready@10");
    check(15, &events, &now, "a Ready@10 a/web running@12");
    check(25, &events, &now, "a Ready@10 a/web 137@20");
    check(35, &events, &now, "a Ready@10 a/web running@30");
    check(40, &events, &now, "a Ready@10");
}

#[test]
fn a_container_that_runs_since_before_ran_then() {
    let report = |state: &str, started, finished| {
        let mut node = present("a", 1, NodeStatus::Ready, 10);
        node.containers = vec![ContainerReport {
            id: "w1".to_owned(),
            name: "web".to_owned(),
            state: state.to_owned(),
            exit_code: Some(3),
            started_at: Some(WallTime(started)),
            finished_at: Some(WallTime(finished)),
            ..ContainerReport::default()
        }];
        [node]
    };
    check(25, &[], &report("running", 20, 15), "a Ready@10 a/web running@20");
    check(19, &[], &report("running", 20, 15), "a Ready@10");
    check(25, &[], &report("exited", 5, 22), "a Ready@10 a/web 3@22");
    check(21, &[], &report("exited", 5, 22), "a Ready@10");
}

#[test]
fn only_conditions_that_have_held_ever_since_are_told() {
    let mut node = present("a", 1, NodeStatus::Ready, 10);
    let condition = |since| Condition {
        kind: ConditionKind::ResourcePressure,
        reason: "Disk".to_owned(),
        message: "full".to_owned(),
        since: WallTime(since),
    };
    node.record.conditions = vec![condition(20), condition(40)];
    let past = at(30, &[], &[node]);
    assert_eq!(past.nodes[0].conditions, [condition(20)]);
}

#[test]
fn why_a_node_was_lost_is_told_and_what_an_agent_says_is_no_status() {
    let events =
        [told(40, "a", NodeNotReady), Event { node_sequence: 3, ..told(45, "a", NodeReady) }];
    let past = at(50, &events, &[present("a", 1, NodeStatus::Ready, 60)]);
    assert_eq!(past.nodes[0].status, Some(NodeStatus::NotReady));
    assert_eq!(past.nodes[0].message, "at 40");
}

#[test]
fn what_a_lost_master_saw_after_its_backup_is_said_to_be_unknown() {
    let events = [told(10, "", MasterStarted), told(50, "", ClusterRestored)];
    for (moment, is_in_gap) in [(9, false), (10, true), (49, true), (50, false)] {
        assert_eq!(at(moment, &events, &[]).is_in_gap, is_in_gap, "at {moment}");
    }
}
