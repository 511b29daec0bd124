//! The PICCOLO master: API Server, StateManager and certificate authority in one process
//! (HLD §3.2; docs/adr/0003).
//!
//! - `state_manager`: the one owner of the state, and who makes its decisions durable and visible
//! - `api_server`: gRPC for agents and people; `https`: `/metrics` and `/healthz`
//! - `metrics`: the figures that `/metrics` shows and OpenTelemetry is sent; `outbound`: how the master asks other servers
//! - `monitoring_server`: what nodes have told of themselves over time
//! - `certificate_authority`: the cluster's own CA
//! - `startup`: what has to be there before it serves; `master`: from start to stop
//!
//! It can be killed at any moment: what it showed to anybody is stored, and the next start goes on from there.

mod alerts;
mod api_server;
pub mod backup;
pub mod certificate_authority;
mod clock;
pub mod config;
mod figures;
mod https;
mod kept_logs;
mod logging;
mod logs;
mod master;
mod metrics;
mod monitoring_server;
mod outbound;
pub mod program;
mod startup;
mod state_manager;

pub use master::Master;
