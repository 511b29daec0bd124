//! What can fail, what can be done about it, and in which order.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::Policy;
use crate::model::FieldError;

/// What has failed on a node. The order is that in which attempts are made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Failure {
    /// The master has not heard the node for three heartbeats.
    Silent,
    /// Nothing has failed that we know of; an operator wants the node rebooted.
    System,
    /// The state folder cannot be written: full, read-only or broken.
    StateFolder,
    /// Podman does not answer.
    Podman,
    /// No master can be reached.
    Master,
    /// A master is there, and does not take the node for what it says it is.
    Identity,
    /// A container has ended, and is to run; by its name.
    Container(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "node",
            Self::System => "system",
            Self::StateFolder => "state-folder",
            Self::Podman => "podman",
            Self::Master => "master",
            Self::Identity => "identity",
            Self::Container(name) => return write!(f, "container/{name}"),
        })
    }
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    RestartContainer,
    RestartPodman,
    Reboot,
    /// The agent's uplink does it by itself, all the time.
    Reconnect,
    /// So it does with this.
    Register,
    /// systemd's watchdog does it.
    RestartAgent,
    /// A Critical event.
    Alert,
}

impl Step {
    pub const ALL: [Self; 7] = [
        Self::RestartContainer,
        Self::RestartPodman,
        Self::Reboot,
        Self::Reconnect,
        Self::Register,
        Self::RestartAgent,
        Self::Alert,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::RestartContainer => "restart-container",
            Self::RestartPodman => "restart-podman",
            Self::Reboot => "reboot",
            Self::Reconnect => "reconnect",
            Self::Register => "register",
            Self::RestartAgent => "restart-agent",
            Self::Alert => "alert",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// Whether it is done because the plan says so, and counts against the budget. The others happen by
    /// themselves: they are given their time.
    pub fn is_ours(self) -> bool {
        match self {
            Self::RestartContainer | Self::RestartPodman | Self::Reboot => true,
            Self::Reconnect | Self::Register | Self::RestartAgent | Self::Alert => false,
        }
    }

    /// Whether an operator may ask for it, and for this container; empty for none.
    ///
    /// # Errors
    /// It happens by itself, or goes with a container and none is named, or the other way round.
    pub fn check_forced(self, container: &str) -> Result<(), FieldError> {
        let of_container = self == Self::RestartContainer;
        if !self.is_ours() {
            Err(FieldError::new("step", "happens by itself: it cannot be forced"))
        } else if of_container && container.is_empty() {
            Err(FieldError::new("container", "is missing: restart-container is of one"))
        } else if !of_container && !container.is_empty() {
            Err(FieldError::new(
                "container",
                format!("is for restart-container, not {}", self.name()),
            ))
        } else {
            Ok(())
        }
    }

    pub(super) fn is_allowed(self, policy: &Policy) -> bool {
        match self {
            Self::RestartPodman => policy.podman,
            Self::Reboot => policy.reboot,
            Self::RestartContainer
            | Self::Reconnect
            | Self::Register
            | Self::RestartAgent
            | Self::Alert => true,
        }
    }

    /// In which it has to show that it helped.
    pub(super) const fn window(self) -> Duration {
        Duration::from_secs(match self {
            Self::RestartContainer | Self::RestartPodman => 60,
            // its watchdog waits for 30 s, and its start takes a moment
            Self::RestartAgent => 45,
            Self::Register => 120,
            Self::Reboot => 300,
            Self::Reconnect => 600,
            Self::Alert => 0,
        })
    }
}

/// A step, and how often it is tried before the next one.
pub(super) type Rung = (Step, u32);

impl Failure {
    pub(super) fn ladder(&self) -> &'static [Rung] {
        match self {
            Self::Silent => &[(Step::RestartAgent, 1), (Step::Alert, 1)],
            Self::System => &[(Step::Reboot, 1)],
            Self::StateFolder => &[(Step::Reboot, 1), (Step::Alert, 1)],
            Self::Podman => &[(Step::RestartPodman, 3), (Step::Reboot, 1), (Step::Alert, 1)],
            Self::Master => &[(Step::Reconnect, 1), (Step::Alert, 1)],
            Self::Identity => &[(Step::Register, 1), (Step::Alert, 1)],
            Self::Container(_) => &[(Step::RestartContainer, 5), (Step::Alert, 1)],
        }
    }

    /// What is gone on with, seldom, once a person has been told.
    pub(super) fn goes_on_with(&self) -> Option<Step> {
        match self {
            Self::System => Some(Step::Reboot),
            Self::Podman => Some(Step::RestartPodman),
            Self::Container(_) => Some(Step::RestartContainer),
            Self::Silent | Self::StateFolder | Self::Master | Self::Identity => None,
        }
    }

    /// Before the first attempt: what heals by itself needs none.
    pub(super) fn first_back_off(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Silent | Self::System | Self::Master | Self::Identity => 0,
            Self::Container(_) => 2,
            Self::Podman => 10,
            Self::StateFolder => 60,
        })
    }
}
