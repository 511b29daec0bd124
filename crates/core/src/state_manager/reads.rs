//! What readers see.

use std::collections::BTreeMap;

use super::{Answer, Approval, Node, Restoration, StateManager, operator::no_such_node};
use crate::{
    api_server::{Code, Refusal, Selector},
    model::{NodeId, NodeRole, NodeStatus, NodeView},
    time::WallTime,
    topology::TopologyView,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    pub cluster: String,
    pub name: String,
    pub started_at: WallTime,
    pub revision: u64,
    pub generation: u64,
    pub nodes_by_status: BTreeMap<NodeStatus, u32>,
    pub sessions: u32,
    pub approval: Approval,
    pub events_kept: u64,
    pub containers_running: u32,
    pub containers_total: u32,
    pub restoration: Option<Restoration>,
}

impl StateManager {
    /// By id, or by name where no id is the same.
    pub(super) fn find(&self, text: &str) -> Result<NodeId, Refusal> {
        if text.is_empty() {
            return Err(Refusal {
                field: Some("node_id".to_owned()),
                ..Refusal::new(Code::InvalidArgument, "InvalidField", "node_id: must not be empty")
            });
        }
        let by_id = self.nodes.keys().find(|id| id.as_str() == text);
        let by_name = || self.names.get(&text.to_ascii_lowercase());
        by_id.or_else(by_name).cloned().ok_or_else(|| no_such_node(text, self.near_name(text)))
    }

    /// The name that differs in one letter, or begins alike.
    fn near_name(&self, text: &str) -> Option<&str> {
        let text = text.to_ascii_lowercase();
        self.nodes
            .values()
            .map(|node| node.record.name.as_str())
            .find(|name| is_near(&name.to_ascii_lowercase(), &text))
    }

    pub(super) fn node_view(&self, id: &NodeId) -> NodeView {
        // callers have found the id in the same call
        self.nodes.get(id).map_or_else(|| unreachable!("node {id} was just found"), Node::view)
    }

    pub(super) fn get_nodes(&self, selector: &Selector) -> Answer {
        let selected = self.nodes.values().filter(|node| selector.selects(&node.record));
        Answer::Nodes { nodes: selected.map(Node::view).collect(), revision: self.revision }
    }

    pub(super) fn topology_view(&self) -> TopologyView {
        let of = |role: NodeRole| {
            let members = self.nodes.values().filter(|node| node.record.role == role);
            members.map(Node::view).collect::<Vec<_>>()
        };
        let newest = self.topology.generation;
        let applied = self.nodes.values().filter(|n| n.record.applied_generation == newest).count();
        TopologyView {
            record: self.topology.masked(),
            masters: of(NodeRole::Master),
            subs: of(NodeRole::Sub),
            applied_by: u32::try_from(applied).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn cluster_status(&self) -> ClusterStatus {
        let mut nodes_by_status = BTreeMap::new();
        let (mut sessions, mut running, mut total) = (0, 0, 0);
        for node in self.nodes.values() {
            *nodes_by_status.entry(node.record.status).or_insert(0) += 1;
            sessions += u32::from(node.session.is_some());
            for container in &node.containers {
                total += 1;
                running += u32::from(container.is_running());
            }
        }
        ClusterStatus {
            cluster: self.topology.id.clone(),
            name: self.topology.name.to_string(),
            started_at: self.started.wall,
            revision: self.revision,
            generation: self.topology.generation,
            nodes_by_status,
            sessions,
            approval: self.settings.approval,
            events_kept: self.log.events_count() as u64,
            containers_running: running,
            containers_total: total,
            restoration: self.restoration.clone(),
        }
    }
}

fn is_near(name: &str, text: &str) -> bool {
    let differing = name.chars().zip(text.chars()).filter(|(a, b)| a != b).count();
    let same_length = name.chars().count() == text.chars().count();
    (same_length && differing == 1) || (text.len() >= 3 && name.starts_with(text))
}
