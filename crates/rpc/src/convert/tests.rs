//! Every message each way, and hostile bytes.

use std::{collections::BTreeMap, time::Duration};

use piccolo_core::{
    action_controller::recovery::Step,
    api_server::Registration,
    failure_detector::Timing,
    model::{
        AlertReport, CheckLevel, Condition, ConditionKind, ContainerReport, Event, EventKind,
        Finding, JournalEntry, NodeId, NodeKind, NodeName, NodeRole, NodeStatus, ProbePart,
        RecoveryLine, RecoveryReport, Resources, RestartPolicy, SessionId, Severity, SystemCheck,
        SystemInfo,
    },
    monitoring_server::{SeriesName, history::Bucket},
    session::{
        AgentCommand, Goodbye, GoodbyeReason, Hello, MissedFigures, MissedSeries, Picture,
        RecoveryOrders, StatusReport, ToAgent, ToMaster, Welcome,
    },
    time::WallTime,
    topology::{NodeConfig, TopologyType, TopologyUpdate},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::Message as _;

use super::*;
use crate::v1;

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ./:é-]{0,12}"
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}[a-z0-9]"
}

/// Times that the wire can carry, whole milliseconds.
fn time() -> impl Strategy<Value = WallTime> {
    (SECONDS_MIN * 1000..SECONDS_MAX * 1000).prop_map(WallTime)
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(word(), text(), 0..4)
}

fn severities() -> impl Strategy<Value = Severity> {
    select(vec![Severity::Info, Severity::Warning, Severity::Critical])
}

fn kinds() -> impl Strategy<Value = EventKind> {
    select(vec![EventKind::ContainerDied, EventKind::NodeReady, EventKind::Alert, EventKind::Other])
}

fn node_id() -> impl Strategy<Value = NodeId> {
    word().prop_map(|id| NodeId::parse("node_id", &id).unwrap())
}

fn node_name() -> impl Strategy<Value = NodeName> {
    word().prop_map(|name| NodeName::parse("hostname", &name).unwrap())
}

fn resources() -> impl Strategy<Value = Resources> {
    any::<(u32, u64, u64)>().prop_map(|(cpu, memory, disk)| Resources { cpu, memory, disk })
}

fn system() -> impl Strategy<Value = SystemInfo> {
    [text(), text(), text(), text(), text(), text()].prop_map(
        |[agent_version, architecture, os, kernel, machine_id, runtime_version]| SystemInfo {
            agent_version,
            architecture,
            os,
            kernel,
            machine_id,
            runtime_version,
        },
    )
}

prop_compose! {
    fn timing()(ms in [1..u32::MAX, 1..u32::MAX, 0..u32::MAX, 1..u32::MAX], missed: u32) -> Timing {
        let [beat, silence, grace, heartbeat] = ms.map(|ms| Duration::from_millis(ms.into()));
        Timing {
            beat_interval: beat,
            beat_silence: silence,
            session_grace: grace,
            heartbeat_interval: heartbeat,
            heartbeats_missed: missed,
        }
    }
}

prop_compose! {
    fn system_check()(
        at in time(),
        findings in vec((select(CheckLevel::ALL.to_vec()), [text(), text(), text(), text()]), 0..3),
    ) -> SystemCheck {
        let finding = |(level, [name, value, limit, remedy]): (_, [String; 4])| {
            Finding { name, level, value, limit, remedy }
        };
        SystemCheck { at, findings: findings.into_iter().map(finding).collect() }
    }
}

prop_compose! {
    fn hello()(
        node in node_id(), previous in option::of(word()), numbers: [u64; 3], system in system(),
        hostname in text(), ip in text(), resources in resources(), clock in time(),
        system_check in option::of(system_check()), system_check_pending: bool,
        [recovers, can_be_watched, reads_logs, keeps_logs]: [bool; 4],
    ) -> Hello {
        let [applied_generation, next_sequence, events_dropped] = numbers;
        Hello {
            node,
            previous_session: previous.map(SessionId::new),
            applied_generation,
            next_sequence,
            events_dropped,
            system,
            hostname,
            ip,
            resources,
            clock,
            system_check,
            system_check_pending,
            recovers,
            can_be_watched,
            reads_logs,
            keeps_logs,
        }
    }
}

prop_compose! {
    fn container()(
        texts in [text(), text(), text(), text(), text()], exit_code: Option<i32>,
        started_at in option::of(time()), finished_at in option::of(time()),
        memory_bytes: u64, cpu_basis_points: u32, restarts: u32,
        restart in select(vec![RestartPolicy::No, RestartPolicy::OnFailure, RestartPolicy::Always]),
    ) -> ContainerReport {
        let [id, name, image, state, health] = texts;
        ContainerReport {
            id, name, image, state, exit_code, health, started_at, finished_at, memory_bytes,
            cpu_basis_points, restarts, restart,
        }
    }
}

prop_compose! {
    fn recovery()(
        lines in vec((
            [text(), text(), text(), text(), text()], any::<u32>(), time(), option::of(time()),
        ), 0..3),
        spent: u32, spent_max: u32,
    ) -> RecoveryReport {
        let line = |([failure, ladder, step, waits, why], attempts, since, next_at): (
            [String; 5], _, _, _,
        )| RecoveryLine { failure, ladder, step, attempts, since, next_at, waits, why };
        RecoveryReport { lines: lines.into_iter().map(line).collect(), spent, spent_max }
    }
}

fn probe_parts() -> impl Strategy<Value = Vec<ProbePart>> {
    let part = |(name, ok, took_ms, problem)| ProbePart { name, ok, took_ms, problem };
    vec((text(), any::<bool>(), any::<u32>(), text()).prop_map(part), 0..3)
}

prop_compose! {
    fn picture()(
        containers in option::of(vec(container(), 0..3)),
        conditions in vec((
            select(vec![
                ConditionKind::ResourcePressure, ConditionKind::PodmanUnavailable,
                ConditionKind::HardwareDegraded, ConditionKind::Throttled, ConditionKind::PowerLow,
            ]),
            text(), text(), time(),
        ), 0..3),
        alerts in vec((text(), severities(), text(), time()), 0..3), recovery in recovery(),
    ) -> Picture {
        let condition = |(kind, reason, message, since)| Condition { kind, reason, message, since };
        let alert = |(kind, severity, message, at)| AlertReport { kind, severity, message, at };
        Picture {
            containers,
            conditions: conditions.into_iter().map(condition).collect(),
            alerts: alerts.into_iter().map(alert).collect(),
            recovery,
        }
    }
}

prop_compose! {
    fn report()(
        metrics in map(), picture in option::of(picture()), system in option::of(system()),
        clock in option::of(time()), system_check in option::of(system_check()),
        hardware in option::of(system_check()),
    ) -> StatusReport {
        let hardware = hardware.map(std::sync::Arc::new);
        StatusReport { metrics, picture, system, clock, system_check, hardware }
    }
}

prop_compose! {
    fn entry()(
        sequence: u64, at in time(), severity in severities(), kind in kinds(), message in text(),
        fields in map(), offline: bool,
    ) -> JournalEntry {
        JournalEntry { sequence, at, severity, kind, message, fields, offline }
    }
}

prop_compose! {
    fn goodbye()(reason in select(GoodbyeReason::ALL.to_vec()), message in text()) -> Goodbye {
        Goodbye { reason, message }
    }
}

fn to_master() -> impl Strategy<Value = ToMaster> {
    prop_oneof![
        Just(ToMaster::Beat),
        report().prop_map(|report| ToMaster::Status(Box::new(report))),
        vec(entry(), 0..3).prop_map(ToMaster::Events),
        (any::<u64>(), option::of(word())).prop_map(|(generation, rejected)| {
            ToMaster::ConfigApplied { generation, rejected }
        }),
        vec(any::<u8>(), 0..9).prop_map(|csr| ToMaster::CertificateRequest { csr }),
        (text(), any::<bool>(), text())
            .prop_map(|(id, success, message)| ToMaster::CommandResult { id, success, message }),
        (text(), probe_parts()).prop_map(|(id, parts)| ToMaster::Probed { id, parts }),
        missed().prop_map(ToMaster::Missed),
        goodbye().prop_map(ToMaster::Goodbye),
    ]
}

prop_compose! {
    fn missed()(
        age_ms: u64,
        series in vec(([text(), text()], vec((any::<[i16; 3]>(), any::<u32>()), 0..4)), 0..3),
    ) -> MissedFigures {
        let bucket = |(values, count): ([i16; 3], u32)| {
            let [mean, min, max] = values.map(f32::from);
            Bucket { mean, min, max, count }
        };
        let series = series.into_iter().map(|([container, figure], buckets)| MissedSeries {
            name: SeriesName { container, figure },
            buckets: buckets.into_iter().map(bucket).collect(),
        });
        MissedFigures { age: Duration::from_millis(age_ms), series: series.collect() }
    }
}

prop_compose! {
    fn node_config()(
        texts in [text(), text()], config in map(), timing in timing(),
        kind in select(vec![
            TopologyType::BasicEmbedded, TopologyType::EdgeCloudHybrid,
            TopologyType::MultiEmbedded, TopologyType::GeoDistributed,
        ]),
    ) -> NodeConfig {
        let [cluster, cluster_name] = texts;
        NodeConfig { cluster, cluster_name, kind, config, timing }
    }
}

prop_compose! {
    fn recovery_orders()(paused_ms in 0..u64::MAX / 1000, maintenance: bool) -> RecoveryOrders {
        RecoveryOrders { paused_for: Duration::from_millis(paused_ms), maintenance }
    }
}

prop_compose! {
    fn welcome()(
        session in word(), cluster in text(), timing in timing(), acknowledged_sequence: u64,
        clock in time(), masters in vec(text(), 0..3), recovery in recovery_orders(),
        takes_missed: bool,
    ) -> Welcome {
        let session = SessionId::new(session);
        Welcome {
            session, cluster, timing, acknowledged_sequence, clock, masters, recovery, takes_missed,
        }
    }
}

fn to_agent() -> impl Strategy<Value = ToAgent> {
    let bytes = || vec(any::<u8>(), 0..9);
    let command = prop_oneof![
        (text(), option::of(1..=86_400_u64)).prop_map(|(filter, seconds)| {
            AgentCommand::SetLogLevel { filter, span: seconds.map(Duration::from_secs) }
        }),
        text().prop_map(|container| AgentCommand::RestartContainer { container }),
        Just(AgentCommand::CheckSystem),
        (select(Step::ALL.to_vec()), text())
            .prop_map(|(step, container)| AgentCommand::Recover { step, container }),
        Just(AgentCommand::Probe),
    ];
    prop_oneof![
        welcome().prop_map(ToAgent::Welcome),
        Just(ToAgent::Beat),
        (any::<u64>(), node_config())
            .prop_map(|(generation, config)| ToAgent::Config { generation, config }),
        any::<u64>().prop_map(|sequence| ToAgent::EventAck { sequence }),
        (bytes(), bytes()).prop_map(|(certificate, ca)| ToAgent::Certificate { certificate, ca }),
        (text(), command).prop_map(|(id, command)| ToAgent::Command { id, command }),
        recovery_orders().prop_map(ToAgent::Recovery),
        any::<u32>().prop_map(|seconds| ToAgent::Watched(Duration::from_secs(seconds.into()))),
        goodbye().prop_map(ToAgent::Goodbye),
    ]
}

/// To the wire, as bytes, and back.
fn travelled<M: prost::Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn what_an_agent_says_arrives_as_it_was_said(message in to_master()) {
        let wire = travelled(v1::AgentMessage::from(message.clone()));
        prop_assert_eq!(AgentFrame::try_from(wire), Ok(AgentFrame::Message(message)));
    }

    #[test]
    fn what_the_master_says_arrives_as_it_was_said(message in to_agent()) {
        let wire = travelled(v1::MasterMessage::from(message.clone()));
        prop_assert_eq!(ToAgent::try_from(wire), Ok(message));
    }

    #[test]
    fn hello_arrives_as_it_was_said(hello in hello()) {
        let wire = travelled(v1::AgentMessage::from(hello.clone()));
        prop_assert_eq!(AgentFrame::try_from(wire), Ok(AgentFrame::Hello(Box::new(hello))));
    }

    #[test]
    fn an_event_of_the_log_arrives_as_it_was(
        entry in entry(), id: u64, node in option::of((node_id(), node_name())),
    ) {
        let JournalEntry { sequence, at, severity, kind, message, fields, offline } = entry;
        let (node, node_name) = node.unzip();
        let event = Event {
            id, at, severity, kind, node, node_name, message, fields,
            node_sequence: sequence,
            delivered_late: offline,
        };
        prop_assert_eq!(Event::try_from(travelled(v1::Event::from(event.clone()))), Ok(event));
    }

    #[test]
    fn a_registration_arrives_as_it_was(
        node in node_id(), name in node_name(), ip in text(), resources in resources(),
        labels in map(), system in system(), token in text(), csr in vec(any::<u8>(), 1..9),
        role in select(vec![NodeRole::Master, NodeRole::Sub]),
        kind in select(vec![NodeKind::Embedded, NodeKind::Cloud]),
    ) {
        let said = RegistrationText {
            node, name, ip, role, kind, resources, labels, system, token, signing_request: csr,
        };
        let wire = travelled(v1::NodeRegistrationRequest::from(said.clone()));
        let heard = RegistrationText::try_from(wire);
        prop_assert_eq!(heard.as_ref(), Ok(&said));
        let Registration { node, .. } = said.clone().into_registration(None, String::new());
        prop_assert_eq!(node, said.node);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(message) = v1::AgentMessage::decode(bytes.as_slice()) {
            drop(AgentFrame::try_from(message));
        }
        if let Ok(message) = v1::MasterMessage::decode(bytes.as_slice()) {
            drop(ToAgent::try_from(message));
        }
        if let Ok(message) = v1::NodeRegistrationRequest::decode(bytes.as_slice()) {
            drop(RegistrationText::try_from(message));
        }
        if let Ok(message) = v1::ClusterTopology::decode(bytes.as_slice()) {
            drop(TopologyUpdate::try_from(message));
        }
        if let Ok(message) = v1::StatusReport::decode(bytes.as_slice()) {
            drop(ReportFrom::try_from(message));
        }
    }

    /// Bytes that are messages at first, with one of them changed, reach further than noise does.
    #[test]
    fn a_damaged_message_is_a_message_or_an_error(
        message in to_master(), place: prop::sample::Index, byte: u8,
    ) {
        let mut bytes = v1::AgentMessage::from(message).encode_to_vec();
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(message) = v1::AgentMessage::decode(bytes.as_slice()) {
            drop(AgentFrame::try_from(message));
        }
    }

    #[test]
    fn a_time_survives_the_wire(time in time()) {
        prop_assert_eq!(wall_time("at", &timestamp(time)), Ok(time));
    }

    #[test]
    fn every_time_of_the_model_has_a_place_on_the_wire(ms: i64) {
        prop_assert!(wall_time("at", &timestamp(WallTime(ms))).is_ok());
    }

    #[test]
    fn any_time_of_the_wire_is_taken_or_refused(seconds: i64, nanos: i32) {
        let taken = wall_time("at", &Timestamp { seconds, nanos });
        let good = (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
        prop_assert_eq!(taken.is_ok(), good);
    }
}

#[track_caller]
fn check<T: std::fmt::Debug>(got: Result<T, FieldError>, field: &str, problem: &str) {
    let error = got.unwrap_err();
    assert_eq!((error.field.as_str(), error.problem.as_str()), (field, problem));
}

#[test]
fn numbers_that_are_no_values_are_named() {
    check(node_role("role", 0), "role", "must be set");
    check(node_role("role", 7), "role", "7 is not a value of it");
    check(node_kind("kind", -1), "kind", "-1 is not a value of it");
    check(node_status("status", 99), "status", "99 is not a value of it");
    check(severity("severity", 4), "severity", "4 is not a value of it");
    check(check_level("level", 0), "level", "must be set");
    check(check_level("level", 4), "level", "4 is not a value of it");
    check(topology_type("topology.type", 5), "topology.type", "5 is not a value of it");
    check(user_role("role", 4), "role", "4 is not a value of it");
}

#[test]
fn enum_values_are_the_same_on_both_sides() {
    for status in NodeStatus::ALL {
        let number = i32::from(node_status_to_wire(status));
        assert_eq!(node_status("status", number), Ok(status));
    }
}

#[test]
fn the_place_of_a_fault_is_named_from_the_outside_in() {
    let mut report = v1::StatusReport::default();
    report.alerts.push(v1::AlertInfo::default());
    report.alerts.push(v1::AlertInfo { severity: 9, ..Default::default() });
    let message = v1::AgentMessage { message: Some(v1::agent_message::Message::Status(report)) };
    check(AgentFrame::try_from(message), "status.alerts[1].severity", "9 is not a value of it");
    let findings = vec![v1::CheckFinding { level: 8, ..Default::default() }];
    let system_check = Some(v1::SystemCheck { findings, ..Default::default() });
    let hello = v1::Hello { node_id: "n1".to_owned(), system_check, ..Default::default() };
    let message = v1::AgentMessage { message: Some(v1::agent_message::Message::Hello(hello)) };
    let field = "hello.system_check.findings[0].level";
    check(AgentFrame::try_from(message), field, "8 is not a value of it");
    check(AgentFrame::try_from(v1::AgentMessage::default()), "message", "must be set");
    let timing = v1::Timing::default();
    check(Timing::try_from(timing), "beat_interval_ms", "must be set");
}

#[test]
fn a_registration_without_a_request_is_refused() {
    let request = v1::NodeRegistrationRequest::default();
    let field = "credentials.certificate_signing_request";
    check(RegistrationText::try_from(request), field, "must not be empty");
}

/// A list of thousands of nodes has to fit into an answer.
#[test]
fn what_is_well_is_counted_where_nodes_are_listed() {
    let finding = |level| Finding {
        name: "memory".to_owned(),
        level,
        value: String::new(),
        limit: String::new(),
        remedy: String::new(),
    };
    let findings = [CheckLevel::Error, CheckLevel::Ok, CheckLevel::Warning, CheckLevel::Ok];
    let found = SystemCheck { at: WallTime(1), findings: findings.map(finding).into() };
    let listed = check::without_what_is_well(&found);
    assert_eq!((listed.findings.len(), listed.passed), (2, 2));
}

#[test]
fn conditions_of_a_newer_agent_are_left_out() {
    let condition = |kind: &str| v1::Condition { kind: kind.to_owned(), ..Default::default() };
    let report = v1::StatusReport {
        conditions: vec![condition("FromTheFuture"), condition("PodmanUnavailable")],
        ..Default::default()
    };
    let picture = ReportFrom::try_from(report).unwrap().report.picture.unwrap();
    let kinds: Vec<_> = picture.conditions.iter().map(|c| c.kind).collect();
    assert_eq!(kinds, [ConditionKind::PodmanUnavailable]);
}

#[test]
fn a_secret_is_never_printed() {
    let text = RegistrationText {
        node: NodeId::parse("node_id", "n1").unwrap(),
        name: NodeName::parse("hostname", "n1").unwrap(),
        ip: String::new(),
        role: NodeRole::Sub,
        kind: NodeKind::Embedded,
        resources: Resources::default(),
        labels: BTreeMap::new(),
        system: SystemInfo::default(),
        token: "hush".to_owned(),
        signing_request: vec![],
    };
    assert!(!format!("{text:?}").contains("hush"));
}
