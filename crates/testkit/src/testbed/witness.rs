//! What must be as before when a test ends: containers that nobody touched, and events told once; the state
//! has converged, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{cluster::HostCluster, host::Host};
use crate::cluster::{Error, Result};

/// A container's host and name, and then its id, process and moment of start.
type Containers = BTreeMap<(String, String), String>;

/// Remembers how things were.
#[derive(Debug)]
pub struct Witness {
    containers: Containers,
}

impl Witness {
    /// # Errors
    /// A node's Podman does not answer.
    pub fn of(cluster: &HostCluster) -> Result<Self> {
        Ok(Self { containers: running(cluster)? })
    }

    /// A container that the story itself ends or starts again.
    #[must_use]
    pub fn except(mut self, node: &str, container: &str) -> Self {
        self.containers.remove(&(node.to_owned(), container.to_owned()));
        self
    }

    /// How every story ends: the state converges, [`Self::confirm`] holds, and nothing is left behind.
    ///
    /// # Errors
    /// It is not so; the difference is named.
    pub fn conclude(self, cluster: HostCluster) -> Result<()> {
        for host in cluster.nodes() {
            cluster.wait(&format!("{} and the master agree", host.name()), |cluster| {
                agree(cluster, host)
            })?;
        }
        self.confirm(&cluster)?;
        cluster.end()
    }

    /// Every container runs on as the process that it was; and of the events that each node has
    /// counted, all are there, once.
    ///
    /// # Errors
    /// It is not so; the difference is named.
    pub fn confirm(&self, cluster: &HostCluster) -> Result<()> {
        self.confirm_containers(cluster)?;
        for host in cluster.nodes() {
            let numbers = numbers_of_events(cluster, host.name())?;
            let expected: Vec<u64> = (1..).take(numbers.len()).collect();
            if numbers != expected {
                let name = host.name();
                let text = format!("events of {name} are lost or doubled: it counted {numbers:?}");
                return Err(Error::Unexpected(text));
            }
        }
        Ok(())
    }

    /// Every container runs on as the process that it was.
    ///
    /// # Errors
    /// It is not so; the difference is named.
    pub fn confirm_containers(&self, cluster: &HostCluster) -> Result<()> {
        let now = running(cluster)?;
        for (which, was) in &self.containers {
            let is = now.get(which);
            if is != Some(was) {
                let text = format!("container {which:?} was {was}, and is {is:?}");
                return Err(Error::Unexpected(text));
            }
        }
        Ok(())
    }
}

/// Of all events that a node has counted and the master has, in order.
///
/// # Errors
/// A command fails.
pub fn numbers_of_events(cluster: &HostCluster, node: &str) -> Result<Vec<u64>> {
    let (node, events) = (cluster.node(node)?["id"].clone(), cluster.events()?);
    let of_node = events.iter().filter(|event| event["node_id"] == node);
    let numbers = of_node.filter_map(|event| event["node_sequence"].as_u64());
    // the master's own events about a node have no number
    let mut numbers: Vec<u64> = numbers.filter(|&number| number != 0).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Ready without a condition, on the newest configuration, with every event told, and with the containers
/// that Podman has. An error names the first difference.
fn agree(cluster: &HostCluster, host: &Host) -> Result<bool> {
    let (name, node) = (host.name(), cluster.node(host.name())?);
    let is_well = node["status"] == "Ready" && node["connected"] == true;
    if !is_well || node["conditions"].as_array().is_none_or(|all| !all.is_empty()) {
        return Err(Error::Unexpected(format!("{name} is not well: {node}")));
    }
    let topology = cluster.json(&["topology", "get", "-o", "json"])?;
    if node["applied_generation"] != topology["generation"] {
        return Err(Error::Unexpected(format!("{name} has not applied {topology}: {node}")));
    }
    let agent = host.shell(
        "for place in /opt/piccolo /var/lib/piccolo; do \
         agent=$place/current/bin/piccolo-nodeagent; \
         [ ! -x $agent ] || exec $agent status -o json; done",
    )?;
    let agent: Value = serde_json::from_str(&agent).unwrap_or_default();
    if agent["events_waiting"] != 0 {
        return Err(Error::Unexpected(format!("{name} has events to tell: {agent}")));
    }
    let podman = host.shell(
        "podman ps --all --quiet | xargs --no-run-if-empty podman inspect \
         --format '{{.Name}} {{.State.Status}}'",
    )?;
    let podman: BTreeSet<String> = podman.lines().map(str::to_owned).collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seen = node["containers"].as_array().cloned().unwrap_or_default();
    let seen: BTreeSet<String> =
        seen.iter().map(|one| format!("{} {}", text(&one["name"]), text(&one["state"]))).collect();
    if podman != seen {
        return Err(Error::Unexpected(format!("{name}: Podman has {podman:?}, we see {seen:?}")));
    }
    Ok(true)
}

fn running(cluster: &HostCluster) -> Result<Containers> {
    let mut containers = Containers::new();
    for host in cluster.nodes().filter(|host| host.is_on()) {
        let format = "{{.Name}} {{.Id}} {{.State.Pid}} {{.State.StartedAt}}";
        let text = host.shell(&format!(
            "podman ps --quiet | xargs --no-run-if-empty podman inspect --format '{format}'"
        ))?;
        for line in text.lines() {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            containers.insert((host.name().to_owned(), name.to_owned()), rest.to_owned());
        }
    }
    Ok(containers)
}
