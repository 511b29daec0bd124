//! What must be as before when a test ends: containers that nobody touched, and events told once.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cluster::HostCluster;
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

    /// Every container runs on as the process that it was; and of the events that each node has
    /// counted, all are there, once.
    ///
    /// # Errors
    /// It is not so; the difference is named.
    pub fn confirm(&self, cluster: &HostCluster) -> Result<()> {
        let now = running(cluster)?;
        for (which, was) in &self.containers {
            let is = now.get(which);
            if is != Some(was) {
                let text = format!("container {which:?} was {was}, and is {is:?}");
                return Err(Error::Unexpected(text));
            }
        }
        let events = cluster.events()?;
        let numbers_of = |node: &Value| -> Vec<u64> {
            let of_node = events.iter().filter(|event| &event["node_id"] == node);
            let numbers = of_node.filter_map(|event| event["node_sequence"].as_u64());
            // the master's own events about a node have no number
            let mut numbers: Vec<u64> = numbers.filter(|&number| number != 0).collect();
            numbers.sort_unstable();
            numbers
        };
        for host in cluster.nodes() {
            let numbers = numbers_of(&cluster.node(host.name())?["id"]);
            let expected: Vec<u64> = (1..).take(numbers.len()).collect();
            if numbers != expected {
                let name = host.name();
                let text = format!("events of {name} are lost or doubled: it counted {numbers:?}");
                return Err(Error::Unexpected(text));
            }
        }
        Ok(())
    }
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
