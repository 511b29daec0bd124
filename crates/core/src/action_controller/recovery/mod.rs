//! Recovery, step by step (HLD §10.2).
//!
//! For each kind of failure there is a ladder of steps, the mildest first, and a person at its end:
//!
//! - [`ladder`]: the failures, the steps, and which step follows which
//! - [`memory`]: what was tried, as far as the next decision depends on it; small, and kept on disk
//! - [`mod@plan`]: what is to be done now about each failure, or why nothing is
//!
//! The plan is a function of the policy, the operator's word and the memory, made anew after each input;
//! nothing of it is kept. Agents use it for what fails on their node, with a master or without; the master
//! for nodes that are silent. Three things hold whatever fails, and how often:
//!
//! - attempts are bounded, per hour and node; a storm of failures gets no more of them
//! - between two attempts at the same failure passes ever more time, until all has been well for a while
//! - what does not get well is told to a person: once

pub mod ladder;
pub mod memory;
pub mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use ladder::{Failure, Step};
pub use memory::{Memory, Outcome};
pub use plan::{Line, Next, WhyNot, plan};

use crate::time::Timestamp;

/// Failures that are worked on at a time; others wait until one of these is over.
pub const FAILURES_MAX: usize = 64;
/// Reboots in a day at most, whatever fails.
pub const REBOOTS_PER_DAY_MAX: usize = 2;

/// For a node that told that it reboots to be heard again: services stop, a board boots, and may look at its disk.
pub const REBOOT_WAIT: Duration = Step::Reboot.window();

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The Podman service may be restarted.
    pub podman: bool,
    /// The node may be rebooted.
    pub reboot: bool,
    /// Of the node in total.
    pub attempts_per_hour_max: usize,
    /// Between two attempts at the same failure at most.
    pub back_off_max: Duration,
    /// What has been well for so long is forgotten: the next failure is a first one.
    pub stable: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            podman: true,
            reboot: false,
            attempts_per_hour_max: 12,
            back_off_max: Duration::from_secs(300),
            stable: Duration::from_secs(600),
        }
    }
}

/// What keeps recovery from doing anything at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// An operator said so, until then.
    Paused { until: Timestamp },
    /// The node is in Maintenance: somebody works on it.
    Maintenance,
    /// It told that it reboots, and is given its time until then.
    Reboots { until: Timestamp },
}
