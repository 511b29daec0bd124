//! A place in what happened, and what a watcher gets from there.

use piccolo_core::{
    model::{EventKind, Severity},
    time::WallTime,
};

use super::*;

fn view(id: &str, revision: u64) -> NodeView {
    // as it is stored
    let record = serde_json::json!({
        "id": id, "name": id, "ip": "", "role": "sub", "kind": "embedded", "status": "Ready",
        "status_since": 0, "initialized": true, "resources": { "cpu": 0, "memory": 0, "disk": 0 },
        "system": {
            "agent_version": "", "architecture": "", "os": "", "kernel": "", "machine_id": "",
            "runtime_version": "",
        },
        "labels": {}, "conditions": [], "created_at": 0, "key_fingerprint": "",
        "previous_key_fingerprints": [], "joined_with": "", "acknowledged_sequence": 0,
        "events_dropped": 0, "applied_generation": 0, "identity_reset": false,
        "speaks_sessions": false,
    });
    NodeView {
        record: serde_json::from_value(record).unwrap(),
        last_heartbeat: None,
        connected: true,
        containers: vec![],
        containers_at: None,
        metrics: BTreeMap::new(),
        sampled_at: None,
        system_check: None,
        hardware: None,
        recovery: Default::default(),
        probe: None,
        revision,
    }
}

fn event(id: u64) -> Event {
    Event {
        id,
        at: WallTime(0),
        severity: Severity::Info,
        kind: EventKind::NodeReady,
        node: None,
        node_name: None,
        message: String::new(),
        node_sequence: 0,
        fields: BTreeMap::new(),
        delivered_late: false,
    }
}

fn revisions(board: &Board, after: u64) -> Result<Vec<u64>, &'static str> {
    match board.changes_after(after) {
        NextChanges::Changes(changes) => Ok(changes.iter().map(|c| c.revision).collect()),
        NextChanges::Snapshot { reason } => Err(reason),
    }
}

#[test]
fn a_watcher_goes_on_from_where_it_was() {
    let board = Board::new([view("a", 10)].into_iter(), 10, 0);
    assert_eq!(revisions(&board, 10), Ok(vec![]));
    board.changed(view("a", 11));
    board.removed(&NodeId::parse("id", "a").unwrap(), 12);
    assert_eq!(revisions(&board, 10), Ok(vec![11, 12]));
    assert_eq!(revisions(&board, 11), Ok(vec![12]));
    assert!(board.nodes(&Selector::default()).0.is_empty());
}

#[test]
fn a_revision_of_another_life_asks_for_a_snapshot() {
    let board = Board::new(std::iter::empty(), 10, 0);
    assert!(revisions(&board, 9).unwrap_err().contains("no longer kept"));
    assert!(revisions(&board, 11).unwrap_err().contains("not of this master"));
}

#[test]
fn what_is_kept_is_bounded_and_what_is_forgotten_is_known() {
    let board = Board::new(std::iter::empty(), 0, 0);
    let mut big = view("a", 0);
    big.metrics.insert("x".to_owned(), "y".repeat(10_000));
    for revision in 1..=1000 {
        board.changed(NodeView { revision, ..big.clone() });
    }
    let kept = board.lock().changes.len();
    assert!((10..100).contains(&kept), "{kept} changes of 11 kB each are kept");
    assert!(revisions(&board, 1).is_err());
    assert_eq!(revisions(&board, 999), Ok(vec![1000]));
    let oldest = 1000 - u64::try_from(kept).unwrap();
    assert_eq!(revisions(&board, oldest).unwrap()[0], oldest + 1, "nothing is skipped");
    assert!(revisions(&board, oldest - 1).is_err());
}

#[test]
fn events_that_are_in_the_store_only_are_read_there() {
    let board = Board::new(std::iter::empty(), 0, 7);
    let next = |after| match board.events_after(after) {
        NextEvents::Events(events) => Ok(events.iter().map(|e| e.id).collect::<Vec<_>>()),
        NextEvents::Stored { until } => Err(until),
    };
    assert_eq!(next(7), Ok(vec![]));
    assert_eq!(next(3), Err(7));
    board.happened(event(8));
    board.happened(event(9));
    assert_eq!(next(3), Err(7));
    assert_eq!(next(7), Ok(vec![8, 9]));
    assert_eq!(next(8), Ok(vec![9]));
    assert_eq!(board.last_event(), 9);
}
