//! What the agent does, input by input. The long stories are the simulator's.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks the effects that it is about")]

mod figures;
mod recovery;

use super::*;
use crate::{
    model::{CheckLevel, ConditionKind, EventKind, Finding},
    session::{Goodbye, GoodbyeReason, RecoveryOrders, Welcome},
    topology::TopologyType,
};

pub(super) fn at(ms: u64) -> Now {
    Now { at: Timestamp::from_millis(ms), wall: WallTime(i64::try_from(ms).unwrap()) }
}

pub(super) fn config(cluster: &str) -> NodeConfig {
    NodeConfig {
        cluster: cluster.to_owned(),
        cluster_name: "robot".to_owned(),
        kind: TopologyType::BasicEmbedded,
        config: BTreeMap::new(),
        timing: Timing::default(),
    }
}

fn agent(snapshot: Snapshot, standing: Standing) -> NodeAgent {
    agent_with(snapshot, standing, None)
}

fn agent_with(
    snapshot: Snapshot,
    standing: Standing,
    system_check: Option<CheckPace>,
) -> NodeAgent {
    agent_of(Settings { system_check, ..settings() }, snapshot, standing)
}

/// With a certificate.
pub(super) fn agent_that_alerts(snapshot: Snapshot, alerts: Local) -> NodeAgent {
    agent_of(Settings { alerts, ..settings() }, snapshot, CERTIFIED)
}

fn settings() -> Settings {
    Settings {
        system_check: None,
        node: NodeId::parse("node", "n1").unwrap(),
        masters: vec!["m1:47098".to_owned()],
        reconnect_max: Duration::from_secs(3),
        thresholds: Thresholds::default(),
        hardware: hardware::Limits::default(),
        journal_entries_max: 4,
        journal_bytes_max: 1 << 16,
        recovery: Policy::default(),
        alerts: Local::default(),
    }
}

fn agent_of(settings: Settings, snapshot: Snapshot, standing: Standing) -> NodeAgent {
    let host = Host {
        hostname: "board".to_owned(),
        boot: "first".to_owned(),
        system: SystemInfo::default(),
        resources: Resources::default(),
    };
    NodeAgent::restore(settings, host, snapshot, standing, 7, at(0))
}

const CERTIFIED: Standing =
    Standing::Certified { renew_at: WallTime(500_000), expires_at: WallTime(1_000_000) };

fn welcome(acknowledged_sequence: u64, clock: i64) -> Input {
    Input::FromMaster(ToAgent::Welcome(Welcome {
        session: SessionId::new("s1"),
        cluster: "c1".to_owned(),
        timing: Timing::default(),
        acknowledged_sequence,
        clock: WallTime(clock),
        masters: vec![],
        recovery: RecoveryOrders::default(),
        takes_missed: true,
    }))
}

fn goodbye(reason: GoodbyeReason) -> Input {
    Input::FromMaster(ToAgent::Goodbye(Goodbye { reason, message: String::new() }))
}

fn sent_config(generation: u64, cluster: &str) -> Input {
    Input::FromMaster(ToAgent::Config { generation, config: config(cluster) })
}

/// Connects and is welcomed at `ms`.
pub(super) fn in_session(agent: &mut NodeAgent, ms: u64) -> Vec<Effect> {
    let _ = agent.handle_deadline(at(ms));
    let _ = agent.handle(at(ms), Input::Connected { ip: "10.0.0.1".to_owned() });
    agent.handle(at(ms), welcome(0, 1_000))
}

pub(super) fn container(name: &str, state: &str) -> ContainerReport {
    ContainerReport {
        id: "c1".to_owned(),
        name: name.to_owned(),
        state: state.to_owned(),
        ..ContainerReport::default()
    }
}

fn observed(containers: Vec<ContainerReport>) -> Input {
    let runtime = Runtime::Up { version: "5.0".to_owned() };
    Input::Observed(Observation { runtime, containers })
}

fn confirmations(effects: &[Effect]) -> Vec<(u64, bool)> {
    let confirmed = |effect: &Effect| match effect {
        Effect::Send(ToMaster::ConfigApplied { generation, rejected }) => {
            Some((*generation, rejected.is_some()))
        }
        _ => None,
    };
    effects.iter().filter_map(confirmed).collect()
}

#[test]
fn an_older_generation_changes_nothing_and_is_answered_with_why() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    assert_eq!(confirmations(&agent.handle(at(20), sent_config(5, "c1"))), [(5, false)]);
    assert_eq!(confirmations(&agent.handle(at(30), sent_config(4, "c1"))), [(5, true)]);
    assert_eq!(confirmations(&agent.handle(at(40), sent_config(5, "c1"))), [(5, false)]);
    assert_eq!(agent.ledger().generation, 5);
}

#[test]
fn another_cluster_begins_its_generations_anew() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let _ = agent.handle(at(20), sent_config(5, "c1"));
    assert_eq!(confirmations(&agent.handle(at(30), sent_config(1, "c2"))), [(1, false)]);
}

#[test]
fn a_configuration_is_saved_before_it_is_applied_and_confirmed() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let effects = agent.handle(at(20), sent_config(1, "c1"));
    let order: Vec<_> = effects
        .iter()
        .map(|effect| match effect {
            Effect::SaveLedger(_) => "save",
            Effect::Apply { .. } => "apply",
            Effect::Send(ToMaster::ConfigApplied { .. }) => "confirm",
            _ => "other",
        })
        .collect();
    assert_eq!(order, ["save", "apply", "confirm"]);
}

#[test]
fn it_is_kept_from_where_on_no_master_can_have_heard() {
    let started = |ledger, journal: Vec<JournalEntry>| {
        let next_sequence = journal.last().map_or(1, |entry| entry.sequence + 1);
        agent(Snapshot { ledger, journal, next_sequence }, CERTIFIED)
    };
    let happens = |agent: &mut NodeAgent| {
        let _ = agent.handle(at(1), observed(vec![]));
        let effects = agent.handle(at(2), observed(vec![container("app", "running")]));
        let written = effects
            .into_iter()
            .filter(|effect| matches!(effect, Effect::SaveLedger(_) | Effect::JournalAppend(_)));
        written.collect::<Vec<_>>()
    };
    // noted before the first entry, and once for all lives without a master
    let mut first = started(Ledger::default(), vec![]);
    let [Effect::SaveLedger(ledger), Effect::JournalAppend(one)] = &happens(&mut first)[..] else {
        panic!("not noted first")
    };
    assert_eq!((ledger.unsent_from, one.sequence), (Some(1), 1));
    let mut second = started(ledger.clone(), vec![one.clone()]);
    let [Effect::JournalAppend(two)] = &happens(&mut second)[..] else { panic!("noted again") };
    // one that has heard of them from an earlier life
    let mut third = started(ledger.clone(), vec![one.clone(), two.clone()]);
    let _ = third.handle_deadline(at(1));
    let _ = third.handle(at(2), Input::Connected { ip: "10.0.0.1".to_owned() });
    let effects = third.handle(at(3), welcome(1, 1));
    let appended = effects.iter().filter_map(|effect| match effect {
        Effect::JournalAppend(entry) => Some(entry.sequence),
        _ => None,
    });
    assert_eq!(appended.take(2).collect::<Vec<_>>(), [3, 4], "{effects:?}");
    assert_eq!(third.ledger().unsent_from, None);
}

#[test]
fn room_is_made_and_counted_before_an_entry_is_added() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = agent.handle(at(1), observed(vec![]));
    let mut last = Vec::new();
    for i in 0..3u64 {
        last = agent.handle(at(2 + 2 * i), observed(vec![container("app", "running")]));
        if i < 2 {
            let _ = agent.handle(at(3 + 2 * i), observed(vec![]));
        }
    }
    let order: Vec<_> = last
        .iter()
        .map(|effect| match effect {
            Effect::SaveLedger(ledger) => format!("count {}", ledger.events_dropped),
            Effect::JournalDrop { sequence } => format!("drop {sequence}"),
            Effect::JournalAppend(entry) => format!("append {}", entry.sequence),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(order, ["count 1", "drop 1", "append 5"]);
}

#[test]
fn odd_texts_of_a_runtime_are_sent_so_that_the_master_takes_them() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let _ = agent.handle(at(20), observed(vec![]));
    let name = format!("\u{1b}[2J{}", "가".repeat(2000));
    let effects = agent.handle(at(30), observed(vec![container(&name, "running")]));
    let report = effects.iter().find_map(|effect| match effect {
        Effect::Send(ToMaster::Status(report)) => Some(report),
        _ => None,
    });
    report.unwrap().check().unwrap();
    let told = effects.iter().any(|effect| {
        matches!(effect, Effect::Send(ToMaster::Events(entries))
            if entries.iter().all(|e| e.message.len() <= crate::session::TEXT_BYTES_MAX))
    });
    assert!(told);
}

#[test]
fn an_expired_certificate_is_issued_again_whatever_the_own_clock_says() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let effects = agent.handle_deadline(at(1));
    assert!(effects.contains(&Effect::Connect { master: "m1:47098".to_owned() }));
    let _ = agent.handle(at(2), Input::Connected { ip: "10.0.0.1".to_owned() });
    let _ = agent.handle(at(3), goodbye(GoodbyeReason::Expired));
    let next = agent.deadline().unwrap().at;
    let effects = agent.handle_deadline(Now { at: next, wall: WallTime(10) });
    assert_eq!(effects, [Effect::Register { master: "m1:47098".to_owned() }]);
}

#[test]
fn a_node_is_refused_while_another_has_its_identity_and_no_longer() {
    use GoodbyeReason::{Busy, Duplicate, Removed};
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    for (ms, reason, refused) in
        [(0, Duplicate, true), (10_000, Busy, false), (20_000, Removed, true)]
    {
        let _ = agent.handle_deadline(at(ms));
        let _ = agent.handle(at(ms), Input::Connected { ip: "10.0.0.1".to_owned() });
        let _ = agent.handle(at(ms), goodbye(reason));
        assert_eq!(agent.is_refused(), refused, "{reason:?}");
    }
    let _ = in_session(&mut agent, 300_000);
    assert!(agent.in_session() && !agent.is_refused());
}

#[test]
fn a_clock_that_is_ahead_does_not_renew_without_end() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let late = |ms: u64| Now { at: Timestamp::from_millis(ms), wall: WallTime(9_000_000) };
    // it looks expired: it is issued again, and then the master's word counts
    let effects = agent.handle_deadline(late(1));
    assert_eq!(effects[1..], [Effect::Register { master: "m1:47098".to_owned() }]);
    let _ = agent.handle(late(2), Input::Registered { standing: CERTIFIED, pending: false });
    let effects = agent.handle_deadline(late(3));
    assert_eq!(effects, [Effect::Connect { master: "m1:47098".to_owned() }]);
    let _ = agent.handle(late(4), Input::Connected { ip: "10.0.0.1".to_owned() });
    let _ = agent.handle(late(5), welcome(0, 2_000));
    let effects = agent.handle_deadline(late(1100));
    let asks = |effect: &Effect| matches!(effect, Effect::MakeCertificateRequest { .. });
    assert!(!effects.iter().any(asks), "{effects:?}");
}

#[test]
fn a_shorter_pace_holds_for_the_beat_that_is_due_next() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let mut config = config("c1");
    config.timing.beat_interval = Duration::from_millis(100);
    let input = Input::FromMaster(ToAgent::Config { generation: 1, config });
    let _ = agent.handle(at(20), input);
    assert_eq!(agent.deadline().unwrap().at, Timestamp::from_millis(120));
}

#[test]
fn podman_that_is_down_is_a_condition_and_no_failure() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let down = Runtime::Down { why: "connection refused".to_owned() };
    let _ = agent.handle(at(1), Input::Observed(Observation { runtime: down, containers: vec![] }));
    let kinds: Vec<_> = agent.view().conditions.iter().map(|c| c.kind).collect();
    assert_eq!(kinds, [ConditionKind::PodmanUnavailable]);
    assert!(!ConditionKind::PodmanUnavailable.impairs());
}

/// The containers of the last status report among `effects`.
fn told_containers(effects: &[Effect]) -> Option<Vec<String>> {
    let report = effects.iter().rev().find_map(|effect| match effect {
        Effect::Send(ToMaster::Status(report)) => Some(report),
        _ => None,
    });
    let containers = report.unwrap().picture.as_ref().unwrap().containers.as_ref();
    containers.map(|list| list.iter().map(|c| c.name.clone()).collect())
}

#[test]
fn containers_are_not_told_of_before_the_runtime_has_answered() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    assert_eq!(told_containers(&in_session(&mut agent, 10)), None);
    let down = Runtime::Down { why: "it hangs".to_owned() };
    let observation = Observation { runtime: down.clone(), containers: vec![] };
    assert_eq!(told_containers(&agent.handle(at(20), Input::Observed(observation))), None);
    let effects = agent.handle(at(30), observed(vec![container("app", "running")]));
    assert_eq!(told_containers(&effects), Some(vec!["app".to_owned()]));
    // what was seen once stays what was seen last
    let observation = Observation { runtime: down, containers: vec![] };
    let effects = agent.handle(at(40), Input::Observed(observation));
    assert_eq!(told_containers(&effects), Some(vec!["app".to_owned()]));
}

fn down(containers: Vec<ContainerReport>) -> Input {
    let runtime = Runtime::Down { why: "it hangs".to_owned() };
    Input::Observed(Observation { runtime, containers })
}

/// What is told of a container that runs, and then is seen like this, look by look.
#[track_caller]
fn check_told(looks: Vec<Input>, expect: &[(EventKind, &str)]) {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let _ = agent.handle(at(20), observed(vec![container("app", "running")]));
    let effects = (30..).zip(looks).flat_map(|(ms, look)| agent.handle(at(ms), look));
    let told: Vec<_> = effects
        .filter_map(|effect| match effect {
            Effect::JournalAppend(entry) => Some((entry.kind, entry.message)),
            _ => None,
        })
        .filter(|(kind, _)| !matches!(kind, EventKind::RuntimeUp | EventKind::RuntimeDown))
        .collect();
    let told: Vec<_> = told.iter().map(|(kind, message)| (*kind, message.as_str())).collect();
    assert_eq!(told, expect);
}

#[test]
fn a_death_is_told_once_with_its_code_and_without_where_nobody_can_be_asked() {
    let ended = || container("app", "exited");
    let with_code = |code| ContainerReport { exit_code: Some(code), ..ended() };
    let failed = (EventKind::ContainerDied, "container app died with exit code 137");
    let well = (EventKind::ContainerExited, "container app has ended");
    let unknown =
        (EventKind::ContainerDied, "container app died; Podman does not say with which exit code");
    let one = |c: ContainerReport| observed(vec![c]);
    check_told(vec![one(with_code(137))], &[failed]);
    // a slow board: the kernel knows first, and Podman a moment later
    check_told(vec![one(ended()), one(with_code(137)), one(with_code(137))], &[failed]);
    check_told(vec![one(ended()), one(with_code(0))], &[well]);
    // Podman hangs: before the death, or just then
    check_told(vec![down(vec![]), down(vec![ended()]), one(with_code(137))], &[unknown]);
    check_told(vec![one(ended()), down(vec![ended()]), one(with_code(0))], &[unknown]);
    check_told(vec![down(vec![]), one(with_code(137))], &[failed]);
    // its policy was quicker than the answer
    let again = ContainerReport { started_at: Some(at(40).wall), ..container("app", "running") };
    let restarted = (EventKind::ContainerStarted, "container app was restarted");
    check_told(vec![one(ended()), one(again)], &[restarted]);
    let removed = (EventKind::ContainerRemoved, "container app was removed");
    check_told(vec![one(ended()), observed(vec![])], &[removed]);
}

#[test]
fn a_death_is_shown_at_once_although_podman_does_not_answer() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let _ = agent.handle(at(20), observed(vec![container("app", "running")]));
    let _ = agent.handle(at(30), down(vec![]));
    let _ = agent.handle(at(40), down(vec![container("app", "exited")]));
    let states: Vec<_> = agent.view().containers.iter().map(|c| c.state.clone()).collect();
    assert_eq!(states, ["exited"]);
}

#[test]
fn a_node_without_a_runtime_has_no_containers_and_is_well() {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let observation = Observation { runtime: Runtime::Absent, containers: vec![] };
    let effects = agent.handle(at(20), Input::Observed(observation));
    assert_eq!(told_containers(&effects), Some(vec![]));
    assert_eq!(agent.view().conditions, []);
}

#[test]
fn a_member_tells_of_its_start_once() {
    let ledger = Ledger { generation: 1, config: Some(config("c1")), ..Ledger::default() };
    let started = |snapshot| {
        let mut agent = agent(snapshot, CERTIFIED);
        let mut effects = agent.handle_deadline(at(0));
        effects.extend(agent.handle_deadline(at(1)));
        let told = |e: &&Effect| matches!(e, Effect::JournalAppend(entry) if entry.kind == EventKind::AgentStarted);
        effects.iter().filter(told).count()
    };
    assert_eq!(started(Snapshot { ledger, ..Snapshot::default() }), 1);
    // one that joins is told of by the master
    assert_eq!(started(Snapshot::default()), 0);
}

#[test]
fn being_alone_is_told_once_and_so_is_its_end() {
    let ledger = Ledger { generation: 1, config: Some(config("c1")), ..Ledger::default() };
    let mut agent = agent(Snapshot { ledger, ..Snapshot::default() }, CERTIFIED);
    let mut kinds = Vec::new();
    let _ = agent.handle_deadline(at(0));
    let _ = agent.handle(at(1), Input::ConnectFailed { why: "refused".to_owned() });
    let mut effects = agent.handle_deadline(at(6000));
    effects.extend(agent.handle_deadline(at(7000)));
    effects.extend(agent.handle(at(7001), Input::Connected { ip: "10.0.0.1".to_owned() }));
    effects.extend(agent.handle(at(7002), welcome(0, 1)));
    for effect in effects {
        if let Effect::JournalAppend(entry) = effect {
            kinds.push(entry.kind);
        }
    }
    assert_eq!(kinds, [EventKind::MasterLost, EventKind::MasterFound]);
}

/// When it tries again, each time from a refusal on.
fn waits_after(reason: GoodbyeReason, times: usize) -> Vec<u64> {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let mut now = 0;
    let mut waits = Vec::new();
    while waits.len() < times {
        let effects = agent.handle_deadline(at(now));
        if effects.iter().any(|effect| matches!(effect, Effect::Connect { .. })) {
            let _ = agent.handle(at(now), Input::Connected { ip: "10.0.0.1".to_owned() });
            let _ = agent.handle(at(now), goodbye(reason));
            waits.push(now);
        }
        now += 100;
    }
    waits.windows(2).map(|two| two[1] - two[0]).collect()
}

#[test]
fn a_cloned_disk_is_tried_more_and_more_rarely_and_a_board_that_waits_for_a_person_is_not() {
    let waits = waits_after(GoodbyeReason::Duplicate, 12);
    assert!(waits[..2].iter().all(|wait| (1_500..=3_100).contains(wait)), "{waits:?}");
    assert!(waits[8..].iter().all(|wait| (60_000..=120_100).contains(wait)), "{waits:?}");
    let waits = waits_after(GoodbyeReason::Busy, 12);
    assert!(waits.iter().all(|wait| (1_500..=3_100).contains(wait)), "{waits:?}");
}

fn found(level: CheckLevel) -> SystemCheck {
    let finding = Finding {
        name: "memory".to_owned(),
        level,
        value: String::new(),
        limit: String::new(),
        remedy: String::new(),
    };
    SystemCheck { findings: vec![finding], ..SystemCheck::default() }
}

fn begins_a_check(effects: &[Effect]) -> bool {
    effects.contains(&Effect::CheckSystem)
}

/// The levels of a check that is told, in a Hello or in a report.
fn told(effects: &[Effect]) -> Vec<CheckLevel> {
    let told = |effect: &Effect| match effect {
        Effect::SayHello(hello) => hello.system_check.clone(),
        Effect::Send(ToMaster::Status(report)) => report.system_check.clone(),
        _ => None,
    };
    let checks = effects.iter().filter_map(told);
    checks.flat_map(|check| check.findings).map(|finding| finding.level).collect()
}

#[test]
fn the_system_is_checked_at_the_start_and_again_sooner_where_something_is_wrong() {
    let pace = CheckPace::default();
    let mut agent = agent_with(Snapshot::default(), CERTIFIED, Some(pace));
    assert!(begins_a_check(&agent.handle_deadline(at(0))));
    assert!(!begins_a_check(&agent.handle_deadline(at(10_000))), "one is under way");
    let mut checked_at = 10_000;
    for (level, after) in [
        (CheckLevel::Error, pace.again),
        (CheckLevel::Warning, pace.every),
        (CheckLevel::Ok, pace.every),
    ] {
        let _ = agent.handle(at(checked_at), Input::Checked(found(level)));
        let due = checked_at + u64::try_from(after.as_millis()).unwrap();
        assert!(!begins_a_check(&agent.handle_deadline(at(due - 1))));
        assert!(begins_a_check(&agent.handle_deadline(at(due))), "{level:?}");
        checked_at = due + 5;
    }
    let mut without = agent_with(Snapshot::default(), CERTIFIED, None);
    assert!(!begins_a_check(&without.handle_deadline(at(0))));
}

#[test]
fn what_was_found_is_told_once_a_session_and_where_it_is_new() {
    let mut agent = agent_with(Snapshot::default(), CERTIFIED, Some(CheckPace::default()));
    let hello = |effects: &[Effect]| {
        let pending = |effect: &Effect| match effect {
            Effect::SayHello(hello) => Some(hello.system_check_pending),
            _ => None,
        };
        effects.iter().find_map(pending)
    };
    let _ = agent.handle_deadline(at(10));
    let connected = Input::Connected { ip: "10.0.0.1".to_owned() };
    assert_eq!(hello(&agent.handle(at(10), connected.clone())), Some(true));
    assert_eq!(told(&agent.handle(at(10), welcome(0, 1_000))), []);
    assert_eq!(
        told(&agent.handle(at(20), Input::Checked(found(CheckLevel::Ok)))),
        [CheckLevel::Ok]
    );
    assert_eq!(told(&agent.handle_deadline(at(20_000))), [], "it knows");
    let _ = agent.handle(at(20_001), Input::Disconnected { why: "cut".to_owned() });
    assert_eq!(told(&agent.handle(at(20_002), Input::Checked(found(CheckLevel::Error)))), []);
    let _ = agent.handle_deadline(at(30_000));
    let effects = agent.handle(at(30_001), connected);
    assert_eq!((hello(&effects), told(&effects)), (Some(false), vec![CheckLevel::Error]));
    assert_eq!(told(&agent.handle(at(30_002), welcome(0, 1_000))), []);
}

#[test]
fn one_check_answers_all_who_ask_for_one_and_what_it_found_comes_first() {
    let mut agent = agent_with(Snapshot::default(), CERTIFIED, Some(CheckPace::default()));
    let _ = in_session(&mut agent, 10);
    let _ = agent.handle(at(20), Input::Checked(found(CheckLevel::Ok)));
    let ask = |id: &str| {
        let (id, command) = (id.to_owned(), AgentCommand::CheckSystem);
        Input::FromMaster(ToAgent::Command { id, command })
    };
    assert_eq!(agent.handle(at(30), ask("1")), [Effect::CheckSystem]);
    assert_eq!(agent.handle(at(31), ask("2")), []);
    let effects = agent.handle(at(40), Input::Checked(found(CheckLevel::Error)));
    assert_eq!(told(&effects[..1]), [CheckLevel::Error]);
    let answered = |effects: &[Effect]| -> Vec<_> {
        let answer = |effect: &Effect| match effect {
            Effect::Send(ToMaster::CommandResult { id, success, .. }) => {
                Some((id.clone(), *success))
            }
            _ => None,
        };
        effects.iter().filter_map(answer).collect()
    };
    assert_eq!(answered(&effects[1..]), [("1".to_owned(), true), ("2".to_owned(), true)]);
    let mut without = agent_with(Snapshot::default(), CERTIFIED, None);
    let _ = in_session(&mut without, 10);
    assert_eq!(answered(&without.handle(at(30), ask("3"))), [("3".to_owned(), false)]);
}

#[test]
fn hardware_is_looked_at_once_a_minute_and_a_problem_is_told_at_once() {
    use super::hardware::{Reading, Sign};
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let looks = |effects: &[Effect]| effects.contains(&Effect::LookAtHardware);
    assert!(looks(&agent.handle_deadline(at(0))), "at the start");
    assert!(!looks(&agent.handle_deadline(at(600_000))), "one is under way, and may never end");
    let _ = in_session(&mut agent, 600_010);
    let seen = |value| {
        let (sign, part) = (Sign::VoltageLow, "rpi_volt in0".to_owned());
        Input::HardwareSeen(vec![Reading { sign, part, value, limit: None }])
    };
    let told = |effects: Vec<Effect>| {
        let report = |effect| match effect {
            Effect::Send(ToMaster::Status(report)) => Some(report),
            _ => None,
        };
        effects.into_iter().find_map(report)
    };
    assert_eq!(told(agent.handle(at(600_020), seen(0))), None, "nothing changed: it can wait");
    let _ = agent.handle(at(660_018), Input::FromMaster(ToAgent::Beat));
    assert!(!looks(&agent.handle_deadline(at(660_019))));
    assert!(looks(&agent.handle_deadline(at(660_020))));
    let report = told(agent.handle(at(660_030), seen(1))).unwrap();
    let conditions: Vec<_> = report.picture.unwrap().conditions;
    assert_eq!(conditions[0].kind, ConditionKind::PowerLow);
    assert_eq!(conditions[0].message, "voltage of rpi_volt in0");
    assert_eq!(report.hardware.as_ref().unwrap().findings[0].value, "too low");
    assert_eq!(agent.view().conditions.len(), 1, "also for who asks on the board");
}

#[test]
fn a_look_that_never_ends_is_told_by_the_samples_that_go_on() {
    use super::hardware::Wait;
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    assert!(agent.handle_deadline(at(0)).contains(&Effect::LookAtHardware));
    let _ = in_session(&mut agent, 10);
    let wait = |seconds| {
        let (what, waited) = ("/sys/bus/x".to_owned(), Duration::from_secs(seconds));
        Input::Sampled(Sample { waits: vec![Wait { what, waited }], ..Sample::default() })
    };
    assert_eq!(agent.handle(at(20), wait(55)), [], "it may be slow");
    let effects = agent.handle(at(5_020), wait(60));
    let told = effects.iter().any(|effect| {
        matches!(effect, Effect::JournalAppend(entry)
        if entry.kind == EventKind::HardwareProblem && entry.message.contains("/sys/bus/x"))
    });
    assert!(told, "{effects:?}");
    let report = effects.into_iter().find_map(|effect| match effect {
        Effect::Send(ToMaster::Status(report)) => Some(report),
        _ => None,
    });
    let report = report.unwrap();
    assert_eq!(report.picture.unwrap().conditions[0].kind, ConditionKind::HardwareDegraded);
    assert_eq!(report.hardware.unwrap().findings[0].value, "60 s without an answer");
}
