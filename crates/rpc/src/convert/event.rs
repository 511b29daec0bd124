//! Events, in the master's log and in an agent's journal.

use piccolo_core::model::{Event, EventKind, FieldError, JournalEntry, NodeId, NodeName, Severity};

use super::{non_empty, time_or_epoch, timestamp, unknown_number};
use crate::v1;

/// # Errors
/// [`FieldError`] for a number that is none; 0 counts as Info.
pub fn severity(field: &str, number: i32) -> Result<Severity, FieldError> {
    match v1::Severity::try_from(number) {
        Ok(v1::Severity::Unspecified | v1::Severity::Info) => Ok(Severity::Info),
        Ok(v1::Severity::Warning) => Ok(Severity::Warning),
        Ok(v1::Severity::Critical) => Ok(Severity::Critical),
        Err(_) => Err(unknown_number(field, number)),
    }
}

#[must_use]
pub fn severity_to_wire(severity: Severity) -> v1::Severity {
    match severity {
        Severity::Info => v1::Severity::Info,
        Severity::Warning => v1::Severity::Warning,
        Severity::Critical => v1::Severity::Critical,
    }
}

impl From<Event> for v1::Event {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            at: Some(timestamp(event.at)),
            severity: severity_to_wire(event.severity).into(),
            kind: event.kind.name(),
            node_id: event.node.map(|id| id.to_string()).unwrap_or_default(),
            node_name: event.node_name.map(|name| name.to_string()).unwrap_or_default(),
            message: event.message,
            node_sequence: event.node_sequence,
            fields: event.fields.into_iter().collect(),
            delivered_late: event.delivered_late,
        }
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = FieldError;

    fn try_from(wire: v1::Event) -> Result<Self, FieldError> {
        let node = non_empty(wire.node_id).map(|id| NodeId::parse("node_id", &id));
        let node_name = non_empty(wire.node_name).map(|name| NodeName::parse("node_name", &name));
        Ok(Self {
            id: wire.id,
            at: time_or_epoch("at", wire.at.as_ref())?,
            severity: severity("severity", wire.severity)?,
            kind: EventKind::from_name(&wire.kind),
            node: node.transpose()?,
            node_name: node_name.transpose()?,
            message: wire.message,
            node_sequence: wire.node_sequence,
            fields: wire.fields.into_iter().collect(),
            delivered_late: wire.delivered_late,
        })
    }
}

impl From<JournalEntry> for v1::Event {
    fn from(entry: JournalEntry) -> Self {
        Self {
            at: Some(timestamp(entry.at)),
            severity: severity_to_wire(entry.severity).into(),
            kind: entry.kind.name(),
            message: entry.message,
            node_sequence: entry.sequence,
            fields: entry.fields.into_iter().collect(),
            delivered_late: entry.offline,
            ..Self::default()
        }
    }
}

/// Of an agent's journal. Whose it is comes from the session, never from here.
impl TryFrom<v1::Event> for JournalEntry {
    type Error = FieldError;

    fn try_from(wire: v1::Event) -> Result<Self, FieldError> {
        Ok(Self {
            sequence: wire.node_sequence,
            at: time_or_epoch("at", wire.at.as_ref())?,
            severity: severity("severity", wire.severity)?,
            kind: EventKind::from_name(&wire.kind),
            message: wire.message,
            fields: wire.fields.into_iter().collect(),
            offline: wire.delivered_late,
        })
    }
}
