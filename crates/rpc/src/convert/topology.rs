//! Topologies and desired configuration (HLD §5.2, §6.1).

use std::time::Duration;

use piccolo_core::{
    failure_detector::Timing,
    model::{FieldError, NodeView},
    topology::{NodeConfig, TopologyType, TopologyUpdate, TopologyView},
};

use super::{millis, unknown_number, within};
use crate::v1;

/// # Errors
/// [`FieldError`] for 0 and for a number that is none.
pub fn topology_type(field: &str, number: i32) -> Result<TopologyType, FieldError> {
    match v1::TopologyType::try_from(number) {
        Ok(v1::TopologyType::BasicEmbedded) => Ok(TopologyType::BasicEmbedded),
        Ok(v1::TopologyType::EdgeCloudHybrid) => Ok(TopologyType::EdgeCloudHybrid),
        Ok(v1::TopologyType::MultiEmbedded) => Ok(TopologyType::MultiEmbedded),
        Ok(v1::TopologyType::GeoDistributed) => Ok(TopologyType::GeoDistributed),
        Ok(v1::TopologyType::Unspecified) | Err(_) => Err(unknown_number(field, number)),
    }
}

#[must_use]
pub fn topology_type_to_wire(kind: TopologyType) -> v1::TopologyType {
    match kind {
        TopologyType::BasicEmbedded => v1::TopologyType::BasicEmbedded,
        TopologyType::EdgeCloudHybrid => v1::TopologyType::EdgeCloudHybrid,
        TopologyType::MultiEmbedded => v1::TopologyType::MultiEmbedded,
        TopologyType::GeoDistributed => v1::TopologyType::GeoDistributed,
    }
}

impl From<Timing> for v1::Timing {
    fn from(timing: Timing) -> Self {
        Self {
            beat_interval_ms: millis(timing.beat_interval),
            beat_silence_ms: millis(timing.beat_silence),
            session_grace_ms: millis(timing.session_grace),
            heartbeat_interval_ms: millis(timing.heartbeat_interval),
            heartbeats_missed: timing.heartbeats_missed,
        }
    }
}

/// An agent that took a zero here would beat in a tight loop, or break every session.
impl TryFrom<v1::Timing> for Timing {
    type Error = FieldError;

    fn try_from(wire: v1::Timing) -> Result<Self, FieldError> {
        let positive = |field: &str, ms: u32| match ms {
            0 => Err(FieldError::new(field, "must be set")),
            ms => Ok(Duration::from_millis(ms.into())),
        };
        Ok(Self {
            beat_interval: positive("beat_interval_ms", wire.beat_interval_ms)?,
            beat_silence: positive("beat_silence_ms", wire.beat_silence_ms)?,
            session_grace: Duration::from_millis(wire.session_grace_ms.into()),
            heartbeat_interval: positive("heartbeat_interval_ms", wire.heartbeat_interval_ms)?,
            heartbeats_missed: wire.heartbeats_missed,
        })
    }
}

impl From<NodeConfig> for v1::NodeConfig {
    fn from(config: NodeConfig) -> Self {
        Self {
            cluster_id: config.cluster,
            cluster_name: config.cluster_name,
            topology_type: topology_type_to_wire(config.kind).into(),
            config: config.config.into_iter().collect(),
            timing: Some(config.timing.into()),
        }
    }
}

impl TryFrom<v1::NodeConfig> for NodeConfig {
    type Error = FieldError;

    fn try_from(wire: v1::NodeConfig) -> Result<Self, FieldError> {
        let timing = wire.timing.ok_or_else(|| FieldError::new("timing", "must be set"))?;
        Ok(Self {
            cluster: wire.cluster_id,
            cluster_name: wire.cluster_name,
            kind: topology_type("topology_type", wire.topology_type)?,
            config: wire.config.into_iter().collect(),
            timing: timing.try_into().map_err(within("timing"))?,
        })
    }
}

impl From<&TopologyView> for v1::ClusterTopology {
    fn from(view: &TopologyView) -> Self {
        let members = |nodes: &[NodeView]| nodes.iter().map(Into::into).collect();
        Self {
            id: view.record.id.clone(),
            name: view.record.name.to_string(),
            r#type: topology_type_to_wire(view.record.kind).into(),
            master_nodes: members(&view.masters),
            sub_nodes: members(&view.subs),
            parent_cluster: view.record.parent_cluster.clone().unwrap_or_default(),
            config: view.record.config.clone().into_iter().collect(),
            generation: view.record.generation,
            applied_by: view.applied_by,
        }
    }
}

impl TryFrom<v1::ClusterTopology> for TopologyUpdate {
    type Error = FieldError;

    fn try_from(wire: v1::ClusterTopology) -> Result<Self, FieldError> {
        let members = wire.master_nodes.into_iter().chain(wire.sub_nodes);
        Ok(Self {
            id: wire.id,
            name: wire.name,
            kind: topology_type("topology.type", wire.r#type)?,
            parent_cluster: wire.parent_cluster,
            config: wire.config.into_iter().collect(),
            generation: wire.generation,
            members: members.map(|node| node.id).collect(),
        })
    }
}
