//! What a node tells of while it is alone, as stories: what it sees, second by second, and what its channel is told.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test picks the effects that it is about")]

use RestartPolicy::{Always, No, OnFailure};

use super::{super::tests as agents, *};
use crate::node_agent::{Input, Ledger, NodeAgent, Observation, Runtime, Snapshot};

fn at(seconds: u64) -> Now {
    agents::at(seconds * 1000)
}

fn local() -> Local {
    Local { channel: true, ..Local::default() }
}

fn kept(alerts: Kept) -> Snapshot {
    let ledger =
        Ledger { generation: 1, config: Some(agents::config("c1")), alerts, ..Ledger::default() };
    Snapshot { ledger, ..Snapshot::default() }
}

/// A member of a cluster that is alone from its start, and its disk.
struct Node {
    agent: NodeAgent,
    settings: Local,
    ledger: Ledger,
    /// What its channel makes of it.
    answer: Result<(), String>,
    story: Vec<String>,
}

impl Node {
    fn new(settings: Local) -> Self {
        let agent = agents::agent_that_alerts(kept(Kept::default()), settings.clone());
        let ledger = agent.ledger().clone();
        Self { agent, settings, ledger, answer: Ok(()), story: Vec::new() }
    }

    fn take(&mut self, now: Now, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::TellLocally(notice) => {
                    let kind = notice.key.rsplit('/').next().unwrap_or_default().to_owned();
                    let LocalAlert { rule, container, .. } = &notice.alert;
                    let seconds = now.at.0 / 1_000_000;
                    self.story.push(format!("{seconds} {kind} {rule}{container}"));
                    let told = Input::ToldLocally(self.answer.clone());
                    let effects = self.agent.handle(now, told);
                    self.take(now, effects);
                }
                Effect::SaveLedger(ledger) => self.ledger = ledger,
                Effect::JournalAppend(entry) if entry.kind == EventKind::NotificationFailed => {
                    self.story.push("given up".to_owned());
                }
                _ => {}
            }
        }
    }

    fn sees(&mut self, seconds: u64, runtime: Runtime, containers: Vec<ContainerReport>) {
        self.is_told(seconds, Input::Observed(Observation { runtime, containers }));
    }

    fn is_told(&mut self, seconds: u64, input: Input) {
        let effects = self.agent.handle(at(seconds), input);
        self.take(at(seconds), effects);
    }

    /// Every second, as its deadlines ask for.
    fn lives(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            let effects = self.agent.handle_deadline(at(second));
            self.take(at(second), effects);
        }
    }

    fn restarts(&mut self) {
        let snapshot = kept(self.ledger.alerts.clone());
        self.agent = agents::agent_that_alerts(snapshot, self.settings.clone());
    }
}

fn up() -> Runtime {
    Runtime::Up { version: "5.0".to_owned() }
}

fn down() -> Runtime {
    Runtime::Down { why: "no answer".to_owned() }
}

fn web(state: &str, exit_code: Option<i32>, restart: RestartPolicy) -> ContainerReport {
    ContainerReport { exit_code, restart, ..agents::container("web", state) }
}

#[test]
fn what_holds_for_long_is_told_once_and_its_end_too() {
    let mut node = Node::new(local());
    node.sees(0, up(), vec![]);
    node.lives(0..10);
    node.sees(10, down(), vec![]);
    node.lives(11..200);
    node.sees(200, up(), vec![]);
    node.lives(201..300);
    let told =
        ["60 firing MasterLost", "70 firing PodmanUnavailable", "260 resolved PodmanUnavailable"];
    assert_eq!(node.story, told);
    assert_eq!(node.ledger.alerts.firing.len(), 1, "the master is still lost");
}

#[test]
fn what_flaps_is_told_once() {
    let mut node = Node::new(local());
    for round in 0..10 {
        node.sees(round * 100, if round == 0 { up() } else { down() }, vec![]);
        node.lives(round * 100 + 1..round * 100 + 70);
        node.sees(round * 100 + 70, up(), vec![]);
        node.lives(round * 100 + 71..round * 100 + 100);
    }
    assert_eq!(node.story, ["60 firing MasterLost", "160 firing PodmanUnavailable"]);
    let mut node = Node::new(Local { channel: false, ..local() });
    for round in 0..10 {
        node.sees(round * 60, if round % 2 == 0 { up() } else { down() }, vec![]);
        node.lives(round * 60 + 1..round * 60 + 60);
    }
    assert_eq!(node.ledger.alerts, Kept::default(), "never down for a minute");
}

#[test]
fn a_container_is_told_of_where_it_is_to_run() {
    let told = |container: ContainerReport| {
        let mut node = Node::new(local());
        node.sees(0, up(), vec![container]);
        node.lives(0..100);
        node.story.split_off(1)
    };
    let stopped = ["61 firing ContainerStoppedweb"];
    assert_eq!(told(web("exited", Some(1), OnFailure)), stopped);
    assert_eq!(told(web("exited", Some(0), Always)), stopped);
    assert!(told(web("exited", Some(0), OnFailure)).is_empty());
    assert!(told(web("exited", Some(1), No)).is_empty());
    let sick = ContainerReport { health: "unhealthy".to_owned(), ..web("running", None, No) };
    assert_eq!(told(sick), ["61 firing ContainerUnhealthyweb"]);
}

#[test]
fn while_a_master_is_there_it_tells_and_only_who_wants_it_does_too() {
    let story = |settings: Local| {
        let mut node = Node::new(settings);
        let effects = agents::in_session(&mut node.agent, 10);
        node.take(at(0), effects);
        node.sees(1, down(), vec![]);
        for second in 2..100 {
            // the session lives on
            node.is_told(second, Input::FromMaster(crate::session::ToAgent::Beat));
            node.lives(second..second + 1);
        }
        node.story
    };
    assert!(story(local()).is_empty());
    let always = Local { when: When::Always, ..local() };
    assert_eq!(story(always), ["61 firing PodmanUnavailable"]);
}

#[test]
fn a_restart_forgets_nothing_and_tells_nothing_twice() {
    let mut node = Node::new(local());
    node.answer = Err("no horn".to_owned());
    node.sees(0, down(), vec![]);
    node.lives(0..61);
    assert_eq!(node.ledger.alerts.waiting.len(), 2);
    node.answer = Ok(());
    node.story.clear();
    node.restarts();
    node.lives(0..3);
    assert_eq!(node.story, ["0 firing MasterLost", "1 firing PodmanUnavailable"]);
    node.story.clear();
    node.restarts();
    // Podman has not been looked at yet: that is no end
    node.lives(0..100);
    node.sees(100, down(), vec![]);
    node.lives(101..400);
    assert_eq!(node.story, Vec::<String>::new());
}

#[test]
fn a_channel_that_fails_is_tried_ever_less_often_until_it_is_given_up() {
    let mut node = Node::new(local());
    node.answer = Err("no horn".to_owned());
    node.lives(0..200);
    let lost = "firing MasterLost";
    let times = [60, 61, 63, 67, 75, 91, 123, 187].map(|second| format!("{second} {lost}"));
    assert_eq!(node.story, times);
    for minute in 4..60 * 26 {
        node.lives(minute * 60..minute * 60 + 1);
    }
    assert_eq!(node.story.last().map(String::as_str), Some("given up"));
    assert_eq!(node.story.len() - 1, usize::try_from(ATTEMPTS_MAX).unwrap());
}

#[test]
fn a_channel_that_never_answers_fills_no_memory() {
    let mut node = Node::new(local());
    node.answer = Err("no horn".to_owned());
    let many = |state: &str| {
        let one = |n: usize| ContainerReport {
            id: n.to_string(),
            name: format!("web-{n}"),
            ..web(state, (state == "exited").then_some(1), RestartPolicy::Always)
        };
        (0..PROBLEMS_MAX * 2).map(one).collect::<Vec<_>>()
    };
    node.sees(0, up(), many("exited"));
    node.lives(0..100);
    node.sees(100, up(), many("running"));
    node.lives(101..300);
    assert_eq!(node.ledger.alerts.waiting.len(), WAITING_MAX);
    assert!(node.story.iter().any(|line| line == "given up"));
}

#[test]
fn in_maintenance_and_before_it_is_a_member_a_node_is_silent() {
    let silent = |snapshot: Snapshot| {
        let agent = agents::agent_that_alerts(snapshot, local());
        let mut node = Node { agent, ..Node::new(local()) };
        node.sees(0, down(), vec![]);
        node.lives(0..300);
        node.story.is_empty()
    };
    assert!(silent(Snapshot::default()));
    let mut snapshot = kept(Kept::default());
    snapshot.ledger.maintenance = true;
    assert!(silent(snapshot));
    assert!(!silent(kept(Kept::default())));
}
