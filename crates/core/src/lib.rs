//! Every decision of PICCOLO, and nothing else.
//!
//! No clock, no IO, no randomness: time is an argument, effects are data, and the same inputs give the
//! same outputs (`clippy.toml` beside `src` forbids the rest). A machine has one shape:
//!
//! ```text
//! restore(snapshot, now) -> Self
//! handle(&mut self, now, Input) -> Vec<Effect>
//! handle_deadline(&mut self, now) -> Vec<Effect>
//! deadline(&self) -> Option<Deadline>
//! ```
//!
//! Its shell performs the effects in order and takes inputs before deadlines. [`state_manager`] is the
//! master's machine, [`node_agent`] the agent's; the simulator runs both against each other.

pub mod action_controller;
pub mod api_server;
pub mod failure_detector;
pub mod hex;
pub mod log_filter;
pub mod log_level;
pub mod logs;
pub mod model;
pub mod monitoring_server;
pub mod mutant;
pub mod near;
pub mod node_agent;
pub mod node_lifecycle;
pub mod past;
pub mod redact;
pub mod session;
pub mod state_manager;
pub mod time;
pub mod topology;
