//! What recovery may do, and what holds of it whatever fails.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::time::{Now, WallTime};

const HOUR_S: u64 = 3600;

fn at(seconds: u64) -> Now {
    let wall = WallTime::from_secs(1_700_000_000 + i64::try_from(seconds).unwrap());
    Now { at: Timestamp::from_millis(seconds * 1000), wall }
}

fn web() -> Failure {
    Failure::Container("web".to_owned())
}

/// A node on which the plan is carried out, second by second.
struct Board {
    policy: Policy,
    hold: Option<Hold>,
    memory: Memory,
    failing: BTreeSet<Failure>,
    /// What was begun: when, for what, which step.
    log: Vec<(u64, Failure, Step)>,
    dice: u64,
    /// What comes of an attempt, at once.
    outcome: Outcome,
}

impl Board {
    fn new(failing: &[Failure]) -> Self {
        Self {
            policy: Policy::default(),
            hold: None,
            memory: Memory::default(),
            failing: failing.iter().cloned().collect(),
            log: Vec::new(),
            dice: 7,
            outcome: Outcome::Failed("it did not help".to_owned()),
        }
    }

    fn second(&mut self, seconds: u64) {
        let now = at(seconds);
        let Self { memory, policy, failing, dice, .. } = self;
        let mut draw = || {
            *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *dice >> 16
        };
        memory.observe(failing, policy, now, &mut draw);
        for line in plan(policy, self.hold, memory, now.at) {
            if line.next != Next::Attempt {
                continue;
            }
            self.log.push((seconds, line.failure.clone(), line.step));
            memory.begin(&line.failure, line.step, now);
            if line.step.is_ours() {
                memory.ended(&line.failure, &self.outcome, policy, now.at, draw());
            }
        }
    }

    fn run(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            self.second(second);
        }
    }

    fn why(&self, seconds: u64) -> Vec<(String, &'static str, Next)> {
        let lines = plan(&self.policy, self.hold, &self.memory, at(seconds).at);
        lines.into_iter().map(|l| (l.failure.to_string(), l.step.name(), l.next)).collect()
    }

    fn steps(&self, failure: &Failure) -> Vec<Step> {
        self.log.iter().filter(|(_, f, _)| f == failure).map(|(_, _, step)| *step).collect()
    }
}

#[test]
fn podman_that_stays_down_is_restarted_three_times_and_then_a_person_is_told() {
    let mut board = Board::new(&[Failure::Podman]);
    board.run(0..HOUR_S / 2);
    let steps = board.steps(&Failure::Podman);
    let first: Vec<_> = steps.iter().take(4).copied().collect();
    let podman = Step::RestartPodman;
    assert_eq!(first, [podman, podman, podman, Step::Alert]);
    assert!(steps[4..].iter().all(|step| *step == podman) && steps.len() > 5, "{steps:?}");
}

#[test]
fn a_reboot_is_made_only_where_it_is_configured_and_twice_a_day_at_most() {
    let mut board = Board::new(&[Failure::Podman]);
    board.policy.reboot = true;
    // well for a while between any two failures
    for hour in 0..20 {
        board.failing = [Failure::Podman].into();
        board.run(hour * HOUR_S..hour * HOUR_S + 1800);
        board.failing.clear();
        board.run(hour * HOUR_S + 1800..(hour + 1) * HOUR_S);
    }
    let reboots = board.log.iter().filter(|(_, _, step)| *step == Step::Reboot).count();
    assert_eq!(reboots, REBOOTS_PER_DAY_MAX);
    let line = board.memory.episodes.len();
    assert_eq!(line, 0, "what was well for long is forgotten");
}

#[test]
fn a_container_that_runs_again_and_stays_is_forgotten() {
    let mut board = Board::new(&[web()]);
    board.run(0..3);
    assert_eq!(board.steps(&web()), [Step::RestartContainer]);
    board.failing.clear();
    board.second(3);
    let until = Some(at(603).at);
    let well = Next::Waits { why: WhyNot::Well, until };
    assert_eq!(board.why(3), [("container/web".to_owned(), "restart-container", well)]);
    board.second(602);
    assert_eq!(board.memory.attempts(&web()), 1);
    board.second(603);
    assert_eq!(board.why(603), []);
}

#[test]
fn what_was_left_alone_stays_so_until_it_has_been_well() {
    let mut board = Board::new(&[web()]);
    board.outcome = Outcome::LeftAlone("an operator has stopped it".to_owned());
    board.run(0..HOUR_S);
    assert_eq!(board.steps(&web()), [Step::RestartContainer]);
    board.failing.clear();
    board.second(HOUR_S);
    board.failing = [web()].into();
    board.run(HOUR_S + 1..HOUR_S + 60);
    assert_eq!(board.steps(&web()).len(), 2);
}

#[test]
fn maintenance_and_a_pause_hold_everything_back() {
    let paused = Hold::Paused { until: at(100).at };
    for (hold, why, until) in
        [(paused, WhyNot::Paused, Some(at(100).at)), (Hold::Maintenance, WhyNot::Maintenance, None)]
    {
        let mut board = Board::new(&[web(), Failure::Podman]);
        board.hold = Some(hold);
        board.run(0..90);
        assert_eq!(board.log, []);
        let waits = Next::Waits { why, until };
        assert_eq!(
            board.why(90),
            [
                ("podman".to_owned(), "restart-podman", waits.clone()),
                ("container/web".to_owned(), "restart-container", waits)
            ]
        );
        board.hold = None;
        board.second(91);
        assert_eq!(board.steps(&Failure::Podman), [Step::RestartPodman]);
        assert_eq!(board.steps(&web()), [], "without Podman no container can be restarted");
    }
}

#[test]
fn a_silent_node_is_given_the_time_of_its_watchdog_and_then_a_person_is_told() {
    let mut board = Board::new(&[Failure::Silent]);
    board.run(0..HOUR_S);
    let told = |step| board.log.iter().find(|(_, _, s)| *s == step).map(|(second, _, _)| *second);
    assert_eq!(told(Step::RestartAgent), Some(0));
    assert_eq!(told(Step::Alert), Some(45));
    assert_eq!(board.log.len(), 2);
    let person = Next::Waits { why: WhyNot::Person, until: None };
    assert_eq!(board.why(HOUR_S), [("node".to_owned(), "alert", person)]);
}

#[test]
fn what_heals_by_itself_in_time_has_its_time_anew() {
    let mut board = Board::new(&[]);
    for minute in 0..30 {
        board.failing = [Failure::Master].into();
        board.run(minute * 60..minute * 60 + 50);
        board.failing.clear();
        board.run(minute * 60 + 50..minute * 60 + 60);
    }
    let steps = board.steps(&Failure::Master);
    assert!(steps.iter().all(|step| *step == Step::Reconnect), "{steps:?}");
}

#[test]
fn a_restart_of_the_agent_gives_no_fresh_budget_and_tells_nobody_twice() {
    let mut board = Board::new(&[web()]);
    board.run(0..1500);
    let before = board.log.len();
    let spent = board.memory.spent(at(1500).at);
    let stored = serde_json::to_string(&board.memory).unwrap();
    board.memory = serde_json::from_str(&stored).unwrap();
    // a new process: its own clock begins anew
    board.memory.restore(Now { at: at(0).at, wall: at(1500).wall });
    assert_eq!(board.memory.spent(at(0).at), spent);
    board.run(0..1500);
    let after = &board.log[before..];
    assert!(!after.iter().any(|(_, _, step)| *step == Step::Alert), "{after:?}");
    assert!(after.len() + spent <= board.policy.attempts_per_hour_max, "{after:?}");
}

#[test]
fn what_operators_force_takes_nothing_from_what_is_done_without_them() {
    let mut board = Board::new(&[Failure::Podman]);
    board.policy.reboot = true;
    for second in 0..20 {
        let step = if second % 2 == 0 { Step::RestartPodman } else { Step::Reboot };
        board.memory.observe(&board.failing, &board.policy, at(second), &mut || 0);
        board.memory.begin_forced(&Failure::Podman, step, at(second));
        let under_way =
            Next::Waits { why: WhyNot::UnderWay, until: Some((at(second).at) + step.window()) };
        assert_eq!(board.why(second)[0].2, under_way, "nothing is done beside it");
        let over =
            board.memory.ended(&Failure::Podman, &board.outcome, &board.policy, at(second).at, 0);
        assert!(over);
    }
    assert_eq!((board.memory.spent(at(20).at), board.memory.attempts(&Failure::Podman)), (0, 0));
    board.run(20..HOUR_S / 2);
    let podman = Step::RestartPodman;
    let first: Vec<_> = board.steps(&Failure::Podman).into_iter().take(5).collect();
    assert_eq!(first, [podman, podman, podman, Step::Reboot, Step::Alert]);
}

#[test]
fn only_what_is_a_containers_is_forced_with_one_and_that_never_without() {
    for (step, container, wrong) in [
        (Step::RestartContainer, "web", None),
        (Step::RestartContainer, "", Some("container: is missing")),
        (Step::RestartPodman, "", None),
        (
            Step::RestartPodman,
            "web",
            Some("container: is for restart-container, not restart-podman"),
        ),
        (Step::Reboot, "web", Some("container: is for restart-container, not reboot")),
        (Step::Alert, "", Some("step: happens by itself")),
    ] {
        let why = step.check_forced(container).err().map(|error| error.to_string());
        let is_so = match (&why, wrong) {
            (Some(why), Some(wrong)) => why.starts_with(wrong),
            (why, wrong) => why.is_none() && wrong.is_none(),
        };
        assert!(is_so, "{step:?} {container:?}: {why:?}");
    }
}

#[test]
fn what_is_told_is_for_people_and_programs() {
    let mut board = Board::new(&[Failure::Podman]);
    board.run(0..12);
    let lines = plan(&board.policy, None, &board.memory, at(12).at);
    let told = lines[0].told(&board.policy, at(12));
    assert_eq!(told.failure, "podman");
    assert_eq!(told.ladder, "restart-podman x3 > reboot (off) > alert");
    assert_eq!((told.step.as_str(), told.attempts), ("restart-podman", 1));
    assert_eq!((told.waits.as_str(), told.since), ("BackOff", at(0).wall));
    assert!(told.next_at.is_some_and(|next| next > at(12).wall && next <= at(60).wall));
}

#[derive(Debug, Clone)]
enum Move {
    Fail(u8),
    Heal(u8),
    Wait(u16),
    Pause(bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (0..40u8).prop_map(Move::Fail),
        2 => (0..40u8).prop_map(Move::Heal),
        4 => (1..900u16).prop_map(Move::Wait),
        1 => any::<bool>().prop_map(Move::Pause),
    ];
    prop::collection::vec(one, 1..60)
}

fn numbered(number: u8) -> Failure {
    match number {
        0 => Failure::Podman,
        1 => Failure::StateFolder,
        2 => Failure::Master,
        _ => Failure::Container(format!("c{number}")),
    }
}

fn play(moves: &[Move], dice: u64, reboot: bool) -> Board {
    let mut board = Board::new(&[]);
    (board.dice, board.policy.reboot) = (dice, reboot);
    let mut now = 0;
    for one in moves {
        match one {
            Move::Fail(number) => drop(board.failing.insert(numbered(*number))),
            Move::Heal(number) => drop(board.failing.remove(&numbered(*number))),
            Move::Pause(on) => {
                board.hold = on.then_some(Hold::Paused { until: at(1 << 30).at });
            }
            Move::Wait(seconds) => {
                let before = board.log.len();
                board.run(now..now + u64::from(*seconds));
                now += u64::from(*seconds);
                let paused = board.hold.is_some();
                assert!(!paused || board.log.len() == before, "something was done in a pause");
            }
        }
    }
    board
}

/// More than the budget in no hour, however it is laid.
fn within_budget(board: &Board) {
    let ours: Vec<_> = board.log.iter().filter(|(_, _, step)| step.is_ours()).collect();
    for (i, (start, ..)) in ours.iter().enumerate() {
        let hour = ours[i..].iter().take_while(|(second, ..)| *second < start + HOUR_S).count();
        assert!(hour <= board.policy.attempts_per_hour_max, "{hour} attempts from {start} s on");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_storm_gets_more_than_the_budget(moves in moves(), dice: u64, reboot: bool) {
        within_budget(&play(&moves, dice, reboot));
    }

    #[test]
    fn the_same_inputs_give_the_same_plan(moves in moves(), dice: u64, reboot: bool) {
        let (one, other) = (play(&moves, dice, reboot), play(&moves, dice, reboot));
        prop_assert_eq!(one.log, other.log);
        prop_assert_eq!(one.memory, other.memory);
    }

    #[test]
    fn between_two_attempts_passes_ever_more_time_while_it_fails(dice: u64, podman: bool) {
        let failure = if podman { Failure::Podman } else { web() };
        let mut board = Board::new(std::slice::from_ref(&failure));
        board.dice = dice;
        board.policy.attempts_per_hour_max = 1000;
        board.run(0..4 * HOUR_S);
        let at: Vec<_> =
            board.log.iter().filter(|(_, _, s)| s.is_ours()).map(|(second, ..)| *second).collect();
        let waits: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // to the second, in which the board looks
        prop_assert!(waits.windows(2).all(|pair| pair[0] <= pair[1] + 1), "{waits:?}");
        let longest = waits.iter().max().copied().unwrap_or(0);
        prop_assert!((150..=301).contains(&longest), "{longest}");
    }

    #[test]
    fn a_person_is_told_of_what_does_not_get_well_and_once(
        failing in prop::collection::btree_set(0..40u8, 1..20),
        dice: u64,
        reboot: bool,
    ) {
        let failing: Vec<_> = failing.into_iter().map(numbered).collect();
        // what waits for Podman is Podman's trouble
        let failing: Vec<_> = failing.into_iter().filter(|f| *f != Failure::Podman).collect();
        let mut board = Board::new(&failing);
        (board.dice, board.policy.reboot) = (dice, reboot);
        board.run(0..6 * HOUR_S);
        let mut told = BTreeMap::new();
        for (_, failure, step) in &board.log {
            *told.entry(failure.clone()).or_insert(0) += u32::from(*step == Step::Alert);
        }
        for failure in failing {
            prop_assert_eq!(told.get(&failure), Some(&1), "{}", failure);
        }
    }
}

#[test]
fn a_board_that_boots_is_waited_for_and_its_silence_is_worked_on_afterwards() {
    let mut board = Board::new(&[Failure::Silent]);
    let until = at(300).at;
    board.hold = Some(Hold::Reboots { until });
    board.run(0..300);
    let waits = Next::Waits { why: WhyNot::Reboot, until: Some(until) };
    assert_eq!(board.why(299), [("node".to_owned(), "reboot", waits)]);
    assert_eq!(board.log, []);
    board.hold = None;
    board.run(300..400);
    assert_eq!(board.steps(&Failure::Silent), [Step::RestartAgent, Step::Alert]);
}
