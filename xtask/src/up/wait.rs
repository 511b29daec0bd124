//! Waits until the master shows every node as Ready, and says how far each one is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::parts::Parts;
use super::place::{Place, Record, node_name};
use super::stop::Stop;
use crate::progress::Line;
use crate::run;

/// HLD §4.2: a node is registered and active within 30 s.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What the master says of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    status: String,
    containers_running: usize,
}

/// # Errors
/// An agent ended, a node does not become Ready in time, or the user wants an end.
pub(crate) fn until_all_ready(
    place: &Place,
    record: &Record,
    with_containers: bool,
    stop: &Stop,
) -> Result<()> {
    let parts = Parts::new(place, record.executables.clone())?;
    let mut waiting: BTreeMap<String, Line> = (1..=record.nodes)
        .map(|node| (node_name(node), Line::start(format!("{} joins", node_name(node)))))
        .collect();
    let deadline = Instant::now() + READY_WITHIN;
    while !waiting.is_empty() {
        let seen = nodes(&parts).unwrap_or_default();
        let arrived = |name: &String| {
            seen.get(name).is_some_and(|node| {
                node.status == "Ready" && (!with_containers || node.containers_running > 0)
            })
        };
        let names: Vec<String> = waiting.keys().cloned().collect();
        for name in names {
            if !arrived(&name) {
                still_runs(place, &name)?;
                continue;
            }
            if let (Some(line), Some(node)) = (waiting.remove(&name), seen.get(&name)) {
                line.done(&format!("Ready, {} containers run", node.containers_running));
            }
        }
        if !waiting.is_empty() && Instant::now() > deadline {
            return Err(too_late(place, &waiting, &seen));
        }
        stop.pause()?;
    }
    Ok(())
}

fn still_runs(place: &Place, name: &str) -> Result<()> {
    if place.process(name).is_none() {
        bail!("the agent of {name} has ended:\n{}", run::tail(&place.log(name)));
    }
    Ok(())
}

fn too_late(
    place: &Place,
    waiting: &BTreeMap<String, Line>,
    seen: &BTreeMap<String, Seen>,
) -> anyhow::Error {
    let stuck: Vec<String> = waiting
        .keys()
        .map(|name| {
            let status = seen.get(name).map_or("unknown to the master", |node| &node.status);
            format!("{name} is {status}:\n{}", run::tail(&place.log(name)))
        })
        .collect();
    anyhow::anyhow!("not Ready within {READY_WITHIN:?}: {}", stuck.join("\n"))
}

fn nodes(parts: &Parts<'_>) -> Result<BTreeMap<String, Seen>> {
    let text = run::answer(parts.piccolo().args(["node", "list", "--output", "json"]));
    let value: Value = serde_json::from_str(&text.context("no answer")?).context("no JSON")?;
    let list = value.as_array().or_else(|| value["nodes"].as_array()).context("no nodes")?;
    Ok(list.iter().filter_map(of_json).collect())
}

fn of_json(node: &Value) -> Option<(String, Seen)> {
    let containers = node["containers"].as_array().map_or(0, |containers| {
        containers.iter().filter(|container| container["state"] == "running").count()
    });
    let status = node["status"].as_str()?.to_owned();
    let name = node["name"].as_str()?.to_owned();
    Some((name, Seen { status, containers_running: containers }))
}
