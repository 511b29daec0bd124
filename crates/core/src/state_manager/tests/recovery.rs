//! What the master has to do with recovery: operators' words, silent nodes, probes.

use super::*;
use crate::{
    model::{ConditionKind, ProbePart, RecoveryLine, RecoveryReport},
    session::{Picture, RecoveryOrders},
};

const S: u64 = 1000;

/// One node in session since 1 s.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(Settings::default());
    let token = cluster.token(0, 1, None);
    cluster.join(10, "n1", &token).unwrap();
    let _ = cluster.open(S, "n1", "s1", None);
    cluster
}

impl Cluster {
    fn deadlines(&mut self, ms: u64) -> Vec<Effect> {
        let effects = self.machine.handle_deadline(at(ms));
        self.perform(&effects);
        effects
    }

    /// Second by second, with a beat in each if it lives.
    fn pass(&mut self, seconds: std::ops::Range<u64>, lives: bool) -> Vec<Effect> {
        let mut all = Vec::new();
        for second in seconds {
            if lives {
                all.extend(self.say(second * S, "n1", "s1", ToMaster::Beat));
            }
            all.extend(self.deadlines(second * S));
        }
        all
    }

    fn node(&self) -> NodeView {
        self.machine.nodes().next().unwrap()
    }

    fn pause(&mut self, ms: u64, seconds: u64) -> Vec<Effect> {
        let span = Duration::from_secs(seconds);
        let request = Request::PauseRecovery { node: "n1".to_owned(), span };
        let id = RequestId(7_000 + ms);
        self.input(ms, Input::Request { id, by: admin(), request })
    }

    fn probe(&mut self, ms: u64) -> Vec<Effect> {
        let request = Request::Command { node: "n1".to_owned(), command: AgentCommand::Probe };
        let id = RequestId(9_000 + ms);
        self.input(ms, Input::Request { id, by: admin(), request })
    }
}

fn orders(effects: &[Effect]) -> Vec<RecoveryOrders> {
    let orders = |effect: &Effect| match effect {
        Effect::Send { message: ToAgent::Recovery(orders), .. } => Some(*orders),
        Effect::Send { message: ToAgent::Welcome(welcome), .. } => Some(welcome.recovery),
        _ => None,
    };
    effects.iter().filter_map(orders).collect()
}

fn happened(effects: &[Effect], kind: EventKind) -> Vec<String> {
    let message = |effect: &Effect| match effect {
        Effect::Happened(event) if event.kind == kind => Some(event.message.clone()),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

fn probes(effects: &[Effect]) -> Vec<String> {
    let id = |effect: &Effect| match effect {
        Effect::Send { message: ToAgent::Command { id, command: AgentCommand::Probe }, .. } => {
            Some(id.clone())
        }
        _ => None,
    };
    effects.iter().filter_map(id).collect()
}

fn replies(effects: &[Effect]) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Reply { result: Ok(_), .. })).count()
}

fn proof(name: &str, ok: bool) -> ProbePart {
    let problem = if ok { "" } else { "it fails" }.to_owned();
    ProbePart { name: name.to_owned(), ok, took_ms: 3, problem }
}

#[test]
fn a_pause_is_told_at_once_kept_and_told_again_to_every_session() {
    let mut cluster = cluster();
    let effects = cluster.pause(2 * S, 3_600);
    let paused_for = Duration::from_secs(3_600);
    assert_eq!(orders(&effects), [RecoveryOrders { paused_for, maintenance: false }]);
    let told = happened(&effects, EventKind::RecoveryPaused);
    assert_eq!(told, ["the recovery of node n1 is paused for 60 min"]);
    cluster.restart(Settings::default(), 602 * S);
    let paused_for = Duration::from_secs(3_000);
    let effects = cluster.open(602 * S, "n1", "s2", None);
    assert_eq!(orders(&effects), [RecoveryOrders { paused_for, maintenance: false }]);
    assert_eq!(orders(&cluster.pause(603 * S, 0)), [RecoveryOrders::default()]);
    assert_eq!(cluster.node().record.recovery_paused_until, None);
}

#[test]
fn a_word_about_a_node_after_a_stall_does_not_judge_what_waits_behind_it() {
    for word in ["maintenance", "pause"] {
        let mut cluster = cluster();
        // the master stalls past three heartbeats; of all that waits, the operator's word comes first
        let effects = if word == "pause" {
            cluster.pause(40 * S, 3_600)
        } else {
            let (node, reason) = ("n1".to_owned(), "a new fan".to_owned());
            let request = Request::SetMaintenance { node, on: true, reason };
            cluster.input(40 * S, Input::Request { id: RequestId(7), by: admin(), request })
        };
        assert_eq!(replies(&effects), 1);
        assert_eq!(cluster.node().record.conditions, [], "{word}");
        assert!(happened(&effects, EventKind::NodeNotReady).is_empty(), "{word}");
        let _ = cluster.say(40 * S, "n1", "s1", ToMaster::Beat);
        let _ = cluster.deadlines(40 * S);
        assert_eq!(cluster.node().record.conditions, [], "{word}");
        // but silence is silence
        let _ = cluster.pass(41..49, false);
        assert_eq!(cluster.node().record.conditions[0].kind, ConditionKind::SessionLost, "{word}");
    }
}

#[test]
fn a_silent_node_shows_its_ladder_and_why_the_master_waits() {
    let mut cluster = cluster();
    let line = |cluster: &Cluster| {
        let line = cluster.node().recovery.lines.first().cloned();
        line.map(|line| (line.failure, line.ladder, line.step, line.why))
    };
    let expect = |step: &str, why: &str| {
        let ladder = "restart-agent > alert".to_owned();
        Some(("node".to_owned(), ladder, step.to_owned(), why.to_owned()))
    };
    let _ = cluster.pass(2..5, true);
    assert_eq!(line(&cluster), None);
    let _ = cluster.pass(5..34, false);
    let why = "the session is lost, and the agent connects again by itself";
    assert_eq!(line(&cluster), expect("reconnect", why), "no reason to act");
    let line_now = cluster.node().recovery.lines[0].clone();
    assert_eq!((line_now.since, line_now.next_at), (at(8 * S).wall, Some(at(34 * S).wall)));
    let _ = cluster.pass(34..79, false);
    assert_eq!(line(&cluster), expect("restart-agent", "happens by itself, and is given its time"));
    let _ = cluster.pass(79..90, false);
    assert_eq!(line(&cluster), expect("alert", "nothing more is left but a person"));
}

#[test]
fn a_session_that_comes_back_ends_what_was_told_of_its_loss() {
    let mut cluster = cluster();
    let _ = cluster.pass(2..10, false);
    assert_eq!(cluster.node().recovery.lines[0].waits, "SessionLost");
    cluster.restart(Settings::default(), 10 * S);
    let _ = cluster.pass(10..19, false);
    let line = &cluster.node().recovery.lines[0];
    assert_eq!((line.waits.as_str(), line.next_at), ("SessionLost", Some(at(70 * S).wall)));
    let _ = cluster.open(19 * S, "n1", "s2", None);
    let _ = cluster.pass(20..22, false);
    assert_eq!(cluster.node().recovery.lines, []);
}

/// What an agent tells when its reboot has begun, and what it tells once it is up again.
fn tells(reboots: bool) -> ToMaster {
    let (step, waits) = ("reboot".to_owned(), "UnderWay".to_owned());
    let failure = "system".to_owned();
    let line = RecoveryLine { failure, step, waits, ..RecoveryLine::default() };
    let lines = reboots.then_some(line).into_iter().collect();
    let recovery = RecoveryReport { lines, spent: 1, spent_max: 12 };
    let picture = Some(Picture { recovery, ..Picture::default() });
    ToMaster::Status(Box::new(StatusReport { picture, ..StatusReport::default() }))
}

#[test]
fn a_node_that_told_of_its_reboot_is_given_five_minutes_before_a_person_is_told() {
    let mut cluster = cluster();
    let _ = cluster.say(2 * S, "n1", "s1", tells(true));
    let effects = cluster.pass(3..100, false);
    let line = &cluster.node().recovery.lines[0];
    let seen = (line.failure.as_str(), line.step.as_str(), line.waits.as_str(), line.next_at);
    assert_eq!(seen, ("node", "reboot", "Reboot", Some(at(302 * S).wall)));
    assert_eq!(happened(&effects, EventKind::PersonNeeded), Vec::<String>::new());
    // the master's restart makes nobody impatient
    cluster.restart(Settings::default(), 100 * S);
    let effects = cluster.pass(100..347, false);
    assert_eq!(happened(&effects, EventKind::PersonNeeded), Vec::<String>::new());
    let effects = cluster.pass(347..400, false);
    let told = happened(&effects, EventKind::PersonNeeded);
    assert_eq!(told, ["node n1 was to reboot, and does not come back"]);
}

#[test]
fn a_reboot_that_is_over_excuses_no_later_silence() {
    let mut cluster = cluster();
    let _ = cluster.say(2 * S, "n1", "s1", tells(true));
    let _ = cluster.pass(3..60, false);
    let _ = cluster.open(60 * S, "n1", "s2", None);
    let _ = cluster.say(60 * S, "n1", "s2", tells(false));
    assert_eq!(cluster.node().record.reboots_since, None);
    let effects = cluster.pass(61..200, false);
    let told = happened(&effects, EventKind::PersonNeeded);
    assert_eq!(told, ["node n1 is silent, and does not come back"]);
}

#[test]
fn maintenance_is_an_order_too() {
    let mut cluster = cluster();
    let request = |on| Request::SetMaintenance { node: "n1".to_owned(), on, reason: String::new() };
    for on in [true, false] {
        let (id, by) = (RequestId(1_000 + u64::from(on)), admin());
        let effects = cluster.input(2 * S, Input::Request { id, by, request: request(on) });
        let maintenance = on;
        assert_eq!(orders(&effects), [RecoveryOrders { maintenance, ..RecoveryOrders::default() }]);
    }
}

#[test]
fn an_operators_reason_is_in_the_event_and_in_the_audit_log() {
    let mut cluster = cluster();
    let mut set = |ms, on, reason: &str| {
        let (id, reason) = (RequestId(2_000 + ms), reason.to_owned());
        let request = Request::SetMaintenance { node: "n1".to_owned(), on, reason };
        let effects = cluster.input(ms, Input::Request { id, by: admin(), request });
        let kind = if on { EventKind::NodeMaintenance } else { EventKind::NodeMaintenanceEnded };
        let target = cluster.audit().last().unwrap().target.clone();
        (happened(&effects, kind).concat(), target)
    };
    let both = |event: &str, target: &str| (event.to_owned(), target.to_owned());
    let longest = "x".repeat(256);
    assert_eq!(set(2_000, true, ""), both("node n1 is in Maintenance", "n1"));
    let off = both("node n1 is out of Maintenance: fan is new", "n1: fan is new");
    assert_eq!(set(2_001, false, "fan is new"), off);
    let on =
        both(&format!("node n1 is in Maintenance: {longest}"), &format!("n1: {longest}")[..256]);
    assert_eq!(set(2_002, true, &longest), on, "audit entries are cut at 256 bytes");
    for (ms, bad) in [(2_003, format!("{longest}x")), (2_004, "\u{1b}[2J\nnode".to_owned())] {
        let (event, target) = set(ms, false, &bad);
        assert_eq!(event, "");
        assert!(target.len() <= 256 && !target.contains(char::is_control), "{target:?}");
    }
}

#[test]
fn an_older_agent_is_told_nothing_that_it_does_not_know() {
    let mut cluster = cluster();
    let _ = cluster.open_with(2 * S, "n1", ("s2", Some("s1")), |hello| hello.recovers = false);
    let command = AgentCommand::Recover {
        step: crate::action_controller::recovery::Step::Reboot,
        container: String::new(),
    };
    for command in [AgentCommand::Probe, command] {
        let request = Request::Command { node: "n1".to_owned(), command };
        let refusal = cluster.ask(3 * S, admin(), request).unwrap_err();
        assert_eq!(refusal.reason, "AgentTooOld");
    }
    assert_eq!(orders(&cluster.pause(3 * S, 60)), []);
    let mut all = Vec::new();
    for second in 3..400 {
        all.extend(cluster.say(second * S, "n1", "s2", ToMaster::Beat));
        all.extend(cluster.deadlines(second * S));
    }
    assert_eq!(probes(&all), Vec::<String>::new());
}

#[test]
fn a_person_is_told_of_a_silent_node_once_also_over_a_restart() {
    let mut cluster = cluster();
    let effects = cluster.pass(2..200, false);
    let told = happened(&effects, EventKind::PersonNeeded);
    assert_eq!(told, ["node n1 is silent, and does not come back"]);
    let line = &cluster.node().recovery.lines[0];
    assert_eq!((line.failure.as_str(), line.waits.as_str()), ("node", "Person"));
    cluster.restart(Settings::default(), 200 * S);
    let effects = cluster.pass(200..500, false);
    assert_eq!(happened(&effects, EventKind::PersonNeeded), Vec::<String>::new());
    // it comes back, and stays
    let _ = cluster.open(500 * S, "n1", "s1", None);
    let _ = cluster.pass(500..502, true);
    assert_eq!(cluster.node().recovery.lines[0].waits, "Well");
    let _ = cluster.pass(502..1_102, true);
    assert_eq!(cluster.node().recovery.lines, []);
}

#[test]
fn nobody_is_told_while_an_operator_has_paused_it() {
    let mut cluster = cluster();
    let _ = cluster.pause(2 * S, 400);
    let effects = cluster.pass(2..400, false);
    assert_eq!(happened(&effects, EventKind::PersonNeeded), Vec::<String>::new());
    assert_eq!(cluster.node().recovery.lines[0].waits, "Paused");
    let effects = cluster.pass(400..500, false);
    assert_eq!(happened(&effects, EventKind::PersonNeeded).len(), 1);
}

#[test]
fn what_a_node_tells_is_shown_in_the_masters_time() {
    let mut cluster = cluster();
    let line = RecoveryLine { since: WallTime(50_000), ..RecoveryLine::default() };
    let recovery = RecoveryReport { lines: vec![line], spent: 1, spent_max: 12 };
    let picture = Picture { recovery, ..Picture::default() };
    let clock = Some(WallTime(60_000));
    let report = StatusReport { picture: Some(picture), clock, ..StatusReport::default() };
    let _ = cluster.say(20 * S, "n1", "s1", ToMaster::Status(Box::new(report)));
    assert_eq!(cluster.node().recovery.lines[0].since, WallTime(10_000));
}

#[test]
fn a_node_is_probed_now_and_then_and_when_somebody_asks_one_at_a_time() {
    let mut cluster = cluster();
    let mut first = (2..=301).filter_map(|second| {
        Some((second, probes(&cluster.pass(second..second + 1, true)).pop()?))
    });
    let (second, first) = first.next().unwrap();
    let asked = probes(&cluster.probe(second * S));
    assert_eq!(asked, Vec::<String>::new(), "the one that is under way will answer it");
    let late = second + 20;
    let _ = cluster.pass(second..late, true);
    let parts = vec![proof("podman", true), proof("disk", true)];
    let answer = ToMaster::Probed { id: first.clone(), parts };
    // it was given up long ago: nobody waits for it any more
    assert_eq!(replies(&cluster.say(late * S, "n1", "s1", answer.clone())), 0);
    let asked = cluster.probe(late * S);
    let [second] = &probes(&asked)[..] else { panic!("{asked:?}") };
    assert_eq!(replies(&cluster.say(late * S, "n1", "s1", answer)), 0, "an old answer is none");
    let parts = vec![proof("podman", true), proof("disk", false)];
    let answer = ToMaster::Probed { id: second.clone(), parts };
    assert_eq!(replies(&cluster.say((late + 1) * S, "n1", "s1", answer)), 1);
    let probe = cluster.node().probe.unwrap();
    let parts: Vec<_> = probe.parts.iter().map(|part| (part.name.as_str(), part.ok)).collect();
    assert_eq!(parts, [("loop", true), ("podman", true), ("disk", false)]);
    assert_eq!(probe.parts[0].took_ms, 997);
    let failed = |cluster: &Cluster| {
        let id = NodeId::parse("node", "n1").unwrap();
        cluster.machine.has_condition(&id, ConditionKind::ProbeFailed)
    };
    assert!(failed(&cluster));
    assert_eq!(cluster.status("n1"), Some(NodeStatus::Ready), "it is a finding, and no verdict");
}

#[test]
fn a_probe_that_is_not_answered_is_a_finding_and_no_hang() {
    let mut cluster = cluster();
    let asked = cluster.probe(2 * S);
    assert_eq!(probes(&asked).len(), 1);
    let effects = cluster.pass(3..18, true);
    assert_eq!(replies(&effects), 1, "whoever asked is told what was found");
    let part = &cluster.node().probe.unwrap().parts[0];
    assert_eq!((part.name.as_str(), part.ok), ("loop", false));
    assert_eq!(part.problem, "no answer within 15 s");
}
