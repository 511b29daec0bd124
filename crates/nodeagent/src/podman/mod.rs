//! Podman: what runs on the board, and the few things the agent makes it do.
//!
//! - [`client`] speaks libpod's REST API over its unix socket (Podman 4 and 5)
//! - [`logs`] reads what containers have written
//! - [`usage`] reads CPU and memory of each container from the kernel, without asking Podman
//! - [`watcher`] keeps a whole picture up to date and gives it away through a channel
//!
//! Podman's API service takes 40 MiB while it runs and is started by its socket, so the agent asks
//! only when something has changed: docs/adr/0005-watching-podman.md.

pub mod client;
mod decode;
#[cfg(test)]
mod fake;
mod files;
mod http;
pub mod logs;
mod readable;
mod schedule;
pub mod usage;
pub mod watcher;

pub use client::{Client, Error, EventStream};
pub use decode::{Container, ContainerList, Event, Image, Inspected, StoragePaths};
pub use logs::{LogOptions, Written};
pub use usage::{Usage, UsageReader};
pub use watcher::{ContainerObservation, Observation, Runtime, Watcher};

/// The full id that Podman gives a container: 64 hexadecimal digits.
pub type ContainerId = String;
