//! The topology, and the file that changes it (HLD §5.2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words;
use crate::v1;

/// `piccolo topology get -o json`, and the file of `piccolo topology apply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Topology))]
#[serde(deny_unknown_fields)]
pub struct TopologyView {
    #[serde(default)]
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub parent_cluster: Option<String>,
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Of this configuration; an update must name the one in force, 0 means any.
    #[serde(default)]
    pub generation: u64,
    /// How many nodes have confirmed the generation.
    #[serde(default)]
    pub applied_by: u32,
    #[serde(default)]
    pub master_nodes: Vec<MemberView>,
    #[serde(default)]
    pub sub_nodes: Vec<MemberView>,
}

/// `piccolo node get` has the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Member))]
#[serde(deny_unknown_fields)]
pub struct MemberView {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub applied_generation: u64,
}

impl From<&v1::ClusterTopology> for TopologyView {
    fn from(topology: &v1::ClusterTopology) -> Self {
        let members = |nodes: &[v1::Node]| {
            let members = nodes.iter().map(|node| MemberView {
                id: node.id.clone(),
                name: node.name.clone(),
                status: words::status(node.status),
                applied_generation: node.applied_generation,
            });
            members.collect::<Vec<_>>()
        };
        Self {
            id: topology.id.clone(),
            name: topology.name.clone(),
            kind: words::topology(topology.r#type),
            parent_cluster: Some(topology.parent_cluster.clone()).filter(|id| !id.is_empty()),
            config: topology.config.clone().into_iter().collect(),
            generation: topology.generation,
            applied_by: topology.applied_by,
            master_nodes: members(&topology.master_nodes),
            sub_nodes: members(&topology.sub_nodes),
        }
    }
}

impl TopologyView {
    /// # Errors
    /// A sentence about the word that is not a topology type.
    pub fn to_wire(&self) -> Result<v1::ClusterTopology, String> {
        let kind =
            words::parse_topology(&self.kind).map_err(|problem| format!("type: {problem}"))?;
        let members = |members: &[MemberView], role: v1::NodeRole| {
            let nodes = members.iter().map(|member| v1::Node {
                id: member.id.clone(),
                name: member.name.clone(),
                role: role as i32,
                ..v1::Node::default()
            });
            nodes.collect::<Vec<_>>()
        };
        Ok(v1::ClusterTopology {
            id: self.id.clone(),
            name: self.name.clone(),
            r#type: kind as i32,
            master_nodes: members(&self.master_nodes, v1::NodeRole::Master),
            sub_nodes: members(&self.sub_nodes, v1::NodeRole::Sub),
            parent_cluster: self.parent_cluster.clone().unwrap_or_default(),
            config: self.config.clone().into_iter().collect(),
            generation: self.generation,
            applied_by: 0,
        })
    }
}
