//! Nodes, topology and the cluster as a whole (HLD §7.1.1).

use piccolo_core::{
    api_server::{Call, Caller, Refusal, Selector},
    model::{FieldError, NodeView, check_text},
    past::PastNode,
    session::AgentCommand,
    state_manager::{Answer, Approval, Request},
    topology::TopologyUpdate,
};
use piccolo_rpc::{
    convert::{timestamp, wall_time},
    v1,
};
use prost_types::Timestamp;
use tonic::{Request as Asked, Response, Status};

use super::{
    Answered, Api,
    caller::{DEADLINE, unexpected},
};
use crate::{backup::schedule::BackupState, metrics::export::ExportState};

/// Bytes of a container's name or id at most.
pub(super) const CONTAINER_BYTES_MAX: usize = 256;
/// Bytes of what a caller may call a node at most.
const NODE_BYTES_MAX: usize = 253;

pub(super) async fn get_nodes(
    api: &Api,
    request: Asked<v1::GetNodesRequest>,
) -> Answered<v1::GetNodesResponse> {
    let by = api.admit_read(&request, Call::GetNodes).await?;
    let v1::GetNodesRequest { filter, at } = request.into_inner();
    let filter = filter.unwrap_or_default();
    if let Some(at) = at {
        return nodes_at(api, by, &filter, &at).await;
    }
    let selector = match Selector::parse(&filter) {
        Ok(selector) => selector,
        Err(refusal) => return Err(api.refuse(by, Call::GetNodes, refusal).await),
    };
    let (nodes, revision) = api.board.nodes(&selector);
    let nodes = nodes.iter().map(|view| view.as_ref().into()).collect();
    Ok(Response::new(v1::GetNodesResponse { nodes, revision, past: None }))
}

/// As they were. What a node is for good is as it is now, where it is still there.
async fn nodes_at(
    api: &Api,
    by: Caller,
    filter: &str,
    at: &Timestamp,
) -> Answered<v1::GetNodesResponse> {
    api.check(&by, Call::ListEvents).await?;
    let at = match wall_time("at", at) {
        Ok(_) if !filter.is_empty() => Err(FieldError::new("filter", "is for the present")),
        Ok(at) if at > api.clock.now().wall => Err(FieldError::new("at", "lies ahead")),
        checked => checked,
    };
    let at = match at {
        Ok(at) => at,
        Err(error) => return Err(api.refuse(by, Call::GetNodes, error.into()).await),
    };
    let past = api.past(at).await?;
    let (present, revision) = api.board.nodes(&Selector::default());
    let told = |node: &PastNode| {
        let there = present.iter().find(|view| view.record.id == node.id);
        let there = there.map(|view| v1::Node::from(view.as_ref()));
        let there = there.map(|now| (now.role, now.kind, now.created_at));
        let (role, kind, created_at) = there.unwrap_or_default();
        v1::Node { role, kind, created_at, ..node.into() }
    };
    let nodes = past.nodes.iter().map(told).collect();
    Ok(Response::new(v1::GetNodesResponse { nodes, revision, past: Some((&past).into()) }))
}

/// From the board, as [`get_nodes`]; the machine is asked only what to say of a node that is not there.
pub(super) async fn get_node(
    api: &Api,
    request: Asked<v1::GetNodeRequest>,
) -> Answered<v1::GetNodeResponse> {
    let call = Call::GetNode;
    let by = api.admit_read(&request, call).await?;
    let name = match named(request.into_inner().node_id) {
        Ok(name) => name,
        Err(refusal) => return Err(api.refuse(by, call, refusal).await),
    };
    let node = match api.board.find(&name) {
        Some(view) => view.as_ref().into(),
        None => node_of(api.ask(by, call, Request::GetNode(name), DEADLINE).await?, call)?,
    };
    Ok(Response::new(v1::GetNodeResponse { node: Some(node) }))
}

pub(super) async fn get_topology(
    api: &Api,
    request: Asked<v1::GetTopologyRequest>,
) -> Answered<v1::GetTopologyResponse> {
    let answer = api.call(request, Call::GetTopology, |_| Ok(Request::GetTopology)).await?;
    let Answer::Topology(view) = answer else { return Err(unexpected(Call::GetTopology)) };
    Ok(Response::new(v1::GetTopologyResponse { topology: Some(view.as_ref().into()) }))
}

pub(super) async fn update_topology(
    api: &Api,
    request: Asked<v1::UpdateTopologyRequest>,
) -> Answered<v1::UpdateTopologyResponse> {
    let convert = |wire: v1::UpdateTopologyRequest| {
        let topology = wire.topology.ok_or_else(|| FieldError::new("topology", "must be set"))?;
        Ok(Request::UpdateTopology(TopologyUpdate::try_from(topology)?))
    };
    let answer = api.call(request, Call::UpdateTopology, convert).await?;
    let Answer::Topology(view) = answer else { return Err(unexpected(Call::UpdateTopology)) };
    Ok(Response::new(v1::UpdateTopologyResponse {
        updated_topology: Some(view.as_ref().into()),
        success: true,
        error_message: None,
    }))
}

pub(super) async fn get_cluster_status(
    api: &Api,
    request: Asked<v1::GetClusterStatusRequest>,
) -> Answered<v1::GetClusterStatusResponse> {
    let call = Call::GetClusterStatus;
    let answer = api.call(request, call, |_| Ok(Request::GetClusterStatus)).await?;
    let Answer::ClusterStatus(status) = answer else { return Err(unexpected(call)) };
    let store = api.store_figures().await;
    let nodes = status.nodes_by_status.iter();
    let restoration = status.restoration.as_ref();
    let disk = Disk::of(&api.state_dir);
    Ok(Response::new(v1::GetClusterStatusResponse {
        cluster_id: status.cluster,
        cluster_name: status.name,
        master_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Some(timestamp(status.started_at)),
        now: Some(timestamp(api.clock.now().wall)),
        store_kind: store.kind,
        store_health: store.health,
        store_size_bytes: store.size_bytes,
        revision: status.revision,
        generation: status.generation,
        nodes_by_status: nodes.map(|(status, count)| (status.to_string(), *count)).collect(),
        sessions: status.sessions,
        watchers: u32::try_from(api.watchers.count()).unwrap_or(u32::MAX),
        approval: match status.approval {
            Approval::Auto => "auto".to_owned(),
            Approval::Manual => "manual".to_owned(),
        },
        ca_expires_at: api.authority_expires_at(),
        events_kept: status.events_kept,
        master_address: api.address.clone(),
        containers_running: status.containers_running,
        containers_total: status.containers_total,
        backup: api.backup.get().map(|backup| backup_status(&backup)),
        otlp: api.export.get().map(|export| export_status(&export)),
        disk_free_bytes: disk.free,
        disk_total_bytes: disk.total,
        restored_at: restoration.map(|r| timestamp(r.restored_at)),
        restored_backup_at: restoration.filter(|r| !r.is_rebuilt()).map(|r| timestamp(r.backup_at)),
    }))
}

fn backup_status(backup: &BackupState) -> v1::BackupStatus {
    let newest = backup.newest.as_ref();
    v1::BackupStatus {
        last_at: newest.map(|(at, _)| timestamp(*at)),
        last_file: newest.map(|(_, path)| path.display().to_string()).unwrap_or_default(),
        problem: backup.problem.clone(),
        every_seconds: backup.every.as_secs(),
    }
}

fn export_status(export: &ExportState) -> v1::ExportStatus {
    v1::ExportStatus {
        last_at: export.last_at.map(timestamp),
        problem: export.problem.clone(),
        every_seconds: export.every.as_secs(),
    }
}

/// Of the disk that the state is on.
#[derive(Default)]
struct Disk {
    free: u64,
    total: u64,
}

impl Disk {
    /// Zeros where that cannot be told.
    fn of(folder: &std::path::Path) -> Self {
        let Ok(disk) = rustix::fs::statvfs(folder) else { return Self::default() };
        Self { free: disk.f_bavail * disk.f_frsize, total: disk.f_blocks * disk.f_frsize }
    }
}

pub(super) async fn approve_node(
    api: &Api,
    request: Asked<v1::ApproveNodeRequest>,
) -> Answered<v1::ApproveNodeResponse> {
    let convert = |w: v1::ApproveNodeRequest| Ok(Request::ApproveNode(named(w.node_id)?));
    let node = api.node_call(request, Call::ApproveNode, convert).await?;
    Ok(Response::new(v1::ApproveNodeResponse { node: Some(node) }))
}

pub(super) async fn reject_node(
    api: &Api,
    request: Asked<v1::RejectNodeRequest>,
) -> Answered<v1::RejectNodeResponse> {
    let convert = |w: v1::RejectNodeRequest| {
        Ok(Request::RejectNode { node: named(w.node_id)?, reason: w.reason })
    };
    api.call(request, Call::RejectNode, convert).await?;
    Ok(Response::new(v1::RejectNodeResponse {}))
}

pub(super) async fn set_maintenance(
    api: &Api,
    request: Asked<v1::SetMaintenanceRequest>,
) -> Answered<v1::SetMaintenanceResponse> {
    let convert = |w: v1::SetMaintenanceRequest| {
        Ok(Request::SetMaintenance { node: named(w.node_id)?, on: w.on, reason: w.reason })
    };
    let node = api.node_call(request, Call::SetMaintenance, convert).await?;
    Ok(Response::new(v1::SetMaintenanceResponse { node: Some(node) }))
}

pub(super) async fn remove_node(
    api: &Api,
    request: Asked<v1::RemoveNodeRequest>,
) -> Answered<v1::RemoveNodeResponse> {
    let convert = |w: v1::RemoveNodeRequest| Ok(Request::RemoveNode(named(w.node_id)?));
    api.call(request, Call::RemoveNode, convert).await?;
    Ok(Response::new(v1::RemoveNodeResponse {}))
}

pub(super) async fn label_node(
    api: &Api,
    request: Asked<v1::LabelNodeRequest>,
) -> Answered<v1::LabelNodeResponse> {
    let convert = |w: v1::LabelNodeRequest| {
        let set = w.set.into_iter().collect();
        Ok(Request::LabelNode { node: named(w.node_id)?, set, remove: w.remove })
    };
    let node = api.node_call(request, Call::LabelNode, convert).await?;
    Ok(Response::new(v1::LabelNodeResponse { node: Some(node) }))
}

pub(super) async fn reset_node_identity(
    api: &Api,
    request: Asked<v1::ResetNodeIdentityRequest>,
) -> Answered<v1::ResetNodeIdentityResponse> {
    let convert =
        |w: v1::ResetNodeIdentityRequest| Ok(Request::ResetNodeIdentity(named(w.node_id)?));
    api.call(request, Call::ResetNodeIdentity, convert).await?;
    Ok(Response::new(v1::ResetNodeIdentityResponse {}))
}

pub(super) async fn restart_container(
    api: &Api,
    request: Asked<v1::RestartContainerRequest>,
) -> Answered<v1::RestartContainerResponse> {
    let convert = |w: v1::RestartContainerRequest| {
        if w.container.is_empty() {
            return Err(FieldError::new("container", "must not be empty").into());
        }
        check_text("container", &w.container, CONTAINER_BYTES_MAX)?;
        let command = AgentCommand::RestartContainer { container: w.container };
        Ok(Request::Command { node: named(w.node_id)?, command })
    };
    let message = api.command_call(request, Call::RestartContainer, convert).await?;
    Ok(Response::new(v1::RestartContainerResponse { message }))
}

pub(super) async fn check_node(
    api: &Api,
    request: Asked<v1::CheckNodeRequest>,
) -> Answered<v1::CheckNodeResponse> {
    let convert = |w: v1::CheckNodeRequest| {
        Ok(Request::Command { node: named(w.node_id)?, command: AgentCommand::CheckSystem })
    };
    let answer = api.call(request, Call::CheckNode, convert).await?;
    let Answer::Node(view) = answer else { return Err(unexpected(Call::CheckNode)) };
    let system_check = view.system_check.as_deref().map(Into::into);
    let node = Some(v1::Node::from(view.as_ref() as &NodeView));
    Ok(Response::new(v1::CheckNodeResponse { node, system_check }))
}

/// A node as a person names it: by id or by name. Whether there is one is asked later.
pub(super) fn named(node: String) -> Result<String, Refusal> {
    check_text("node_id", &node, NODE_BYTES_MAX)?;
    Ok(node)
}

fn node_of(answer: Answer, call: Call) -> Result<v1::Node, Status> {
    let Answer::Node(view) = answer else { return Err(unexpected(call)) };
    Ok(v1::Node::from(view.as_ref() as &NodeView))
}

/// What can be said of the store without waiting for it.
struct StoreFigures {
    kind: String,
    health: String,
    size_bytes: u64,
}

impl Api {
    /// A call that is answered with the node that it was about.
    pub(super) async fn node_call<T>(
        &self,
        request: Asked<T>,
        call: Call,
        convert: impl FnOnce(T) -> Result<Request, Refusal>,
    ) -> Result<v1::Node, Status> {
        node_of(self.call(request, call, convert).await?, call)
    }

    /// A call that is answered with a node's own words.
    pub(super) async fn command_call<T>(
        &self,
        request: Asked<T>,
        call: Call,
        convert: impl FnOnce(T) -> Result<Request, Refusal>,
    ) -> Result<String, Status> {
        let answer = self.call(request, call, convert).await?;
        let Answer::Command(message) = answer else { return Err(unexpected(call)) };
        Ok(message)
    }

    async fn store_figures(&self) -> StoreFigures {
        const WITHIN: std::time::Duration = std::time::Duration::from_secs(1);
        let writing = self.health.get();
        match tokio::time::timeout(WITHIN, self.store.status()).await {
            Ok(Ok(status)) => StoreFigures {
                kind: status.kind.to_string(),
                health: match status.health {
                    piccolo_store::Health::Good => writing,
                    piccolo_store::Health::Degraded(why) if writing == "ok" => why,
                    piccolo_store::Health::Degraded(_) => writing,
                },
                size_bytes: status.size_bytes,
            },
            Ok(Err(error)) => StoreFigures {
                kind: self.store_kind.to_owned(),
                health: if writing == "ok" { error.to_string() } else { writing },
                size_bytes: 0,
            },
            Err(_) => StoreFigures {
                kind: self.store_kind.to_owned(),
                health: if writing == "ok" { "does not answer".to_owned() } else { writing },
                size_bytes: 0,
            },
        }
    }

    fn authority_expires_at(&self) -> Option<prost_types::Timestamp> {
        use piccolo_core::time::WallTime;
        let seconds = i64::try_from(self.authority.not_after()).ok()?;
        Some(timestamp(WallTime::from_secs(seconds)))
    }
}
