//! What agents and the master say to each other, in both directions (HLD §7.1.2; docs/protocol.md).

use std::{sync::Arc, time::Duration};

use piccolo_core::{
    log_level,
    logs::{Chunk, Order, kept::KeptLine},
    model::{FieldError, NodeId, SessionId, SystemCheck, check_text},
    session::{
        AgentCommand, Goodbye, GoodbyeReason, Hello, Picture, RecoveryOrders, StatusReport,
        TEXT_BYTES_MAX, ToAgent, ToMaster, Welcome,
    },
};

use super::{
    logs::kept_lines,
    node::{alerts, conditions, containers},
    node_status, non_empty,
    recovery::recovery_step,
    time_or_epoch, timestamp, wall_time, whole_seconds, within,
};
use crate::v1;

/// One message of an agent on its session: `Hello` first and once, anything else after it.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentFrame {
    Hello(Box<Hello>),
    Message(ToMaster),
    /// Past the core: nothing is decided by it.
    Logs(Chunk),
    /// Past the core too: for the kept log.
    Kept(Vec<KeptLine>),
}

/// One message of the master on a session.
#[derive(Debug, Clone, PartialEq)]
pub enum MasterFrame {
    Message(ToAgent),
    /// Past the core: nothing is decided by it.
    Logs(Order),
    /// Past the core too: kept through here, and one more batch may be sent.
    Kept(u64),
}

/// A status report with the node that it says it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFrom {
    pub node: String,
    pub report: StatusReport,
}

/// A question for configuration, and the confirmation in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigPoll {
    pub node: String,
    pub applied: u64,
    pub rejected: Option<String>,
    pub wait: Duration,
}

impl TryFrom<v1::AgentMessage> for AgentFrame {
    type Error = FieldError;

    fn try_from(wire: v1::AgentMessage) -> Result<Self, FieldError> {
        use v1::agent_message::Message;
        let message = wire.message.ok_or_else(|| FieldError::new("message", "must be set"))?;
        Ok(Self::Message(match message {
            Message::Hello(hello) => {
                let hello = Hello::try_from(hello).map_err(within("hello"))?;
                return Ok(Self::Hello(Box::new(hello)));
            }
            Message::Beat(v1::Beat {}) => ToMaster::Beat,
            Message::Status(report) => {
                let from = ReportFrom::try_from(report).map_err(within("status"))?;
                ToMaster::Status(Box::new(from.report))
            }
            Message::Events(v1::EventBatch { events }) => {
                let each = events.into_iter().enumerate().map(|(i, event)| {
                    event.try_into().map_err(within(&format!("events.events[{i}]")))
                });
                ToMaster::Events(each.collect::<Result<_, _>>()?)
            }
            Message::ConfigApplied(request) => ToMaster::ConfigApplied {
                generation: request.applied_generation,
                rejected: non_empty(request.rejected),
            },
            Message::CertificateRequest(request) => {
                ToMaster::CertificateRequest { csr: request.certificate_signing_request }
            }
            Message::CommandResult(v1::CommandResult { id, success, message }) => {
                check_text("command_result.id", &id, TEXT_BYTES_MAX)?;
                check_text("command_result.message", &message, TEXT_BYTES_MAX)?;
                ToMaster::CommandResult { id, success, message }
            }
            Message::Probed(v1::ProbeResult { id, parts }) => {
                check_text("probed.id", &id, TEXT_BYTES_MAX)?;
                ToMaster::Probed { id, parts: parts.into_iter().map(Into::into).collect() }
            }
            Message::Missed(figures) => {
                ToMaster::Missed(figures.try_into().map_err(within("missed"))?)
            }
            Message::Goodbye(goodbye) => ToMaster::Goodbye(goodbye.into()),
            Message::Logs(chunk) => {
                return Ok(Self::Logs(chunk.try_into().map_err(within("logs"))?));
            }
            Message::Kept(batch) => {
                return Ok(Self::Kept(kept_lines(batch).map_err(within("kept"))?));
            }
        }))
    }
}

impl From<AgentFrame> for v1::AgentMessage {
    fn from(frame: AgentFrame) -> Self {
        match frame {
            AgentFrame::Hello(hello) => (*hello).into(),
            AgentFrame::Message(message) => message.into(),
            AgentFrame::Logs(chunk) => {
                Self { message: Some(v1::agent_message::Message::Logs(chunk.into())) }
            }
            AgentFrame::Kept(lines) => {
                let lines = lines.into_iter().map(Into::into).collect();
                Self { message: Some(v1::agent_message::Message::Kept(v1::KeptLines { lines })) }
            }
        }
    }
}

impl From<Hello> for v1::AgentMessage {
    fn from(hello: Hello) -> Self {
        Self { message: Some(v1::agent_message::Message::Hello(hello.into())) }
    }
}

impl From<ToMaster> for v1::AgentMessage {
    fn from(message: ToMaster) -> Self {
        use v1::agent_message::Message;
        Self {
            message: Some(match message {
                ToMaster::Beat => Message::Beat(v1::Beat {}),
                ToMaster::Status(report) => Message::Status((*report).into()),
                ToMaster::Events(entries) => Message::Events(v1::EventBatch {
                    events: entries.into_iter().map(Into::into).collect(),
                }),
                ToMaster::ConfigApplied { generation, rejected } => {
                    Message::ConfigApplied(v1::ConfigRequest {
                        applied_generation: generation,
                        rejected: rejected.unwrap_or_default(),
                        ..Default::default()
                    })
                }
                ToMaster::CertificateRequest { csr } => {
                    Message::CertificateRequest(v1::CertificateRequest {
                        certificate_signing_request: csr,
                    })
                }
                ToMaster::CommandResult { id, success, message } => {
                    Message::CommandResult(v1::CommandResult { id, success, message })
                }
                ToMaster::Probed { id, parts } => Message::Probed(v1::ProbeResult {
                    id,
                    parts: parts.into_iter().map(Into::into).collect(),
                }),
                ToMaster::Missed(figures) => Message::Missed(figures.into()),
                ToMaster::Goodbye(goodbye) => Message::Goodbye(goodbye.into()),
            }),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = FieldError;

    fn try_from(wire: v1::Hello) -> Result<Self, FieldError> {
        check_text("previous_session", &wire.previous_session, TEXT_BYTES_MAX)?;
        Ok(Self {
            node: NodeId::parse("node_id", &wire.node_id)?,
            previous_session: non_empty(wire.previous_session).map(SessionId::new),
            applied_generation: wire.applied_generation,
            next_sequence: wire.next_sequence,
            events_dropped: wire.events_dropped,
            system: wire.system.unwrap_or_default().into(),
            hostname: wire.hostname,
            ip: wire.ip_address,
            resources: wire.resources.unwrap_or_default().into(),
            clock: time_or_epoch("clock", wire.clock.as_ref())?,
            system_check: findings("system_check", wire.system_check)?,
            system_check_pending: wire.system_check_pending,
            recovers: wire.recovers,
            can_be_watched: wire.can_be_watched,
            reads_logs: wire.reads_logs,
            keeps_logs: wire.keeps_logs,
        })
    }
}

fn findings(field: &str, wire: Option<v1::SystemCheck>) -> Result<Option<SystemCheck>, FieldError> {
    wire.map(SystemCheck::try_from).transpose().map_err(within(field))
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            node_id: hello.node.to_string(),
            previous_session: hello.previous_session.map(|id| id.to_string()).unwrap_or_default(),
            applied_generation: hello.applied_generation,
            next_sequence: hello.next_sequence,
            events_dropped: hello.events_dropped,
            system: Some(hello.system.into()),
            hostname: hello.hostname,
            ip_address: hello.ip,
            resources: Some(hello.resources.into()),
            clock: Some(timestamp(hello.clock)),
            system_check: hello.system_check.as_ref().map(Into::into),
            system_check_pending: hello.system_check_pending,
            recovers: hello.recovers,
            can_be_watched: hello.can_be_watched,
            reads_logs: hello.reads_logs,
            keeps_logs: hello.keeps_logs,
        }
    }
}

/// What the agent believes of its own status is checked and then left: the master decides.
impl TryFrom<v1::StatusReport> for ReportFrom {
    type Error = FieldError;

    fn try_from(wire: v1::StatusReport) -> Result<Self, FieldError> {
        if wire.status != 0 {
            node_status("status", wire.status)?;
        }
        let picture = if wire.metrics_only {
            None
        } else {
            let containers = containers(wire.containers)?;
            Some(Picture {
                containers: (!wire.containers_unknown).then_some(containers),
                conditions: conditions(wire.conditions)?,
                alerts: alerts(wire.alerts)?,
                recovery: wire
                    .recovery
                    .unwrap_or_default()
                    .try_into()
                    .map_err(within("recovery"))?,
            })
        };
        let report = StatusReport {
            metrics: wire.metrics.into_iter().collect(),
            picture,
            system: wire.system.map(Into::into),
            clock: wire.clock.map(|clock| wall_time("clock", &clock)).transpose()?,
            system_check: findings("system_check", wire.system_check)?,
            hardware: findings("hardware", wire.hardware)?.map(Arc::new),
        };
        Ok(Self { node: wire.node_id, report })
    }
}

impl From<StatusReport> for v1::StatusReport {
    fn from(report: StatusReport) -> Self {
        let metrics_only = report.picture.is_none();
        let picture = report.picture.unwrap_or_default();
        let containers_unknown = !metrics_only && picture.containers.is_none();
        let containers = picture.containers.unwrap_or_default();
        Self {
            node_id: String::new(),
            status: 0,
            metrics: report.metrics.into_iter().collect(),
            containers: containers.into_iter().map(Into::into).collect(),
            alerts: picture.alerts.into_iter().map(Into::into).collect(),
            conditions: picture.conditions.into_iter().map(Into::into).collect(),
            system: report.system.map(Into::into),
            metrics_only,
            clock: report.clock.map(timestamp),
            containers_unknown,
            system_check: report.system_check.as_ref().map(Into::into),
            hardware: report.hardware.as_deref().map(Into::into),
            recovery: (!metrics_only).then(|| picture.recovery.into()),
        }
    }
}

impl From<ReportFrom> for v1::StatusReport {
    fn from(from: ReportFrom) -> Self {
        Self { node_id: from.node, ..from.report.into() }
    }
}

impl From<v1::ConfigRequest> for ConfigPoll {
    fn from(wire: v1::ConfigRequest) -> Self {
        Self {
            node: wire.node_id,
            applied: wire.applied_generation,
            rejected: non_empty(wire.rejected),
            wait: Duration::from_secs(wire.wait_seconds.into()),
        }
    }
}

impl From<Goodbye> for v1::Goodbye {
    fn from(goodbye: Goodbye) -> Self {
        Self { reason: goodbye.reason.name(), message: goodbye.message }
    }
}

impl From<v1::Goodbye> for Goodbye {
    fn from(wire: v1::Goodbye) -> Self {
        Self { reason: GoodbyeReason::from_name(&wire.reason), message: wire.message }
    }
}

impl From<ToAgent> for v1::MasterMessage {
    fn from(message: ToAgent) -> Self {
        use v1::master_message::Message;
        Self {
            message: Some(match message {
                ToAgent::Welcome(welcome) => Message::Welcome(welcome.into()),
                ToAgent::Beat => Message::Beat(v1::Beat {}),
                ToAgent::Config { generation, config } => {
                    Message::Config(v1::ConfigResponse { generation, config: Some(config.into()) })
                }
                ToAgent::EventAck { sequence } => Message::EventAck(v1::EventAck { sequence }),
                ToAgent::Certificate { certificate, ca } => {
                    Message::Certificate(v1::CertificateIssued { certificate, ca_certificate: ca })
                }
                ToAgent::Command { id, command } => {
                    Message::Command(v1::Command { id, command: Some(command.into()) })
                }
                ToAgent::Recovery(orders) => Message::Recovery(orders.into()),
                ToAgent::Watched(span) => {
                    Message::Watched(v1::Watched { for_seconds: whole_seconds(span) })
                }
                ToAgent::Goodbye(goodbye) => Message::Goodbye(goodbye.into()),
            }),
        }
    }
}

impl TryFrom<v1::MasterMessage> for ToAgent {
    type Error = FieldError;

    fn try_from(wire: v1::MasterMessage) -> Result<Self, FieldError> {
        use v1::master_message::Message;
        let missing = |field: &str| FieldError::new(field, "must be set");
        Ok(match wire.message.ok_or_else(|| missing("message"))? {
            Message::Welcome(welcome) => {
                Self::Welcome(welcome.try_into().map_err(within("welcome"))?)
            }
            Message::Beat(v1::Beat {}) => Self::Beat,
            Message::Config(v1::ConfigResponse { generation, config }) => {
                let config = config.ok_or_else(|| missing("config.config"))?;
                let config = config.try_into().map_err(within("config.config"))?;
                Self::Config { generation, config }
            }
            Message::EventAck(v1::EventAck { sequence }) => Self::EventAck { sequence },
            Message::Certificate(issued) => {
                Self::Certificate { certificate: issued.certificate, ca: issued.ca_certificate }
            }
            Message::Command(v1::Command { id, command }) => {
                let command = command.ok_or_else(|| missing("command.command"))?;
                let command = command.try_into().map_err(within("command"))?;
                Self::Command { id, command }
            }
            Message::Recovery(orders) => Self::Recovery(orders.into()),
            Message::Watched(v1::Watched { for_seconds }) => {
                Self::Watched(Duration::from_secs(for_seconds.into()))
            }
            Message::Goodbye(goodbye) => Self::Goodbye(goodbye.into()),
            Message::Logs(_) => return Err(FieldError::new("logs", "is not for the core")),
            Message::KeptAck(_) => return Err(FieldError::new("kept_ack", "is not for the core")),
        })
    }
}

impl TryFrom<v1::MasterMessage> for MasterFrame {
    type Error = FieldError;

    fn try_from(wire: v1::MasterMessage) -> Result<Self, FieldError> {
        match wire.message {
            Some(v1::master_message::Message::Logs(order)) => {
                Ok(Self::Logs(order.try_into().map_err(within("logs"))?))
            }
            Some(v1::master_message::Message::KeptAck(v1::KeptAck { sequence })) => {
                Ok(Self::Kept(sequence))
            }
            message => v1::MasterMessage { message }.try_into().map(Self::Message),
        }
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            session_id: welcome.session.to_string(),
            cluster_id: welcome.cluster,
            timing: Some(welcome.timing.into()),
            acknowledged_sequence: welcome.acknowledged_sequence,
            clock: Some(timestamp(welcome.clock)),
            masters: welcome.masters,
            recovery: Some(welcome.recovery.into()),
            takes_missed: welcome.takes_missed,
        }
    }
}

impl TryFrom<v1::Welcome> for Welcome {
    type Error = FieldError;

    fn try_from(wire: v1::Welcome) -> Result<Self, FieldError> {
        let timing = wire.timing.ok_or_else(|| FieldError::new("timing", "must be set"))?;
        if wire.session_id.is_empty() {
            return Err(FieldError::new("session_id", "must not be empty"));
        }
        Ok(Self {
            session: SessionId::new(wire.session_id),
            cluster: wire.cluster_id,
            timing: timing.try_into().map_err(within("timing"))?,
            acknowledged_sequence: wire.acknowledged_sequence,
            clock: time_or_epoch("clock", wire.clock.as_ref())?,
            masters: wire.masters,
            recovery: wire.recovery.unwrap_or_default().into(),
            takes_missed: wire.takes_missed,
        })
    }
}

impl From<RecoveryOrders> for v1::RecoveryOrders {
    fn from(RecoveryOrders { paused_for, maintenance }: RecoveryOrders) -> Self {
        let paused_ms = u64::try_from(paused_for.as_millis()).unwrap_or(u64::MAX);
        Self { paused_ms, maintenance }
    }
}

impl From<v1::RecoveryOrders> for RecoveryOrders {
    fn from(v1::RecoveryOrders { paused_ms, maintenance }: v1::RecoveryOrders) -> Self {
        Self { paused_for: Duration::from_millis(paused_ms), maintenance }
    }
}

impl From<AgentCommand> for v1::command::Command {
    fn from(command: AgentCommand) -> Self {
        match command {
            AgentCommand::SetLogLevel { filter, span } => {
                let seconds = span.unwrap_or_default().as_secs();
                let for_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
                Self::SetLogLevel(v1::SetLogLevelCommand { filter, for_seconds })
            }
            AgentCommand::RestartContainer { container } => {
                Self::RestartContainer(v1::RestartContainerCommand { container })
            }
            AgentCommand::CheckSystem => Self::CheckSystem(v1::CheckSystemCommand {}),
            AgentCommand::Recover { step, container } => {
                Self::Recover(v1::RecoverCommand { step: step.name().to_owned(), container })
            }
            AgentCommand::Probe => Self::Probe(v1::ProbeCommand {}),
        }
    }
}

impl TryFrom<v1::command::Command> for AgentCommand {
    type Error = FieldError;

    fn try_from(wire: v1::command::Command) -> Result<Self, FieldError> {
        use v1::command::Command;
        Ok(match wire {
            Command::SetLogLevel(v1::SetLogLevelCommand { filter, for_seconds }) => {
                let span = log_level::span(for_seconds);
                let span = span.map_err(|why| FieldError::new("for_seconds", why))?;
                Self::SetLogLevel { filter, span }
            }
            Command::RestartContainer(v1::RestartContainerCommand { container }) => {
                Self::RestartContainer { container }
            }
            Command::CheckSystem(v1::CheckSystemCommand {}) => Self::CheckSystem,
            Command::Recover(v1::RecoverCommand { step, container }) => {
                Self::Recover { step: recovery_step("step", &step)?, container }
            }
            Command::Probe(v1::ProbeCommand {}) => Self::Probe,
        })
    }
}
