//! The lifecycle of a node as one total function (HLD §6.2).
//!
//! The whole table is a snapshot test: a new status or event shows up in review as added lines.
//! A node that is lost while it is Initializing comes back as Initializing, never straight as Ready.

use crate::{model::NodeStatus, mutant::mutant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEvent {
    Approved,
    /// The desired configuration is applied, and the node is heard.
    ConfigApplied,
    /// A condition that impairs has appeared.
    Impaired,
    /// The last condition that impairs has gone.
    Recovered {
        initialized: bool,
    },
    MaintenanceStarted,
    MaintenanceEnded,
    Removed,
}

impl NodeEvent {
    pub const ALL: [Self; 8] = [
        Self::Approved,
        Self::ConfigApplied,
        Self::Impaired,
        Self::Recovered { initialized: false },
        Self::Recovered { initialized: true },
        Self::MaintenanceStarted,
        Self::MaintenanceEnded,
        Self::Removed,
    ];
}

/// The status after `event`, or `None` where the event means nothing.
pub fn next(status: NodeStatus, event: NodeEvent) -> Option<NodeStatus> {
    use NodeStatus::{Initializing, Maintenance, NotReady, Pending, Ready, Terminating};
    match event {
        NodeEvent::Approved => (status == Pending).then_some(Initializing),
        NodeEvent::ConfigApplied => (status == Initializing).then_some(Ready),
        NodeEvent::Impaired => matches!(status, Initializing | Ready).then_some(NotReady),
        NodeEvent::Recovered { initialized: true } => (status == NotReady).then_some(Ready),
        NodeEvent::Recovered { initialized: false } => (status == NotReady).then_some(Initializing),
        NodeEvent::MaintenanceStarted => {
            matches!(status, Initializing | Ready | NotReady).then_some(Maintenance)
        }
        NodeEvent::MaintenanceEnded => (status == Maintenance).then_some(NotReady),
        NodeEvent::Removed if mutant!("removal is only said") => None,
        NodeEvent::Removed => (status != Terminating).then_some(Terminating),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for status in NodeStatus::ALL {
            for event in NodeEvent::ALL {
                if let Some(after) = next(status, event) {
                    table += &format!("{status:<12} {event:?} -> {after}\n");
                }
            }
        }
        insta::assert_snapshot!(table, @r"
        Pending      Approved -> Initializing
        Pending      Removed -> Terminating
        Initializing ConfigApplied -> Ready
        Initializing Impaired -> NotReady
        Initializing MaintenanceStarted -> Maintenance
        Initializing Removed -> Terminating
        Ready        Impaired -> NotReady
        Ready        MaintenanceStarted -> Maintenance
        Ready        Removed -> Terminating
        NotReady     Recovered { initialized: false } -> Initializing
        NotReady     Recovered { initialized: true } -> Ready
        NotReady     MaintenanceStarted -> Maintenance
        NotReady     Removed -> Terminating
        Maintenance  MaintenanceEnded -> NotReady
        Maintenance  Removed -> Terminating
        ");
    }
}
