//! What an agent does about what fails on its board.

use super::*;
use crate::{
    action_controller::recovery::Outcome,
    model::{ContainerReport, RestartPolicy},
    node_agent::recover::{Ended, handled_elsewhere, stopped_units, why_no_reboot},
};

const S: u64 = 1000;

fn web(state: &str, code: i32) -> ContainerReport {
    ContainerReport {
        exit_code: Some(code),
        restart: RestartPolicy::OnFailure,
        ..container("web", state)
    }
}

fn down() -> Input {
    let runtime = Runtime::Down { why: "nobody listens".to_owned() };
    Input::Observed(Observation { runtime, containers: Vec::new() })
}

/// Serves its deadlines until then.
fn until(agent: &mut NodeAgent, ms: u64) -> Vec<Effect> {
    let mut all = Vec::new();
    while let Some(deadline) = agent.deadline().filter(|deadline| deadline.at <= at(ms).at) {
        all.extend(agent.handle_deadline(at(deadline.at.0.div_ceil(1000))));
        // the master is heard all the time
        let now = at(deadline.at.0.div_ceil(1000));
        all.extend(agent.handle(now, Input::FromMaster(ToAgent::Beat)));
    }
    all
}

fn member() -> NodeAgent {
    let mut agent = agent(Snapshot::default(), CERTIFIED);
    let _ = in_session(&mut agent, 10);
    let _ = agent.handle(at(20), sent_config(1, "c1"));
    agent
}

fn steps(effects: &[Effect]) -> Vec<(String, Step)> {
    let step = |effect: &Effect| match effect {
        Effect::Recover { failure, step, .. } => Some((failure.to_string(), *step)),
        _ => None,
    };
    effects.iter().filter_map(step).collect()
}

fn recorded(effects: &[Effect], kind: EventKind) -> Vec<String> {
    let message = |effect: &Effect| match effect {
        Effect::JournalAppend(entry) if entry.kind == kind => Some(entry.message.clone()),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

fn orders(paused_s: u64, maintenance: bool) -> Input {
    let paused_for = Duration::from_secs(paused_s);
    Input::FromMaster(ToAgent::Recovery(RecoveryOrders { paused_for, maintenance }))
}

fn force(step: Step, container: &str) -> Input {
    let command = AgentCommand::Recover { step, container: container.to_owned() };
    Input::FromMaster(ToAgent::Command { id: "f1".to_owned(), command })
}

fn answers(effects: &[Effect]) -> Vec<(bool, String)> {
    let answer = |effect: &Effect| match effect {
        Effect::Send(ToMaster::CommandResult { success, message, .. }) => {
            Some((*success, message.clone()))
        }
        _ => None,
    };
    effects.iter().filter_map(answer).collect()
}

#[test]
fn a_container_that_asks_for_it_is_started_again_and_told_about() {
    let mut agent = member();
    let _ = agent.handle(at(S), observed(vec![web("running", 0)]));
    let died = agent.handle(at(2 * S), observed(vec![web("exited", 3)]));
    assert_eq!(steps(&died), []);
    let effects = until(&mut agent, 5 * S);
    assert_eq!(steps(&effects), [("container/web".to_owned(), Step::RestartContainer)]);
    assert_eq!(
        recorded(&effects, EventKind::RecoveryAttempted),
        ["recovery of container/web: restart-container, attempt 1"]
    );
    let kept = effects.iter().position(|e| matches!(e, Effect::SaveLedger(_)));
    let done = effects.iter().position(|e| matches!(e, Effect::Recover { .. }));
    assert!(kept < done, "it is remembered before it is done");
    let failure = Failure::Container("web".to_owned());
    let effects = agent.handle(at(6 * S), Input::Recovered { failure, outcome: Outcome::Done });
    assert_eq!(
        recorded(&effects, EventKind::RecoveryEnded),
        ["recovery of container/web: attempt done"]
    );
}

#[test]
fn who_does_not_ask_is_left_alone() {
    let mut agent = member();
    let silent = |state: &str| container("web", state);
    let _ = agent.handle(at(S), observed(vec![silent("running"), web("running", 0)]));
    let dead = ContainerReport { exit_code: Some(1), ..silent("exited") };
    let _ = agent.handle(at(2 * S), observed(vec![dead, web("exited", 0)]));
    assert_eq!(steps(&until(&mut agent, 600 * S)), [], "no label, or no failure");
}

#[test]
fn podman_that_does_not_answer_is_restarted_and_containers_wait_for_it() {
    let mut agent = member();
    let _ = agent.handle(at(S), observed(vec![web("exited", 1)]));
    let _ = agent.handle(at(S), down());
    let effects = until(&mut agent, 20 * S);
    assert_eq!(steps(&effects), [("podman".to_owned(), Step::RestartPodman)]);
    let report = agent.recovery_report(at(20 * S));
    let waits: Vec<_> =
        report.lines.iter().map(|l| (l.failure.as_str(), l.waits.as_str())).collect();
    assert_eq!(waits, [("podman", "UnderWay"), ("container/web", "Podman")]);
    assert_eq!((report.spent, report.spent_max), (1, 12));
    // nobody says what became of it
    let effects = until(&mut agent, 90 * S);
    let ended = recorded(&effects, EventKind::RecoveryEnded);
    assert_eq!(ended, ["recovery of podman: restart-podman failed: it has not ended in time"]);
}

#[test]
fn a_pause_outlives_the_session_and_the_agent() {
    let mut agent = member();
    let saved = agent.handle(at(30), orders(3600, false));
    assert!(matches!(saved[..], [Effect::SaveLedger(_)]), "{saved:?}");
    assert_eq!(agent.handle(at(40), orders(3599, false)), [], "the same pause is not saved again");
    let _ = agent.handle(at(S), down());
    assert_eq!(steps(&until(&mut agent, 600 * S)), []);
    // it starts anew, without a master
    let snapshot = Snapshot { ledger: agent.ledger().clone(), ..Snapshot::default() };
    let mut agent = agent_with(snapshot, Standing::None { token: false }, None);
    let _ = agent.handle(at(0), down());
    let report = agent.recovery_report(at(1));
    assert_eq!(report.lines[0].waits, "Paused");
    assert_eq!(steps(&until(&mut agent, 3_500 * S)), []);
    assert_eq!(steps(&until(&mut agent, 3_650 * S)).len(), 1, "when it is over, it is over");
}

#[test]
fn maintenance_holds_until_the_master_says_otherwise() {
    let mut agent = member();
    let _ = agent.handle(at(30), orders(0, true));
    let _ = agent.handle(at(S), down());
    assert_eq!(steps(&until(&mut agent, 600 * S)), []);
    let effects = agent.handle(at(600 * S), orders(0, false));
    assert_eq!(steps(&effects), [("podman".to_owned(), Step::RestartPodman)]);
}

#[test]
fn a_forced_step_goes_before_a_pause_and_is_refused_where_it_cannot_be() {
    let mut agent = member();
    let _ = agent.handle(at(30), orders(3600, false));
    let _ = agent.handle(at(S), observed(vec![web("running", 0)]));
    let effects = agent.handle(at(2 * S), force(Step::RestartPodman, ""));
    assert_eq!(answers(&effects), [(true, "restart-podman of podman has begun".to_owned())]);
    assert_eq!(steps(&effects), [("podman".to_owned(), Step::RestartPodman)]);
    for (step, container, why) in [
        (Step::RestartPodman, "", "an attempt at podman is under way already"),
        (Step::RestartContainer, "db", "there is no container db here"),
        (
            Step::Reboot,
            "",
            "reboot is off in the configuration of this node, and was not done; to allow it, set \
             recovery.reboot: true in its nodeagent.yaml and restart its agent",
        ),
        (Step::Reconnect, "", "reconnect happens by itself"),
    ] {
        let effects = agent.handle(at(3 * S), force(step, container));
        assert_eq!((steps(&effects), answers(&effects)), (vec![], vec![(false, why.to_owned())]));
    }
    let effects = agent.handle(at(4 * S), force(Step::RestartContainer, "web"));
    assert_eq!(steps(&effects), [("container/web".to_owned(), Step::RestartContainer)]);
    // as where podman_units is [], and where podman.socket is another one
    let mut agent = member();
    agent.settings.recovery.podman = false;
    let [(false, why)] = &answers(&agent.handle(at(S), force(Step::RestartPodman, "")))[..] else {
        panic!("it is off");
    };
    assert!(why.contains("recovery.podman_units in its nodeagent.yaml"), "{why}");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_told_to_a_person_once() {
    let mut agent = member();
    let full = || Input::StateFolder { problem: Some("no space left".to_owned()) };
    let _ = agent.handle(at(S), full());
    let effects = until(&mut agent, 3_600 * S);
    let message = "state-folder does not get well, 0 attempts were made";
    assert_eq!(recorded(&effects, EventKind::PersonNeeded), [message]);
    assert_eq!(steps(&effects), [], "a reboot was not allowed");
}

/// What a person is told by an agent that lived as long as these effects were carried out, and then started anew.
fn told_after_a_crash(done: &[Effect]) -> usize {
    let mut snapshot = Snapshot { next_sequence: 1, ..Snapshot::default() };
    for effect in done {
        match effect {
            Effect::SaveLedger(ledger) => snapshot.ledger = ledger.clone(),
            Effect::JournalAppend(entry) => {
                snapshot.next_sequence = entry.sequence + 1;
                snapshot.journal.push(entry.clone());
            }
            _ => {}
        }
    }
    let mut again = agent(snapshot, CERTIFIED);
    let _ = in_session(&mut again, 10);
    let _ = again.handle(at(20), down());
    let told = done.iter().cloned().chain(until(&mut again, 3_600 * S));
    recorded(&told.collect::<Vec<_>>(), EventKind::PersonNeeded).len()
}

#[test]
fn a_person_is_told_once_whenever_the_agent_dies() {
    let mut agent = member();
    let mut effects = agent.handle(at(S), down());
    effects.extend(until(&mut agent, 1_800 * S));
    assert_eq!(recorded(&effects, EventKind::PersonNeeded).len(), 1);
    let written = |e: &Effect| matches!(e, Effect::SaveLedger(_) | Effect::JournalAppend(_));
    for lived in (0..effects.len()).filter(|i| written(&effects[*i])) {
        assert_eq!(told_after_a_crash(&effects[..=lived]), 1, "{:?}", effects[lived]);
    }
}

#[test]
fn without_a_master_the_uplink_is_given_its_time_and_then_a_person_is_told() {
    let mut agent = member();
    let _ = agent.handle(at(S), Input::Disconnected { why: "the cable is out".to_owned() });
    let mut effects = Vec::new();
    for second in 1..1_200 {
        effects.extend(agent.handle_deadline(at(second * S)));
        let _ = agent.handle(at(second * S), Input::ConnectFailed { why: "no route".to_owned() });
    }
    let told = recorded(&effects, EventKind::PersonNeeded);
    assert_eq!(told, ["master does not get well, 1 attempts were made"]);
}

/// An agent that may reboot, in this boot of its board, with what its life before has left on the disk; and
/// what its start does.
fn may_reboot(boot: &str, ledger: Ledger) -> (NodeAgent, Vec<Effect>) {
    let snapshot = Snapshot { ledger, ..Snapshot::default() };
    let mut agent = agent(snapshot, CERTIFIED);
    agent.settings.recovery.reboot = true;
    agent.boot = boot.to_owned();
    let started = agent.handle_deadline(at(0));
    let _ = in_session(&mut agent, 10);
    (agent, started)
}

/// What is on the disk when the reboot begins.
fn saved(effects: &[Effect]) -> Ledger {
    let is_reboot = |effect: &Effect| matches!(effect, Effect::Recover { step: Step::Reboot, .. });
    let before = effects.iter().take_while(|effect| !is_reboot(effect));
    let saved = before.filter_map(|effect| match effect {
        Effect::SaveLedger(ledger) => Some(ledger.clone()),
        _ => None,
    });
    saved.last().expect("it is remembered before it is done")
}

#[test]
fn a_reboot_is_booked_as_the_nodes_own_and_what_became_of_it_is_told_after_the_boot() {
    let (mut agent, _) = may_reboot("first", Ledger::default());
    let _ = agent.handle(at(S), observed(vec![]));
    let effects = agent.handle(at(2 * S), force(Step::Reboot, ""));
    assert_eq!(answers(&effects), [(true, "reboot of system has begun".to_owned())]);
    assert_eq!(steps(&effects), [("system".to_owned(), Step::Reboot)]);
    let attempted = recorded(&effects, EventKind::RecoveryAttempted);
    assert_eq!(attempted, ["recovery of system: reboot, an operator wants it"]);
    let report = agent.recovery_report(at(3 * S));
    let line = &report.lines[0];
    let booked = (line.failure.as_str(), line.step.as_str(), line.ladder.as_str());
    assert_eq!((booked, report.lines.len()), (("system", "reboot", "reboot"), 1));
    // a start of the agent alone is no boot
    let mut ledger = saved(&effects);
    for (boot, told) in [("first", 0), ("second", 1), ("third", 0)] {
        let (agent, started) = may_reboot(boot, ledger);
        let expected = vec!["recovery of system: reboot done"; told];
        assert_eq!(recorded(&started, EventKind::RecoveryEnded), expected, "{boot}");
        assert_eq!(agent.recovery_report(at(30)).spent, 0, "it was an operator's");
        ledger = agent.ledger().clone();
    }
}

#[test]
fn a_boot_that_did_not_help_is_followed_by_a_person_and_not_by_another_boot() {
    let (mut agent, _) = may_reboot("first", Ledger { generation: 1, ..Ledger::default() });
    let _ = agent.handle(at(S), down());
    let mut effects = Vec::new();
    while !steps(&effects).iter().any(|(_, step)| *step == Step::Reboot) {
        let due = agent.deadline().expect("the ladder goes on").at;
        effects.extend(until(&mut agent, due.0.div_ceil(1000)));
    }
    let names: Vec<_> = steps(&effects).iter().map(|(_, step)| step.name()).collect();
    assert_eq!(names, ["restart-podman", "restart-podman", "restart-podman", "reboot"]);
    let (mut agent, _) = may_reboot("second", saved(&effects));
    assert_eq!(agent.recovery_report(at(30)).spent, 4, "a boot gives no fresh budget");
    let _ = agent.handle(at(S), down());
    let effects = until(&mut agent, 3_600 * S);
    assert_eq!(recorded(&effects, EventKind::PersonNeeded).len(), 1);
    assert!(steps(&effects).iter().all(|(_, step)| *step != Step::Reboot), "{effects:?}");
}

#[test]
fn a_reboot_that_could_not_be_counted_waits_until_the_node_has_been_up_for_long() {
    let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
    for (failure, counted, up_for, may) in [
        (Failure::Podman, true, hours(0), true),
        (Failure::Podman, true, None, true),
        (Failure::Podman, false, hours(11), false),
        (Failure::Podman, false, None, false),
        (Failure::Podman, false, hours(12), true),
        (Failure::StateFolder, false, hours(12), true),
        // what counted it is what it was to be done for
        (Failure::StateFolder, true, hours(12), false),
    ] {
        let why_not = why_no_reboot(&failure, counted, up_for);
        assert_eq!(why_not.is_none(), may, "{failure} {counted} {up_for:?}");
    }
}

#[track_caller]
fn left_alone(change: impl Fn(&mut Ended), expected: Option<&str>) {
    let mut ended = Ended { exit_code: 3, ..Ended::default() };
    change(&mut ended);
    let why = handled_elsewhere(&ended);
    match expected {
        Some(part) => {
            assert!(why.as_ref().is_some_and(|w| w.contains(part)), "{why:?} has no {part}")
        }
        None => assert_eq!(why, None),
    }
}

#[test]
fn what_others_look_after_or_have_stopped_is_not_started() {
    left_alone(|_| {}, None);
    left_alone(|e| e.running = true, Some("runs again"));
    left_alone(|e| e.unit = Some("web.service".to_owned()), Some("web.service"));
    left_alone(|e| e.podman_policy = "no".to_owned(), None);
    left_alone(|e| e.podman_policy = "always".to_owned(), Some("restart policy always"));
    left_alone(|e| e.stopped_by_user = true, Some("an operator has stopped it"));
    for code in [0, 130, 137, 143] {
        left_alone(|e| e.exit_code = code, Some("does not tell"));
        left_alone(|e| (e.exit_code, e.tells_who_stopped) = (code, true), None);
        left_alone(|e| (e.exit_code, e.out_of_memory) = (code, true), None);
    }
    for (states, alone) in [
        ("inactive inactive", true),
        ("failed inactive", false),
        ("active active", false),
        ("active failed", false),
    ] {
        assert_eq!(stopped_units(states.split(' ')).is_some(), alone, "{states}");
    }
}
