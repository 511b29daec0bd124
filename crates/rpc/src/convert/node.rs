//! Nodes, what they carry, and how they register (HLD §6.1, §7.1.2).

use piccolo_core::{
    api_server::Registration,
    model::{
        AlertReport, Condition, ConditionKind, ContainerReport, FieldError, Labels, NodeId,
        NodeKind, NodeName, NodeRole, NodeStatus, NodeView, Resources, RestartPolicy, SystemInfo,
    },
    state_manager::Registered,
};

use super::{
    check::without_what_is_well, optional_time, severity, severity_to_wire, time_or_epoch,
    timestamp, unknown_number, whole_seconds, within,
};
use crate::v1;

/// # Errors
/// [`FieldError`] for 0 and for a number that is none.
pub fn node_role(field: &str, number: i32) -> Result<NodeRole, FieldError> {
    match v1::NodeRole::try_from(number) {
        Ok(v1::NodeRole::Master) => Ok(NodeRole::Master),
        Ok(v1::NodeRole::Sub) => Ok(NodeRole::Sub),
        Ok(v1::NodeRole::Unspecified) | Err(_) => Err(unknown_number(field, number)),
    }
}

#[must_use]
pub fn node_role_to_wire(role: NodeRole) -> v1::NodeRole {
    match role {
        NodeRole::Master => v1::NodeRole::Master,
        NodeRole::Sub => v1::NodeRole::Sub,
    }
}

/// 0 is an embedded board: the HLD's own clients know no kinds.
///
/// # Errors
/// [`FieldError`] for a number that is none.
pub fn node_kind(field: &str, number: i32) -> Result<NodeKind, FieldError> {
    match v1::NodeKind::try_from(number) {
        Ok(v1::NodeKind::Unspecified | v1::NodeKind::Embedded) => Ok(NodeKind::Embedded),
        Ok(v1::NodeKind::Cloud) => Ok(NodeKind::Cloud),
        Err(_) => Err(unknown_number(field, number)),
    }
}

#[must_use]
pub fn node_kind_to_wire(kind: NodeKind) -> v1::NodeKind {
    match kind {
        NodeKind::Embedded => v1::NodeKind::Embedded,
        NodeKind::Cloud => v1::NodeKind::Cloud,
    }
}

/// # Errors
/// [`FieldError`] for 0 and for a number that is none.
pub fn node_status(field: &str, number: i32) -> Result<NodeStatus, FieldError> {
    match v1::NodeStatus::try_from(number) {
        Ok(v1::NodeStatus::Pending) => Ok(NodeStatus::Pending),
        Ok(v1::NodeStatus::Initializing) => Ok(NodeStatus::Initializing),
        Ok(v1::NodeStatus::Ready) => Ok(NodeStatus::Ready),
        Ok(v1::NodeStatus::NotReady) => Ok(NodeStatus::NotReady),
        Ok(v1::NodeStatus::Maintenance) => Ok(NodeStatus::Maintenance),
        Ok(v1::NodeStatus::Terminating) => Ok(NodeStatus::Terminating),
        Ok(v1::NodeStatus::Unspecified) | Err(_) => Err(unknown_number(field, number)),
    }
}

#[must_use]
pub fn node_status_to_wire(status: NodeStatus) -> v1::NodeStatus {
    match status {
        NodeStatus::Pending => v1::NodeStatus::Pending,
        NodeStatus::Initializing => v1::NodeStatus::Initializing,
        NodeStatus::Ready => v1::NodeStatus::Ready,
        NodeStatus::NotReady => v1::NodeStatus::NotReady,
        NodeStatus::Maintenance => v1::NodeStatus::Maintenance,
        NodeStatus::Terminating => v1::NodeStatus::Terminating,
    }
}

impl From<Resources> for v1::ResourceInfo {
    fn from(Resources { cpu, memory, disk }: Resources) -> Self {
        Self { cpu, memory, disk }
    }
}

/// Whether they are absurd is asked by [`Resources::check`].
impl From<v1::ResourceInfo> for Resources {
    fn from(v1::ResourceInfo { cpu, memory, disk }: v1::ResourceInfo) -> Self {
        Self { cpu, memory, disk }
    }
}

impl From<SystemInfo> for v1::SystemInfo {
    fn from(system: SystemInfo) -> Self {
        let SystemInfo { agent_version, architecture, os, kernel, machine_id, runtime_version } =
            system;
        Self { agent_version, architecture, os, kernel, machine_id, runtime_version }
    }
}

impl From<v1::SystemInfo> for SystemInfo {
    fn from(wire: v1::SystemInfo) -> Self {
        let v1::SystemInfo { agent_version, architecture, os, kernel, machine_id, runtime_version } =
            wire;
        Self { agent_version, architecture, os, kernel, machine_id, runtime_version }
    }
}

impl From<Condition> for v1::Condition {
    fn from(condition: Condition) -> Self {
        Self {
            kind: condition.kind.name().to_owned(),
            reason: condition.reason,
            message: condition.message,
            since: Some(timestamp(condition.since)),
        }
    }
}

/// Conditions of kinds that are known here: a newer agent may know more, and that is no fault of it.
pub(super) fn conditions(wire: Vec<v1::Condition>) -> Result<Vec<Condition>, FieldError> {
    let mut conditions = Vec::with_capacity(wire.len());
    for (i, condition) in wire.into_iter().enumerate() {
        let Some(kind) = ConditionKind::from_name(&condition.kind) else { continue };
        let field = format!("conditions[{i}].since");
        conditions.push(Condition {
            kind,
            reason: condition.reason,
            message: condition.message,
            since: time_or_epoch(&field, condition.since.as_ref())?,
        });
    }
    Ok(conditions)
}

impl From<ContainerReport> for v1::ContainerStatus {
    fn from(container: ContainerReport) -> Self {
        Self {
            id: container.id,
            name: container.name,
            image: container.image,
            state: container.state,
            exit_code: container.exit_code,
            health: container.health,
            started_at: container.started_at.map(timestamp),
            finished_at: container.finished_at.map(timestamp),
            memory_bytes: container.memory_bytes,
            cpu_basis_points: container.cpu_basis_points,
            restarts: container.restarts,
            restart: match container.restart {
                RestartPolicy::No => String::new(),
                policy @ (RestartPolicy::OnFailure | RestartPolicy::Always) => {
                    policy.name().to_owned()
                }
            },
        }
    }
}

impl TryFrom<v1::ContainerStatus> for ContainerReport {
    type Error = FieldError;

    fn try_from(wire: v1::ContainerStatus) -> Result<Self, FieldError> {
        Ok(Self {
            started_at: optional_time("started_at", wire.started_at.as_ref())?,
            finished_at: optional_time("finished_at", wire.finished_at.as_ref())?,
            id: wire.id,
            name: wire.name,
            image: wire.image,
            state: wire.state,
            exit_code: wire.exit_code,
            health: wire.health,
            memory_bytes: wire.memory_bytes,
            cpu_basis_points: wire.cpu_basis_points,
            restarts: wire.restarts,
            // a newer agent may know more
            restart: RestartPolicy::from_name(&wire.restart).unwrap_or_default(),
        })
    }
}

pub(super) fn containers(
    wire: Vec<v1::ContainerStatus>,
) -> Result<Vec<ContainerReport>, FieldError> {
    let each = wire.into_iter().enumerate().map(|(i, container)| {
        ContainerReport::try_from(container).map_err(within(&format!("containers[{i}]")))
    });
    each.collect()
}

impl From<AlertReport> for v1::AlertInfo {
    fn from(alert: AlertReport) -> Self {
        Self {
            kind: alert.kind,
            severity: severity_to_wire(alert.severity).into(),
            message: alert.message,
            at: Some(timestamp(alert.at)),
        }
    }
}

impl TryFrom<v1::AlertInfo> for AlertReport {
    type Error = FieldError;

    fn try_from(wire: v1::AlertInfo) -> Result<Self, FieldError> {
        Ok(Self {
            severity: severity("severity", wire.severity)?,
            at: time_or_epoch("at", wire.at.as_ref())?,
            kind: wire.kind,
            message: wire.message,
        })
    }
}

pub(super) fn alerts(wire: Vec<v1::AlertInfo>) -> Result<Vec<AlertReport>, FieldError> {
    let each = wire
        .into_iter()
        .enumerate()
        .map(|(i, alert)| AlertReport::try_from(alert).map_err(within(&format!("alerts[{i}]"))));
    each.collect()
}

/// What readers may see; keys and tokens stay behind.
impl From<&NodeView> for v1::Node {
    fn from(view: &NodeView) -> Self {
        let record = &view.record;
        Self {
            id: record.id.to_string(),
            name: record.name.to_string(),
            ip: record.ip.clone(),
            role: node_role_to_wire(record.role).into(),
            status: node_status_to_wire(record.status).into(),
            resources: Some(record.resources.into()),
            created_at: Some(timestamp(record.created_at)),
            last_heartbeat: view.last_heartbeat.map(timestamp),
            kind: node_kind_to_wire(record.kind).into(),
            conditions: record.conditions.iter().cloned().map(Into::into).collect(),
            labels: record.labels.clone().into_iter().collect(),
            containers: view.containers.iter().cloned().map(Into::into).collect(),
            metrics: view.metrics.clone().into_iter().collect(),
            agent_version: record.system.agent_version.clone(),
            architecture: record.system.architecture.clone(),
            os: record.system.os.clone(),
            kernel: record.system.kernel.clone(),
            applied_generation: record.applied_generation,
            revision: view.revision,
            status_since: Some(timestamp(record.status_since)),
            connected: view.connected,
            certificate_expires_at: record.certificate_expires_at.map(timestamp),
            runtime_version: record.system.runtime_version.clone(),
            system_check: view.system_check.as_deref().map(without_what_is_well),
            hardware: view.hardware.as_deref().map(Into::into),
            recovery: Some(view.recovery.clone().into()),
            recovery_paused_until: record.recovery_paused_until.map(timestamp),
            probe: view.probe.clone().map(Into::into),
            containers_at: view.containers_at.map(timestamp),
        }
    }
}

/// A registration whose fields are well-formed; its token and its signing request are still text.
#[derive(Clone, PartialEq)]
pub struct RegistrationText {
    pub node: NodeId,
    pub name: NodeName,
    pub ip: String,
    pub role: NodeRole,
    pub kind: NodeKind,
    pub resources: Resources,
    pub labels: Labels,
    pub system: SystemInfo,
    /// Empty where a certificate is shown. A secret: never printed.
    pub token: String,
    pub signing_request: Vec<u8>,
}

impl std::fmt::Debug for RegistrationText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrationText").field("node", &self.node).finish_non_exhaustive()
    }
}

impl RegistrationText {
    /// Once token and signing request were looked at.
    #[must_use]
    pub fn into_registration(
        self,
        token_hash: Option<String>,
        key_fingerprint: String,
    ) -> Registration {
        let Self { node, name, ip, role, kind, resources, labels, system, .. } = self;
        Registration {
            node,
            name,
            ip,
            role,
            kind,
            resources,
            labels,
            system,
            token_hash,
            key_fingerprint,
        }
    }
}

impl TryFrom<v1::NodeRegistrationRequest> for RegistrationText {
    type Error = FieldError;

    fn try_from(wire: v1::NodeRegistrationRequest) -> Result<Self, FieldError> {
        let credentials = wire.credentials.unwrap_or_default();
        if credentials.certificate_signing_request.is_empty() {
            let field = "credentials.certificate_signing_request";
            return Err(FieldError::new(field, "must not be empty"));
        }
        Ok(Self {
            node: NodeId::parse("node_id", &wire.node_id)?,
            name: NodeName::parse("hostname", &wire.hostname)?,
            ip: wire.ip_address,
            role: node_role("role", wire.role)?,
            kind: node_kind("kind", wire.kind)?,
            resources: wire.resources.unwrap_or_default().into(),
            labels: wire.labels.into_iter().collect(),
            system: wire.system.unwrap_or_default().into(),
            token: credentials.token,
            signing_request: credentials.certificate_signing_request,
        })
    }
}

impl From<RegistrationText> for v1::NodeRegistrationRequest {
    fn from(text: RegistrationText) -> Self {
        Self {
            node_id: text.node.to_string(),
            hostname: text.name.to_string(),
            ip_address: text.ip,
            role: node_role_to_wire(text.role).into(),
            resources: Some(text.resources.into()),
            credentials: Some(v1::Credentials {
                token: text.token,
                certificate_signing_request: text.signing_request,
            }),
            kind: node_kind_to_wire(text.kind).into(),
            labels: text.labels.into_iter().collect(),
            system: Some(text.system.into()),
        }
    }
}

/// The certificate is put in by who signs it.
impl From<Registered> for v1::NodeRegistrationResponse {
    fn from(registered: Registered) -> Self {
        Self {
            node_id: registered.node.to_string(),
            cluster_id: registered.cluster,
            status: node_status_to_wire(registered.status).into(),
            heartbeat_interval_seconds: whole_seconds(registered.heartbeat_interval),
            ..Self::default()
        }
    }
}
