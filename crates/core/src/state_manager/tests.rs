//! What the StateManager does, input by input. The long stories are the simulator's.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks the effects that it is about")]

mod recovery;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::fixtures::{Cluster, admin, at, sub};
use super::*;
use crate::{
    model::{
        AuditEnds, AuditEntry, AuditOutcome, CheckLevel, Event, EventKind, Finding, JournalEntry,
        NodeRecord, Severity, SystemCheck, verify_chain,
    },
    session::EVENTS_PER_BATCH_MAX,
};

mod containers;
mod figures;
mod hardware;
mod past;

fn entries(sequences: std::ops::RangeInclusive<u64>) -> ToMaster {
    let entry = |sequence| JournalEntry {
        sequence,
        at: WallTime(0),
        severity: Severity::Info,
        kind: EventKind::ContainerStarted,
        message: format!("event {sequence}"),
        fields: BTreeMap::new(),
        offline: false,
    };
    ToMaster::Events(sequences.map(entry).collect())
}

fn happened(effects: &[Effect]) -> Vec<u64> {
    let sequence = |effect: &Effect| match effect {
        Effect::Happened(event) if event.node_sequence > 0 => Some(event.node_sequence),
        _ => None,
    };
    effects.iter().filter_map(sequence).collect()
}

fn writes(effects: &[Effect]) -> usize {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Commit(transaction) => transaction.writes.len(),
            _ => 0,
        })
        .sum()
}

#[test]
fn a_node_joins_is_configured_and_ready() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    assert_eq!(cluster.status("n1"), Some(NodeStatus::Initializing));
    let _ = cluster.open(30, "n1", "s1", None);
    assert_eq!(cluster.status("n1"), Some(NodeStatus::Ready));
}

#[test]
fn a_repeated_registration_gets_the_same_answer_and_uses_nothing() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    let once = cluster.join(20, "n1", &hash);
    assert_eq!(cluster.join(30, "n1", &hash), once);
    assert_eq!(cluster.join(40, "n2", &hash).unwrap_err().reason, "TokenUsedUp");
}

#[test]
fn a_removed_node_stays_out_with_its_old_token() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 5, Some("n1"));
    cluster.join(20, "n1", &hash).unwrap();
    cluster.ask(30, admin(), Request::RemoveNode("n1".to_owned())).unwrap();
    assert_eq!(cluster.join(40, "n1", &hash).unwrap_err().reason, "TokenSpent");
    let effects = cluster.machine.handle_deadline(at(4000));
    cluster.perform(&effects);
    assert_eq!(cluster.status("n1"), None);
    assert_eq!(cluster.join(5000, "n1", &hash).unwrap_err().reason, "TokenSpent");
    let another = cluster.token(6000, 1, None);
    assert!(cluster.join(6010, "n1", &another).is_ok());
}

#[test]
fn a_late_call_with_an_old_token_replaces_nobody() {
    let mut cluster = Cluster::new(Settings { approval: Approval::Manual, ..Settings::default() });
    let old = cluster.token(10, 2, Some("n1"));
    cluster.join(20, "n1", &old).unwrap();
    let reject = Request::RejectNode { node: "n1".to_owned(), reason: String::new() };
    cluster.ask(30, admin(), reject).unwrap();
    let new = cluster.token(40, 1, None);
    let once = cluster.join(50, "n1", &new);
    assert!(once.is_ok());
    assert_eq!(cluster.join(60, "n1", &old).unwrap_err().reason, "TokenSpent");
    assert_eq!(cluster.join(70, "n1", &new), once);
}

#[test]
fn an_event_is_appended_once_and_acknowledged_every_time() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    assert_eq!(happened(&cluster.say(40, "n1", "s1", entries(1..=3))), [1, 2, 3]);
    let again = cluster.say(50, "n1", "s1", entries(2..=4));
    assert_eq!(happened(&again), [4]);
    let acknowledged = again.iter().any(|effect| {
        matches!(effect, Effect::Send { message: ToAgent::EventAck { sequence: 4 }, .. })
    });
    assert!(acknowledged);
}

#[test]
fn events_and_their_sequence_are_one_commit() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    let effects = cluster.say(40, "n1", "s1", entries(1..=2));
    let Effect::Commit(transaction) = &effects[0] else { panic!("{effects:?}") };
    let node = keys::node(&NodeId::parse("node", "n1").unwrap());
    let record: NodeRecord =
        keys::decode(&node, transaction.writes[&node].as_ref().unwrap()).unwrap();
    assert_eq!(record.acknowledged_sequence, 2);
    let events = transaction.writes.keys().filter(|key| key.starts_with(keys::EVENTS)).count();
    assert_eq!(events, 2);
}

/// The store takes values of 512 KiB and transactions of 1 MiB; a commit that it refuses ends the master.
fn largest_value(effects: &[Effect]) -> (usize, usize) {
    let sizes: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Commit(transaction) => {
                Some(transaction.writes.values().flatten().map(Vec::len))
            }
            _ => None,
        })
        .flatten()
        .collect();
    (sizes.iter().copied().max().unwrap_or(0), sizes.iter().sum())
}

#[test]
fn no_batch_of_events_is_more_than_a_store_takes() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let quotes = "\"".repeat(1024);
    let batch = |fields: u64| match entries(1..=EVENTS_PER_BATCH_MAX as u64) {
        ToMaster::Events(mut entries) => {
            for entry in &mut entries {
                entry.fields = (0..fields).map(|i| (format!("f{i}"), quotes.clone())).collect();
            }
            ToMaster::Events(entries)
        }
        other => other,
    };
    for (i, fields) in (0..=16).enumerate() {
        let session = format!("s{i}");
        let _ =
            cluster.open(1000 * i as u64 + 30, "n1", &session, Some(&format!("s{}", i.max(1) - 1)));
        let effects = cluster.say(1000 * i as u64 + 40, "n1", &session, batch(fields));
        let (value, all) = largest_value(&effects);
        assert!(
            value <= 512 * 1024 && all <= 900 * 1024,
            "{fields} fields: {value} of {all} bytes"
        );
        let refused = effects.iter().any(|effect| matches!(effect, Effect::Close { .. }));
        assert_eq!(refused, fields > 5, "{fields} fields");
    }
}

#[test]
fn a_stored_number_that_nothing_could_follow_is_an_error_and_no_panic() {
    let mut snapshot = Snapshot::empty("c1", NodeName::parse("name", "robot").unwrap());
    let error = snapshot.add(keys::EPOCH, u64::MAX.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.key, keys::EPOCH);
    assert_eq!(snapshot.add(keys::EPOCH, b"7"), Ok(()));
}

#[test]
fn a_sequence_that_nothing_could_follow_is_refused() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    let effects = cluster.say(40, "n1", "s1", entries(u64::MAX..=u64::MAX));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Close { .. })), "{effects:?}");
}

#[test]
fn heartbeats_of_ten_thousand_nodes_fit_into_the_store() {
    let mut cluster = Cluster::new(Settings::default());
    let nodes: Vec<_> = (0..10_000).map(|i| format!("{i:064}")).collect();
    let mut snapshot = Snapshot::empty("c1", NodeName::parse("name", "robot").unwrap());
    for node in &nodes {
        let record = super::fixtures::node_record(node, &format!("h{}", &node[58..]));
        let id = NodeId::parse("node_id", node).unwrap();
        snapshot.add(&keys::node(&id), &keys::encode(&record)).unwrap();
    }
    cluster.machine = StateManager::restore(snapshot, Settings::default(), at(0));
    for node in &nodes {
        let _ = cluster.open(100, node, &format!("s{node}"), None);
    }
    let mut saved = Vec::new();
    for i in 0..1000 {
        let effects = cluster.machine.handle_deadline(at(70_000 + i));
        let of_heartbeats = |effect: &Effect| {
            matches!(effect, Effect::Commit(t)
            if t.writes.contains_key(keys::HEARTBEATS))
        };
        if effects.iter().any(of_heartbeats) {
            saved = effects;
            break;
        }
    }
    let (value, all) = largest_value(&saved);
    assert!(value > 100_000 && value <= 512 * 1024 && all <= 1024 * 1024, "{value} of {all}");
    let mut again = Snapshot::empty("c1", NodeName::parse("name", "robot").unwrap());
    cluster.perform(&saved);
    for (key, value) in cluster.store.iter().filter(|(key, _)| key.starts_with(keys::HEARTBEATS)) {
        again.add(key, value).unwrap();
    }
    assert_eq!(again.heartbeats.len(), nodes.len());
}

#[test]
fn a_lowered_bound_on_events_keeps_transactions_small() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    let batch = EVENTS_PER_BATCH_MAX as u64;
    for i in 0..10 {
        let _ = cluster.say(40 + i, "n1", "s1", entries(i * batch + 1..=(i + 1) * batch));
    }
    let settings = Settings { events_max: 100, ..Settings::default() };
    cluster.restart(settings, 1000);
    let _ = cluster.open(1010, "n1", "s2", None);
    for i in 10..40 {
        let effects = cluster.say(1020 + i, "n1", "s2", entries(i * batch + 1..=(i + 1) * batch));
        assert!(writes(&effects) <= 120, "{} writes", writes(&effects));
    }
    let (oldest, newest) = cluster.machine.events_kept();
    assert!(newest - oldest < 150, "{oldest} to {newest}");
}

#[test]
fn a_second_live_session_is_refused_but_its_own_process_may_return() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let welcomed = |effects: &[Effect]| {
        effects.iter().any(|e| matches!(e, Effect::Send { message: ToAgent::Welcome(_), .. }))
    };
    assert!(welcomed(&cluster.open(30, "n1", "s1", None)));
    assert!(!welcomed(&cluster.open(40, "n1", "clone", None)));
    assert!(welcomed(&cluster.open(50, "n1", "s2", Some("s1"))));
    // the Welcome of s2 was lost on its way
    assert!(welcomed(&cluster.open(60, "n1", "s3", Some("s1"))));
    assert!(!welcomed(&cluster.open(70, "n1", "clone", Some("elsewhere"))));
}

#[test]
fn the_key_on_disk_stays_good_however_often_it_was_renewed() {
    let mut record = super::fixtures::node_record("n1", "n1");
    record.key_fingerprint = "first".to_owned();
    for key in ["second", "third", "fourth", "fifth", "sixth"] {
        record.key_requested(key.to_owned());
    }
    // what it began with, and what it may have installed last
    for good in ["first", "fifth", "sixth"] {
        assert!(record.has_key(good), "{good}: {record:?}");
    }
    assert!(record.previous_key_fingerprints.len() <= 3);
    assert!(record.key_seen("fifth"));
    assert!(record.has_key("fifth") && record.has_key("sixth") && !record.has_key("first"));
    assert!(record.key_seen("sixth"));
    assert!(!record.has_key("fifth"));
}

#[test]
fn a_key_that_was_certified_anew_and_seen_ends_those_that_nobody_has_seen() {
    let mut record = super::fixtures::node_record("n1", "n1");
    record.key_fingerprint = "on the disk".to_owned();
    for key in ["lost", "lost too", "on the disk"] {
        record.key_requested(key.to_owned());
    }
    assert!(record.key_seen("on the disk"));
    for key in ["second", "third", "fourth", "fifth", "sixth"] {
        record.key_requested(key.to_owned());
    }
    assert!(record.has_key("on the disk"), "{record:?}");
}

#[test]
fn the_audit_chain_tells_who_did_what_and_was_refused() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let refused = cluster.ask(30, sub("n1"), Request::RemoveNode("n1".to_owned()));
    assert_eq!(refused.unwrap_err().reason, "RoleNotAllowed");
    let audit = cluster.audit();
    assert_eq!(verify_chain(&audit), Ok(4));
    let last = audit.last().unwrap();
    assert_eq!((last.who.as_str(), last.call.as_str()), ("sub:n1", "RemoveNode"));
}

#[test]
fn a_flood_of_refusals_is_counted_and_hides_nobody_elses() {
    let mut cluster = Cluster::new(Settings::default());
    let mut intrude = |ms: u64, by: &Caller| {
        let before = cluster.audit().len();
        let refused = cluster.ask(ms, by.clone(), Request::ListTokens);
        assert!(refused.is_err(), "{by:?}");
        cluster.audit().len() - before
    };
    let viewer = |name: &str| Caller { role: Role::Viewer, id: name.to_owned(), ..admin() };
    // strangers from everywhere are one caller
    let strangers: usize = (0..500)
        .map(|i| intrude(1_000 + i, &Caller::anonymous(format!("10.1.{}.{}", i / 250, i % 250))))
        .sum();
    assert_eq!(strangers, 20);
    let eve: usize = (0..500).map(|i| intrude(2_000 + i, &viewer("eve"))).sum();
    assert_eq!((eve, intrude(3_000, &viewer("mallory"))), (20, 1));
    // all together have a bound too
    let everybody: usize = (0..500).map(|i| intrude(4_000 + i, &viewer(&i.to_string()))).sum();
    assert_eq!(everybody, 19);
    // the next minute is a new one, and says what was not told
    assert_eq!(intrude(61_000, &viewer("eve")), 1);
    let audit = cluster.audit();
    let last = audit.last().unwrap();
    let AuditOutcome::Refused(why) = &last.outcome else { panic!("{last:?}") };
    assert!(why.ends_with("(before it, 481 more refusals were only counted)"), "{why}");
    assert_eq!(verify_chain(&audit), Ok(last.id));
}

#[test]
fn the_audit_log_keeps_its_bound_and_its_chain_holds() {
    let mut cluster = Cluster::new(Settings { audit_max: 30, ..Settings::default() });
    for ms in 0..200 {
        cluster.token(ms, 1, None);
    }
    let audit = cluster.audit();
    assert_eq!((audit.len(), audit.last().unwrap().id), (30, 201));
    assert_eq!(verify_chain(&audit), Ok(30));
}

/// Ten times the default pace.
fn shorter_pace() -> Request {
    let pace =
        [("beat_interval_ms", "100"), ("beat_silence_ms", "300"), ("session_grace_ms", "100")];
    Request::UpdateTopology(TopologyUpdate {
        id: String::new(),
        name: "robot".to_owned(),
        kind: crate::topology::TopologyType::BasicEmbedded,
        parent_cluster: String::new(),
        config: pace.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        generation: 0,
        members: vec![],
    })
}

#[test]
fn a_shorter_pace_holds_a_node_only_once_it_knows_of_it() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    cluster.ask(1000, admin(), shorter_pace()).unwrap();
    // a heartbeat beside the session says nothing of what the session has heard
    let probe = Request::Heartbeat { node: "n1".to_owned() };
    cluster.ask(1500, sub("n1"), probe).unwrap();
    let _ = cluster.machine.handle_deadline(at(2500));
    assert_eq!(cluster.status("n1"), Some(NodeStatus::Ready));
    let _ =
        cluster.say(2600, "n1", "s1", ToMaster::ConfigApplied { generation: 2, rejected: None });
    let deadline = cluster.machine.deadline().unwrap().at;
    assert!(deadline <= Timestamp::from_millis(2900), "{deadline:?}");
}

#[test]
fn a_clock_that_differs_much_is_a_condition_with_hysteresis() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    let mut told = |clock: Option<i64>| {
        let report = StatusReport { clock: clock.map(WallTime), ..StatusReport::default() };
        let _ = cluster.say(100_000, "n1", "s1", ToMaster::Status(Box::new(report)));
        let view = cluster.machine.nodes().next().unwrap();
        let skew = view.record.conditions.into_iter().find(|c| c.kind == ConditionKind::ClockSkew);
        (view.record.status, skew.map(|condition| condition.message))
    };
    let ready = |message: Option<&str>| (NodeStatus::Ready, message.map(str::to_owned));
    assert_eq!(told(Some(71_000)), ready(None), "29 s are no matter");
    assert_eq!(told(Some(70_000)), ready(Some("its clock is 30 s behind the master's")));
    assert_eq!(told(Some(86_000)), ready(Some("its clock is 14 s behind the master's")));
    assert_eq!(told(None), ready(Some("its clock is 14 s behind the master's")));
    assert_eq!(told(Some(90_001)), ready(None));
    assert_eq!(told(Some(7_400_000)), ready(Some("its clock is 2 h ahead of the master's")));
    let days = "its clock is 106751991167 days behind the master's";
    assert_eq!(told(Some(i64::MIN)), ready(Some(days)), "whatever a board says");
    assert_eq!(told(Some(100_000)), ready(None));
}

fn found(level: CheckLevel) -> SystemCheck {
    let finding = Finding {
        name: "memory".to_owned(),
        level,
        value: "300 MiB".to_owned(),
        limit: ">= 400".to_owned(),
        remedy: String::new(),
    };
    SystemCheck { at: WallTime(0), findings: vec![finding] }
}

/// A node that has joined under this policy; its session is not open yet.
fn joined_under(readiness: Readiness) -> Cluster {
    let mut cluster = Cluster::new(Settings { readiness, ..Settings::default() });
    let hash = cluster.token(10, 1, None);
    cluster.join(20, "n1", &hash).unwrap();
    cluster
}

fn tell_check(cluster: &mut Cluster, ms: u64, level: CheckLevel) -> Vec<Effect> {
    let report = StatusReport { system_check: Some(found(level)), ..StatusReport::default() };
    cluster.say(ms, "n1", "s1", ToMaster::Status(Box::new(report)))
}

/// Its status, and what its conditions say of the check.
fn standing(cluster: &Cluster) -> (NodeStatus, Vec<(ConditionKind, String)>) {
    let record = cluster.machine.nodes().next().unwrap().record;
    let conditions = record.conditions.into_iter().map(|c| (c.kind, c.message));
    (record.status, conditions.collect())
}

const ERRORS: &str = "memory: 300 MiB (limit >= 400)";

#[test]
fn an_error_of_the_check_keeps_a_node_out_until_it_has_healed_where_that_is_enforced() {
    for (readiness, status, kind) in [
        (Readiness::Enforce, NodeStatus::NotReady, ConditionKind::SystemCheckFailed),
        (Readiness::Warn, NodeStatus::Ready, ConditionKind::SystemCheckTolerated),
    ] {
        let mut cluster = joined_under(readiness);
        let _ = cluster.open_with(30, "n1", ("s1", None), |hello| {
            hello.system_check = Some(found(CheckLevel::Error));
        });
        assert_eq!(standing(&cluster), (status, vec![(kind, ERRORS.to_owned())]));
        let _ = tell_check(&mut cluster, 40, CheckLevel::Warning);
        let beat = ToMaster::Beat;
        let _ = cluster.say(50, "n1", "s1", beat);
        assert_eq!(standing(&cluster), (NodeStatus::Ready, vec![]), "{readiness:?}");
        // and it is no word for ever
        let _ = tell_check(&mut cluster, 60, CheckLevel::Error);
        assert_eq!(standing(&cluster), (status, vec![(kind, ERRORS.to_owned())]));
    }
}

#[test]
fn the_first_check_is_waited_for_where_it_may_keep_a_node_out() {
    for (readiness, waits) in [(Readiness::Enforce, true), (Readiness::Warn, false)] {
        let mut cluster = joined_under(readiness);
        let pending = |hello: &mut Hello| hello.system_check_pending = true;
        let _ = cluster.open_with(30, "n1", ("s1", None), pending);
        let first = if waits { NodeStatus::Initializing } else { NodeStatus::Ready };
        assert_eq!(standing(&cluster), (first, vec![]));
        let _ = tell_check(&mut cluster, 40, CheckLevel::Ok);
        assert_eq!(standing(&cluster), (NodeStatus::Ready, vec![]));
        // one that is in already is not thrown out for it
        let _ = cluster.open_with(50, "n1", ("s2", Some("s1")), pending);
        assert_eq!(standing(&cluster), (NodeStatus::Ready, vec![]));
    }
}

#[test]
fn a_restarted_master_and_a_restarted_agent_let_nobody_in_whom_the_check_keeps_out() {
    let mut cluster = joined_under(Readiness::Enforce);
    let _ = cluster.open_with(30, "n1", ("s1", None), |hello| {
        hello.system_check = Some(found(CheckLevel::Error));
    });
    let out = (NodeStatus::NotReady, vec![(ConditionKind::SystemCheckFailed, ERRORS.to_owned())]);
    cluster.restart(Settings { readiness: Readiness::Enforce, ..Settings::default() }, 1000);
    let pending = |hello: &mut Hello| hello.system_check_pending = true;
    let _ = cluster.open_with(1010, "n1", ("s2", None), pending);
    assert_eq!(standing(&cluster), out);
    // another policy, and nothing was checked anew
    cluster.restart(Settings::default(), 2000);
    let _ = cluster.open_with(2010, "n1", ("s3", None), pending);
    let tolerated = vec![(ConditionKind::SystemCheckTolerated, ERRORS.to_owned())];
    assert_eq!(standing(&cluster), (NodeStatus::Ready, tolerated));
    // an agent that has no check any more has nothing that could heal
    let _ = cluster.open(2020, "n1", "s4", Some("s3"));
    assert_eq!(standing(&cluster), (NodeStatus::Ready, vec![]));
}

#[test]
fn what_moves_from_check_to_check_is_not_written() {
    let mut cluster = joined_under(Readiness::Warn);
    let _ = cluster.open(30, "n1", "s1", None);
    let writes = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Commit(_)));
    assert!(!writes(&tell_check(&mut cluster, 40, CheckLevel::Ok)));
    assert!(writes(&tell_check(&mut cluster, 50, CheckLevel::Error)));
    let mut moved = found(CheckLevel::Error);
    "299 MiB".clone_into(&mut moved.findings[0].value);
    let report = StatusReport { system_check: Some(moved.clone()), ..StatusReport::default() };
    assert!(!writes(&cluster.say(60, "n1", "s1", ToMaster::Status(Box::new(report)))));
    let view = cluster.machine.nodes().next().unwrap();
    assert_eq!(view.system_check.as_deref(), Some(&moved));
    assert!(view.record.conditions[0].message.contains("299 MiB"));
}

#[test]
fn a_check_by_command_is_answered_with_what_was_found() {
    let mut cluster = joined_under(Readiness::Warn);
    let _ = cluster.open(30, "n1", "s1", None);
    let command = AgentCommand::CheckSystem;
    let request = Request::Command { node: "n1".to_owned(), command: command.clone() };
    let id = RequestId(77);
    let effects = cluster.input(40, Input::Request { id, by: admin(), request });
    let sent = effects.iter().find_map(|effect| match effect {
        Effect::Send { message: ToAgent::Command { id, command: sent }, .. } => {
            (*sent == command).then(|| id.clone())
        }
        _ => None,
    });
    let _ = tell_check(&mut cluster, 50, CheckLevel::Warning);
    let (id, message) = (sent.unwrap(), String::new());
    let done = ToMaster::CommandResult { id, success: true, message };
    let effects = cluster.say(60, "n1", "s1", done);
    let answer = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply { result: Ok(Answer::Node(view)), .. } => view.system_check,
        _ => None,
    });
    assert_eq!(answer.as_deref(), Some(&found(CheckLevel::Warning)));
}

#[test]
fn a_restart_knows_what_was_stored() {
    let mut cluster = Cluster::new(Settings::default());
    let hash = cluster.token(10, 2, None);
    cluster.join(20, "n1", &hash).unwrap();
    let _ = cluster.open(30, "n1", "s1", None);
    let _ = cluster.say(40, "n1", "s1", entries(1..=2));
    let before: Vec<_> = cluster.machine.nodes().map(|view| view.record).collect();
    cluster.restart(Settings::default(), 1000);
    let after: Vec<_> = cluster.machine.nodes().map(|view| view.record).collect();
    assert_eq!(before, after);
    let sequence = happened(&cluster.open(1010, "n1", "s2", None));
    assert_eq!(sequence, Vec::<u64>::new());
}

/// The next entry does not link to what somebody left past the master.
#[test]
fn what_is_cut_off_or_added_while_the_master_is_stopped_breaks_the_chain() {
    let tampered = |tamper: &dyn Fn(&mut Cluster, u64)| {
        let mut cluster = Cluster::new(Settings::default());
        for at in 0..5 {
            cluster.token(at, 1, None);
        }
        let last = cluster.machine.audit_ends().last;
        tamper(&mut cluster, last);
        cluster.restart(Settings::default(), 100);
        assert_eq!(cluster.machine.audit_ends().last, last, "what was recorded is what counts");
        cluster.token(200, 1, None);
        verify_chain(&cluster.audit()).map_err(|error| error.id)
    };
    assert_eq!(tampered(&|_, _| {}), Ok(7));
    assert_eq!(tampered(&|cluster, last| drop(cluster.store.remove(&keys::audit(last)))), Err(7));
    let add = |cluster: &mut Cluster, last: u64| {
        let before = cluster.audit().pop().unwrap();
        let mut forged = AuditEntry { id: last + 1, previous_hash: before.hash.clone(), ..before };
        forged.hash = forged.expected_hash();
        cluster.store.insert(keys::audit(forged.id), keys::encode(&forged));
    };
    assert_eq!(tampered(&add), Err(8));
}

#[test]
fn a_store_without_a_record_of_the_audits_ends_gets_one_at_the_next_start() {
    let mut cluster = Cluster::new(Settings::default());
    cluster.token(10, 1, None);
    let ends = cluster.machine.audit_ends().clone();
    assert_eq!((ends.first, ends.last, ends.since), (1, 2, 1));
    cluster.store.remove(keys::AUDIT_ENDS);
    cluster.restart(Settings::default(), 100);
    let found = cluster.machine.audit_ends().clone();
    assert_eq!(found, recorded_ends(&cluster));
    assert_eq!((found.last, found.last_hash == ends.last_hash, found.since), (2, true, 3));
}

fn recorded_ends(cluster: &Cluster) -> AuditEnds {
    keys::decode(keys::AUDIT_ENDS, &cluster.store[keys::AUDIT_ENDS]).unwrap()
}

proptest! {
    #[test]
    fn stored_bytes_never_panic(key in "[a-z0-9/]{0,12}", value in prop::collection::vec(any::<u8>(), 0..200)) {
        let name = NodeName::parse("name", "robot").unwrap();
        let mut snapshot = Snapshot::empty("c1", name);
        for prefix in ["", "nodes/", "tokens/", "users/", "events/", "audit/", "topology", "sealed/audit", "heartbeats", "meta/epoch"] {
            let _ = snapshot.add(&format!("{}{prefix}{key}", keys::ROOT), &value);
        }
    }

    #[test]
    fn a_torn_record_is_an_error_and_no_panic(cut in 0usize..400) {
        let record = super::fixtures::node_record("n1", "n1");
        let mut bytes = keys::encode(&record);
        let whole = bytes.len();
        bytes.truncate(cut);
        let name = NodeName::parse("name", "robot").unwrap();
        let mut snapshot = Snapshot::empty("c1", name);
        let key = keys::node(&record.id);
        prop_assert_eq!(snapshot.add(&key, &bytes).is_ok(), cut >= whole);
    }

    #[test]
    fn any_order_of_events_is_appended_once_each(sequences in prop::collection::vec(1u64..30, 1..40)) {
        let mut cluster = Cluster::new(Settings::default());
        let hash = cluster.token(10, 1, None);
        cluster.join(20, "n1", &hash).unwrap();
        let _ = cluster.open(30, "n1", "s1", None);
        let mut seen = BTreeSet::new();
        for sequence in sequences {
            for told in happened(&cluster.say(40, "n1", "s1", entries(sequence..=sequence))) {
                prop_assert!(seen.last().is_none_or(|last| *last < told));
                prop_assert!(seen.insert(told));
            }
        }
        let kept: Vec<Event> = cluster
            .store
            .iter()
            .filter(|(key, _)| key.starts_with(keys::EVENTS))
            .map(|(key, value)| keys::decode(key, value).unwrap())
            .collect();
        prop_assert!(kept.windows(2).all(|pair| pair[0].id + 1 == pair[1].id));
    }
}
