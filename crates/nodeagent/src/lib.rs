//! The IO shells of the PICCOLO NodeAgent.
//!
//! What the agent *decides* is `piccolo_core::node_agent`, which does no IO. What it needs from the
//! board is here, one module each, and none of them knows the wire:
//!
//! - [`agent`] is the loop that performs what the core decides
//! - [`system`] reads load, memory, disks, network and temperatures from /proc and /sys
//! - [`podman`] speaks to Podman's socket and watches the containers without keeping Podman awake
//! - [`ledger`] keeps the desired configuration on disk so that a power cut never tears it
//! - [`journal`] keeps events on disk until the master has acknowledged them
//! - [`logs`] reads journald and containers' logs while somebody asks for them
//! - [`check`] runs the release's system check, and answers `piccolo-nodeagent check`
//! - [`config`] reads the configuration file, the environment and the command line
//!
//! Everything runs on one tokio `current_thread` runtime, because a board pays for each thread.

pub mod agent;
pub mod check;
pub mod commands;
pub mod config;
mod durable;
pub mod journal;
pub mod ledger;
pub mod logging;
pub mod logs;
pub mod podman;
pub mod system;
