//! Scripts that a person can read: what is done, a line of dashes, and what watchers then saw.
//!
//! ```text
//! nodes 3
//! run 20s
//! ----
//!    1.0s node-1 Initializing
//! ```
//!
//! A block ends at an empty line. Lines that begin with `#` tell why. Nothing happens but what a script
//! says: no losses, no drift, one millisecond each way; or `nodes 1 delay=200ms beat=5s silence=15s
//! certificates=60s`.

use std::time::Duration;

use piccolo_core::state_manager::{Approval, Request};

use crate::{
    Violation,
    clock::SECOND,
    plan::{Fault, Plan},
    world::{Purpose, Who, World},
};

/// Plays a script and returns it with what was really seen in place of what was expected.
///
/// # Errors
///
/// A line that cannot be understood, or an invariant that did not hold.
pub fn play(script: &str) -> Result<String, String> {
    let mut world: Option<World> = None;
    let mut played = String::new();
    let mut expecting = false;
    for (number, line) in script.lines().enumerate() {
        let text = line.trim();
        if text.is_empty() {
            expecting = false;
            played.push('\n');
        } else if text.starts_with('#') {
            played += &format!("{line}\n");
        } else if text == "----" {
            expecting = true;
            played += "----\n";
            for seen in world.as_mut().map(World::take_seen).unwrap_or_default() {
                played += &format!("{seen}\n");
            }
        } else if !expecting {
            played += &format!("{line}\n");
            let words: Vec<_> = text.split_whitespace().collect();
            let done = match (&mut world, words.as_slice()) {
                (None, ["nodes", count, rest @ ..]) => begin(count, rest).map(|new| {
                    world = Some(new);
                }),
                (Some(world), words) => command(world, words),
                (None, _) => Err("a script begins with: nodes N".to_owned()),
            };
            done.map_err(|problem| format!("line {}: {text:?}: {problem}", number + 1))?;
        }
    }
    Ok(played)
}

fn begin(count: &str, rest: &[&str]) -> Result<World, String> {
    let count: usize = count.parse().map_err(|_| "not a number of nodes".to_owned())?;
    let mut plan = Plan::quiet(count);
    for word in rest {
        match *word {
            "manual" => plan.approval = Approval::Manual,
            other => setting(&mut plan, other)?,
        }
    }
    let mut world = World::new(1, plan, None, false);
    world.watch_for_people();
    Ok(world)
}

fn setting(plan: &mut Plan, word: &str) -> Result<(), String> {
    let (key, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not known"))?;
    let time = duration(value)?;
    match key {
        "beat" => plan.timing.beat_interval = Duration::from_micros(time),
        "silence" => plan.timing.beat_silence = Duration::from_micros(time),
        "certificates" => plan.certificate_lifetime = Duration::from_micros(time),
        "delay" => plan.delay = (time, time),
        _ => return Err(format!("{key:?} is not known")),
    }
    Ok(())
}

fn broken(violation: &Violation) -> String {
    format!("{}: {}", violation.invariant, violation.what)
}

fn command(world: &mut World, words: &[&str]) -> Result<(), String> {
    match words {
        ["run", time] => {
            let until = world.now + duration(time)?;
            world.run(until).map_err(|violation| broken(&violation))
        }
        ["master", what @ ..] => master(world, what),
        ["store", "stall", time] => {
            world.master.store_stalls_until = world.now + duration(time)?;
            Ok(())
        }
        ["topology", setting] => {
            let (key, value) = setting.split_once('=').ok_or("expected key=value")?;
            world.topology_update([(key.to_owned(), value.to_owned())].into());
            Ok(())
        }
        [verb, node, rest @ ..] => {
            let number: Option<usize> = node.strip_prefix("node-").and_then(|n| n.parse().ok());
            let board = number.filter(|n| (1..=world.boards.len()).contains(n));
            on_board(world, verb, board.ok_or("there is no such node")? - 1, rest)
        }
        _ => Err("not a command".to_owned()),
    }
}

fn master(world: &mut World, what: &[&str]) -> Result<(), String> {
    match what {
        ["crash"] => world.master_dies(false, u64::MAX / 4),
        ["power-off"] => world.master_dies(true, u64::MAX / 4),
        ["boot"] => world.master_boots(),
        ["suspend", time] => world.suspend_master(duration(time)?),
        ["back-up"] => world.back_up(),
        ["set-back"] => world.set_back(SECOND),
        _ => return Err("expected crash, power-off, boot, suspend, back-up or set-back".to_owned()),
    }
    Ok(())
}

fn on_board(world: &mut World, verb: &str, b: usize, rest: &[&str]) -> Result<(), String> {
    let node = format!("node-{}", b + 1);
    match (verb, rest) {
        ("partition", ways) => {
            let (up, down) = match ways {
                ["up"] => (true, false),
                ["down"] => (false, true),
                [] => (true, true),
                _ => return Err("expected up, down or nothing".to_owned()),
            };
            world.cut(b, up, down, u64::MAX / 4);
        }
        ("heal", []) => {
            world.boards[b].link.heals_at = world.now;
            world.link_heals(b);
        }
        ("reset", []) => world.stream_fault(Fault::Reset, b),
        ("crash", []) => world.agent_dies(b, false),
        ("power-off", []) => world.agent_dies(b, true),
        ("boot", []) => world.agent_boots(b),
        ("clockless", []) => world.boards[b].clockless = true,
        ("suspend", [time]) => world.suspend_agent(b, duration(time)?),
        ("reflash", []) => world.new_life(b),
        ("clone", []) => world.clone_board(b),
        ("unclone", []) => {
            let clone = world.boards.iter().position(|board| board.clone_of == Some(b));
            world.clone_leaves(clone.ok_or("it has no clone")?);
        }
        ("container", [change]) => world.change_container(b, change)?,
        ("approve", []) => ask(world, Who::Operator, Request::ApproveNode(node)),
        ("remove", []) => ask(world, Who::Admin, Request::RemoveNode(node)),
        ("maintenance", [on]) => {
            let reason = "service".to_owned();
            let request = Request::SetMaintenance { node, on: *on == "on", reason };
            ask(world, Who::Operator, request);
        }
        _ => return Err("not a command".to_owned()),
    }
    Ok(())
}

fn ask(world: &mut World, who: Who, request: Request) {
    world.people_ask(who, request, Purpose::Other);
}

fn duration(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a time such as 31s or 500ms");
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, SECOND / 1000),
        None => (text.strip_suffix('s').ok_or_else(bad)?, SECOND),
    };
    number.parse::<u64>().map(|n| n * unit).map_err(|_| bad())
}
