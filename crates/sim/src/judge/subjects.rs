//! What rules look at, with the judge's own words for the rules: for how long each has held, and been clear, of every
//! node and container that the master sees.

use std::time::Duration;

use piccolo_core::{
    model::{ConditionKind, ContainerReport, NodeId, NodeRecord, NodeStatus, RestartPolicy},
    monitoring_server::alerts::alert::Subject,
    time::Timestamp,
};

pub(crate) const GONE: &str = "Gone";
pub(crate) const NO_PODMAN: &str = "NoPodman";
pub(crate) const DOWN: &str = "Down";

/// Rules, for how long they must hold, and for how long they fire on.
const RULES: [(&str, u64, u64); 8] = [
    (GONE, 2, 1),
    (NO_PODMAN, 2, 1),
    ("NodeNotReady", 30, 0),
    ("NodeSuspect", 120, 0),
    ("ResourcePressure", 60, 0),
    ("PodmanUnavailable", 60, 0),
    ("SystemCheckFailed", 60, 0),
    ("ClockDrift", 60, 0),
];
/// The same of rules on containers.
const OF_CONTAINERS: [(&str, u64, u64); 3] =
    [(DOWN, 2, 1), ("ContainerStopped", 60, 0), ("ContainerUnhealthy", 60, 0)];
/// Containers that are gone are remembered for so long; what was said of them is over long before.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Whether it holds, and whether what fires of it is over.
fn of_node(rule: &str, record: &NodeRecord) -> (bool, bool) {
    let has = |kind| record.conditions.iter().any(|condition| condition.kind == kind);
    let holds = match rule {
        GONE | "NodeNotReady" => record.status == NodeStatus::NotReady,
        "NodeSuspect" => has(ConditionKind::Suspect),
        "ResourcePressure" => has(ConditionKind::ResourcePressure),
        NO_PODMAN | "PodmanUnavailable" => has(ConditionKind::PodmanUnavailable),
        "SystemCheckFailed" => has(ConditionKind::SystemCheckFailed),
        "ClockDrift" => has(ConditionKind::ClockSkew),
        _ => false,
    };
    (holds, !holds)
}

fn of_container(rule: &str, container: &ContainerReport) -> (bool, bool) {
    let runs = container.state == "running";
    let sick = container.health == "unhealthy";
    let failed = container.exit_code.is_some_and(|code| code != 0);
    match rule {
        DOWN => (!runs || sick, runs && !sick),
        "ContainerStopped" => {
            let is_to_run = match container.restart {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => failed,
                RestartPolicy::No => false,
            };
            (is_to_run && container.state == "exited", runs)
        }
        _ => (sick, !sick),
    }
}

/// Whether a rule holds for a subject, whether it is clear, and since when each is as it is, by the master's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct So {
    pub(super) holds: (bool, Timestamp),
    pub(super) clear: (bool, Timestamp),
}

impl So {
    fn new(at: Timestamp, (holds, clear): (bool, bool)) -> Self {
        Self { holds: (holds, at), clear: (clear, at) }
    }

    fn look(&mut self, at: Timestamp, (holds, clear): (bool, bool), begins: bool) {
        if begins || self.holds.0 != holds {
            self.holds = (holds, at);
        }
        if begins || self.clear.0 != clear {
            self.clear = (clear, at);
        }
    }
}

#[derive(Debug)]
struct SeenContainer {
    name: String,
    /// Absent while there is none of its name.
    gone_at: Option<Timestamp>,
    /// There were two of its name, as what is cut off may make them: nothing is asked of it.
    twice: bool,
    so: [So; OF_CONTAINERS.len()],
}

impl SeenContainer {
    fn gone(name: &str, at: Timestamp) -> Self {
        let so = [So::new(at, (false, true)); OF_CONTAINERS.len()];
        Self { name: name.to_owned(), gone_at: Some(at), twice: false, so }
    }

    fn look(&mut self, at: Timestamp, container: &ContainerReport, begins: bool) {
        let begins = self.gone_at.take().is_some() || begins;
        for ((rule, ..), so) in OF_CONTAINERS.into_iter().zip(&mut self.so) {
            so.look(at, of_container(rule, container), begins);
        }
    }

    fn vanish(&mut self, at: Timestamp) {
        self.gone_at = Some(at);
        self.so.iter_mut().for_each(|so| so.look(at, (false, true), false));
    }
}

/// A node as the master sees it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: NodeStatus,
    /// All of it was told since the master's start.
    pub(super) known: bool,
    so: [So; RULES.len()],
    containers: Vec<SeenContainer>,
}

/// What the judge has to ask about a subject of a rule.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) so: So,
    pub(super) pending: Duration,
    pub(super) keep: Duration,
}

impl Seen {
    pub(super) fn new(at: Timestamp, record: &NodeRecord) -> Self {
        let so = RULES.map(|(rule, ..)| So::new(at, of_node(rule, record)));
        Self { status: record.status, known: false, so, containers: Vec::new() }
    }

    /// What held in Maintenance begins anew after it.
    pub(super) fn look(
        &mut self,
        at: Timestamp,
        record: &NodeRecord,
        containers: &[ContainerReport],
    ) {
        let before = std::mem::replace(&mut self.status, record.status);
        let begins = before == NodeStatus::Maintenance && record.status != before;
        for ((rule, ..), so) in RULES.into_iter().zip(&mut self.so) {
            so.look(at, of_node(rule, record), begins);
        }
        self.look_at_containers(at, containers, begins);
    }

    pub(super) fn look_at_containers(
        &mut self,
        at: Timestamp,
        there: &[ContainerReport],
        begins: bool,
    ) {
        let same = |(seen, container): (&SeenContainer, &ContainerReport)| {
            seen.gone_at.is_none() && !seen.twice && seen.name == container.name
        };
        // as nearly always
        if self.containers.len() == there.len() && self.containers.iter().zip(there).all(same) {
            for (seen, container) in self.containers.iter_mut().zip(there) {
                seen.look(at, container, begins);
            }
            return;
        }
        for (index, container) in there.iter().enumerate() {
            let known = self.containers.iter().position(|seen| seen.name == container.name);
            let known = known.unwrap_or_else(|| {
                self.containers.push(SeenContainer::gone(&container.name, at));
                self.containers.len() - 1
            });
            let twice = there[..index].iter().any(|other| other.name == container.name);
            self.containers[known].twice |= twice;
            self.containers[known].look(at, container, begins);
        }
        for seen in self.containers.iter_mut().filter(|seen| seen.gone_at.is_none()) {
            if !there.iter().any(|container| container.name == seen.name) {
                seen.vanish(at);
            }
        }
        self.containers.retain(|seen| seen.gone_at.is_none_or(|gone| at.since(gone) < REMEMBERED));
    }

    /// Something is said of a container that may be there no more.
    pub(super) fn remember(&mut self, at: Timestamp, name: &str) {
        if !self.containers.iter().any(|seen| seen.name == name) {
            self.containers.push(SeenContainer::gone(name, at));
        }
    }

    /// `None`: the judge does not ask about that. A container that it does not know is gone for long.
    pub(super) fn of(&self, rule: &str, subject: &Subject) -> Option<Question> {
        let question = |so, (_, pending, keep): (&str, u64, u64)| {
            let (pending, keep) = (Duration::from_secs(pending), Duration::from_secs(keep));
            Some(Question { so, pending, keep })
        };
        match subject {
            Subject::Cluster => None,
            Subject::Node(_) => {
                let index = RULES.iter().position(|(name, ..)| *name == rule)?;
                question(self.so[index], RULES[index])
            }
            Subject::Container(_, name) => {
                let index = OF_CONTAINERS.iter().position(|(name, ..)| *name == rule)?;
                let seen = self.containers.iter().find(|seen| seen.name == *name);
                if seen.is_some_and(|seen| seen.twice) {
                    return None;
                }
                let so = seen.map_or(So::new(Timestamp(0), (false, true)), |seen| seen.so[index]);
                // nobody waits for one that is gone
                let (rule, pending, keep) = OF_CONTAINERS[index];
                let gone = seen.is_none_or(|seen| seen.gone_at.is_some());
                question(so, (rule, pending, if gone { 0 } else { keep }))
            }
        }
    }

    /// What holds, and of whom.
    pub(super) fn holding(&self, node: &NodeId) -> impl Iterator<Item = (&'static str, Subject)> {
        let of_node = RULES.into_iter().zip(&self.so).filter(|(_, so)| so.holds.0);
        let of_node = of_node.map(|((rule, ..), _)| (rule, Subject::Node(node.clone())));
        let of_containers = self.containers.iter().flat_map(move |seen| {
            let held = OF_CONTAINERS.into_iter().zip(&seen.so).filter(|(_, so)| so.holds.0);
            held.map(|((rule, ..), _)| (rule, Subject::Container(node.clone(), seen.name.clone())))
        });
        of_node.chain(of_containers)
    }
}
